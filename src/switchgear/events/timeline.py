"""What happened in one choreographed saga, put together from what is still there.

Nobody writes such a record. It is read off correlation and causation ids: every event of a chain
carries the correlation of the first, and names the event whose handler published it. What each
subscription made of an event is in the databases of the services.

A subscription is `done` (a row in its inbox), `parked`, `behind` (it waits behind a parked one),
`retrying` (its key is blocked, and its events are tried again from the database), `discarded` or
`replaced` by a person, or `waiting`: nothing says that it has handled the event.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

__all__ = ["Heard", "Listener", "Origin", "State", "Timeline", "Told", "timeline"]

State: TypeAlias = Literal[
    "done", "parked", "behind", "retrying", "discarded", "replaced", "waiting"
]


class Told(NamedTuple):
    """An event that was published, or is about to be."""

    identity: str
    """Source and id."""
    id: str
    type: str
    source: str
    key: str | None
    time: float
    """When it happened, in Unix seconds, as its source says."""
    correlation: str
    causation: str | None
    published: bool = True
    """False while it waits in its source's outbox."""
    replaces: str | None = None
    """The identity of the parked event in whose place a person put it."""


class Heard(NamedTuple):
    """What a subscription made of an event."""

    consumer: str
    identity: str
    state: State
    at: float | None = None
    """When, in Unix seconds of the database."""
    known: str = ""
    """What else is known: the error, or who did it and why."""


class Listener(NamedTuple):
    """A handler of a kind of event, as its service declares it."""

    consumer: str
    name: str
    undo: bool
    """It takes back what an earlier one has done."""


class Origin(NamedTuple):
    """What has caused events and is none: a step of a saga, or the undo of one."""

    name: str
    undo: bool
    known: str
    """What is known of it, such as whose step it is."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the story."""

    depth: int
    step: str
    kind: Literal["event", "handler", "undo", "step"]
    state: str
    at: float | None
    known: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """The story of one correlation: events in the order of their causes, each with its handlers."""

    correlation: str
    status: Literal["waits for a person", "going on", "at rest"]
    began: float
    lines: tuple[Line, ...]
    missing: tuple[str, ...] = field(default=())
    """Events that are named as causes and are nowhere to be found any more."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return asdict(self)


def timeline(
    correlation: str,
    told: Collection[Told],
    heard: Collection[Heard],
    listeners: Mapping[str, Sequence[Listener]],
    *,
    gone: Collection[str] = (),
    origins: Mapping[str, Origin] = MappingProxyType({}),
) -> Timeline:
    """Tell the story of `correlation`; `listeners` are who hears each type of event.

    `told` may hold an event twice, as the log and an outbox do: it was published then. `gone` are
    events, by source and id, of which nothing may be left but that somebody has handled them.
    `origins` are causes, by their id, that are no events.
    """
    events: dict[str, Told] = {}
    for one in told:
        if one.identity not in events or one.published:
            events[one.identity] = one
    by_id = {one.id: one for one in events.values()}
    follows: dict[str | None, list[Told]] = {}
    for one in events.values():
        known = one.causation in by_id or one.causation in origins
        cause = one.causation if known else None
        follows.setdefault(cause, []).append(one)
    receptions: dict[str, list[Heard]] = {}
    for each in heard:
        receptions.setdefault(each.identity, []).append(each)
    story = _Story(follows, receptions, listeners, origins)
    left = [one for one in heard if one.identity in gone and one.identity not in events]
    lines = (*_gone(left), *story.begin())
    causes = {one.causation for one in events.values() if one.causation and one.causation != one.id}
    return Timeline(
        correlation,
        _status(lines),
        min([one.time for one in events.values()] or [one.at or 0.0 for one in left], default=0.0),
        lines,
        tuple(sorted(cause for cause in causes if cause not in by_id and cause not in origins)),
    )


class _Story(NamedTuple):
    follows: Mapping[str | None, Sequence[Told]]
    receptions: Mapping[str, Sequence[Heard]]
    listeners: Mapping[str, Sequence[Listener]]
    origins: Mapping[str, Origin]

    def begin(self) -> Iterator[Line]:
        """Tell what nothing in the story has caused, and what follows from each."""
        found = [(one.time, one.id, self._event(one, 0)) for one in self.follows.get(None, ())]
        for cause, origin in self.origins.items():
            if caused := self.follows.get(cause):
                first = min(one.time for one in caused)
                found.append((first, cause, self._origin(cause, origin)))
        for _, _, lines in sorted(found, key=itemgetter(0, 1)):
            yield from lines

    def _origin(self, cause: str, origin: Origin) -> Iterator[Line]:
        kind: Literal["undo", "step"] = "undo" if origin.undo else "step"
        yield Line(0, origin.name, kind, "", None, origin.known)
        yield from self._following(cause, 1)

    def _following(self, cause: str, depth: int) -> Iterator[Line]:
        for one in sorted(self.follows.get(cause, ()), key=lambda each: (each.time, each.id)):
            yield from self._event(one, depth)

    def _event(self, one: Told, depth: int) -> Iterator[Line]:
        known = f"{one.identity}, key {one.key}" if one.key else one.identity
        if one.replaces:
            known += f", in the place of {one.replaces}"
        state = "published" if one.published else "in the outbox"
        yield Line(depth, one.type.rpartition(".")[2], "event", state, one.time, known)
        yield from self._handlers(one, depth + 1)
        yield from self._following(one.id, depth + 1)

    def _handlers(self, one: Told, depth: int) -> Iterator[Line]:
        listeners = {each.consumer: each for each in self.listeners.get(one.type, ())}
        heard = {each.consumer: each for each in self.receptions.get(one.identity, ())}
        for consumer in sorted({*listeners, *heard}):
            listener = listeners.get(consumer, Listener(consumer, consumer, undo=False))
            found = heard.get(consumer, Heard(consumer, one.identity, "waiting"))
            # a parked event that a person has replaced goes on under its new identity alone
            if found.state == "waiting" and (not one.published or one.replaces):
                continue
            kind: Literal["handler", "undo"] = "undo" if listener.undo else "handler"
            yield Line(depth, listener.name, kind, found.state, found.at, found.known)


def _gone(left: Sequence[Heard]) -> Iterator[Line]:
    """Tell of events that are not found any more who has handled them."""
    for identity in sorted({one.identity for one in left}):
        yield Line(0, identity.rpartition("/")[2], "event", "not found", None, identity)
        for one in sorted(left, key=lambda each: each.consumer):
            if one.identity == identity:
                yield Line(1, one.consumer, "handler", one.state, one.at, one.known)


def _status(lines: Sequence[Line]) -> Literal["waits for a person", "going on", "at rest"]:
    states = {line.state for line in lines}
    if states & {"parked", "behind"}:
        return "waits for a person"
    return "going on" if states & {"retrying", "waiting", "in the outbox"} else "at rest"
