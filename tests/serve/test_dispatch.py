"""The pipeline behind the doors, without a door."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic

import pytest

from switchgear.database.port import DatabaseUnavailable, committed
from switchgear.errors import ContractError
from switchgear.model.context import Context, Priority, current
from switchgear.model.outcome import Reason, Rejected, Status, Unavailable, Unknown
from switchgear.model.signal import SignalKind, subscribe
from switchgear.serve.arrival import Arrival, context_of
from switchgear.serve.dispatch import Dispatcher
from switchgear.serve.failure import Failed, TurnedAway, failure_of
from switchgear.serve.idempotency import InProgress
from tests.serve.world import Do, Empty, GetStock, Handler, Inventory, OutOfStock, Stock, Undeclared

OPERATIONS = {}


def reads(message):
    """What a door hands over: a function that reads the message."""

    async def read():
        return message

    return read


@pytest.fixture
def ask():
    """Ask a dispatcher of one handler, whose `do` is the given function."""

    def make(do=None, **settings):
        class Own(Handler):
            async def do(self, request):
                return await do(request)

        dispatcher = Dispatcher([Own() if do else Handler()], **settings)
        contract = dispatcher.contracts["acme.inventory.v1.Inventory"]

        async def call(name="do", request=None, **arrival):
            operation = contract.operations[name]
            message = request or Do(what="x")
            return await dispatcher.handle(
                operation, reads(message), Arrival(operation=operation, door="direct", **arrival)
            )

        return call

    return make


async def raised(ask, error, **settings):
    async def do(request):
        raise error

    with pytest.raises((Rejected, Unavailable, Unknown, OutOfStock)) as caught:
        await ask(do, **settings)()
    return caught.value


async def test_what_a_handler_raises_and_what_its_caller_hears(ask):
    own = Rejected("no such thing", status=Status.NOT_FOUND)
    assert await raised(ask, own) is own
    assert type(await raised(ask, Rejected("no", where="other"))) is Failed
    assert type(await raised(ask, Undeclared(secret="x"))) is Failed
    assert type(await raised(ask, ValueError("x"))) is Failed
    assert type(await raised(ask, TimeoutError())) is Failed
    busy = InProgress("k")
    assert await raised(ask, busy) is busy
    inner = await raised(ask, Unavailable("x", reason=Reason.LIMIT, final=True))
    assert (inner.status, inner.final, type(inner)) == (Status.UNAVAILABLE, True, Failed)
    inner = await raised(ask, Unknown("x", reason=Reason.RESET))
    assert (inner.status, inner.final, type(inner)) == (Status.INTERNAL, False, Failed)


async def test_a_database_that_is_gone_is_certain_only_before_any_effect(ask):
    gone = await raised(ask, DatabaseUnavailable("locked", retry_after=3.0))
    assert (type(gone), gone.retry_after, gone.status) == (TurnedAway, 3.0, Status.UNAVAILABLE)
    assert failure_of(gone).not_executed

    async def do(request):
        committed()
        raise DatabaseUnavailable("locked")

    with pytest.raises(Failed) as caught:
        await ask(do)()
    assert caught.value.status is Status.INTERNAL
    assert not failure_of(caught.value).not_executed


async def test_one_error_in_a_group_is_that_error(ask):
    async def do(request):
        async with asyncio.TaskGroup() as group:
            group.create_task(refuse())

    async def refuse():
        raise Rejected("not you", status=Status.PERMISSION_DENIED)

    with pytest.raises(Rejected, match="not you"):
        await ask(do)()
    two = ExceptionGroup("two", [Rejected("a"), Rejected("b")])
    assert type(await raised(ask, two)) is Failed


async def test_nothing_runs_after_the_deadline(ask):
    ran = []

    async def do(request):
        ran.append(1)
        return Empty()

    with pytest.raises(TurnedAway) as caught:
        await ask(do)(context=Context(deadline=monotonic() - 1))
    assert caught.value.status is Status.DEADLINE_EXCEEDED
    assert ran == []


async def test_the_deadline_cancels_and_a_cancellation_from_outside_is_not_taken_for_it(ask):
    async def do(request):
        await asyncio.Event().wait()

    with pytest.raises(Failed) as caught:
        await ask(do)(context=Context(deadline=monotonic() + 0.2))
    assert (caught.value.status, caught.value.reason) == (Status.DEADLINE_EXCEEDED, Reason.TIMEOUT)
    task = asyncio.create_task(ask(do)(context=Context(deadline=monotonic() + 60)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_handler_that_ignores_its_deadline_has_answered(ask):
    async def do(request):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return Empty()

    assert await ask(do)(context=Context(deadline=monotonic() + 0.2)) == Empty()
    # and its task is as good as new
    await asyncio.sleep(0)


async def test_before_hooks_run_in_order_inside_the_context(ask):
    seen = []

    async def first(arrival):
        seen.append(current().priority)
        return "alice"

    async def second(arrival):
        seen.append(arrival.context.caller)
        return Context(caller="bob", priority=Priority.SHEDDABLE)

    async def third(arrival):
        seen.append((arrival.principal, current().caller))

    async def do(request):
        seen.append((current().caller, current().priority))
        return Empty()

    hooks = [first, second, third]
    await ask(do, before=hooks)(context=Context(priority=Priority.CRITICAL))
    assert seen == ["critical", "alice", ("bob", "bob"), ("bob", "sheddable")]


async def test_a_hook_that_fails_is_our_failure(ask):
    async def broken(arrival):
        raise KeyError("users")

    with pytest.raises(Failed):
        await ask(before=[broken])()


async def test_every_end_is_reported(ask):
    seen = []

    async def do(request):
        match request.what:
            case "refuse":
                raise Rejected("no", status=Status.NOT_FOUND)
            case "fail":
                raise ValueError
            case "gone":
                raise DatabaseUnavailable("x")
            case "wait":
                await asyncio.Event().wait()
        return Empty()

    call = ask(do)
    context = Context(caller="orders", attempt=2)
    with subscribe(seen.append):
        await call(context=context)
        for what in ("refuse", "fail", "gone"):
            with pytest.raises((Rejected, Failed, TurnedAway)):
                await call(request=Do(what=what), context=context)
        task = asyncio.create_task(call(request=Do(what="wait"), context=context))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    begun = [signal for signal in seen if signal.kind is SignalKind.REQUEST_BEGAN]
    seen = [signal for signal in seen if signal.kind is not SignalKind.REQUEST_BEGAN]
    assert {signal.kind for signal in seen} == {SignalKind.REQUEST_ENDED}
    assert [signal.id for signal in begun] == [signal.id for signal in seen]
    assert {signal.subject for signal in seen} == {"acme.inventory.v1.Inventory/do"}
    told = [(signal.detail["outcome"], signal.detail["status"]) for signal in seen]
    assert told == [
        ("ok", "OK"),
        ("refused", "NOT_FOUND"),
        ("unknown", "INTERNAL"),
        ("unavailable", "UNAVAILABLE"),
        ("cancelled", "CANCELLED"),
    ]
    first = seen[0].detail
    assert (first["caller"], first["attempt"], first["door"]) == ("orders", 2, "direct")
    assert 0 <= first["seconds"] < 60


async def test_the_calls_of_a_handler_end_before_its_request_has_to(ask):
    # so that the door can still say what became of them
    left = []

    async def do(request):
        left.append(current().deadline)
        return Empty()

    for seconds in (0.2, 1.0, 60.0):
        deadline = monotonic() + seconds
        await ask(do)(context=Context(deadline=deadline))
        spare = deadline - left.pop()
        assert 0 < spare <= min(0.025, seconds * 0.1) + 1e-6
    await ask(do)(context=Context())
    assert left == [None]


async def test_a_stream_is_sent_one_by_one():
    dispatcher = Dispatcher([Handler()])
    operation = dispatcher.contracts["acme.inventory.v1.Inventory"].operations["watch"]
    arrival = Arrival(operation=operation, door="direct")
    sent = []

    async def send(reply):
        sent.append(reply)

    await dispatcher.stream(operation, reads(GetStock(sku="tea")), arrival, send)
    assert sent == [Stock(sku="tea", available=number) for number in range(3)]
    with pytest.raises(OutOfStock):
        await dispatcher.stream(operation, reads(GetStock(sku="refused")), arrival, send)


def test_handlers_are_checked():
    with pytest.raises(ContractError, match="not a handler"):
        Dispatcher([object()])
    with pytest.raises(ContractError, match="Two handlers"):
        Dispatcher([Handler(), Handler()])


async def test_what_is_not_served_is_rejected():
    from switchgear.contract.service import contract_of

    operation = contract_of(Inventory).operations["do"]
    with pytest.raises(Rejected) as caught:
        await Dispatcher([]).handle(operation, reads(Do(what="x")), Arrival(operation, "direct"))
    assert caught.value.status is Status.UNIMPLEMENTED


def test_keyed_commands_without_a_database_are_warned_of(caplog):
    with caplog.at_level(logging.WARNING, "switchgear.serve"):
        Dispatcher([Handler()])
    assert "give the service a database" in caplog.text


def test_the_context_of_headers():
    assert context_of({}, 1.0) == Context()
    assert context_of({}, 1.0, deadline=2.0) == Context(deadline=2.0)
    found = {"switchgear-timeout": "1500", "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}
    context = context_of(found, 10.0)
    assert (context.deadline, context.correlation) == (11.5, "a" * 32)
    assert context_of({"tracestate": "x=1"}, 0.0).tracestate is None
    assert context_of({"traceparent": "x" * 1000}, 0.0).traceparent is None
    assert context_of({"switchgear-attempt": "0"}, 0.0).attempt == 1
    assert context_of({"switchgear-attempt": "9999"}, 0.0).attempt == 1
