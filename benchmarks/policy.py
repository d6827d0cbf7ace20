"""What a policy costs: per call where all goes well, and per rejection where the breaker is open.

    python benchmarks/policy.py              # everything, some minutes
    python benchmarks/policy.py --rounds 5   # quicker
    python benchmarks/policy.py --evidence   # the table of the breaker's evidence instead

Each round times every subject once, in a new random order; a ratio is taken inside one round, so a
machine that is busy in one round is busy for both. Printed are the median over the rounds and the
range of the middle half. Peers that are not installed are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from switchgear.call.aio import drive
from switchgear.call.answer import new_machine
from switchgear.call.guard import Guard
from switchgear.model.outcome import Ok, Unavailable
from switchgear.policy.breaker import Breaker, Circuit, State
from switchgear.policy.hedge import Hedge
from switchgear.policy.policy import Policy

CALLS = 5_000
Subject = Callable[[int], Awaitable[None]]
Wrap = Callable[[Callable[[], Awaitable[int]]], Callable[[], Awaitable[int]]]


async def answers() -> int:
    return 1


def installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def success_subjects() -> dict[str, Subject]:
    """Every way of making a call that succeeds, as a loop over so many calls."""
    subjects: dict[str, Subject] = {}

    async def bare(count: int) -> None:
        for _ in range(count):
            await answers()

    async def timeout(count: int) -> None:
        for _ in range(count):
            async with asyncio.timeout(1):
                await answers()

    machine = new_machine("benchmark")

    async def attempt(_: object) -> Ok[int]:
        return Ok(await answers())

    async def ours(count: int) -> None:
        for _ in range(count):
            await drive(machine, attempt)

    breaker = Policy(deadline=None, retry=None, budget=None, limit=None)
    hedged = Policy(hedge=Hedge(after=0.5))
    subjects["no protection"] = bare
    subjects["asyncio.timeout()"] = timeout
    subjects["switchgear drive, full policy"] = ours
    subjects["switchgear @guard, full policy"] = looped(Guard("benchmark")(answers))
    subjects["switchgear @guard, breaker alone"] = looped(Guard("benchmark", breaker)(answers))
    subjects["switchgear @guard, full and hedged"] = looped(
        Guard("benchmark", hedged)(repeatable=True)(answers)
    )
    subjects |= peer_subjects()
    return subjects


def looped(function: Callable[[], Awaitable[object]]) -> Subject:
    async def loop(count: int) -> None:
        for _ in range(count):
            await function()

    return loop


def peer_subjects() -> dict[str, Subject]:
    subjects: dict[str, Subject] = {}
    breakers = peer_breakers()
    for name, breaker in breakers.items():
        subjects[f"{name} (breaker)"] = looped(breaker(answers))
    retries: dict[str, Wrap] = {}
    if installed("stamina"):
        import stamina

        retries["stamina"] = stamina.retry(on=OSError, attempts=3)
    if installed("tenacity"):
        import tenacity

        retries["tenacity"] = tenacity.retry(
            stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_random_exponential(0.1)
        )
    for name, retry in retries.items():
        subjects[f"{name} (retry)"] = looped(retry(answers))
        if "circuitbreaker" in breakers:
            whole = retry(breakers["circuitbreaker"](timed))
            subjects[f"{name} + circuitbreaker + asyncio.timeout()"] = looped(whole)
    if installed("nopanic"):
        import nopanic

        whole = nopanic.retry(attempts=3)(breakers["nopanic"](nopanic.timeout(1.0)(answers)))
        subjects["nopanic (retry, breaker, timeout)"] = looped(whole)
    if installed("hyx"):
        from hyx.retry import retry
        from hyx.timeout import timeout

        whole = retry(attempts=3)(breakers["hyx"](timeout(1.0)(answers)))
        subjects["hyx (retry, breaker, timeout)"] = looped(whole)
    return subjects


async def timed() -> int:
    async with asyncio.timeout(1):
        return await answers()


def peer_breakers() -> dict[str, Wrap]:
    """The breakers of others that guard a coroutine function."""
    breakers: dict[str, Wrap] = {}
    if installed("circuitbreaker"):
        import circuitbreaker

        breakers["circuitbreaker"] = circuitbreaker.circuit(failure_threshold=5)
    if installed("aiobreaker"):
        import aiobreaker

        breakers["aiobreaker"] = aiobreaker.CircuitBreaker(fail_max=5)
    if installed("purgatory"):
        import purgatory

        breakers["purgatory"] = purgatory.AsyncCircuitBreakerFactory()("benchmark")
    if installed("hyx"):
        from hyx.circuitbreaker import consecutive_breaker

        breakers["hyx"] = consecutive_breaker()
    if installed("interlock"):
        import interlock

        breakers["interlock"] = interlock.CircuitBreaker(name="benchmark")
    if installed("nopanic"):
        import nopanic

        breakers["nopanic"] = nopanic.circuit_breaker(name="benchmark")
    if installed("grelmicro"):
        from grelmicro.resilience.circuitbreaker import CircuitBreaker

        breakers["grelmicro"] = CircuitBreaker("benchmark")
    return breakers


async def measure(subjects: dict[str, Subject], rounds: int) -> dict[str, list[float]]:
    """Return the seconds per call of each subject in each round."""
    took: dict[str, list[float]] = {name: [] for name in subjects}
    for subject in subjects.values():
        await subject(CALLS // 10)
    for number in range(rounds):
        print(f"\r  round {number + 1} of {rounds}", end="", file=sys.stderr, flush=True)
        for name in random.sample(sorted(subjects), len(subjects)):
            began = time.perf_counter()
            await subjects[name](CALLS)
            took[name].append((time.perf_counter() - began) / CALLS)
    print(file=sys.stderr)
    return took


async def succeeding(rounds: int) -> dict[str, list[float]]:
    # some peers want a running loop already when they decorate
    return await measure(success_subjects(), rounds)


def spread(values: list[float], form: str) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def report(title: str, took: dict[str, list[float]], base: str) -> None:
    print(f"\n{title}")
    print(f"  {'':46} {'us a call':>22}   of {base}")
    for name, times in took.items():
        micros = spread([value * 1e6 for value in times], "5.2f")
        ratio = spread([a / b for a, b in zip(times, took[base], strict=True)], ".2f")
        print(f"  {name:46} {micros:>22}   {ratio}")


def rejecting(function: Callable[[], object], *errors: type[Exception]) -> Callable[[], None]:
    """Ask so many times, and take the no."""

    def loop() -> None:
        for _ in range(CALLS):
            with suppress(*errors):
                function()

    return loop


def rejection_subjects() -> dict[str, Callable[[], None]]:
    circuit = Circuit(Breaker(consecutive=1), random.random, lambda *_: None)
    ticket = circuit.admit(0.0)
    assert ticket is not None
    circuit.failed(0.0, ticket, 0.0)
    assert circuit.state is State.OPEN
    guard = Guard("benchmark", Policy(breaker=Breaker(mode="open")))
    machine, protected = guard.machine, guard(lambda: 1)

    def breaker_alone() -> None:
        for _ in range(CALLS):
            circuit.admit(1.0)

    def decided() -> None:
        for _ in range(CALLS):
            machine.call(1.0, repeatable=False).begin(1.0)

    subjects = {
        "switchgear: the breaker's decision": breaker_alone,
        "switchgear: the machine's decision, an outcome": decided,
        "switchgear: @guard, raised": rejecting(protected, Unavailable),
    }
    if installed("pybreaker"):
        import pybreaker

        peer = pybreaker.CircuitBreaker(fail_max=1, reset_timeout=1000)
        peer.open()
        error = pybreaker.CircuitBreakerError
        subjects["pybreaker, raised"] = rejecting(lambda: peer.call(int), error)
    if installed("circuitbreaker"):
        import circuitbreaker

        @circuitbreaker.circuit(failure_threshold=1, recovery_timeout=1000)
        def broken() -> None:
            raise OSError

        subjects["circuitbreaker, raised"] = rejecting(
            broken, circuitbreaker.CircuitBreakerError, OSError
        )
    return subjects


def rejections(rounds: int) -> None:
    """What it costs to be turned away by an open breaker."""
    subjects = rejection_subjects()
    took: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name in random.sample(sorted(subjects), len(subjects)):
            began = time.perf_counter()
            subjects[name]()
            took[name].append((time.perf_counter() - began) / CALLS)
    report("Turned away by an open breaker", took, "switchgear: the breaker's decision")


def evidence() -> None:
    """Both costs of the breaker's rule: false opens, and calls failed before it opens."""

    def circuit(confidence: float | None) -> Circuit:
        return Circuit(Breaker(confidence=confidence), lambda: 0.0, lambda *_: None)

    def false_opens(confidence: float | None, rate: float, load: int, hours: float) -> float:
        draw, opened, breaker = random.Random(1), 0, circuit(confidence)
        for number in range(int(hours * 3600 * load)):
            ticket = breaker.standing
            assert ticket is not None
            ended = breaker.failed if draw.random() < rate else breaker.succeeded
            ended(number / load, ticket, 0.0)
            if breaker.state is State.OPEN:
                opened, breaker = opened + 1, circuit(confidence)
        return opened / hours

    def outage(confidence: float | None, load: int) -> tuple[int, float]:
        breaker, number = circuit(confidence), 0
        while number < 20 * load:
            breaker.succeeded(number / load, breaker.standing or breaker.admit(0.0), 0.0)  # type: ignore[arg-type]
            number += 1
        failed = 0
        while breaker.standing is not None:
            breaker.failed(number / load, breaker.standing, 0.0)
            number, failed = number + 1, failed + 1
        return failed, failed / load

    print("False opens an hour at a steady failure rate below the threshold of 50%, by load")
    cells = [(load, rate) for load in (2, 20, 100) for rate in (0.2, 0.3, 0.4)]
    print("  confidence" + "".join(f"{f'{load}/s {rate:.0%}':>11}" for load, rate in cells))
    for confidence in (None, 0.9, 0.95, 0.975, 0.99, 0.999):
        counts = (
            false_opens(confidence, rate, load, 1 if load < 50 else 0.5) for load, rate in cells
        )
        print(f"  {confidence or 'plain':>10}" + "".join(f"{count:>11.0f}" for count in counts))
    print("\nA total outage after 20 s of successes: calls failed until it opens (seconds)")
    loads = (1, 2, 10, 100, 1000)
    print("  confidence" + "".join(f"{f'{load}/s':>14}" for load in loads))
    for confidence in (None, 0.9, 0.95, 0.975, 0.99, 0.999):
        ends = (outage(confidence, load) for load in loads)
        cells_ = "".join(f"{f'{failed} ({after:.1f})':>14}" for failed, after in ends)
        print(f"  {confidence or 'plain':>10}" + cells_)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--evidence", action="store_true")
    options = parser.parse_args()
    if options.evidence:
        evidence()
        return
    print(f"Python {sys.version.split()[0]}, {options.rounds} rounds of {CALLS} calls")
    took = asyncio.run(succeeding(options.rounds))
    report("A call that succeeds, asyncio", took, "asyncio.timeout()")
    rejections(options.rounds)


if __name__ == "__main__":
    main()
