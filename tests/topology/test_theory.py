"""The simulator against queueing theory.

Every case is run with 30 fixed seeds. The value of theory has to lie inside the 95% interval of
what was simulated, and that interval has to reach no further than 2% each way.
"""

import math
from dataclasses import replace

import pytest

from switchgear.policy.policy import Policy
from switchgear.topology.simulate.book import total
from switchgear.topology.simulate.chance import (
    Constant,
    Exponential,
    Hyperexponential,
    Lognormal,
    Uniform,
)
from switchgear.topology.simulate.estimate import estimate
from switchgear.topology.simulate.load import Steady
from switchgear.topology.simulate.scenario import Ask, Entry, Operation, Scenario, Service, Work
from switchgear.topology.simulate.world import World

SEEDS = range(1, 31)
BARE = Policy.none(reason="theory knows no retries")


def queue(*, rate, time, workers=1, queue=None, requests=20_000, name="queue"):
    """One queue: requests come at random, and take what they take."""
    steps = (Work(time),)
    return Scenario(
        name=name,
        seconds=1.05 * requests / rate,
        warm=0.05 * requests / rate,
        services={
            "a": Service(workers=workers, queue=queue, operations={"work": Operation(steps=steps)})
        },
        entries={"visitors": Entry(calls="a.work", load=Steady(rate))},
    )


def tandem(*, rate, times, requests):
    """Queues in a row: each request goes through all of them."""
    services = {
        f"s{number}": Service(workers=1, operations={"work": Operation(steps=(Work(time),))})
        for number, time in enumerate(times)
    }
    steps = tuple(Ask((f"{name}.work",)) for name in services)
    return Scenario(
        name="tandem",
        seconds=1.05 * requests / rate,
        warm=0.05 * requests / rate,
        # who goes from queue to queue holds no place anywhere else
        services=services | {"route": Service(operations={"all": Operation(steps=steps)})},
        entries={"visitors": Entry(calls="route.all", load=Steady(rate))},
        policy=BARE,
    )


def counted(scenario, seed):
    world = World(scenario, seed, naive=True).run()
    book = world.books["visitors"]
    return total(book.bins[math.ceil(scenario.warm / book.width) :])


def sojourn(scenario):
    return estimate([counted(scenario, seed).answered.mean for seed in SEEDS])


def agrees(simulated, theory):
    assert simulated.holds(theory), f"theory {theory:.5g}, simulated {simulated}"
    assert simulated.reach <= 0.02, f"{simulated.reach:.1%}"


def erlang_c(workers, offered):
    """The probability of having to wait in M/M/c (Erlang, 1917)."""
    busy = offered**workers / math.factorial(workers) * workers / (workers - offered)
    return busy / (sum(offered**k / math.factorial(k) for k in range(workers)) + busy)


@pytest.mark.parametrize(("load", "requests"), [(0.5, 10_000), (0.8, 32_000)])
def test_one_server(load, requests):
    agrees(
        sojourn(queue(rate=load, time=Exponential(1.0), requests=requests)),
        1 / (1 - load),
    )


@pytest.mark.parametrize(("workers", "requests"), [(2, 26_000), (8, 11_000)])
def test_several_servers(workers, requests):
    offered = 0.8 * workers
    agrees(
        sojourn(queue(rate=offered, time=Exponential(1.0), workers=workers, requests=requests)),
        1 + erlang_c(workers, offered) / (workers - offered),
    )


def test_one_server_with_a_bounded_queue():
    load, places = 0.8, 4
    scenario = queue(rate=load, time=Exponential(1.0), queue=places, requests=16_000)
    runs = [counted(scenario, seed) for seed in SEEDS]
    states = [load**n for n in range(places + 2)]
    lost = states[-1] / sum(states)
    inside = sum(n * weight for n, weight in enumerate(states)) / sum(states)
    agrees(estimate([run.failed / run.offered for run in runs]), lost)
    # Little's law, for those who were let in
    agrees(estimate([run.answered.mean for run in runs]), inside / (load * (1 - lost)))


MOMENTS = {
    "constant": (Constant(1.0), 1.0, 10_000),
    "uniform": (Uniform(0.0, 2.0), 4 / 3, 12_000),
    "lognormal": (Lognormal(0.5, 3.0), None, 26_000),
    "hyperexponential": (Hyperexponential(((0.7, 0.5), (0.3, 2.0))), None, 26_000),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_one_server_and_any_service_time(name):
    """Pollaczek and Khinchine: W = lambda E[S^2] / 2 (1 - rho)."""
    time, square, requests = MOMENTS[name]
    if isinstance(time, Lognormal):
        square = time.p50**2 * math.exp(2 * time.sigma**2)
    elif isinstance(time, Hyperexponential):
        square = sum(share * 2 * mean**2 for share, mean in time.kinds)
    load = 0.7
    rate = load / time.mean
    agrees(
        sojourn(queue(rate=rate, time=time, requests=requests)),
        time.mean + rate * square / (2 * (1 - load)),
    )


def test_queues_in_a_row():
    """Burke and Jackson: each behaves as if it were alone."""
    means = (1.0, 0.8, 0.5)
    rate = 0.8
    agrees(
        sojourn(tandem(rate=rate, times=[Exponential(mean) for mean in means], requests=20_000)),
        sum(mean / (1 - rate * mean) for mean in means),
    )


@pytest.mark.parametrize("workers", [1, 3, None])
def test_the_quick_way_through_a_service_that_never_looks_back_comes_out_the_same(workers):
    scenario = tandem(rate=0.8, times=[Exponential(1.0), Uniform(0.0, 1.8)], requests=3_000)
    services = {
        name: replace(service, workers=workers if name == "s1" else service.workers)
        for name, service in scenario.services.items()
    }
    scenario = replace(scenario, services=services)
    quick, slow = (World(scenario, 4, naive=True, watched=kept).run() for kept in (False, True))
    assert quick.kernel.number == slow.kernel.number
    assert quick.lines["route -> s0.work"].direct == slow.lines["route -> s0.work"].calls > 2_500
    for name in scenario.services:
        assert quick.waiting[name] == slow.waiting[name]
    assert max(quick.waiting["s0"]) > 3
    for name, handling in quick.handlings.items():
        assert handling.counters() == slow.handlings[name].counters()
    first, second = (total(world.books["visitors"].bins).answered for world in (quick, slow))
    assert (first.counts, first.sum) == (second.counts, pytest.approx(second.sum, rel=1e-12))


def test_availabilities_of_services_in_series_multiply():
    """Five services that answer 99%, 98%, ... of what they are asked."""
    shares = (0.01, 0.02, 0.03, 0.04, 0.05)
    services = {}
    for number, fails in enumerate(shares):
        steps = [Work(Constant(0.001))]
        if number + 1 < len(shares):
            steps.append(Ask((f"s{number + 1}.work",)))
        services[f"s{number}"] = Service(
            operations={"work": Operation(steps=tuple(steps), fails=fails)}
        )
    scenario = Scenario(
        name="series",
        seconds=20,
        services=services,
        entries={"visitors": Entry(calls="s0.work", load=Steady(200))},
        policy=BARE,
    )
    agrees(
        estimate([counted(scenario, seed).share for seed in SEEDS]),
        math.prod(1 - fails for fails in shares),
    )
