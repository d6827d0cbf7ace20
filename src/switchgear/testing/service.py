"""A service in a test: the whole of it, without a socket.

    async with testing(app, fakes={Inventory: FakeInventory()}) as t:
        accepted = await t.client(Orders).place(PlaceOrder(...))
        assert t.published == [OrderPlaced(order_id=accepted.order_id)]
        await t.settle()

Handlers, idempotency, transactions, outbox, consumers and sagas are the real ones, on SQLite files
in a temporary folder. What the service calls is answered by fakes: handlers of the same contracts,
in this process. Their policies keep deadline and fallback; nothing is retried and no breaker opens,
so that a test sees what it caused. The clock of sagas is wound forward by `settle`.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from time import monotonic, time
from typing import Any, Final, TypeVar

from switchgear.app.callee import Call
from switchgear.app.health import App
from switchgear.app.runtime import Runtime
from switchgear.app.service import Service
from switchgear.app.transaction import Transaction
from switchgear.call.client import client_over
from switchgear.config import Config, ServiceConfig, without_file
from switchgear.config.source import variable
from switchgear.contract.event import event_of
from switchgear.contract.message import Message
from switchgear.contract.service import contract_of
from switchgear.errors import OperationError
from switchgear.events.brokers.port import Record
from switchgear.events.outbox import Outbox
from switchgear.policy.policy import Policy
from switchgear.serve.dispatch import Dispatcher
from switchgear.serve.idempotency import Idempotency
from switchgear.testing.consuming import delivered
from switchgear.testing.wire import DirectWire, NobodyWire

__all__ = ["NotQuiet", "Testing", "testing"]

T = TypeVar("T")

_OUTSIDE: Final = "test"
_LOOK: Final = 0.005
"""Seconds between two looks at whether everything is quiet."""


class NotQuiet(OperationError):
    """A service under test did not come to rest in time."""

    code = "SG223"


_FIRST_STRIDE: Final = 0.01
_AGES: Final = 10**12
"""Seconds that are longer than any retention."""
_POLL: Final = 0.005
_UNFINISHED: Final = (
    "SELECT id, owner, wake FROM switchgear_sagas WHERE status NOT IN ('done', 'undone')"
)
_DUE: Final = "UPDATE switchgear_sagas SET wake = 0 WHERE owner IS NULL AND wake <= ?"


class Clock:
    """The time of sagas: the wall clock, and what a test has wound it forward by."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.stride = _FIRST_STRIDE

    def __call__(self) -> float:
        return time() + self.ahead

    async def sagas(self, runtime: Runtime) -> str | None:
        """Return what sagas are doing, or None; wind forward to the next that waits for a time.

        It winds further each time: pauses between attempts grow and then stay as they are, and a
        week of minutes would take a test too long.
        """
        if not runtime.service.declared_sagas:
            return None
        async with runtime.database.transaction() as tx:
            rows = await tx.run(_UNFINISHED)
            if any(owner is not None for _, owner, _ in rows):
                return f"saga {rows[0][0]} is running"
            due = [wake for _, _, wake in rows if wake is not None]
            if not due:
                return None  # what is left waits for a person
            self.ahead += max(0.0, min(due) - time(), self.stride)
            self.stride *= 2
            await tx.run(_DUE, min(due))
            return f"saga {rows[0][0]} is due"


class Testing:
    """A service that runs in a test."""

    __test__ = False  # for pytest, which collects classes of such names

    def __init__(self, runtime: Runtime, clock: Clock, published: list[Message]) -> None:
        self.runtime = runtime
        self.published = published
        """The events that its transactions have published, in the order of their commits."""
        self._clock = clock
        self._clients: list[object] = []
        self._outside = Outbox(_OUTSIDE)

    @property
    def asgi(self) -> App:
        """Its REST door as an ASGI application, for a test client that speaks ASGI."""
        return self.runtime.rest

    def client(
        self,
        contract: Callable[..., T],
        *,
        caller: str = _OUTSIDE,
        headers: Mapping[str, str] | None = None,
    ) -> T:
        """Return a client of the service, typed as its contract.

        Requests go through the same pipeline as those of a door; `headers` is what `before` hooks
        see. Nothing is retried.
        """
        found = contract_of(contract)
        if found.full_name not in self.runtime.dispatcher.contracts:
            served = ", ".join(self.runtime.dispatcher.contracts) or "nothing"
            raise OperationError(
                f"{self.runtime.service.name} does not serve {found.full_name}.",
                fix=f"It serves: {served}.",
            )
        wire = DirectWire(self.runtime.dispatcher, caller, headers)
        return client_over(contract, wire, Policy.none(reason="a test"), caller=caller)

    async def deliver(self, *events: Message, source: str = _OUTSIDE, within: float = 10.0) -> None:
        """Let events arrive from another service, and wait until they are handled.

        Raises `OperationError` for one that the service does not react to, and `NotQuiet`, with the
        handler's error, for one that it cannot handle.
        """
        known = {reaction.event for reaction in self.runtime.service.reactions}
        for event in events:
            if type(event) not in known:
                listed = ", ".join(sorted(event_of(one).type for one in known)) or "nothing"
                raise OperationError(
                    f"{self.runtime.service.name} does not react to {event_of(event).type}.",
                    fix=f"It reacts to: {listed}.",
                )
        for event in events:
            delivered(type(event))
        outbox = Outbox(source)
        rows = [outbox.prepare(event) for event in events]
        await self.runtime.broker.publish(
            [Record(row.topic, row.key, json.loads(row.headers), row.data) for row in rows]
        )
        await self.settle(within)

    async def settle(self, within: float = 10.0) -> None:
        """Wait until nothing is left to do: no event unpublished or unhandled, no saga that moves.

        Sagas that wait for a later attempt or a deadline get there at once: their clock is wound
        forward. What waits for a person is quiet. Raises `NotQuiet` after `within` seconds.
        """
        until = monotonic() + within
        self._clock.stride = _FIRST_STRIDE
        while (why := await self._restless()) is not None:
            if monotonic() > until:
                raise NotQuiet(
                    f"{self.runtime.service.name} is not quiet after {within:g} s: {why}.",
                    fix="The log says what failed; what always fails never comes to rest.",
                )
            await asyncio.sleep(_LOOK)

    async def _restless(self) -> str | None:
        """Return what is still going on, or None."""
        health = await self.runtime.bus.health()
        if health.unpublished:
            return f"{health.unpublished} events are not published ({health.error or 'working'})"
        for name, subscription in health.subscriptions.items():
            if subscription.lag:
                return f"{name} has {subscription.lag} events to handle"
        return await self._clock.sagas(self.runtime)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Open a transaction of the service's database: to prepare a test, or to look."""
        async with self.runtime.transaction() as tx:
            yield tx


@asynccontextmanager
async def testing(
    app: Service,
    *,
    fakes: Mapping[Callable[..., Any], object] | None = None,  # noqa: PT028  it is no test
    config: Config | None = None,  # noqa: PT028
    remember: bool = True,  # noqa: PT028
) -> AsyncIterator[Testing]:
    """Run `app` for the body of the `async with`, alone, in a temporary folder.

    `fakes` has a handler for each contract that the service calls: `{Inventory: FakeInventory()}`.
    What it calls without a fake raises `NoFake`. `config` replaces the default settings; its
    databases and broker are then used as they are. A keyed command that a fake has answered is
    answered from memory when it is repeated; without `remember` the fake is asked again, which
    `switchgear.saga.exhaust` needs, since it goes back in time.
    """
    with tempfile.TemporaryDirectory(prefix=f"switchgear-{app.name}-") as folder:
        clock = Clock()
        published: list[Message] = []
        runtime = Runtime(
            app,
            config or _settings(app.name, Path(folder)),
            connect=partial(_connect, fakes or {}, remember),
            published=published.append,
            clock=clock,
            poll=_POLL,
        )
        await runtime.start()
        try:
            runtime.ready()
            yield Testing(runtime, clock, published)
        finally:
            await runtime.stop()


# its name makes pytest take it for a test where it is imported
vars(testing)["__test__"] = False


def _settings(name: str, folder: Path) -> Config:
    """Return settings in which nothing outlives the test, so that nothing is synced to disk."""
    return without_file(
        {
            variable("system", "broker"): f"sqlite:///{folder}/broker.db?synchronous=OFF",
            variable("services", name, "database"): f"sqlite:///{folder}/own.db?synchronous=OFF",
        },
        folder,
    )


def _connect(
    fakes: Mapping[Callable[..., Any], object],
    remember: bool,  # noqa: FBT001  it is bound by testing alone
    calls: Sequence[Call],
    settings: ServiceConfig,
    _: Config,
) -> Mapping[int, object]:
    known = {contract_of(contract).full_name: fake for contract, fake in fakes.items()}
    called = {call.contract.full_name for call in calls}
    for name in known:
        if name not in called:
            raise OperationError(
                f"{settings.name} does not call {name}.",
                where="testing(fakes=...)",
                fix=f"It calls: {', '.join(sorted(called)) or 'nobody'}.",
            )
    return {id(call): _client(call, known, settings.name, remember=remember) for call in calls}


def _client(call: Call, known: Mapping[str, object], caller: str, *, remember: bool) -> object:
    contract = call.contract
    fake = known.get(contract.full_name)
    # what is remembered has expired by the next time that this clock is looked at
    memory = Idempotency(None) if remember else Idempotency(None, clock=count(0, _AGES).__next__)
    wire = (
        NobodyWire(contract.name)
        if fake is None
        else DirectWire(Dispatcher([fake], idempotency=memory), caller)
    )
    policy = replace(call.policy or Policy(), retry=None, budget=None, breaker=None, limit=None)
    made: object = client_over(contract.protocol, wire, policy, caller=caller)
    return made
