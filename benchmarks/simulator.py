"""The simulator beside SimPy on one network of queues; and how large a system fits into memory.

    python benchmarks/simulator.py              # both, about two minutes
    python benchmarks/simulator.py --rounds 5   # quicker
    python benchmarks/simulator.py --memory     # 10,000 services with 10 edges each, alone

The network is a row of M/M/1 queues, at 80%, 64% and 40% load in turn; ten of them, and for
comparison one, three and five. Both sides draw from
`random.Random`, write down how long each request took, and their means are printed beside theory.
SimPy's model is what its documentation shows: a process for each request, a `Resource` for each
server. Ours is an ordinary scenario, read into services and edges; the last column runs it with the
default policy on every edge, which SimPy's has nothing of.

A round runs every subject once, in a new random order, and a ratio is taken inside a round. Times
are of the processor, since neither side does anything but compute and the machine may be shared.
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from switchgear.policy.policy import Policy
from switchgear.topology.simulate.book import total
from switchgear.topology.simulate.chance import Exponential
from switchgear.topology.simulate.load import Steady
from switchgear.topology.simulate.scenario import Ask, Entry, Operation, Scenario, Service, Work
from switchgear.topology.simulate.world import World

MEANS = (0.01, 0.008, 0.005)
RATE = 80.0
REQUESTS = 30_000
ROW = 10
OTHERS = (1, 3, 5)


def row(queues: int) -> list[float]:
    """Return the mean service times of so many queues."""
    return [MEANS[number % len(MEANS)] for number in range(queues)]


Subject = Callable[[int], tuple[int, float]]
"""Given a seed, run the network; return how many requests completed, and their mean time."""


def ours(means: list[float], policy: Policy | None = None) -> Subject:
    bare = Policy.none(reason="SimPy has no policies")
    services = {
        f"s{number}": Service(
            workers=1,
            deadlines=policy is not None,
            operations={"work": Operation(steps=(Work(Exponential(mean)),))},
        )
        for number, mean in enumerate(means)
    }
    route = Operation(steps=tuple(Ask((f"{name}.work",)) for name in services))
    scenario = Scenario(
        name="tandem",
        seconds=REQUESTS / RATE,
        services=services
        | {"route": Service(deadlines=policy is not None, operations={"all": route})},
        entries={"visitors": Entry(calls="route.all", load=Steady(RATE))},
        policy=policy or bare,
    )

    def run(seed: int) -> tuple[int, float]:
        world = World(scenario, seed).run()
        answered = total(world.books["visitors"].bins).answered
        return answered.count, answered.mean

    return run


def simpy_network(means: list[float]) -> Subject:
    import simpy

    def run(seed: int) -> tuple[int, float]:
        chance = random.Random(seed)
        env = simpy.Environment()
        servers = [simpy.Resource(env, capacity=1) for _ in means]
        took: list[float] = []

        def request():
            began = env.now
            for server, mean in zip(servers, means, strict=True):
                with server.request() as turn:
                    yield turn
                    yield env.timeout(chance.expovariate(1 / mean))
            took.append(env.now - began)

        def visitors():
            until = REQUESTS / RATE
            while True:
                yield env.timeout(chance.expovariate(RATE))
                if env.now > until:
                    return
                env.process(request())

        env.process(visitors())
        env.run()
        return len(took), statistics.fmean(took)

    return run


def compare(queues: int, rounds: int, *, policies: bool) -> None:
    means = row(queues)
    subjects: dict[str, Subject] = {"SimPy": simpy_network(means), "switchgear": ours(means)}
    if policies:
        subjects["switchgear, a policy on every edge"] = ours(means, Policy(limit=None))
    speeds: dict[str, list[float]] = {name: [] for name in subjects}
    took: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(rounds):
        for name in random.sample(list(subjects), len(subjects)):
            began = time.process_time()
            completed, mean = subjects[name](number)
            speeds[name].append(completed / (time.process_time() - began))
            took[name].append(mean)
    theory = sum(mean / (1 - RATE * mean) for mean in means)
    print(
        f"{queues} M/M/1 queues in a row, {REQUESTS:,} requests, {rounds} rounds; "
        f"mean time in theory {theory * 1000:.2f} ms"
    )
    for name in subjects:
        ratios = [one / peer for one, peer in zip(speeds[name], speeds["SimPy"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"  {name:36} {statistics.median(speeds[name]):10,.0f} requests/s   "
            f"{middle:.2f} ({low:.2f} to {high:.2f}) times SimPy   "
            f"mean {statistics.fmean(took[name]) * 1000:.2f} ms"
        )


LAYERS, WIDE, EDGES = 51, 200, 10


def memory() -> None:
    """Build 10,000 services with 10 edges each, above 200 that ask nobody; print the peak."""
    chance = random.Random(1)
    services = {}
    for layer in range(LAYERS):
        for place in range(WIDE):
            targets = (
                tuple(f"s{layer + 1}-{one}.work" for one in chance.sample(range(WIDE), EDGES))
                if layer + 1 < LAYERS
                else ()
            )
            operations = {"work": Operation(steps=(Work(Exponential(0.01)),))}
            # each asks one of its ten callees in an operation of its own, so that load does not
            # grow tenfold with every layer
            operations |= {
                f"ask{number}": Operation(steps=(Ask((target,)),))
                for number, target in enumerate(targets)
            }
            services[f"s{layer}-{place}"] = Service(workers=16, operations=operations)
    scenario = Scenario(
        name="large",
        seconds=10,
        services=services,
        entries={
            f"e{place}": Entry(calls=f"s{layer}-{place}.ask{place % EDGES}", load=Steady(2))
            for layer in range(0, LAYERS - 1, 10)
            for place in range(WIDE)
        },
    )
    began = time.process_time()
    world = World(scenario, 1)
    built = time.process_time() - began
    edges = len(world.lines) - len(scenario.entries)
    world.run()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{len(services):,} services, {edges:,} edges with the default policy: built in "
        f"{built:.1f} s, peak memory {peak:,.0f} MiB, {world.kernel.number:,} events"
    )


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--memory", action="store_true")
    given = options.parse_args()
    if given.memory:
        memory()
        return
    compare(ROW, given.rounds, policies=True)
    for queues in OTHERS:
        compare(queues, given.rounds, policies=False)
    # in a process of its own: the peak is that of the process
    subprocess.run([sys.executable, __file__, "--memory"], check=True)


if __name__ == "__main__":
    main()
