"""The bus of one service: what it publishes and what it reacts to.

    bus = Bus(broker, database, source="orders")

    @bus.on(PaymentTaken, name="mark-paid", on_failure="park_key")
    async def mark_paid(event: PaymentTaken, tx: HandlerTransaction) -> None: ...

    await bus.start()
    async with database.transaction() as tx:
        await tx.execute(...)
        await bus.publish(tx, OrderPlaced(order_id=...))   # the same commit

Source and name together are the consumer's identity: the group on the broker and the owner of the
rows in the inbox. Several events of one topic under one name share the group, and so their order.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypeVar, overload

from switchgear.contract.event import EventContract, event_of
from switchgear.contract.message import Message
from switchgear.database.port import Database, DatabaseUnavailable, Transaction
from switchgear.errors import EventDeclarationError
from switchgear.events.asked import Asked, check
from switchgear.events.brokers.port import Broker, BrokerUnavailable, Limiting
from switchgear.events.consumer import Consumer, Subscribed
from switchgear.events.handling import HandlerTransaction
from switchgear.events.health import Health, HealthCheck, SubscriptionHealth
from switchgear.events.inbox import KEEP, Inbox
from switchgear.events.inbox import STEPS as INBOX
from switchgear.events.lane import OnFailure, Settings
from switchgear.events.outbox import STEPS as OUTBOX
from switchgear.events.outbox import Mode, Outbox, Prepared
from switchgear.events.parked import STEPS as PARKED
from switchgear.events.parked import Parked
from switchgear.events.progress import STUCK_AFTER, in_seconds
from switchgear.events.reaction import Handler, Reaction
from switchgear.events.relay import Relay
from switchgear.events.troubles import Troubles
from switchgear.model.outcome import Unknown

__all__ = ["Bus", "Health", "SubscriptionHealth"]

_H = TypeVar("_H", bound=Handler)

_CLEAN_EVERY: Final = 60.0
_CLEAN_PAUSE: Final = 0.05
_CLEANING: Final = "cleaning the inbox"
_ASKED: Final = 15.0
"""Seconds for which a start waits for the broker's answers; it works without them as well."""


@dataclass(slots=True)
class _Group:
    settings: Subscribed
    reactions: dict[str, Reaction]

    def asked(self) -> Asked:
        """Return what it asks of the broker."""
        keyed = any(reaction.contract.key is not None for reaction in self.reactions.values())
        settings = self.settings
        return Asked(
            settings.consumer, settings.topics, keyed, settings.from_start, settings.fresh_within
        )


class Bus:
    """Publishing and subscribing for one service, on one broker and one database.

    `source` is the service's name. `wrap` makes what handlers are given out of the
    `HandlerTransaction`. `format` encodes what is published, and `mode` is that of CloudEvents, as
    `Outbox` says; both modes are read. `lease` is how many seconds a member of a group, or a
    relay, may be silent before others take over its work. `keep` bounds the inbox; it has to be
    longer than the broker's retention, and is by default. `publishes` are the events that may be
    published outside of its handlers; None: any.
    """

    def __init__(
        self,
        broker: Broker,
        database: Database,
        source: str,
        *,
        wrap: Callable[[HandlerTransaction], Any] | None = None,
        format: Literal["json", "protobuf"] = "json",  # noqa: A002  the word that users expect
        mode: Mode = "binary",
        lease: float = 5.0,
        keep: timedelta | None = None,
        publishes: Sequence[type[Message]] | None = None,
    ) -> None:
        self.source = source
        self.broker = broker
        self.database = database
        self.outbox = Outbox(
            source,
            format=format,
            mode=mode,
            max_bytes=broker.capabilities.max_bytes,
            room=broker.room if isinstance(broker, Limiting) else None,
            publishes=None if publishes is None else frozenset(event_of(e).type for e in publishes),
        )
        self.parked = Parked(database)
        self.relay = Relay(database, broker, lease=lease)
        self.outbox.on_commit(self.relay.wake)
        self._wrap = wrap
        self._lease = lease
        self._wanted = keep
        self._keep: float | None = None
        _keep(broker.capabilities.retention, keep)
        self._topics = {event_of(one).topic for one in publishes or ()}
        """Of what is declared to be published."""
        self._groups: dict[str, _Group] = {}
        self._consumers: dict[str, Consumer] = {}
        self._background: list[asyncio.Task[None]] = []
        self._troubles = Troubles(source, random.random)
        self._health = HealthCheck(
            source, broker, self.relay, self.parked, self._consumers, troubles=self._troubles
        )
        self._started = False

    async def publish(self, tx: object, *events: Message, deadline: datetime | None = None) -> None:
        """Put events into the outbox, in the transaction that is open on `tx`, in order.

        `tx` is a transaction of ours or the team's own, of any driver that `Outbox.publish` takes.
        """
        await self.outbox.publish(tx, *events, deadline=deadline)

    def publish_sync(
        self, connection: object, *events: Message, deadline: datetime | None = None
    ) -> None:
        """Do what `publish` does with a driver that does not await; see `Outbox.publish_sync`."""
        self.outbox.publish_sync(connection, *events, deadline=deadline)

    def prepare(self, event: Message, *, deadline: datetime | None = None) -> Prepared:
        """Validate and encode an event now, for a `flush` later in the same transaction."""
        return self.outbox.prepare(event, deadline=deadline)

    async def flush(self, tx: Transaction, rows: Sequence[Prepared]) -> None:
        """Write what was prepared, in order, and wake the relay when `tx` has committed."""
        await self.outbox.write(tx, rows)

    @overload
    def on(
        self,
        event: type[Message],
        *,
        name: str,
        on_failure: OnFailure,
        attempts: int = ...,
        backoff: float = ...,
        concurrency: int = ...,
        emits: Sequence[type[Message]] | None = ...,
        fresh_within: float | timedelta | None = ...,
        stuck_after: float | timedelta = ...,
        from_start: bool = ...,
        inbox: bool = ...,
    ) -> Callable[[_H], _H]: ...
    @overload
    def on(
        self,
        event: type[Message],
        *,
        name: str,
        on_failure: OnFailure,
        handler: _H,
        attempts: int = ...,
        backoff: float = ...,
        concurrency: int = ...,
        emits: Sequence[type[Message]] | None = ...,
        fresh_within: float | timedelta | None = ...,
        stuck_after: float | timedelta = ...,
        from_start: bool = ...,
        inbox: bool = ...,
    ) -> _H: ...
    def on(
        self,
        event: type[Message],
        *,
        name: str,
        on_failure: OnFailure,
        handler: _H | None = None,
        attempts: int = 8,
        backoff: float = 0.1,
        concurrency: int = 16,
        emits: Sequence[type[Message]] | None = None,
        fresh_within: float | timedelta | None = None,
        stuck_after: float | timedelta = STUCK_AFTER,
        from_start: bool = False,
        inbox: bool = True,
    ) -> _H | Callable[[_H], _H]:
        """React to `event` with `handler(event)` or `handler(event, tx)`; decorates without one.

        A handler that takes `tx` commits with the inbox: its writes take effect once. One that does
        not runs at least once, and of an event that comes again seldom twice. `inbox=False` says
        that it may run each time: nothing is asked of the database, or written there, for an event
        that it handles, and it takes no `tx`. A repeat may come after a later event of its key that
        was parked meanwhile. `on_failure` says what an event does that keeps failing: `block_key`
        tries it again for ever and only its key waits, `park_key` parks it and what follows of its
        key after `attempts`, `skip` parks it alone. `backoff` is the first pause in seconds.
        `emits` are the events that it may publish: another one is refused at the call.

        An event that waits for longer than `fresh_within`, and a subscription that has events and
        makes no progress for `stuck_after` (both seconds), are signalled and told by `health`.
        `from_start` asks that a new subscription gets what was published before it. What the broker
        cannot do is refused at the start. Raises `EventDeclarationError`.
        """
        contract = event_of(event)
        if self._started:
            raise EventDeclarationError(
                f"{self.source}.{name} is declared after the bus was started.",
                fix="Declare every reaction first, then start.",
            )
        settings = Settings(on_failure, attempts=attempts, backoff=backoff)
        group = Subscribed(
            f"{self.source}.{name}",
            (contract.topic,),
            settings,
            concurrency,
            self._lease,
            fresh_within=None if fresh_within is None else in_seconds(fresh_within),
            stuck_after=in_seconds(stuck_after),
            from_start=from_start,
            inbox=inbox,
        )
        _check(group, name)

        def register(function: _H) -> _H:
            reaction = Reaction.of(contract, function, group.consumer, emits)
            if reaction.transactional and not inbox:
                raise EventDeclarationError(
                    f"{group.consumer} has no inbox, and its handler of {contract.type} takes a "
                    "transaction.",
                    fix="Leave out inbox=False, or the handler's second parameter.",
                )
            self._register(group, reaction)
            self._topics.update(event_of(one).topic for one in emits or ())
            return function

        return register if handler is None else register(handler)

    @property
    def subscriptions(self) -> Mapping[str, Sequence[EventContract]]:
        """What is subscribed to, by the name of the consumer."""
        return {
            name: [reaction.contract for reaction in group.reactions.values()]
            for name, group in self._groups.items()
        }

    async def start(self) -> None:
        """Create the library's tables, then start the relay and every subscription.

        Raises `EventDeclarationError` if the inbox would forget before the broker does,
        `AsksTooMuch` for a subscription that asks for what the broker does not guarantee, and
        `BrokerError` where it refuses a topic that is subscribed to or declared to be published.
        """
        self._started = True
        check([group.asked() for group in self._groups.values()], self.broker.capabilities)
        await self.database.migrate("outbox", OUTBOX)
        if self._groups:
            await self.database.migrate("inbox", INBOX)
            await self.database.migrate("parked", PARKED)
        # away: nothing is forgotten before it has answered, and what topics take is learnt later
        with suppress(BrokerUnavailable, TimeoutError):
            async with asyncio.timeout(_ASKED):
                if self._groups:
                    self._keep = await self._kept()
                if isinstance(self.broker, Limiting):
                    await self.broker.learn(self._topics)
        if self._groups:
            self._begin(self._clean(), f"inbox {self.source}")
        await self.relay.start()
        self._begin(self._health.run(), f"health {self.source}")
        for name, group in self._groups.items():
            self._consumers[name] = Consumer(
                group.settings,
                self.broker,
                self.database,
                group.reactions,
                outbox=self.outbox,
                wrap=self._wrap,
            )
            await self._consumers[name].start()

    async def stop(self, within: float = 10.0) -> None:
        """Finish what runs, publish what is in the outbox, give leases back.

        All of it takes at most `within` seconds; what is not done by then is done by whoever
        starts next. Broker and database stay open. Stopping twice is allowed.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + within
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        self._background.clear()
        # handlers publish as they finish, so the relay stops after them
        await asyncio.gather(*(one.stop(within) for one in self._consumers.values()))
        self._consumers.clear()
        await self.relay.stop(max(0.0, until - loop.time()))

    @property
    def broken(self) -> str | None:
        """What fails in a way that nobody expected, in any part; None if nothing does."""
        return self._health.broken()

    async def health(self) -> Health:
        """Report lag, parked events and the outbox.

        Raises `BrokerUnavailable` or `DatabaseUnavailable` if they cannot be asked.
        """
        return await self._health.look()

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        # a context of its own: what it signals belongs to no request or event
        self._background.append(asyncio.create_task(work, name=name, context=Context()))

    def _register(self, group: Subscribed, reaction: Reaction) -> None:
        contract = reaction.contract
        found = self._groups.get(group.consumer)
        if found is None:
            self._groups[group.consumer] = _Group(group, {contract.type: reaction})
            return
        if contract.type in found.reactions:
            raise EventDeclarationError(
                f"{group.consumer} reacts to {contract.type} twice.",
                fix="Give one of the two another name, or do both in one handler.",
            )
        topics = [*found.settings.topics, *group.topics]
        if replace(found.settings, topics=group.topics) != group:
            raise EventDeclarationError(
                f"the reactions of {group.consumer} differ in their settings.",
                fix="They share one subscription: give all of them the same, or another name.",
            )
        found.settings = replace(found.settings, topics=tuple(dict.fromkeys(topics)))
        found.reactions[contract.type] = reaction

    async def _kept(self) -> float:
        """Return for how long the inbox remembers: for longer than the broker keeps the events."""
        topics = {topic for group in self._groups.values() for topic in group.settings.topics}
        return _keep(await self.broker.retention(sorted(topics)), self._wanted)

    async def _learn(self) -> float | None:
        """Ask the broker that was away at the start; None if the inbox must forget nothing."""
        try:
            return await self._kept()
        except EventDeclarationError as error:
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"{self.source}: nothing is deleted from the inbox", "exception": error}
            )
            return None

    async def _clean(self) -> None:
        """Delete inbox rows that are older than any event can be, a few at a time."""
        pause = _CLEAN_EVERY
        while True:
            await asyncio.sleep(pause)
            pause = _CLEAN_EVERY
            try:
                if self._keep is None:
                    self._keep = await self._learn()
                if self._keep is None:
                    return
                if await Inbox.clean(self.database, keep=self._keep):
                    pause = _CLEAN_PAUSE
                self._troubles.over(_CLEANING)
            except (DatabaseUnavailable, Unknown, BrokerUnavailable):
                pass  # then the next time
            except Exception as error:  # noqa: BLE001  reported; else it would grow for ever
                pause = self._troubles.report(_CLEANING, error)


def _check(group: Subscribed, name: str) -> None:
    """Refuse settings that are out of range."""
    consumer, settings = group.consumer, group.lanes
    if not name or any(letter.isspace() or letter == "/" for letter in consumer):
        raise EventDeclarationError(
            f"{consumer!r} cannot name a subscription.",
            fix="Give it a name without spaces and slashes, such as mark-paid.",
        )
    if settings.on_failure not in {"block_key", "park_key", "skip"}:
        raise EventDeclarationError(
            f"on_failure of {consumer} is {settings.on_failure!r}.",
            fix="Choose block_key, park_key or skip; there is no default.",
        )
    if settings.attempts < 1 or settings.backoff <= 0 or group.concurrency < 1:
        raise EventDeclarationError(
            f"attempts and concurrency of {consumer} are at least 1, and backoff is above 0.",
            fix="Correct the setting.",
        )
    if group.stuck_after <= 0 or (group.fresh_within is not None and group.fresh_within <= 0):
        raise EventDeclarationError(
            f"fresh_within and stuck_after of {consumer} are above 0 seconds.",
            fix="Correct the setting, or leave it out.",
        )


def _keep(retention: float | None, keep: timedelta | None) -> float:
    retention = retention or 0.0
    if keep is None:
        return max(KEEP, retention + KEEP / 8)
    if keep.total_seconds() <= retention:
        raise EventDeclarationError(
            f"the inbox forgets after {keep}, and the broker keeps events for "
            f"{timedelta(seconds=retention)}: an event that comes again would take effect again.",
            fix="Keep the inbox for longer than the broker keeps events.",
        )
    return keep.total_seconds()
