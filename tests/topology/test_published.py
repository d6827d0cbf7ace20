"""The simulator against published simulations."""

from dataclasses import replace

import pytest

from switchgear.config.scenario import read_scenario, shipped
from switchgear.policy.breaker import Breaker, Evidence
from switchgear.policy.budget import Budget
from switchgear.policy.policy import Policy
from switchgear.policy.retry import Retry
from switchgear.topology.simulate.book import total
from switchgear.topology.simulate.chance import Constant
from switchgear.topology.simulate.load import Steady, Steps
from switchgear.topology.simulate.result import simulate
from switchgear.topology.simulate.scenario import Entry, Operation, Scenario, Service, Work
from switchgear.topology.simulate.world import World

# --- "Metastable Failures in Distributed Systems" (HotOS 2021), section 2.1 ----------------------


def metastable(load, seconds=100):
    scenario = read_scenario(shipped()["metastable"])
    entry = replace(scenario.entries["visitors"], load=load)
    return replace(scenario, entries={"visitors": entry}, seconds=seconds, seeds=1)


def share(world, begins, ends):
    book = world.books["visitors"]
    return total(book.bins[int(begins / book.width) : int(ends / book.width)]).share


def test_a_database_under_280_of_its_300_queries_never_comes_back_from_ten_seconds():
    world = World(metastable(Steady(280.0)), 1, naive=True).run()
    assert share(world, 10, 29) > 0.99
    assert share(world, 45, 100) < 0.01
    # the retries are what holds it down: twice the load, which is more than it can do
    calls, attempts, _, _ = world.counted("web -> database.query")
    after = share(world, 95, 100)
    assert after == 0
    assert attempts / calls > 1.7


def test_below_half_of_its_capacity_it_comes_back_by_itself():
    world = World(metastable(Steady(140.0)), 1, naive=True).run()
    assert share(world, 10, 29) > 0.99
    assert share(world, 80, 100) > 0.99


def test_it_comes_back_if_the_load_falls_below_half_and_not_if_it_falls_less():
    def fallen(to):
        load = Steps(((0.0, 280.0), (60.0, to), (120.0, 280.0)))
        return World(metastable(load, seconds=150), 1, naive=True).run()

    assert share(fallen(140.0), 125, 150) > 0.99
    assert share(fallen(200.0), 125, 150) < 0.01


def test_with_deadlines_a_budget_and_a_breaker_it_comes_back_by_itself():
    result = simulate(metastable(Steady(280.0)), [1, 2, 3])
    assert max(result.entries["visitors"].recovery) < 30


# --- Marc Brooker, "Fixing retries with token buckets and circuit breakers" (2022) ---------------
#
# One service that fails a share of what it is asked, 100 clients that ask it 10 times a second each
# and keep their own state, 10 seconds. Compared are the share of calls that succeed and the load on
# the service (attempts a call), at his rates of failure, for his four strategies. What he publishes
# are graphs and what they show; these are statements about both axes:
#
#   no retries      succeeds 1 - x, load 1
#   three retries   succeeds 1 - x**4, load 1 + x + x**2 + x**3
#   token bucket    as three retries at low rates; at high ones a tenth of a retry a call, and the
#                   full bucket that it began with
#   breaker         as three retries well below its threshold, as no retries well above it
#
# His bucket is ours with `ratio=0.1, reserve=5`. It differs in that it fills with every call, ours
# with every success, as his text has it. His breaker breaks only the retries and never the first
# attempt, and not for any longer than the rate is above the threshold; ours breaks both, for a
# while. So of it only this is compared: what it does well below and well above its threshold, and
# that it trips at about half of it, because each client judges by what little it has seen. His
# clients do not wait between attempts; ours hardly do.

CLIENTS, RATE, LASTING = 100, 10.0, 10.0
AT_ONCE = {"base": 1e-6, "jitter": "full"}
STRATEGIES = {
    "no retries": Policy(retry=None, budget=None, breaker=None, limit=None, deadline=None),
    "three retries": Policy(
        retry=Retry(attempts=4, **AT_ONCE), budget=None, breaker=None, limit=None, deadline=None
    ),
    "token bucket": Policy(
        retry=Retry(attempts=4, **AT_ONCE),
        budget=Budget(ratio=0.1, reserve=5, window=60),
        breaker=None,
        limit=None,
        deadline=None,
    ),
    "breaker": Policy(
        retry=Retry(attempts=4, **AT_ONCE),
        budget=None,
        breaker=Breaker(threshold=0.1, confidence=None, evidence=(Evidence(60, 10),), open=60),
        limit=None,
        deadline=None,
    ),
}


STRATEGIES["breaker on evidence"] = replace(
    STRATEGIES["breaker"],
    breaker=replace(STRATEGIES["breaker"].breaker, confidence=0.975),
)


def brooker(strategy, fails, clients=CLIENTS):
    """Return the share of calls that succeed and the attempts a call, over all clients."""
    policy = STRATEGIES[strategy]
    scenario = Scenario(
        name="brooker",
        seconds=LASTING,
        services={
            "server": Service(
                operations={"call": Operation(steps=(Work(Constant(0.02)),), fails=fails)}
            )
        },
        entries={
            f"client {number}": Entry(
                calls="server.call", load=Steady(CLIENTS * RATE / clients), policy=policy
            )
            for number in range(clients)
        },
    )
    world = World(scenario, 1).run()
    pages = [total(world.books[name].bins) for name in scenario.entries]
    counted = [world.counted(name) for name in world.lines]
    offered = sum(page.offered for page in pages)
    good = sum(page.good for page in pages)
    return good / offered, sum(sent for _, sent, _, _ in counted) / offered


@pytest.mark.parametrize("fails", [0.01, 0.05, 0.1, 0.3, 0.5])
def test_no_retries_and_three_retries_do_what_arithmetic_says(fails):
    succeeds, load = brooker("no retries", fails)
    assert (succeeds, load) == (pytest.approx(1 - fails, abs=0.015), 1.0)
    succeeds, load = brooker("three retries", fails)
    assert succeeds == pytest.approx(1 - fails**4, abs=0.006)
    assert load == pytest.approx(sum(fails**n for n in range(4)), rel=0.02)


@pytest.mark.parametrize("fails", [0.001, 0.01, 0.0325])
def test_at_low_rates_the_token_bucket_is_three_retries(fails):
    bucket, three = brooker("token bucket", fails), brooker("three retries", fails)
    assert bucket[0] == pytest.approx(three[0], abs=0.001)
    assert bucket[1] == pytest.approx(three[1], rel=0.002)


@pytest.mark.parametrize("fails", [0.3, 0.5, 0.75])
def test_at_high_rates_the_token_bucket_is_a_tenth_of_a_retry(fails):
    succeeds, load = brooker("token bucket", fails)
    # what was deposited, and the five tokens of each client
    bound = 1 + 0.1 * succeeds + 5 / (RATE * LASTING)
    assert load <= bound + 0.001
    assert load == pytest.approx(bound, abs=0.02)
    none, three = brooker("no retries", fails), brooker("three retries", fails)
    assert none[0] < succeeds < three[0]
    assert load < three[1]


def test_the_breaker_is_three_retries_below_its_threshold_and_adds_no_load_above():
    low, three = brooker("breaker", 0.005), brooker("three retries", 0.005)
    assert low[0] == pytest.approx(three[0], abs=0.02)
    _, load = brooker("breaker", 0.5)
    assert load <= 1


def test_on_a_plain_rate_it_trips_at_half_its_threshold_and_on_evidence_it_does_not():
    three, _ = brooker("three retries", 0.05)
    plain, _ = brooker("breaker", 0.05)
    evident, _ = brooker("breaker on evidence", 0.05)
    assert plain < three - 0.1
    assert evident > three - 0.04


def test_with_more_clients_the_bucket_throttles_too_late():
    """The same calls, divided among more clients, each of which knows less."""
    few, many = 10, 1000
    bucket = [brooker("token bucket", 0.3, clients)[1] for clients in (few, many)]
    assert bucket[1] > bucket[0] + 0.1
    assert bucket[1] == pytest.approx(brooker("three retries", 0.3)[1], rel=0.06)
