"""The policy machine under asyncio: time, cancellation, the queue, what is reported."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
import weakref

import pytest

from switchgear.call import aio
from switchgear.call.aio import drive
from switchgear.call.answer import Answer, new_machine
from switchgear.call.wheel import wheels
from switchgear.model.context import Context, bind
from switchgear.model.outcome import Ok, Reason, Rejected, Unavailable, Unknown
from switchgear.model.signal import BEGINS, SignalKind, subscribe
from switchgear.policy.breaker import Breaker, State
from switchgear.policy.fallback import Fallback, Stale
from switchgear.policy.limit import Limit
from switchgear.policy.policy import Policy
from switchgear.policy.retry import Retry

QUICK = Retry(base=0.001, cap=0.001)


def machine(**parts):
    parts.setdefault("retry", QUICK)
    parts.setdefault("deadline", 60)
    return new_machine("stock", Policy(**parts))


def replies(*outcomes):
    """An attempt that goes through `outcomes`; an exception among them is returned, not raised."""
    left = iter(outcomes)
    seen = []

    async def attempt(step):
        seen.append(step)
        await asyncio.sleep(0)
        return next(left)

    attempt.seen = seen
    return attempt


def refused_connection():
    return Unavailable(reason=Reason.CONNECT)


def timed_out():
    return Unknown(reason=Reason.TIMEOUT)


async def forever(_):
    await asyncio.Event().wait()


async def test_a_call_brings_its_answer_home():
    assert await drive(machine(), replies(Ok(7))) == Answer(7)


async def test_a_call_is_retried_and_says_how_often():
    attempt = replies(refused_connection(), timed_out(), Ok(7))
    assert await drive(machine(), attempt, repeatable=True) == Answer(7, attempts=3)
    assert [step.number for step in attempt.seen] == [1, 2, 3]


@pytest.mark.parametrize(
    "end", [Rejected("no"), refused_connection(), timed_out()], ids=lambda end: type(end).__name__
)
async def test_how_a_call_failed_is_raised_whether_it_was_returned_or_raised(end):
    async def raises(_):
        raise end

    for attempt in (replies(end), raises):
        with pytest.raises(type(end)) as raised:
            await drive(machine(retry=None), attempt)
        assert raised.value is end


async def test_an_attempt_that_overruns_the_deadline_is_cancelled_and_unknown():
    cleaned = []

    async def attempt(_):
        try:
            await asyncio.sleep(30)
        finally:
            cleaned.append(True)

    began = time.monotonic()
    with pytest.raises(Unknown) as raised:
        await drive(machine(deadline=0.05), attempt, key="order-7")
    assert raised.value.reason is Reason.TIMEOUT
    assert raised.value.key == "order-7"
    assert cleaned == [True]
    assert 0.05 <= time.monotonic() - began < 25
    assert asyncio.current_task().cancelling() == 0


async def test_an_attempt_timeout_bounds_one_attempt_and_the_next_one_gets_its_own():
    attempts = []

    async def attempt(step):
        attempts.append(step)
        if step.number == 1:
            await asyncio.sleep(30)
        return Ok("second")

    answer = await drive(machine(deadline=60, attempt_timeout=0.02), attempt, repeatable=True)
    assert answer == Answer("second", attempts=2)
    assert asyncio.current_task().cancelling() == 0


async def test_the_deadline_is_the_earliest_of_policy_caller_and_context():
    seen = []

    async def attempt(step):
        seen.append(step.timeout)
        return Ok(1)

    m = machine(deadline=500, breaker=None)
    await drive(m, attempt)
    await drive(m, attempt, deadline=200)
    with bind(Context(deadline=time.monotonic() + 100)):
        await drive(m, attempt)
        await drive(m, attempt, deadline=200)
    assert seen == pytest.approx([500, 200, 100, 100], abs=45)


async def test_without_a_deadline_nothing_is_cancelled():
    assert await drive(machine(deadline=None), replies(Ok(1))) == Answer(1)


async def test_an_expired_call_is_not_made():
    attempt = replies()
    with pytest.raises(Unavailable) as raised:
        await drive(machine(), attempt, context=Context(deadline=time.monotonic() - 1))
    assert raised.value.reason is Reason.EXPIRED
    assert attempt.seen == []


# whose cancellation it is


async def test_the_callers_cancellation_passes_through_and_feeds_nothing():
    m = machine(breaker=Breaker(consecutive=1), limit=Limit(concurrency=1, queue=0))
    task = asyncio.create_task(drive(m, forever))
    await asyncio.sleep(0)
    assert m.gate.in_flight == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (m.gate.in_flight, m.state) == (0, State.CLOSED)
    assert m.circuit.tally.totals(time.monotonic())[1] == (0, 0)


async def test_a_caller_that_cancels_in_the_same_moment_is_not_swallowed():
    m = machine(deadline=0.03)

    async def cancels_with_the_wheel(_):
        try:
            await asyncio.Event().wait()
        finally:
            # the wheel has just cancelled this task; now its owner does too
            asyncio.current_task().cancel()

    task = asyncio.create_task(drive(m, cancels_with_the_wheel))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_a_timeout_of_the_callers_own_is_the_callers():
    m = machine(deadline=60)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await drive(m, forever)
    assert asyncio.current_task().cancelling() == 0


async def test_ours_inside_the_callers_timeout_is_ours():
    async with asyncio.timeout(60):
        with pytest.raises(Unknown):
            await drive(machine(deadline=0.02), forever)
    assert asyncio.current_task().cancelling() == 0


async def test_a_task_group_that_fails_cancels_the_call_and_not_the_other_way_round():
    async def fails():
        await asyncio.sleep(0.01)
        raise ValueError("a sibling")

    async def both():
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            group.create_task(drive(machine(), forever))

    with pytest.raises(ExceptionGroup) as raised:
        await both()
    assert [type(error) for error in raised.value.exceptions] == [ValueError]


async def test_an_attempt_that_answers_in_spite_of_its_cancellation_has_answered():
    async def stubborn(_):
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            return Ok("late")

    assert await drive(machine(deadline=0.02), stubborn) == Answer("late")
    assert asyncio.current_task().cancelling() == 0


async def test_what_the_attempt_makes_of_its_cancellation_is_taken():
    async def translates(_):
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            raise Unknown(reason=Reason.RESET) from None

    with pytest.raises(Unknown) as raised:
        await drive(machine(deadline=0.02), translates)
    assert raised.value.reason is Reason.RESET
    assert asyncio.current_task().cancelling() == 0


async def test_many_calls_that_are_due_together_are_all_cancelled():
    m = machine(deadline=0.05, breaker=None, limit=None)
    ends = await asyncio.gather(*(drive(m, forever) for _ in range(500)), return_exceptions=True)
    assert {type(end) for end in ends} == {Unknown}


async def test_deadlines_of_all_lengths_are_kept_in_order():
    ended = []

    # all from one moment, however long it takes until the last of them has begun
    lengths = [0.6, 0.4, 0.55, 0.45, 0.5]
    began = time.monotonic()

    async def call(length):
        left = began + length - time.monotonic()
        with pytest.raises(Unknown):
            await drive(machine(deadline=left), forever)
        ended.append((length, time.monotonic() - began))

    await asyncio.gather(*(call(length) for length in lengths))
    assert [length for length, _ in ended] == sorted(lengths)
    assert all(took >= length for length, took in ended)


async def test_calls_that_end_in_time_leave_no_timer_behind():
    m = machine(deadline=1.0)
    for _ in range(100):
        with contextlib.suppress(Unknown):  # one may be in progress while the machine stands still
            await drive(m, replies(Ok(1)))
    wheel = wheels[asyncio.get_running_loop()]
    async with asyncio.timeout(60):
        while wheel._timer is not None:
            await asyncio.sleep(0.01)
    assert (wheel.buckets, wheel._due) == ({}, [])


def test_each_event_loop_has_its_own_wheel():
    m = machine(deadline=0.02)

    async def one():
        with pytest.raises(Unknown):
            await drive(m, forever)
        return wheels[asyncio.get_running_loop()]

    first, second = asyncio.run(one()), asyncio.run(one())
    assert first is not second


# other ends


async def test_what_is_not_an_outcome_is_raised_as_it_is_and_gives_its_place_back():
    m = machine(breaker=Breaker(consecutive=1), limit=Limit(concurrency=1, queue=0))

    async def bug(_):
        raise KeyError("a bug")

    for _ in range(3):
        with pytest.raises(KeyError):
            await drive(m, bug, repeatable=True)
    assert (m.gate.in_flight, m.state) == (0, State.CLOSED)


async def test_outside_a_task_a_call_is_refused():
    coroutine = drive(machine(), replies(Ok(1)))
    failed = asyncio.get_running_loop().create_future()

    def outside():
        try:
            coroutine.send(None)
        except RuntimeError as error:
            failed.set_result(str(error))

    asyncio.get_running_loop().call_soon(outside)
    assert "inside a task" in await failed


async def test_a_failed_call_leaves_no_reference_cycle():
    class Traced(Unavailable):
        pass

    async def attempt(_):
        raise Traced(reason=Reason.CONNECT)

    gc.collect()
    gc.disable()
    try:
        try:
            await drive(machine(retry=None), attempt)
        except Unavailable as error:
            gone = weakref.ref(error)
        assert gone() is None
    finally:
        gc.enable()


# the queue


async def test_calls_queue_for_a_place_and_get_it_in_order():
    m = machine(limit=Limit(concurrency=1, queue=10, wait=60), breaker=None)
    order = []

    async def call(number):
        async def attempt(_):
            order.append(number)
            await asyncio.sleep(0.001)
            return Ok(number)

        return (await drive(m, attempt)).value

    assert await asyncio.gather(*map(call, range(8))) == list(range(8))
    assert order == list(range(8))
    assert m.gate.in_flight == 0


async def test_a_call_waits_no_longer_than_it_may():
    m = machine(limit=Limit(concurrency=1, queue=10, wait=0.02), breaker=None)
    busy = asyncio.create_task(drive(m, forever))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as raised:
        await drive(m, replies())
    assert raised.value.reason is Reason.LIMIT
    busy.cancel()
    await asyncio.wait([busy])
    assert (m.gate.in_flight, len(m.gate.waiting)) == (0, 0)


async def test_a_cancelled_waiter_leaves_the_queue_and_a_granted_one_passes_its_place_on():
    m = machine(limit=Limit(concurrency=1, queue=10, wait=60), breaker=None)
    free = asyncio.Event()

    async def holds(_):
        await free.wait()
        return Ok("first")

    first = asyncio.create_task(drive(m, holds))
    await asyncio.sleep(0)
    second, third = (asyncio.create_task(drive(m, replies(Ok(n)))) for n in (2, 3))
    fourth = asyncio.create_task(drive(m, replies(Ok(4))))
    await asyncio.sleep(0)
    second.cancel()
    free.set()
    await first
    # its turn has come, and before it runs again it is cancelled
    third.cancel()
    assert await fourth == Answer(4)
    assert second.cancelled()
    assert third.cancelled()
    assert m.gate.in_flight == 0


async def test_half_open_lets_exactly_the_probes_through_among_a_hundred_callers():
    m = machine(breaker=Breaker(consecutive=1, open=0.02, jitter=0, probes=3, ramp=0), retry=None)
    with pytest.raises(Unknown):
        await drive(m, replies(timed_out()))
    await asyncio.sleep(0.03)
    under_way = most = 0
    free = asyncio.Event()

    async def probe(_):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await free.wait()
        under_way -= 1
        return Ok("well")

    calls = [asyncio.create_task(drive(m, probe)) for _ in range(100)]
    await asyncio.sleep(0.01)
    assert (under_way, m.state) == (3, State.HALF_OPEN)
    free.set()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert most == 3
    assert ends.count(Answer("well")) == 3
    turned_away = [end for end in ends if isinstance(end, Unavailable)]
    assert len(turned_away) == 97
    assert {end.reason for end in turned_away} == {Reason.BREAKER_OPEN}
    assert m.state is State.CLOSED


def test_a_place_freed_in_one_loop_wakes_a_call_that_waits_in_another():
    m = machine(limit=Limit(concurrency=1, queue=5, wait=60), breaker=None)
    holding, waiting = threading.Event(), threading.Event()

    async def holds(_):
        holding.set()
        await asyncio.to_thread(waiting.wait, 60)
        return Ok("first")

    async def second():
        async def attempt(_):
            return Ok("second")

        call = asyncio.create_task(drive(m, attempt))
        await asyncio.sleep(0)
        assert len(m.gate.waiting) == 1
        waiting.set()
        return await call

    ends = []
    one = threading.Thread(target=lambda: ends.append(asyncio.run(drive(m, holds))))
    one.start()
    assert holding.wait(60)
    other = threading.Thread(target=lambda: ends.append(asyncio.run(second())))
    other.start()
    one.join(60)
    other.join(60)
    assert sorted(end.value for end in ends) == ["first", "second"]


def test_a_loop_that_was_closed_with_a_call_in_the_queue_does_not_keep_the_place():
    m = machine(limit=Limit(concurrency=1, queue=5, wait=60), breaker=None)
    loop = asyncio.new_event_loop()

    async def queued():
        task = asyncio.create_task(drive(m, forever))
        await asyncio.sleep(0)
        return task

    holder = m.call(time.monotonic(), repeatable=True)
    attempt = holder.begin(time.monotonic())
    stray = loop.run_until_complete(queued())
    loop.close()
    assert len(m.gate.waiting) == 1
    holder.ended(time.monotonic(), attempt, Ok(1))
    aio.deliver(m)
    assert (m.gate.in_flight, len(m.gate.waiting)) == (0, 0)
    # not awaited on purpose: its loop is gone
    stray._log_destroy_pending = False
    stray.get_coro().close()


# fallback


async def test_a_stale_answer_is_given_and_seen_to_be_stale():
    m = machine(fallback=Fallback(stale=Stale(max_age=60)), retry=None)
    began = time.monotonic()
    await drive(m, replies(Ok("fresh")), repeatable=True, cache_key="sku-1")
    answer = await drive(m, replies(timed_out()), repeatable=True, cache_key="sku-1")
    assert (answer.value, answer.degraded) == ("fresh", True)
    assert 0 <= answer.age <= time.monotonic() - began


async def test_a_fallback_function_may_be_a_coroutine_function():
    async def instead(failure):
        await asyncio.sleep(0)
        return failure.reason

    m = machine(fallback=Fallback(function=instead), retry=None)
    answer = await drive(m, replies(timed_out()), repeatable=True)
    assert answer == Answer(Reason.TIMEOUT, degraded=True, attempts=1)
    m = machine(fallback=Fallback(function=lambda _: "plain"), retry=None)
    assert (await drive(m, replies(timed_out()), repeatable=True)).value == "plain"


async def test_what_a_fallback_function_raises_reaches_the_caller():
    def broken(_):
        raise LookupError("no copy")

    with pytest.raises(LookupError):
        await drive(
            machine(fallback=Fallback(function=broken)),
            replies(refused_connection()),
            context=Context(attempt=2),
        )


async def test_an_edge_that_is_passed_twice_is_told_twice():
    inner, outer = machine(retry=None), machine(retry=None)

    async def nested(_):
        return await drive(inner, replies(timed_out()))

    with pytest.raises(Unknown) as raised:
        await drive(outer, nested)
    assert [hop.edge for hop in raised.value.trail] == ["stock", "stock"]


async def test_who_shares_a_failure_adds_its_own_time_to_the_trail():
    m = machine(retry=None, fallback=Fallback(stale=Stale()))
    both = [drive(m, replies(timed_out()), repeatable=True, cache_key="tea") for _ in range(2)]
    for failure in await asyncio.gather(*both, return_exceptions=True):
        assert [hop.edge for hop in failure.trail] == ["stock"]


# signals


async def test_who_waits_is_woken_although_a_listener_raises():
    m = machine(retry=None, limit=Limit(concurrency=1), breaker=Breaker(consecutive=1))
    go = asyncio.Event()

    async def broken(step):
        await go.wait()
        return refused_connection()

    def raises(signal):
        if signal.kind is SignalKind.BREAKER_OPENED:
            raise LookupError

    with subscribe(raises):
        first = asyncio.create_task(drive(m, broken))
        await asyncio.sleep(0)
        second = asyncio.create_task(drive(m, broken))
        await asyncio.sleep(0)
        go.set()
        with pytest.raises(LookupError):
            await first
        with pytest.raises(Unavailable) as turned_away:
            await second
    assert turned_away.value.reason is Reason.BREAKER_OPEN
    assert m.gate.in_flight == 0


async def test_what_listeners_hear():
    heard = []
    m = machine(breaker=Breaker(consecutive=2), fallback=Fallback(value=0))
    with subscribe(heard.append):
        await drive(m, replies(Ok(1)))
        await drive(m, replies(timed_out(), timed_out()), repeatable=True)
        with pytest.raises(asyncio.CancelledError):
            await _cancelled(machine())
        with pytest.raises(Rejected):
            await drive(machine(), replies(Rejected("no")))
    said = [
        (signal.kind, signal.detail.get("outcome")) for signal in heard if signal.kind not in BEGINS
    ]
    assert said == [
        (SignalKind.ATTEMPT_ENDED, "ok"),
        (SignalKind.CALL_ENDED, "ok"),
        (SignalKind.ATTEMPT_ENDED, "unknown"),
        (SignalKind.ATTEMPT_ENDED, "unknown"),
        (SignalKind.BREAKER_OPENED, None),
        (SignalKind.FALLBACK_USED, None),
        (SignalKind.CALL_ENDED, "degraded"),
        (SignalKind.ATTEMPT_ENDED, "cancelled"),
        (SignalKind.CALL_ENDED, "cancelled"),
        (SignalKind.ATTEMPT_ENDED, "refused"),
        (SignalKind.CALL_ENDED, "refused"),
    ]
    timeouts = [one for one in heard if one.detail.get("reason") == "timeout"]
    assert [one.kind for one in timeouts] == [SignalKind.ATTEMPT_ENDED] * 2
    # each begin has its end, in the order in which they began
    begun = [(BEGINS[one.kind], one.id) for one in heard if one.kind in BEGINS]
    ended = [(one.kind, one.id) for one in heard if one.kind in BEGINS.values()]
    assert sorted(begun) == sorted(ended)
    assert 0 not in [number for _, number in begun]
    assert {signal.subject for signal in heard} == {"stock"}


async def _cancelled(m):
    task = asyncio.create_task(drive(m, forever))
    await asyncio.sleep(0)
    task.cancel()
    await task


async def test_calls_that_share_a_failure_have_its_trail_once_each():
    m = machine(fallback=Fallback(stale=Stale()), retry=None)
    go = asyncio.Event()

    async def fails(_):
        await go.wait()
        return Unknown("gone", reason=Reason.RESET)

    calls = [asyncio.create_task(drive(m, fails, cache_key="q", repeatable=True)) for _ in "abc"]
    await asyncio.sleep(0)
    go.set()
    failures = await asyncio.gather(*calls, return_exceptions=True)
    assert [[hop.edge for hop in failure.trail] for failure in failures] == [["stock"]] * 3
