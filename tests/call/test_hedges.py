"""Rivals under asyncio and in threads: who wins, and that losers are cancelled and counted."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import pytest
from tests.patience import longer

from switchgear.call import aio, threads
from switchgear.call.answer import new_machine, remaining
from switchgear.call.guard import Guard
from switchgear.model.context import Context, bind, current
from switchgear.model.outcome import Ok, Reason, Rejected, Unavailable, Unknown
from switchgear.model.signal import SignalKind, subscribe
from switchgear.policy.hedge import Hedge
from switchgear.policy.policy import Policy
from switchgear.policy.retry import Retry

SOON = Hedge(after=0.002)


def machine(**parts):
    parts.setdefault("retry", Retry(base=0.001, cap=0.001))
    parts.setdefault("hedge", SOON)
    parts.setdefault("deadline", 60)
    return new_machine("stock", Policy(**parts))


async def settled(m):
    """Let losers end."""
    async with asyncio.timeout(60):
        while m.gate.in_flight:
            await asyncio.sleep(0.001)


async def test_a_slow_attempt_is_overtaken_and_cancelled():
    m, cancelled = machine(), []

    async def attempt(step):
        if step.number == 1:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(step.number)
                raise
        return Ok(step.number)

    answer = await aio.drive(m, attempt, repeatable=True)
    assert (answer.value, answer.attempts) == (2, 2)
    await settled(m)
    assert cancelled == [1]


async def test_an_attempt_in_time_has_no_rival():
    m, seen = machine(hedge=Hedge(after=30)), []

    async def attempt(step):
        seen.append(step)
        return Ok(1)

    await aio.drive(m, attempt, repeatable=True)
    assert len(seen) == 1
    assert m.gate.in_flight == 0


async def test_a_loser_that_does_not_want_to_end_keeps_its_place_and_nobody_waits_for_it():
    m, go = machine(), asyncio.Event()

    async def attempt(step):
        if step.number == 1:
            while not go.is_set():
                try:
                    await go.wait()
                except asyncio.CancelledError:
                    continue
            raise ValueError("nobody hears this")
        return Ok(step.number)

    assert (await aio.drive(m, attempt, repeatable=True)).value == 2
    assert m.gate.in_flight == 1
    go.set()
    await settled(m)


async def test_each_attempt_has_the_deadline_of_the_policy():
    begun = []

    async def attempt(_):
        begun.append(1)
        await asyncio.Event().wait()

    for deadline in longer(0.5):
        m = machine(deadline=deadline, retry=None)
        begun.clear()
        with pytest.raises(Unknown) as caught:
            await aio.drive(m, attempt, repeatable=True)
        if len(begun) > 1:  # there was time for a rival
            break
    assert (caught.value.reason, caught.value.attempts) == (Reason.TIMEOUT, 2)
    await settled(m)


async def test_failures_of_both_are_retried():
    m, numbers = machine(), []

    async def attempt(step):
        numbers.append(step.number)
        if step.number <= 2:
            await asyncio.sleep(0.01)
            raise Unavailable(reason=Reason.CONNECT)
        return Ok(step.number)

    assert (await aio.drive(m, attempt, repeatable=True)).value == 3
    assert numbers == [1, 2, 3]
    assert m.gate.in_flight == 0


async def test_a_refusal_ends_the_race():
    m = machine()

    async def attempt(step):
        if step.number == 1:
            await asyncio.Event().wait()
        return Rejected("no")

    with pytest.raises(Rejected):
        await aio.drive(m, attempt, repeatable=True)
    await settled(m)


async def test_what_is_no_outcome_is_raised_as_it_is():
    m = machine()

    async def attempt(step):
        if step.number == 1:
            await asyncio.Event().wait()
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        await aio.drive(m, attempt, repeatable=True)
    await settled(m)


async def test_cancelling_the_call_cancels_both():
    m, ended, both = machine(), [], asyncio.Event()

    async def attempt(step):
        if step.number == 2:
            both.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(step.number)

    task = asyncio.create_task(aio.drive(m, attempt, repeatable=True))
    await both.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await settled(m)
    async with asyncio.timeout(60):
        while len(ended) < 2:
            await asyncio.sleep(0)


async def test_both_inherit_the_context_and_are_bounded_by_what_is_left_of_them():
    seen = []

    @Guard("stock", Policy(hedge=SOON, deadline=20.0))(repeatable=True)
    async def ask():
        seen.append((current().correlation, remaining()))
        if len(seen) == 1:
            await asyncio.sleep(0.05)
            seen.append((current().correlation, remaining()))
            await asyncio.Event().wait()
        await asyncio.sleep(0.1)
        return len(seen)

    with bind(Context(correlation="c")):
        assert await ask() == 3
    assert {correlation for correlation, _ in seen} == {"c"}
    assert all(0 < left < 20.0 for _, left in seen)


async def test_signals_tell_of_the_rival_and_of_each_attempt_that_ended():
    told = []

    async def attempt(step):
        if step.number == 1:
            await asyncio.Event().wait()
        return Ok(1)

    with subscribe(told.append):
        await aio.drive(machine(), attempt, repeatable=True)
    kinds = [signal.kind for signal in told]
    assert kinds.count(SignalKind.HEDGE_SENT) == 1
    assert kinds[-1] is SignalKind.CALL_ENDED
    assert told[-1].detail["attempts"] == 2


def test_the_place_of_a_loser_comes_back_when_its_loop_was_closed_under_it():
    m = machine()

    async def attempt(step):
        if step.number == 1:
            while True:  # it does not want to end
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
        return Ok(step.number)

    async def call():
        return (await aio.drive(m, attempt, repeatable=True)).value

    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(call()) == 2
    assert m.gate.in_flight == 1
    loop.close()
    # whoever next has a loser of its own sees to it
    assert asyncio.run(overtaken()) == 2
    assert m.gate.in_flight == 0


async def overtaken():
    m = machine()

    async def attempt(step):
        if step.number == 1:
            await asyncio.Event().wait()
        return Ok(step.number)

    return (await aio.drive(m, attempt, repeatable=True)).value


# in threads


def idle(m):
    end = time.monotonic() + 60
    while m.gate.in_flight:
        assert time.monotonic() < end, "a loser kept its place"
        time.sleep(0.001)


def test_a_slow_thread_is_overtaken_and_keeps_its_place_until_it_ends():
    m, go = machine(), threading.Event()

    def attempt(step):
        if step.number == 1:
            go.wait(60)
        return Ok(step.number)

    answer = threads.drive(m, attempt, repeatable=True)
    assert (answer.value, answer.attempts) == (2, 2)
    assert m.gate.in_flight == 1
    go.set()
    idle(m)


@pytest.mark.parametrize("allowed", [0, 1])
def test_where_no_thread_can_be_had_the_attempt_goes_on_alone(monkeypatch, allowed):
    m, begun, begin = machine(), [], threading.Thread.start

    def start(thread):
        if len(begun) == allowed:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)

    def attempt(step):
        time.sleep(0.02)
        return Ok(step.number)

    answer = threads.drive(m, attempt, repeatable=True)
    assert (answer.value, answer.attempts, m.gate.in_flight) == (1, 1, 0)


def test_threads_inherit_the_context():
    m, seen, rival = machine(), [], threading.Event()

    def attempt(step):
        seen.append(current().correlation)
        if step.number == 2:
            rival.set()
        rival.wait(60)
        return Ok(1)

    with bind(Context(correlation="c")):
        threads.drive(m, attempt, repeatable=True)
    idle(m)
    assert seen == ["c", "c"]


def test_failures_of_both_threads_are_retried():
    m = machine()

    def attempt(step):
        if step.number <= 2:
            time.sleep(0.01)
            raise Unavailable(reason=Reason.CONNECT)
        return Ok(step.number)

    assert threads.drive(m, attempt, repeatable=True).value == 3
    idle(m)


def test_what_a_thread_raises_reaches_the_caller():
    m = machine()

    def attempt(_):
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        threads.drive(m, attempt, repeatable=True)
    idle(m)
