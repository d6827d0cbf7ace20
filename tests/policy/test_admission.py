"""Admission: who gets a place, who waits and who is turned away, in virtual time."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from switchgear.errors import PolicyError
from switchgear.model.context import Priority
from switchgear.model.signal import SignalKind
from switchgear.policy.adaptive import Aimd, Vegas
from switchgear.policy.admission import Admission, Turnstile, Verdict, Visitor

CRITICAL, DEFAULT, SHEDDABLE = Priority.CRITICAL, Priority.DEFAULT, Priority.SHEDDABLE


def turnstile(**given):
    reports = []
    made = Turnstile(Admission(**given), lambda kind, detail: reports.append((kind, detail)))
    return made, reports


def arrives(t, now, priority=DEFAULT, deadline=None):
    visitor = Visitor(priority, deadline)
    t.arrive(now, visitor)
    return visitor


def test_places_are_given_until_none_is_left_and_the_rest_waits_in_order():
    t, reports = turnstile(concurrency=2)
    first, second = arrives(t, 0.0), arrives(t, 0.0)
    assert first.verdict is second.verdict is Verdict.ADMITTED
    third, fourth = arrives(t, 0.01), arrives(t, 0.02)
    assert third.verdict is fourth.verdict is None
    assert third.until == pytest.approx(0.11)
    t.left(0.05, first)
    assert t.outbox == [third]
    assert third.verdict is Verdict.ADMITTED
    assert third.began == 0.05
    assert fourth.verdict is None
    assert (t.in_flight, t.waiting) == (2, 1)
    assert not reports


def test_a_place_that_nobody_waits_for_is_free_again():
    t, _ = turnstile(concurrency=1, queue=0)
    first = arrives(t, 0.0)
    assert arrives(t, 0.0).verdict is Verdict.QUEUE_FULL
    t.left(1.0, first)
    assert arrives(t, 1.0).verdict is Verdict.ADMITTED


def test_who_waited_too_long_is_turned_away_by_the_alarm():
    t, _ = turnstile(concurrency=1)
    arrives(t, 0.0)
    late, expired = arrives(t, 1.0), arrives(t, 1.0, deadline=1.05)
    assert (late.until, expired.until) == (1.1, 1.05)
    t.overdue(1.05, expired)
    t.overdue(1.1, late)
    assert expired.verdict is Verdict.EXPIRED
    assert late.verdict is Verdict.WAITED
    assert t.waiting == 0
    # the alarm of one whose verdict was found changes nothing
    t.overdue(2.0, late)
    assert (late.verdict, t.shed) == (Verdict.WAITED, 2)


def test_work_that_expired_in_the_queue_gets_no_place_though_its_alarm_is_late():
    t, _ = turnstile(concurrency=1)
    first = arrives(t, 0.0)
    expired, other = arrives(t, 0.0, deadline=0.05), arrives(t, 0.01)
    t.left(0.05, first)
    assert (expired.verdict, other.verdict) == (Verdict.EXPIRED, Verdict.ADMITTED)
    assert t.outbox == [expired, other]


def test_who_waited_too_long_gets_no_place_though_its_alarm_is_late():
    t, holder, oldest = standing()
    newest = arrives(t, 0.2)
    t.left(0.21, holder)
    assert (newest.verdict, oldest.verdict) == (Verdict.WAITED, Verdict.ADMITTED)


def test_who_comes_after_its_deadline_is_no_overload():
    t, reports = turnstile(concurrency=1)
    assert arrives(t, 5.0, deadline=5.0).verdict is Verdict.EXPIRED
    assert (t.in_flight, t.shed, reports) == (0, 0, [])


def standing(**given):
    """A turnstile whose queue has not been empty for an interval, at 0.1."""
    t, _ = turnstile(concurrency=1, **given)
    holder = arrives(t, -1.0)
    oldest = arrives(t, 0.0, deadline=99.0)
    oldest.until = 99.0
    return t, holder, oldest


def test_in_an_overload_the_newest_is_served_first_and_waits_for_a_moment_only():
    t, holder, oldest = standing()
    newest = arrives(t, 0.1)
    assert newest.until == pytest.approx(0.105)
    t.left(0.101, holder)
    assert newest.verdict is Verdict.ADMITTED
    assert oldest.verdict is None


def test_in_a_burst_the_oldest_is_served_first():
    t, holder, oldest = standing()
    newer = arrives(t, 0.05)
    t.left(0.099, holder)
    assert oldest.verdict is Verdict.ADMITTED
    assert newer.verdict is None


def test_a_queue_that_empties_once_in_an_interval_is_not_standing():
    t, _, oldest = standing()
    t.abandoned(0.09, oldest)
    assert arrives(t, 0.15).until == pytest.approx(0.25)


def test_an_overload_of_others_does_not_shorten_the_patience_of_critical_requests():
    t, holder, _ = standing(trust="all")
    default, critical = arrives(t, 0.2), arrives(t, 0.2, CRITICAL)
    assert (default.until, critical.until) == (pytest.approx(0.205), pytest.approx(0.3))
    t.left(0.201, holder)
    assert critical.verdict is Verdict.ADMITTED


def test_sheddable_requests_do_not_queue_in_an_overload():
    t, _, _ = standing()
    assert arrives(t, 0.05, SHEDDABLE).verdict is None
    assert arrives(t, 0.2, SHEDDABLE).verdict is Verdict.SHEDDABLE
    assert arrives(t, 0.2, DEFAULT).verdict is None


def test_critical_requests_are_served_first_and_sheddable_ones_last():
    t, _ = turnstile(concurrency=1, reserve=0)
    holder = arrives(t, 0.0)
    waiting = [arrives(t, 0.01, one) for one in (SHEDDABLE, DEFAULT, CRITICAL)]
    order = []
    for now in (0.02, 0.03, 0.04):
        t.left(now, holder)
        (holder,) = t.outbox
        t.outbox.clear()
        order.append(holder)
    assert order == waiting[::-1]


def test_in_a_full_queue_who_would_be_served_last_makes_room():
    t, _ = turnstile(concurrency=1, queue=2, reserve=0)
    arrives(t, 0.0)
    sheddable, first = arrives(t, 0.0, SHEDDABLE), arrives(t, 0.0)
    second = arrives(t, 0.01)
    assert sheddable.verdict is Verdict.QUEUE_FULL
    assert t.outbox == [sheddable]
    # a burst is served in order, so the last that came makes room: itself
    third = arrives(t, 0.02)
    assert third.verdict is Verdict.QUEUE_FULL
    critical = arrives(t, 0.03, CRITICAL)
    assert (first.verdict, second.verdict) == (None, Verdict.QUEUE_FULL)
    assert critical.verdict is None
    assert t.waiting == 2


def test_in_a_full_queue_of_an_overload_the_oldest_makes_room():
    t, _, oldest = standing(queue=1)
    newest = arrives(t, 0.2)
    assert oldest.verdict is Verdict.QUEUE_FULL
    assert newest.verdict is None
    assert t.outbox == [oldest]


def test_a_share_of_the_places_is_for_critical_requests_alone():
    t, _ = turnstile(concurrency=10, queue=0, reserve=0.3, operations={"pay": CRITICAL})
    verdicts = [arrives(t, 0.0).verdict for _ in range(8)]
    assert verdicts == [Verdict.ADMITTED] * 7 + [Verdict.QUEUE_FULL]
    critical = [arrives(t, 0.0, CRITICAL) for _ in range(4)]
    assert [one.verdict for one in critical] == [Verdict.ADMITTED] * 3 + [Verdict.QUEUE_FULL]
    t.left(1.0, critical[0])
    assert arrives(t, 1.0).verdict is Verdict.QUEUE_FULL
    assert arrives(t, 1.0, CRITICAL).verdict is Verdict.ADMITTED


def test_critical_requests_may_take_every_place():
    t, _ = turnstile(concurrency=4, queue=0, reserve=0.5, trust="all")
    assert [arrives(t, 0.0, CRITICAL).verdict for _ in range(4)] == [Verdict.ADMITTED] * 4
    assert arrives(t, 0.0).verdict is Verdict.QUEUE_FULL


def test_nothing_is_reserved_where_nothing_can_be_critical():
    t, _ = turnstile(concurrency=10, queue=0, reserve=0.5)
    assert [arrives(t, 0.0).verdict for _ in range(10)] == [Verdict.ADMITTED] * 10


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_reserve_leaves_a_place_for_everybody_else(limit):
    t, _ = turnstile(concurrency=limit, queue=0, reserve=0.9, trust="all")
    assert arrives(t, 0.0).verdict is Verdict.ADMITTED


def test_who_waits_for_a_reserved_place_does_not_hold_up_who_may_have_it():
    t, _ = turnstile(concurrency=2, reserve=0.5, trust="all")
    ordinary, critical = arrives(t, 0.0), arrives(t, 0.0, CRITICAL)
    waiting, urgent = arrives(t, 0.01), arrives(t, 0.02, CRITICAL)
    t.left(0.03, critical)
    assert (waiting.verdict, urgent.verdict) == (None, Verdict.ADMITTED)
    t.left(0.04, ordinary)
    assert waiting.verdict is Verdict.ADMITTED


@pytest.mark.parametrize(
    ("trust", "own", "hint", "trusted"),
    [
        ("lower", DEFAULT, CRITICAL, DEFAULT),
        ("lower", DEFAULT, SHEDDABLE, SHEDDABLE),
        ("lower", CRITICAL, DEFAULT, CRITICAL),
        ("lower", CRITICAL, SHEDDABLE, SHEDDABLE),
        ("lower", SHEDDABLE, CRITICAL, SHEDDABLE),
        ("all", DEFAULT, CRITICAL, CRITICAL),
        ("all", CRITICAL, DEFAULT, CRITICAL),
        ("all", SHEDDABLE, CRITICAL, CRITICAL),
        ("all", CRITICAL, SHEDDABLE, SHEDDABLE),
    ],
)
def test_what_a_callers_hint_may_do(trust, own, hint, trusted):
    named = Admission(trust=trust, operations={"pay": own})
    assert named.priority_of("pay", hint) is trusted
    everywhere = Admission(trust=trust, priority=own)
    assert everywhere.priority_of("other", hint) is trusted
    apart = Admission(trust=trust, operations={"pay": Admission(priority=own)})
    assert apart.priority_of("pay", hint) is trusted


def test_a_priority_may_be_written_as_its_word():
    worded = Admission(priority="critical", operations={"report": "sheddable"})
    assert worded.priority is CRITICAL
    assert worded.priority_of("report", DEFAULT) is SHEDDABLE
    assert worded.priority_of("pay", DEFAULT) is CRITICAL
    assert (
        Admission(operations={"pay": Admission(priority="critical")}).priority_of("pay", DEFAULT)
        is CRITICAL
    )


def test_observing_admits_everybody_and_marks_who_found_no_place():
    t, reports = turnstile(concurrency=1, mode="observe")
    visitors = [arrives(t, 0.0) for _ in range(3)]
    assert [one.verdict for one in visitors] == [Verdict.ADMITTED] * 3
    assert [one.spared for one in visitors] == [False, True, True]
    assert (t.in_flight, t.waiting, t.shed) == (3, 0, 2)
    assert reports == [
        (SignalKind.ADMISSION_OVERLOADED, {"limit": 1, "queue": 0, "observed": True})
    ]
    for one in visitors:
        t.left(1.0, one)
    assert t.in_flight == t.ordinary == 0


def test_an_overload_is_reported_when_it_begins_and_when_it_is_over():
    t, reports = turnstile(concurrency=1, queue=0)
    holder = arrives(t, 0.0)
    for _ in range(5):
        arrives(t, 1.0)
    assert reports == [
        (SignalKind.ADMISSION_OVERLOADED, {"limit": 1, "queue": 0, "observed": False})
    ]
    t.left(1.5, holder)
    arrives(t, 1.99)
    assert t.overloaded
    reports.clear()
    arrives(t, 2.0)
    assert reports[0] == (SignalKind.ADMISSION_RECOVERED, {"shed": 5, "limit": 1})


def test_a_request_that_goes_away_gives_back_what_it_has():
    t, _ = turnstile(concurrency=1)
    holder, waiting, other = arrives(t, 0.0), arrives(t, 0.01), arrives(t, 0.02)
    t.abandoned(0.03, waiting)
    assert t.waiting == 1
    t.abandoned(0.04, holder)
    assert other.verdict is Verdict.ADMITTED
    refused = Visitor(DEFAULT)
    refused.verdict = Verdict.WAITED
    t.abandoned(0.05, refused)
    assert (t.in_flight, t.waiting) == (1, 0)


def test_an_adaptive_limit_learns_from_what_is_measured_and_from_what_overran():
    t, _ = turnstile(concurrency=Aimd(initial=10, maximum=20))
    one = arrives(t, 0.0)
    others = [arrives(t, 0.0) for _ in range(9)]
    t.left(1.0, one)
    assert t.limit == 10
    t.left(1.0, others[0], measured=True)
    for _ in range(12):
        t.left(1.0, arrives(t, 1.0), measured=True)
    assert t.limit == 11
    t.left(2.0, others[1], overloaded=True)
    assert t.limit == 10


class Load:
    """Requests that arrive at random, and a handler with so many workers, in virtual time."""

    def __init__(self, admission, *, workers=10, service=0.05, patience=0.3, seed=5):
        self.turnstile = Turnstile(admission, lambda kind, detail: None)
        self.random = Random(seed)
        self.workers, self.service, self.patience = workers, service, patience
        self.now, self.order, self.events = 0.0, 0, []
        self.busy, self.line = 0, []
        self.good = Counter()
        self.offered = Counter()
        self.waits = []
        self.ran_late = 0

    def at(self, when, what, *facts):
        self.order += 1
        heapq.heappush(self.events, (when, self.order, what, facts))

    def run(self, seconds, rate, mix):
        end = self.now + seconds
        when = self.now
        while when < end:
            when += self.random.expovariate(rate)
            priority = self.random.choices(list(mix), list(mix.values()))[0]
            self.at(when, self.arrive, priority)
        while self.events and self.events[0][0] <= end:
            self.now, _, what, facts = heapq.heappop(self.events)
            what(*facts)
            for visitor in self.turnstile.outbox:
                self.settle(visitor)
            self.turnstile.outbox.clear()

    def arrive(self, priority):
        visitor = Visitor(priority, self.now + self.patience)
        self.offered[priority] += 1
        self.turnstile.arrive(self.now, visitor)
        if visitor.verdict is None:
            self.at(visitor.until, self.alarm, visitor)
        else:
            self.settle(visitor)

    def alarm(self, visitor):
        self.turnstile.overdue(self.now, visitor)

    def settle(self, visitor):
        if visitor.verdict is Verdict.ADMITTED:
            self.ran_late += self.now >= visitor.deadline
            self.waits.append(self.now - (visitor.deadline - self.patience))
            self.line.append(visitor)
            self.work()

    def work(self):
        while self.line and self.busy < self.workers:
            self.busy += 1
            takes = self.random.expovariate(1 / self.service)
            self.at(self.now + takes, self.done, self.line.pop(0))

    def done(self, visitor):
        self.busy -= 1
        late = self.now > visitor.deadline
        self.good[visitor.priority] += not late
        self.turnstile.left(self.now, visitor, measured=not late, overloaded=late)
        self.work()


MIX = {CRITICAL: 1, DEFAULT: 7, SHEDDABLE: 2}
OPERATIONS = {"pay": CRITICAL}


@pytest.mark.parametrize(
    "concurrency", [10, Vegas(initial=5)], ids=["as many as workers", "adaptive"]
)
@pytest.mark.parametrize("times", [2, 5])
def test_goodput_stays_up_however_much_is_offered(concurrency, times):
    load = Load(Admission(concurrency=concurrency, operations=OPERATIONS))
    load.run(30, 200 * times, MIX)
    load.good.clear()
    load.offered.clear()
    load.waits.clear()
    load.run(30, 200 * times, MIX)
    # of what the workers could do at the very most; a few of the exponential ones take too long
    assert sum(load.good.values()) > 0.85 * 200 * 30
    # critical requests are a tenth of what is offered, and nearly all of them are served
    assert load.good[CRITICAL] > 0.97 * load.offered[CRITICAL]
    assert load.good[SHEDDABLE] < 0.1 * load.offered[SHEDDABLE]
    assert load.ran_late == 0
    assert sorted(load.waits)[len(load.waits) * 99 // 100] <= 0.1


def test_without_an_overload_hardly_anybody_is_turned_away():
    load = Load(Admission(concurrency=10, operations=OPERATIONS), patience=2)
    load.run(60, 120, MIX)
    assert sum(load.good.values()) > 0.99 * sum(load.offered.values())


def test_after_an_overload_everybody_is_served_again():
    load = Load(Admission(concurrency=10), patience=2)
    load.run(10, 1000, MIX)
    load.run(1, 100, MIX)
    load.good.clear()
    load.offered.clear()
    load.run(30, 100, MIX)
    assert sum(load.good.values()) > 0.99 * sum(load.offered.values())


class Visits(RuleBasedStateMachine):
    """Everything that can happen, in any order; the invariants are the promises."""

    def __init__(self):
        super().__init__()
        self.t, _ = turnstile(
            concurrency=Aimd(initial=3, minimum=1, maximum=6), queue=3, reserve=0.4, trust="all"
        )
        self.now = 100.0
        self.all = []
        self.over = set()

    def waiting(self):
        return [one for one in self.all if one.verdict is None and one not in self.over]

    def inside(self):
        return [one for one in self.all if one.verdict is Verdict.ADMITTED and one not in self.over]

    @rule(ahead=st.sampled_from([0.0, 0.001, 0.004, 0.02, 0.1, 0.5, 5.0]))
    def time_passes(self, ahead):
        self.now += ahead

    @rule(
        priority=st.sampled_from(list(Priority)),
        left=st.sampled_from([None, 0.0, 0.01, 0.05, 1.0]),
    )
    def one_arrives(self, priority, left):
        deadline = None if left is None else self.now + left
        visitor = arrives(self.t, self.now, priority, deadline)
        self.all.append(visitor)
        if visitor.verdict is Verdict.ADMITTED:
            assert len(self.inside()) <= self.t.limit
            assert visitor.began == self.now

    @rule(data=st.data(), measured=st.booleans(), late=st.booleans())
    def one_ends(self, data, measured, late):
        if inside := self.inside():
            visitor = data.draw(st.sampled_from(inside))
            self.over.add(visitor)
            held = len(self.inside())
            self.t.left(self.now, visitor, measured=measured, overloaded=late)
            # nothing begins that is late, and nothing beyond the limit
            for one in self.t.outbox:
                if one.verdict is Verdict.ADMITTED and one.began == self.now:
                    assert self.now < one.deadline
            assert len(self.inside()) <= max(held, self.t.limit)

    @rule(data=st.data())
    def an_alarm_rings(self, data):
        if due := [one for one in self.waiting() if one.until <= self.now]:
            visitor = data.draw(st.sampled_from(due))
            self.t.overdue(self.now, visitor)
            late = self.now >= visitor.deadline
            assert visitor.verdict is (Verdict.EXPIRED if late else Verdict.WAITED)

    @rule(data=st.data())
    def one_goes_away(self, data):
        if self.all:
            visitor = data.draw(st.sampled_from(self.all))
            if visitor not in self.over:
                self.over.add(visitor)
                self.t.abandoned(self.now, visitor)

    @invariant()
    def the_counts_are_those_of_the_visitors(self):
        inside = self.inside()
        assert self.t.in_flight == len(inside)
        assert self.t.ordinary == sum(one.priority is not CRITICAL for one in inside)
        assert self.t.waiting == len(self.waiting()) <= 3

    @invariant()
    def nobody_waits_while_there_is_a_place(self):
        inside, limit = self.inside(), self.t.limit
        for one in self.waiting():
            ordinary = sum(other.priority is not CRITICAL for other in inside)
            free = len(inside) < limit
            if one.priority is not CRITICAL:
                free = free and ordinary < limit - int(limit * 0.4)
            assert not free


TestVisits = Visits.TestCase
TestVisits.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)


def test_a_description_is_plain_data_with_every_setting():
    admission = Admission(
        concurrency=Vegas(), operations={"pay": CRITICAL, "report": Admission(concurrency=2)}
    )
    plain = admission.describe()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["concurrency"]["kind"] == "vegas"
    assert plain["operations"]["pay"] == "critical"
    assert plain["operations"]["report"]["concurrency"] == 2
    assert (plain["interval"], plain["target"], plain["reserve"]) == (0.1, 0.005, 0.1)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"concurrency": 0}, ("concurrency", "at least 1")),
        ({"concurrency": "many"}, ("concurrency", "at least 1")),
        ({"concurrency": 2.5}, ("concurrency is 2.5", "a whole number, at least 1")),
        ({"concurrency": Admission()}, ("concurrency", "one of Aimd, Gradient, Vegas")),
        ({"concurrency": True}, ("concurrency", "at least 1")),
        ({"queue": -1}, ("queue", "at least 0")),
        ({"interval": 0}, ("interval", "above 0")),
        ({"target": 0}, ("target", "above 0")),
        ({"target": 0.2}, ("target", "interval")),
        ({"reserve": 1}, ("reserve", "at least 0 and at most 0.9")),
        ({"retry_after": 0}, ("retry_after", "above 0")),
        ({"priority": "urgent"}, ("priority", "critical, default, sheddable")),
        ({"trust": "nobody"}, ("trust", "lower, all")),
        ({"mode": "off"}, ("mode", "auto, observe")),
        ({"operations": {"pay": "urgent"}}, ("pay", "critical, default, sheddable")),
        (
            {"operations": {"pay": Admission(operations={"x": CRITICAL})}},
            ("pay", "operations"),
        ),
    ],
)
def test_a_setting_out_of_range_is_refused_with_its_name_and_its_range(given, names):
    with pytest.raises(PolicyError) as refused:
        Admission(**given)
    for name in names:
        assert name in str(refused.value)
