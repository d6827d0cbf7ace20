"""Services, calls and faults in virtual time: what the simulator does, case by case."""

import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from switchgear.model.context import Priority
from switchgear.model.edge import Pattern
from switchgear.model.signal import SignalKind
from switchgear.policy.admission import Admission
from switchgear.policy.breaker import Breaker
from switchgear.policy.budget import Budget
from switchgear.policy.fallback import Fallback, Stale
from switchgear.policy.hedge import Hedge
from switchgear.policy.limit import Limit
from switchgear.policy.policy import Policy
from switchgear.topology.simulate.book import total
from switchgear.topology.simulate.chance import Constant, Exponential, Hyperexponential
from switchgear.topology.simulate.load import Steady
from switchgear.topology.simulate.result import simulate
from switchgear.topology.simulate.scenario import (
    Ask,
    Entry,
    Fault,
    FaultKind,
    Operation,
    Publish,
    Reaction,
    Scenario,
    ScenarioError,
    Service,
    Wire,
    Work,
)
from switchgear.topology.simulate.world import World

BARE = Policy.none(reason="a test of what is below the policies")


def work(seconds, **more):
    return Operation(steps=(Work(Constant(seconds)),), **more)


def one(service, *, rate=10.0, seconds=10.0, faults=(), **entry):
    """A scenario of one service, with operation `work`, asked at equal distances."""
    return Scenario(
        name="one",
        seconds=seconds,
        services={"a": service},
        entries={"visitors": Entry(calls="a.work", load=Steady(rate), evenly=True, **entry)},
        faults=faults,
    )


def two(policy, *, leaf, rate=10.0, seconds=10.0, faults=(), wire=None, caller=None, **entry):
    """A front that asks a leaf under a policy."""
    front = caller or Service(operations={"page": Operation(steps=(Ask(("leaf.work",)),))})
    return Scenario(
        name="two",
        seconds=seconds,
        services={"front": front, "leaf": leaf},
        wires={"front -> leaf.work": wire or Wire(policy=policy)},
        entries={"visitors": Entry(calls="front.page", load=Steady(rate), evenly=True, **entry)},
        faults=faults,
    )


def visitors(world):
    return total(world.books["visitors"].bins)


def took(world):
    """How long everybody took, in whole milliseconds."""
    return Counter(
        round(math.exp((place + 0.5 - 10_000) / 100) * 1000) if place > -9_999 else 0
        for place in visitors(world).known.counts
    )


# --- workers and queues -------------------------------------------------------------------------


def test_a_queue_is_served_in_order_and_the_rest_is_turned_away():
    # ten a second, one worker, 0.25 s each: four of them a second, with two waiting
    service = Service(workers=1, queue=2, operations={"work": work(0.25)})
    whole = visitors(World(one(service), 1).run())
    assert whole.offered == 100
    assert whole.good == pytest.approx(42, abs=2)
    assert whole.failed == whole.offered - whole.good
    # two before it, and itself
    assert whole.answered.quantile(1.0) == pytest.approx(0.75, rel=0.01)


def test_who_came_last_is_served_first():
    fifo = Service(workers=1, operations={"work": work(0.15)}, deadlines=False)
    lifo = replace(fifo, order="lifo")
    first, last = (visitors(World(one(one_), 1).run()).answered for one_ in (fifo, lifo))
    # the same work, told apart by who waits for it
    assert first.mean == pytest.approx(last.mean, rel=0.01)
    assert last.quantile(0.5) < first.quantile(0.5) / 5
    assert last.quantile(1.0) > first.quantile(1.0)


def test_a_worker_is_held_for_a_request_or_for_its_own_work():
    page = Operation(steps=(Work(Constant(0.01)), Ask(("leaf.work",)), Work(Constant(0.01))))
    leaf = Service(operations={"work": work(1.0)})
    threads = Service(workers=4, operations={"page": page})
    cores = replace(threads, holds="work")
    held, shared = (
        visitors(World(two(BARE, leaf=leaf, caller=caller), 1, naive=True).run()).answered
        for caller in (threads, cores)
    )
    assert shared.quantile(1.0) == pytest.approx(1.02, rel=0.01)
    # ten a second for a second each are more than four threads can hold
    assert held.quantile(1.0) > 10


def test_what_a_visitor_has_left_is_dropped_before_it_is_begun():
    service = Service(workers=1, operations={"work": work(0.25)})
    minds = World(one(service, patience=1.0), 1).run()
    deaf = World(one(replace(service, deadlines=False), patience=1.0), 1).run()
    # one works for those who are there, the other for all who ever came
    assert minds.handlings["a.work"].answered == visitors(minds).good
    assert deaf.handlings["a.work"].answered == 100
    assert visitors(deaf).left > 90
    assert minds.kernel.now < 12
    assert deaf.kernel.now > 24


# --- what happens to calls ----------------------------------------------------------------------


def test_a_page_takes_what_its_calls_take_in_sequence_and_side_by_side():
    leaf = Service(operations={"work": work(0.1), "slow": work(0.3)})
    steps = (Ask(("leaf.work",)), Ask(("leaf.work", "leaf.slow")), Work(Constant(0.05)))
    front = Service(operations={"page": Operation(steps=steps)})
    wire = Wire(policy=Policy(), latency=Constant(0.01))
    scenario = two(None, leaf=leaf, caller=front, wire=wire)
    # 0.12 with the way there and back, then the longer of two, which has no way to go
    assert took(World(scenario, 1).run()) == {470: 1}


def test_an_attempt_that_overruns_its_time_is_stopped_at_the_callee_too():
    leaf = Service(workers=1, operations={"work": work(5.0)})
    policy = Policy(deadline=0.1, retry=None, breaker=None)
    world = World(two(policy, leaf=leaf, rate=5), 1).run()
    assert visitors(world).failed == 50
    assert took(world) == {100: 1}
    # nothing is left to do when the last visitor knows
    assert world.kernel.now < 15
    assert world.stations["leaf"].free == 1
    ignorant = World(two(policy, leaf=replace(leaf, deadlines=False), rate=5), 1).run()
    assert ignorant.kernel.now > 200


def test_the_remaining_time_shrinks_from_layer_to_layer():
    leaf = Service(operations={"work": work(0.5)})
    middle = Service(
        operations={"work": Operation(steps=(Work(Constant(0.1)), Ask(("leaf.work",))))}
    )
    scenario = Scenario(
        name="chain",
        seconds=5,
        services={
            "front": Service(operations={"page": Operation(steps=(Ask(("middle.work",)),))}),
            "middle": middle,
            "leaf": leaf,
        },
        policy=Policy(retry=None, breaker=None),
        # the leaf's own policy would allow a second, its caller has 0.3 s
        wires={"front -> middle.work": Wire(policy=Policy(deadline=0.3, retry=None, breaker=None))},
        entries={"visitors": Entry(calls="front.page", load=Steady(10), evenly=True)},
    )
    world = World(scenario, 1).run()
    assert took(world) == {300: 1}
    assert world.handlings["leaf.work"].answered == 0
    assert world.kernel.now < 6.1


@pytest.mark.parametrize(("naive", "each"), [(True, 81), (False, 1.1)])
def test_four_layers_above_a_dead_leaf(naive, each):
    names = ["link1", "link2", "link3", "link4", "leaf"]
    services = {
        name: Service(operations={"work": Operation(steps=(Ask((f"{below}.work",)),))})
        for name, below in pairwise(names)
    }
    services["leaf"] = Service(operations={"work": work(0.001, fails=1.0)})
    scenario = Scenario(
        name="chain",
        seconds=25,
        services=services,
        policy=Policy(breaker=None),
        entries={"visitors": Entry(calls="link1.work", load=Steady(20), evenly=True)},
    )
    result = simulate(scenario, [1], naive=naive)
    (load,) = result.amplification["leaf.work"]
    if naive:
        assert load == each
    else:
        assert 1 < load <= each
    assert result.entries["visitors"].whole.failed == 500


def test_a_command_without_a_key_is_not_repeated_after_it_was_sent():
    leaf = Service(operations={"work": work(0.01, fails=1.0, pattern=Pattern.COMMAND)})
    world = World(two(Policy(breaker=None), leaf=leaf), 1).run()
    assert world.counted("front -> leaf.work") == (100, 100, 100, 100)
    keyed = Service(operations={"work": replace(leaf.operations["work"], keyed=True)})
    world = World(two(Policy(breaker=None), leaf=keyed), 1).run()
    calls, attempts, _, _ = world.counted("front -> leaf.work")
    assert calls < attempts <= 120


def test_a_full_limit_queues_and_the_turn_comes():
    policy = Policy(limit=Limit(concurrency=1, queue=10, wait=10), deadline=20, breaker=None)
    leaf = Service(operations={"work": work(0.11)})
    world = World(two(policy, leaf=leaf, seconds=2), 1).run()
    assert visitors(world).good == 20
    # each waits for all before it
    assert visitors(world).answered.quantile(1.0) == pytest.approx(0.11 + 19 * 0.01, rel=0.01)
    refused = replace(policy, limit=Limit(concurrency=1, queue=0))
    world = World(two(refused, leaf=leaf, seconds=2), 1).run()
    assert visitors(world).failed == 10
    assert world.counts["front -> leaf.work", SignalKind.LIMIT_REACHED]


def test_a_breaker_opens_and_closes_again_and_its_fallback_answers_meanwhile():
    policy = Policy(
        retry=None, breaker=Breaker(open=2.0, jitter=0), fallback=Fallback(stale=Stale())
    )
    leaf = Service(operations={"work": work(0.01)})
    fault = Fault(kind=FaultKind.DOWN, service="leaf", at=20, seconds=5)
    scenario = two(policy, leaf=leaf, rate=100, seconds=60, faults=(fault,))
    world = World(scenario, 1).run()
    kinds = [(signal.kind, round(time)) for time, signal, _ in world.signals]
    assert kinds[0] == (SignalKind.BREAKER_OPENED, 21)
    assert kinds[-1][0] is SignalKind.BREAKER_CLOSED
    whole = visitors(world)
    assert whole.good == whole.offered == 6000
    assert whole.degraded > 500
    assert visitors(World(scenario, 1, naive=True).run()).failed > 400


def test_an_optional_call_leaves_a_gap():
    leaf = Service(operations={"work": work(0.01, fails=1.0)})
    wire = Wire(policy=Policy(retry=None), optional=True)
    whole = visitors(World(two(None, leaf=leaf, wire=wire), 1).run())
    assert whole.good == whole.degraded == 100


def test_the_first_of_several_calls_that_fails_ends_the_others():
    leaf = Service(workers=1, operations={"work": work(0.01, fails=1.0), "long": work(2.0)})
    front = Service(operations={"page": Operation(steps=(Ask(("leaf.work", "leaf.long")),))})
    policy = Policy(retry=None, breaker=None, deadline=5)
    scenario = replace(two(policy, leaf=leaf, caller=front, rate=2), policy=policy)
    world = World(scenario, 1).run()
    assert visitors(world).failed == 20
    assert world.handlings["leaf.long"].answered == 0
    assert took(world) == {10: 1}


# --- faults -------------------------------------------------------------------------------------


def fault(kind, **more):
    return Fault(kind=kind, service="a", at=4.0, seconds=2.0, **more)


def test_a_service_that_is_down_loses_what_it_has_and_refuses_what_comes():
    service = Service(operations={"work": work(0.5)})
    world = World(one(service, faults=(fault(FaultKind.DOWN),)), 1).run()
    # twenty come meanwhile, and five were in there
    assert visitors(world).failed == pytest.approx(25, abs=1)
    assert world.handlings["a.work"].refused == 20


def test_a_service_that_is_silent_answers_nobody():
    service = Service(operations={"work": work(0.01)})
    whole = visitors(World(one(service, faults=(fault(FaultKind.SILENT),), patience=1.0), 1).run())
    assert (whole.left, whole.failed) == (20, 0)


def test_a_slow_service_is_quick_again():
    service = Service(operations={"work": work(0.01)})
    slow = World(one(service, faults=(fault(FaultKind.SLOW, factor=30.0),)), 1).run()
    takes = World(one(service, faults=(fault(FaultKind.SLOW, takes=Constant(0.3)),)), 1).run()
    assert visitors(slow).known.counts == visitors(takes).known.counts
    assert sorted(visitors(slow).known.counts.values()) == [20, 80]


def test_errors_come_on_top_of_those_that_are_usual():
    service = Service(operations={"work": work(0.001, fails=0.2)})
    faults = (Fault(kind=FaultKind.ERRORS, service="a", share=0.5),)
    whole = visitors(World(one(service, faults=faults, rate=1000), 1).run())
    assert whole.failed / whole.offered == pytest.approx(1 - 0.8 * 0.5, abs=0.02)


def test_a_lost_reply_was_work_all_the_same():
    leaf = Service(operations={"work": work(0.01)})
    lost = Fault(kind=FaultKind.LOST, service="leaf", share=0.3)
    policy = Policy(attempt_timeout=0.1, budget=Budget(ratio=1.0, reserve=100), breaker=None)
    world = World(two(policy, leaf=leaf, rate=100, faults=(lost,)), 1).run()
    whole = visitors(world)
    assert whole.good / whole.offered == pytest.approx(1 - 0.3**3, abs=0.02)
    # some were done twice, and some three times
    assert world.handlings["leaf.work"].answered == world.handlings["leaf.work"].arrived
    assert world.handlings["leaf.work"].arrived == pytest.approx(1390, abs=40)


def test_a_service_that_stands_still_goes_on_with_what_had_come():
    service = Service(workers=1, operations={"work": work(0.01)}, deadlines=False)
    whole = visitors(World(one(service, faults=(fault(FaultKind.PAUSE),)), 1).run())
    assert whole.good == 100
    assert whole.answered.quantile(1.0) == pytest.approx(2.0, rel=0.02)


# --- events -------------------------------------------------------------------------------------


def told(**reaction):
    return Scenario(
        name="told",
        seconds=20,
        services={
            "shop": Service(
                operations={"place": Operation(steps=(Work(Constant(0.01)), Publish("placed")))}
            ),
            "mail": Service(reacts={"placed": Reaction(steps=(Work(Constant(0.02)),), **reaction)}),
        },
        entries={"visitors": Entry(calls="shop.place", load=Steady(50))},
    )


def test_nobody_waits_for_those_who_react():
    scenario = replace(
        told(lanes=4),
        faults=(Fault(kind=FaultKind.DOWN, service="mail", at=5, seconds=5),),
    )
    result = simulate(scenario, [1])
    entry, reaction = result.entries["visitors"], result.reactions["mail <- placed"]
    assert entry.whole.good == entry.whole.offered
    assert entry.whole.answered.quantile(1.0) == pytest.approx(0.01, rel=0.01)
    # all are handled, if late
    assert reaction.whole.answered.count == entry.whole.offered
    assert reaction.backlog[0] == pytest.approx(250, abs=30)
    assert 1 < reaction.drained[0] < 8


def test_an_event_that_fails_is_tried_again_and_its_lane_waits():
    result = simulate(told(lanes=8, fails=0.3), [1])
    reaction = result.reactions["mail <- placed"]
    assert reaction.whole.answered.count == result.entries["visitors"].whole.offered
    assert reaction.whole.answered.quantile(0.99) > 0.3


# --- the run as a whole -------------------------------------------------------------------------


def figures(scenario, seed, **more):
    world = World(scenario, seed, **more).run()
    counts = {name: world.counted(name) for name in world.lines}
    return counts, visitors(world).known.counts, world.kernel.number


def busy():
    leaf = Service(
        workers=2, queue=5, operations={"work": Operation(steps=(Work(Exponential(0.3)),))}
    )
    return replace(
        two(Policy(deadline=1.0), leaf=leaf, seconds=60),
        entries={"visitors": Entry(calls="front.page", load=Steady(8), priority=Priority.CRITICAL)},
    )


def test_a_seed_gives_the_same_run_again_and_another_seed_another():
    assert figures(busy(), 7) == figures(busy(), 7)
    assert figures(busy(), 7) != figures(busy(), 8)


def test_the_same_visitors_come_to_every_variant():
    guarded, naive = World(busy(), 3).run(), World(busy(), 3, naive=True).run()
    assert [one.offered for one in guarded.books["visitors"].bins] == [
        one.offered for one in naive.books["visitors"].bins
    ]


def test_a_visitor_counts_in_one_bin_of_time_only():
    # 0.1 s is no binary fraction: the edges of the bins are where rounding goes either way
    service = Service(operations={"work": work(0.25)})
    world = World(one(service, rate=20.0, seconds=12.0), 1).run()
    assert world.width == 0.1
    for page in world.books["visitors"].bins:
        assert page.offered == page.good == page.answered.count


def test_every_visitor_is_accounted_for():
    for naive in (True, False):
        world = World(busy(), 5, naive=naive).run()
        whole = visitors(world)
        assert whole.offered == whole.answered.count + whole.failed + whole.left
        for station in world.stations.values():
            assert station.free == station.workers
            assert not station.queue


def test_the_policy_that_runs_is_the_very_class_that_clients_run():
    from switchgear.policy.machine import Machine

    world = World(busy(), 1)
    assert type(world.lines["front -> leaf.work"].machine) is Machine


def test_a_call_that_nobody_could_make_is_refused():
    with pytest.raises(ScenarioError, match="no operation"):
        two(Policy(), leaf=Service(operations={"other": work(1.0)}))


# --- hedges and admission -----------------------------------------------------------------------


def test_a_hedge_answers_where_the_first_attempt_is_slow():
    time = Hyperexponential(((0.95, 0.01), (0.05, 1.0)))
    leaf = Service(operations={"work": Operation(steps=(Work(time),))})
    plain = Policy(deadline=10, retry=None, breaker=None)
    hedged = replace(plain, hedge=Hedge(after=0.1), budget=Budget(ratio=0.5))
    slow, quick = (
        World(two(policy, leaf=leaf, rate=50, seconds=60), 2).run() for policy in (plain, hedged)
    )
    assert visitors(quick).good == 3000
    calls, attempts, _, _ = quick.counted("front -> leaf.work")
    assert calls < attempts < 1.1 * calls
    assert quick.counts["front -> leaf.work", SignalKind.HEDGE_SENT] == attempts - calls
    assert visitors(quick).answered.quantile(0.99) < visitors(slow).answered.quantile(0.99) / 2
    # the loser is stopped where it runs
    assert quick.handlings["leaf.work"].answered == calls


def test_admission_serves_the_critical_and_turns_the_others_away_at_once():
    leaf = Service(
        workers=4,
        admission=Admission(concurrency=4, queue=20, trust="all"),
        operations={"work": work(0.1)},
    )
    # together half as much again as it can do
    entries = {
        priority.value: Entry(calls="a.work", load=Steady(rate), patience=2.0, priority=priority)
        for priority, rate in ((Priority.CRITICAL, 15), (Priority.SHEDDABLE, 45))
    }
    scenario = replace(one(leaf, seconds=30), services={"a": leaf}, entries=entries)
    world = World(scenario, 1).run()
    critical, sheddable = (total(world.books[name].bins) for name in ("critical", "sheddable"))
    assert critical.share > 0.97
    assert sheddable.share < 0.7
    assert sheddable.left == 0
    assert sheddable.ended.quantile(0.99) < 0.11
    assert world.counts["a", SignalKind.ADMISSION_OVERLOADED] >= 1
    (desk,) = world.stations["a"].desks
    assert desk.turnstile.in_flight == desk.turnstile.waiting == 0
    naive = World(scenario, 1, naive=True).run()
    assert total(naive.books["critical"].bins).share < 0.5


def test_an_operation_with_places_of_its_own_takes_none_from_the_others():
    def shares(operations):
        leaf = Service(
            workers=8,
            admission=Admission(concurrency=8, queue=0, operations=operations),
            operations={"work": work(0.1), "report": work(0.5)},
        )
        entries = {
            name: Entry(calls=f"a.{name}", load=Steady(rate), patience=2.0)
            for name, rate in (("work", 20), ("report", 40))
        }
        scenario = replace(one(leaf, seconds=30), services={"a": leaf}, entries=entries)
        world = World(scenario, 1).run()
        for desk in world.stations["a"].desks:
            assert desk.turnstile.in_flight == 0
        return world, [total(world.books[name].bins).share for name in ("work", "report")]

    _, (together, _) = shares({})
    world, (apart, report) = shares({"report": Admission(concurrency=2, queue=0)})
    assert together < 0.6
    assert apart > 0.99
    # two at a time, each for half a second, of 40 a second
    assert report == pytest.approx(4 / 40, rel=0.1)
    assert world.counts["a.report", SignalKind.ADMISSION_OVERLOADED] >= 1
