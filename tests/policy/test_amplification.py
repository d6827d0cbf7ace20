"""Many calls and several layers in virtual time: what the policies add up to."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switchgear.model.context import Context
from switchgear.model.outcome import Ok, Reason, Unavailable, Unknown
from switchgear.policy.breaker import Breaker, State
from switchgear.policy.budget import Budget
from switchgear.policy.limit import Limit
from switchgear.policy.machine import Answer, Attempt, Machine, Wait
from switchgear.policy.policy import Policy
from switchgear.policy.retry import Retry


class World:
    """Virtual time. A process is a generator that yields the time at which to go on."""

    def __init__(self):
        self.now = 0.0
        self._due = []
        self._order = itertools.count()

    def start(self, process, at=None):
        heapq.heappush(self._due, (self.now if at is None else at, next(self._order), process))

    def run(self):
        while self._due:
            self.now, _, process = heapq.heappop(self._due)
            for until in process:
                self.start(process, until)
                break

    def call(self, machine, ask, **how):
        """One call by a machine, as a process; its return value is how the call ended."""
        call = machine.call(self.now, **how)
        step = call.begin(self.now)
        while True:
            if isinstance(step, Attempt):
                outcome = yield from ask(step)
                step = call.ended(self.now, step, outcome)
            elif isinstance(step, Wait):
                yield step.until
                step = call.resumed(self.now)
            else:
                return step


def chain(world, machines, leaf):
    """Return how layer 0 is asked, where each layer asks the next and the last asks the leaf."""

    def asking(layer):
        def ask(attempt):
            yield world.now + 0.001
            if layer == len(machines) - 1:
                return (yield from leaf(attempt))
            # what crosses a wire: the time left and the number of the attempt one way,
            # the class of the outcome and the mark the other
            context = Context(deadline=attempt.deadline, attempt=attempt.wire_number)
            end = yield from world.call(
                machines[layer + 1], asking(layer + 1), repeatable=True, context=context
            )
            yield world.now + 0.001
            if isinstance(end, Answer):
                return Ok(end.value)
            if isinstance(end, Unavailable):
                return Unavailable(reason=Reason.NOT_EXECUTED, final=end.final)
            return Unknown(reason=Reason.SERVER_ERROR, final=end.final)

        return ask

    return asking(0)


def load_on_the_leaf(policy, *, layers=4, offered=1000, each=0.02, healthy=0, kind=Unavailable):
    """Offer requests to a chain whose leaf is dead after `healthy` of them; count what the leaf
    gets of the rest, and how the rest ended."""
    world = World()
    draw = random.Random(11).random
    machines = [Machine(policy, random=draw) for _ in range(layers)]
    death = healthy * each
    seen, ends = Counter(), Counter()

    def leaf(_):
        seen[world.now > death] += 1
        yield world.now + 0.002
        if world.now <= death:
            return Ok(1)
        reason = Reason.CONNECT if kind is Unavailable else Reason.RESET
        return kind(reason=reason)

    ask = chain(world, machines, leaf)

    def request():
        end = yield from world.call(machines[0], ask, repeatable=True)
        ends[type(end).__name__] += 1

    for number in range(healthy + offered):
        world.start(request(), number * each)
    world.run()
    return seen[True], ends


NO_LIMIT = Limit(concurrency=10_000)


@pytest.mark.parametrize("kind", [Unavailable, Unknown])
def test_four_layers_above_a_dead_leaf_cost_the_reserve_and_not_81_times(kind):
    policy = Policy(budget=Budget(ratio=0.1, reserve=10, window=10), breaker=None, limit=NO_LIMIT)
    load, ends = load_on_the_leaf(policy, kind=kind)
    assert ends == {kind.__name__: 1000}
    # 20 seconds touch three windows
    assert 1000 < load <= 1000 + 3 * 10


def test_what_was_saved_while_all_was_well_is_all_that_an_outage_can_spend():
    policy = Policy(budget=Budget(ratio=0.1, reserve=10), breaker=None, limit=NO_LIMIT)
    load, _ = load_on_the_leaf(policy, healthy=1000)
    assert load <= 1000 * 1.1 + 3 * 10


def test_with_the_breaker_a_dead_leaf_is_soon_left_alone():
    load, ends = load_on_the_leaf(Policy(limit=NO_LIMIT), healthy=500, each=0.01)
    assert load < 130
    assert sum(ends.values()) == 1500


@given(
    ratio=st.sampled_from([0.0, 0.05, 0.1, 0.3]),
    reserve=st.integers(0, 20),
    attempts=st.integers(1, 6),
    layers=st.integers(1, 5),
    healthy=st.integers(0, 300),
    kind=st.sampled_from([Unavailable, Unknown]),
)
@settings(max_examples=25, deadline=None)
def test_the_load_on_a_dead_leaf_is_bounded(*, ratio, reserve, attempts, layers, healthy, kind):
    policy = Policy(
        retry=Retry(attempts=attempts, base=0.01),
        budget=Budget(ratio=ratio, reserve=reserve),
        breaker=None,
        limit=NO_LIMIT,
    )
    offered, each = 200, 0.02
    load, ends = load_on_the_leaf(
        policy, layers=layers, offered=offered, each=each, healthy=healthy, kind=kind
    )
    windows = (healthy + offered) * each / 10 + 1
    assert load <= offered + ratio * (healthy + offered) + reserve * windows
    assert sum(ends.values()) == healthy + offered


def test_a_thousand_callers_that_fail_together_come_back_spread_out():
    world, arrivals = World(), []
    machines = [
        Machine(Policy(breaker=None), random=random.Random(seed).random) for seed in range(1000)
    ]

    def ask(attempt):
        arrivals.append((attempt.number, world.now))
        yield world.now + 0.001
        return Unavailable(reason=Reason.CONNECT)

    for machine in machines:
        world.start(world.call(machine, ask, repeatable=True))
    world.run()
    second = [at for number, at in arrivals if number == 2]
    assert len(second) == 1000
    busiest = max(Counter(int(at * 1000) for at in second).values())
    assert busiest < 40
    assert max(second) - min(second) > 0.09


def test_a_thousand_callers_of_a_callee_that_recovers_do_not_probe_together():
    world, probes = World(), Counter()
    well = 100.0

    def ask(_):
        probes[int(world.now * 10)] += 1
        yield world.now + 0.01
        return Ok(1) if world.now > well else Unavailable(reason=Reason.CONNECT)

    policy = Policy(breaker=Breaker(consecutive=1), retry=None)
    for seed in range(1000):
        machine = Machine(policy, random=random.Random(seed).random)
        world.start(world.call(machine, ask, repeatable=True))
        # asks again at every tenth of a second in which its breaker may have become half-open
        for tenth in range(235, 310):
            world.start(world.call(machine, ask, repeatable=True), tenth / 10)
    world.run()
    asked = [count for tenth, count in probes.items() if tenth >= 235]
    assert sum(asked) == 1000
    assert max(asked) < 60


def test_the_breaker_lets_the_ramp_through_and_the_callee_recovers():
    world = World()
    machine = Machine(Policy(retry=None, limit=NO_LIMIT), random=random.Random(5).random)
    load = Counter()

    def ask(_):
        load[int(world.now)] += 1
        yield world.now + 0.02
        return Ok(1) if not 10 < world.now < 20 else Unknown(reason=Reason.RESET)

    for number in range(8000):
        world.start(world.call(machine, ask, repeatable=True), number * 0.01)
    world.run()
    assert machine.state is State.CLOSED
    assert load[15] == 0
    closed = min(second for second in range(21, 60) if load[second] > 3)
    assert 34 <= closed <= 41
    # grows from a few to all of the 100 a second, over ten seconds
    assert load[closed + 1] < 60
    assert load[closed + 1] < load[closed + 4] < load[closed + 8]
    assert load[closed + 12] == 100
