"""What does not add up when the declarations of several services are read together.

| finding            | means                                                                      |
| ------------------ | -------------------------------------------------------------------------- |
| `undeclared`       | a handler, or services, do not say what they publish                       |
| `unknown-event`    | a handler waits for an event that nobody in sight publishes                |
| `unheard`          | an event is published, and nobody in sight handles it                      |
| `mismatch`         | two services give one event different topics or keys                       |
| `may-arrive-first` | an undo may run before what it undoes: its event can come without that one, |
|                    | or goes on alone (`skip`) when that one is parked                          |
| `undoes-nothing`   | an undo names what there is not                                            |
| `cycle`            | events lead back to themselves: a handler has to know when to stop          |
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from switchgear.saga.choreography.chain import Chain, Step, short
from switchgear.saga.choreography.declared import EventDeclared
from switchgear.saga.choreography.reach import before, cycles

__all__ = ["Finding", "Kind", "findings"]

Kind: TypeAlias = Literal[
    "undeclared",
    "unknown-event",
    "unheard",
    "mismatch",
    "may-arrive-first",
    "undoes-nothing",
    "cycle",
]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not add up."""

    kind: Kind
    about: str
    """The handler, service or event."""
    what: str


def findings(chain: Chain) -> list[Finding]:
    """Return everything that does not add up, by kind and name."""
    found = [
        *_undeclared(chain),
        *_unknown(chain),
        *_unheard(chain),
        *_mismatches(chain),
        *_undos(chain),
        *_cycles(chain),
    ]
    return sorted(found, key=lambda one: (one.kind, one.about, one.what))


def _undeclared(chain: Chain) -> Iterator[Finding]:
    for step in chain.steps:
        if step.handler.emits is None:
            what = f"{step.name} does not say what it publishes: emits=[...]"
            yield Finding("undeclared", step.name, what)
    silent = ", ".join(one.service for one in chain.services if one.publishes is None)
    if silent:
        what = f"not said what is published outside of handlers, app.publishes(...): {silent}"
        yield Finding("undeclared", silent, what)


def _published(chain: Chain) -> set[str]:
    found = {event for service in chain.services for event in service.publishes or ()}
    return found.union(*(step.emits for step in chain.steps))


def _unknown(chain: Chain) -> Iterator[Finding]:
    published = _published(chain)
    silent = [service.service for service in chain.services if service.publishes is None]
    silent += [step.name for step in chain.steps if step.handler.emits is None]
    perhaps = f", unless one that does not say does: {', '.join(silent)}" if silent else ""
    for step in chain.steps:
        if step.event not in published:
            what = f"{step.name} waits for {step.event}, which nobody in sight publishes{perhaps}"
            yield Finding("unknown-event", step.name, what)


def _unheard(chain: Chain) -> Iterator[Finding]:
    for event in sorted(_published(chain)):
        if not chain.on(event):
            yield Finding("unheard", event, f"{event} is published, and nobody in sight handles it")


def _mismatches(chain: Chain) -> Iterator[Finding]:
    for service in chain.services:
        for event in service.events:
            first = chain.events[event.type]
            if (first.topic, first.key) != (event.topic, event.key):
                yield Finding(
                    "mismatch",
                    event.type,
                    f"{service.service} has {event.type} on {event.topic} by {_key(event)}, "
                    f"{_first(chain, first)} on {first.topic} by {_key(first)}",
                )


def _undos(chain: Chain) -> Iterator[Finding]:
    for step in chain.steps:
        for undone in step.handler.undoes:
            parts = chain.named(step.service, undone)
            if not parts:
                what = f"{undone.handler} on {undone.event}" if undone.handler else undone.event
                nothing = f"{step.name} undoes what there is not: {what} of {step.service}"
                yield Finding("undoes-nothing", step.name, nothing)
            for done in parts:
                why = _early(chain, done, step) if isinstance(done, Step) else None
                if why:
                    what = f"{step.name} may run before {done.name}, which it undoes: {why}"
                    yield Finding("may-arrive-first", step.name, what)


def _early(chain: Chain, done: Step, undo: Step) -> str | None:
    """Return why an undo may come before what it undoes, or None if it cannot."""
    if undo.handler.unordered or done is undo:
        return None
    events = before(chain, undo, without=[done])
    if not any(chain.origins(event) or not chain.emitting(event) for event in events):
        return None  # the one follows from the other
    one, other = chain.events.get(done.event), chain.events.get(undo.event)
    alike = one and other and one.key and (one.topic, one.key) == (other.topic, other.key)
    if not alike or done.group != undo.group:
        return f"{short(undo.event)} can come without {done.name}"
    if done.subscription.on_failure == "skip":
        return f"skip parks the event of {done.name} alone, and {short(undo.event)} goes on"
    return None


def _first(chain: Chain, event: EventDeclared) -> str:
    return next(one.service for one in chain.services if event in one.events)


def _key(event: EventDeclared) -> str:
    return event.key or "no key"


def _cycles(chain: Chain) -> Iterator[Finding]:
    for events in cycles(chain):
        round_ = " -> ".join(map(short, (*events, events[0])))
        yield Finding("cycle", events[0], f"events lead back to themselves: {round_}")
