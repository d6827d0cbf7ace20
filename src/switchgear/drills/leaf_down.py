"""The last of five services fails, and four layers in front of it retry.

Three attempts a layer are 3 * 3 * 3 * 3 = 81 requests to a leaf that is down already. With guards a
layer does not repeat what another layer repeats, and a budget bounds what it repeats itself: that
alone keeps the load near one. The breaker takes most of that one away as well.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from switchgear.drills.declared import declared
from switchgear.drills.load import Answer, Sample, Visitors, evenly, offer
from switchgear.drills.predicted import Compared, chain, compare
from switchgear.drills.report import Report
from switchgear.drills.stand import Stand, System, examples
from switchgear.drills.statistics import quantile
from switchgear.policy.policy import Policy
from switchgear.policy.retry import Retry

__all__ = ["drill"]

LAYERS: Final = 4
ATTEMPTS: Final = 3
WORST: Final = ATTEMPTS**LAYERS
ALLOWED: Final = 1.1
"""Requests at the leaf per original request, with guards."""
LEAF: Final = f"link{LAYERS + 1}"
RETRYING: Final = [f"link{number}" for number in range(1, LAYERS + 1)]

SECONDS: Final = 5.0
"""For how long requests come."""
PATIENCE: Final = 60.0
LOOP: Final = Policy(
    deadline=None,
    retry=Retry(attempts=ATTEMPTS, base=0.1, cap=0.1),
    budget=None,
    breaker=None,
    limit=None,
)
"""What `chain.repeated` does by hand: three attempts, 50 ms apart (here: in the mean)."""

NAIVE: Final = "naive"
NO_BREAKER: Final = "guarded, no breaker"
GUARDED: Final = "guarded"


@dataclass(frozen=True, slots=True)
class _Seen:
    """What became of the requests, and how many of theirs reached the leaf."""

    samples: list[Sample]
    at_leaf: int
    rate: float
    """Requests offered a second."""
    hop: float
    """Seconds that one link took for a request, before they came."""

    @property
    def each(self) -> float:
        return self.at_leaf / len(self.samples)


async def drill(stand: Stand) -> Report:
    """Break the leaf of a naive and of a guarded chain."""
    report = Report("leaf-down", f"the last service of a chain of {LAYERS + 1} fails every request")
    (naive,), (no_breaker, guarded) = await asyncio.gather(
        _naive_chain(stand), _guarded_chain(stand)
    )
    for variant, seen in ((NAIVE, naive), (NO_BREAKER, no_breaker), (GUARDED, guarded)):
        took = [sample.took for sample in seen.samples]
        report.figure("original requests", len(seen.samples), variant=variant)
        report.figure("requests that reach the leaf", seen.at_leaf, variant=variant)
        report.figure("of these per original request", seen.each, variant=variant)
        report.figure("until the caller knows, p50", quantile(took, 0.5), "s", variant=variant)
        report.figure("until the caller knows, p99", quantile(took, 0.99), "s", variant=variant)
    await _foretell(report, naive, no_breaker, guarded)
    report.check(
        f"without guards every request becomes {ATTEMPTS}^{LAYERS} = {WORST}",
        naive.each == WORST,
        f"{naive.each:.2f} at the leaf per original request",
    )
    for what, seen in (("with guards", guarded), ("even without the breaker", no_breaker)):
        report.check(
            f"{what} the leaf gets at most {ALLOWED:g} requests for each original one",
            seen.each <= ALLOWED,
            f"{seen.each:.2f} at the leaf per original request",
        )
    slowest = max(sample.took for sample in guarded.samples)
    report.check(
        "with guards every caller knows within the deadline of 1 s",
        slowest <= 1.25,  # noqa: PLR2004  the deadline, and what two wires and a loaded machine add
        f"the slowest took {slowest:.2f} s",
    )
    report.shows = (
        "Retries multiply from layer to layer and hold a service down that is down; one retrying "
        "layer with a budget keeps the load near what it was, and a breaker takes it away."
    )
    return report


async def _foretell(report: Report, naive: _Seen, no_breaker: _Seen, guarded: _Seen) -> None:
    """Put what the simulator predicts beside what was measured."""
    links = [*RETRYING, LEAF]
    targets = [f"chain.chain:{link}" for link in RETRYING]
    off, on = await asyncio.gather(
        *(declared(examples(), *targets, env={"CHAIN_BREAKER": one}) for one in ("off", "on"))
    )
    # what the naive chain does by hand, no edge declares
    for variant, seen, edges, loop in (
        (NAIVE, naive, [], LOOP),
        (NO_BREAKER, no_breaker, off, None),
        (GUARDED, guarded, on, None),
    ):
        each, pages = chain(
            edges,
            links,
            hop=seen.hop,
            rate=seen.rate,
            seconds=SECONDS,
            patience=PATIENCE,
            loop=loop,
        )
        took = [sample.took for sample in seen.samples]
        compare(
            report,
            variant,
            "Simulated",
            (
                Compared("at the leaf per original request", "", seen.each, each),
                Compared(
                    "until the caller knows, p50",
                    "s",
                    quantile(took, 0.5),
                    pages.known.quantile(0.5),
                ),
            ),
        )


async def _naive_chain(stand: Stand) -> list[_Seen]:
    env = {link: {"CHAIN_GUARDS": "off"} for link in RETRYING} | {LEAF: {"CHAIN_FAILS": "1"}}
    async with (
        stand.system("chain", name="naive chain", env=env) as system,
        Visitors(patience=PATIENCE) as visitors,
    ):
        stand.say("asking the naive chain, whose last service fails")
        return [await _ask(system, visitors, 4.0)]


async def _guarded_chain(stand: Stand) -> list[_Seen]:
    env = {link: {"CHAIN_BREAKER": "off"} for link in RETRYING} | {LEAF: {"CHAIN_FAILS": "1"}}
    async with (
        stand.system("chain", name="guarded chain", env=env) as system,
        Visitors(patience=PATIENCE) as visitors,
    ):
        stand.say("asking the guarded chain without its breakers")
        no_breaker = await _ask(system, visitors, 40.0)
        await asyncio.gather(*(system[link].restart(CHAIN_BREAKER="on") for link in RETRYING))
        stand.say("asking the guarded chain")
        return [no_breaker, await _ask(system, visitors, 40.0)]


async def _ask(system: System, visitors: Visitors, rate: float) -> _Seen:
    async def at_leaf() -> int:
        count = await visitors.get(system.url(LEAF, "/v1/count"))
        return int(count.body["requests"])

    async def ask(number: int) -> Answer:
        return await visitors.get(system.url("link1", f"/v1/answer/{number}"))

    async def count(_: int) -> Answer:
        return await visitors.get(system.url(LEAF, "/v1/count"))

    await offer(evenly(40.0, 0.5), count)  # the first ones open the connections, and warm up
    hops = await offer(evenly(25.0, 1.0), count)
    before = await at_leaf()
    samples = await offer(evenly(rate, SECONDS), ask)
    hop = quantile([sample.took for sample in hops], 0.5)
    return _Seen(samples, await at_leaf() - before, rate, hop)
