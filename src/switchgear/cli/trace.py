"""`switchgear events trace`: what became of a chain of events, told like the story of a saga."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from switchgear.cli.databases import Opened, databases, has_table
from switchgear.cli.desks import desks
from switchgear.cli.explain_event import in_sight
from switchgear.cli.system import screen, table, visible
from switchgear.config import Config, masked
from switchgear.errors import OperationError
from switchgear.events.brokers.port import Broker, BrokerUnavailable
from switchgear.events.brokers.url import broker_of
from switchgear.events.timeline import Heard, Listener, Origin, Timeline, Told, timeline
from switchgear.events.trace import Searchable, in_database, in_log, received
from switchgear.saga.choreography.chain import Chain
from switchgear.saga.context import half_step_of
from switchgear.saga.errors import NoSuchSaga
from switchgear.saga.plan import Side

__all__ = ["trace"]

_TABLES: Final = {
    "switchgear_outbox": "outbox",
    "switchgear_parked": "parked events and their audit",
    "switchgear_inbox": "inbox",
}


async def trace(
    config: Config, given: str, *, others: Sequence[Path] = (), as_json: bool = False
) -> None:
    """Print the story of a correlation, or of the one that an event or a saga belongs to."""
    chain = in_sight(config, others)
    system = config.system
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(databases(config))
        broker = broker_of(system.broker.absolute(config.folder), native=system.broker_options)
        stack.push_async_callback(broker.close)
        log, unread = await _log(broker, broker, system.broker.scheme)
        told, heard = await _look(opened, log, chain, given)
        # of what nothing else is left, an inbox has source and id
        handled = [] if told else await _received(opened, _identities(chain, [given]))
        if not told and not handled and (found := await _of_saga(config, given)):
            given = found
            told, heard = await _look(opened, log, chain, given)
        correlation = _correlation(given, told, handled, unread)
        if correlation != given:
            told, heard = await _look(opened, log, chain, correlation)
        causes = {one.causation for one in told if one.causation}
        gone = _identities(chain, {given, correlation, *causes})
        heard += await _received(opened, [*gone, *(one.identity for one in told)])
        looked = {one.service: await _tables(one) for one in opened}
    story = timeline(
        correlation, told, _settled(heard), _listeners(chain), gone=gone, origins=_origins(causes)
    )
    places = _Places(log is not None, looked, unread)
    if as_json:
        print(json.dumps(story.as_dict() | places.as_dict()))
        return
    _print(story, places)


class _Places(NamedTuple):
    """What was looked at."""

    log: bool
    databases: Mapping[str, Sequence[str]]
    """The tables of each service."""
    unread: str | None
    """What could not be looked at, and why."""

    def as_dict(self) -> dict[str, object]:
        databases = {
            service: [_TABLES[name] for name in tables]
            for service, tables in self.databases.items()
        }
        return {"looked_at": {"log": self.log, "databases": databases}, "unread": self.unread}

    def told(self) -> str:
        """Return it as one sentence."""
        found = ["the broker's log"] if self.log else []
        for service, tables in self.databases.items():
            if tables:
                found.append(f"{service} ({', '.join(_TABLES[name] for name in tables)})")
        return f"Looked at: {'; '.join(found) or 'nothing, for no service has run yet'}."


async def _log(broker: Broker, log: object, scheme: str) -> tuple[Searchable | None, str | None]:
    """Return the broker as what can be searched, or None and why it cannot."""
    if not isinstance(log, Searchable):
        unread = (
            f"a broker at {scheme}:// is not searched, because who reads its queues takes events "
            "away from their consumers. An event is found while it is in an outbox or parked; of "
            "one that was handled there is what the inboxes say, by its own id"
        )
        return None, unread
    try:
        await broker.lag("switchgear", [])
    except BrokerUnavailable as error:
        return None, masked(f"the broker is away: {error.what}")
    return log, None


async def _look(
    opened: Sequence[Opened], log: Searchable | None, chain: Chain, text: str
) -> tuple[list[Told], list[Heard]]:
    told: list[Told] = []
    heard: list[Heard] = []
    if log is not None:
        topics = sorted({event.topic for event in chain.events.values()})
        told += await in_log(log, text, topics)
    for one in opened:
        found = await in_database(one.database, text, await _tables(one))
        told += found.told
        heard += found.heard
    return told, heard


async def _tables(one: Opened) -> list[str]:
    async with one.database.transaction() as tx:
        return [name for name in _TABLES if await has_table(tx, name)]


async def _received(opened: Sequence[Opened], events: Sequence[str]) -> list[Heard]:
    found: list[Heard] = []
    for one in opened:
        if "switchgear_inbox" in await _tables(one):
            found += await received(one.database, events)
    return found


async def _of_saga(config: Config, given: str) -> str | None:
    """Return the correlation of the saga `given`; None: no service has one of that id."""
    async with desks(config) as opened:
        for one in opened:
            with suppress(NoSuchSaga):
                return (await one.desk.show(given)).correlation
    return None


def _origins(causes: Iterable[str]) -> Mapping[str, Origin]:
    """Return the steps of sagas among the causes of events."""
    found = ((cause, half_step_of(cause)) for cause in causes)
    return {
        cause: Origin(half[1], half[2] is Side.UNDO, f"saga {visible(half[0])}")
        for cause, half in found
        if half is not None
    }


def _identities(chain: Chain, ids: Iterable[str]) -> list[str]:
    """Return what may be the sources and ids of events of which an id is known."""
    return [
        place
        for one in ids
        for place in (one, *(f"{service.service}/{one}" for service in chain.services))
    ]


def _correlation(
    given: str, told: Sequence[Told], handled: Sequence[Heard], unread: str | None
) -> str:
    if not told and handled:
        return given
    if not told:
        gone = "what is older than the broker's retention is gone"
        raise OperationError(
            f"nothing is found of {given!r}.",
            fix="Name a saga, a correlation or the id of an event, as headers and logs have it; "
            f"{unread or gone}.",
        )
    if any(one.correlation == given for one in told):
        return given
    return told[0].correlation


def _settled(heard: Sequence[Heard]) -> list[Heard]:
    """Keep one word of each subscription on each event: what a person did outdoes the inbox."""
    found: dict[tuple[str, str], Heard] = {}
    for one in heard:
        place = one.consumer, one.identity
        if place not in found or found[place].state == "done":
            found[place] = one
    return list(found.values())


def _listeners(chain: Chain) -> Mapping[str, Sequence[Listener]]:
    return {
        event: [
            Listener(step.group, step.name, bool(step.handler.undoes)) for step in chain.on(event)
        ]
        for event in chain.types
    }


def _print(story: Timeline, places: _Places) -> None:
    console = screen()
    began = datetime.fromtimestamp(story.began, UTC).astimezone().strftime("%d %b %H:%M:%S")
    console.print(
        f"[bold]{visible(story.correlation)}[/]: [bold]{story.status}[/], began {began}",
        highlight=False,
    )
    rows = [
        [
            "  " * line.depth + line.step,
            line.kind,
            line.state,
            "" if line.at is None else _clock(line.at),
            masked(line.known),
        ]
        for line in story.lines
    ]
    table(("step", "kind", "state", "at", "what is known"), rows, console)
    if story.missing:
        listed = ", ".join(story.missing)
        console.print(f"Not found any more, and named as causes: {listed}", markup=False)
    console.print(places.told(), markup=False)
    if places.unread:
        console.print(f"Incomplete: {places.unread}.", markup=False)


def _clock(stamp: float) -> str:
    return datetime.fromtimestamp(stamp, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
