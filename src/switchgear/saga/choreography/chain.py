"""The handlers of all services in sight, and which event leads from one to the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from switchgear.errors import UsageError
from switchgear.saga.choreography.declared import (
    Declared,
    EventDeclared,
    HandlerDeclared,
    SubscriptionDeclared,
    UndoneDeclared,
)

__all__ = ["Chain", "Origin", "Part", "Step", "merged", "short"]


def short(event: str) -> str:
    """Return the last word of an event's type, which is the name of its class."""
    return event.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Origin:
    """What a service did as it published an event outside of any handler: in a request, a saga."""

    service: str
    event: str

    @property
    def name(self) -> str:
        """How reports name it."""
        return f"{self.service} ({short(self.event)})"


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One handler of one kind of event. A chain makes each of its steps once."""

    service: str
    subscription: SubscriptionDeclared
    handler: HandlerDeclared
    name: str
    """How reports name it, as no other: service and function, with the event, and with the
    subscription, where that is needed."""

    @property
    def event(self) -> str:
        """The type of the event that it handles."""
        return self.handler.event

    @property
    def group(self) -> str:
        """The subscription, by its full name."""
        return f"{self.service}.{self.subscription.name}"

    @property
    def emits(self) -> tuple[str, ...]:
        """What it may publish, as far as it says."""
        return self.handler.emits or ()


Part = Step | Origin


@dataclass(frozen=True)
class Chain:
    """The declarations of several services, read together."""

    services: tuple[Declared, ...]

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Every handler, by service, subscription and event."""
        return tuple(step for service in self.services for step in _steps(service))

    @cached_property
    def events(self) -> Mapping[str, EventDeclared]:
        """Every kind of event that a service declares, by type; of several, the first service's."""
        found: dict[str, EventDeclared] = {}
        for service in self.services:
            for event in service.events:
                found.setdefault(event.type, event)
        return found

    @cached_property
    def types(self) -> tuple[str, ...]:
        """The type of every event that anybody names."""
        named = set(self.events)
        named.update(event for service in self.services for event in service.publishes or ())
        for step in self.steps:
            named.update((step.event, *step.emits))
        return tuple(sorted(named))

    @cached_property
    def _on(self) -> Mapping[str, tuple[Step, ...]]:
        found: dict[str, list[Step]] = {}
        for step in self.steps:
            found.setdefault(step.event, []).append(step)
        return {event: tuple(steps) for event, steps in found.items()}

    @cached_property
    def _from(self) -> Mapping[str, tuple[Step, ...]]:
        found: dict[str, list[Step]] = {}
        for step in self.steps:
            for event in step.emits:
                found.setdefault(event, []).append(step)
        return {event: tuple(steps) for event, steps in found.items()}

    @cached_property
    def _outside(self) -> Mapping[str, tuple[Origin, ...]]:
        found: dict[str, list[Origin]] = {}
        for service in self.services:
            for event in service.publishes or ():
                found.setdefault(event, []).append(Origin(service.service, event))
        return {event: tuple(origins) for event, origins in found.items()}

    @cached_property
    def _silent(self) -> frozenset[str]:
        return frozenset(one.service for one in self.services if one.publishes is None)

    @cached_property
    def winding(self) -> frozenset[str]:
        """The events in rounds that lead back to themselves, and on ways between such rounds."""
        later = {
            event: {emitted for step in self.on(event) for emitted in step.emits}
            for event in self.types
        }
        earlier: dict[str, set[str]] = {event: set() for event in later}
        for event, emitted in later.items():
            for one in emitted:
                earlier[one].add(event)
        # what nothing leads to is in no round, nor what leads nowhere; without it there is more
        waiting = [event for event in later if not later[event] or not earlier[event]]
        gone: set[str] = set()
        while waiting:
            event = waiting.pop()
            if event in gone:
                continue
            gone.add(event)
            for beside, back in ((later, earlier), (earlier, later)):
                for one in beside[event]:
                    back[one].discard(event)
                    if not back[one]:
                        waiting.append(one)
        return frozenset(later.keys() - gone)

    def emitting(self, event: str) -> tuple[Step, ...]:
        """Return the handlers that may publish an event."""
        return self._from.get(event, ())

    def on(self, event: str) -> tuple[Step, ...]:
        """Return the handlers of an event."""
        return self._on.get(event, ())

    def origins(self, event: str) -> tuple[Origin, ...]:
        """Return the services that publish an event outside of handlers."""
        return self._outside.get(event, ())

    def named(self, service: str, undone: UndoneDeclared) -> tuple[Part, ...]:
        """Return what a service names as undone; nothing, if it is not there."""
        if undone.handler is None:
            silent = service in self._silent
            there = silent or any(one.service == service for one in self.origins(undone.event))
            return (Origin(service, undone.event),) if there else ()
        return tuple(
            other
            for other in self.on(undone.event)
            if (other.service, other.handler.handler) == (service, undone.handler)
        )

    def undone(self, step: Step) -> tuple[Part, ...]:
        """Return what a handler takes back."""
        undoes = step.handler.undoes
        return tuple(part for undone in undoes for part in self.named(step.service, undone))

    @cached_property
    def undos(self) -> Mapping[Part, tuple[Step, ...]]:
        """Return, for everything that can be undone, the handlers that do so."""
        found: dict[Part, list[Step]] = {}
        for step in self.steps:
            for part in self.undone(step):
                found.setdefault(part, []).append(step)
        return {part: tuple(steps) for part, steps in found.items()}

    def event(self, given: str) -> str:
        """Return the type of an event, from its type or the name of its class.

        Raises `UsageError` for one that nobody names, and for a name that several have.
        """
        found = [one for one in self.types if given in (one, short(one))]
        if given in found or len(found) == 1:
            return given if given in found else found[0]
        known = ", ".join(found or self.types) or "none"
        if found:
            raise UsageError(f"several events are called {given}.", fix=f"Say which: {known}.")
        raise UsageError(f"no service in sight names an event {given}.", fix=f"There are: {known}.")

    def step(self, given: str, among: Sequence[Step]) -> Step:
        """Return a handler of the chain, by service and function, or by its subscription.

        Raises `UsageError` for one that is not there, and where several fit.
        """
        found = [one for one in among if given == one.name] or [
            one for one in among if given in (one.group, f"{one.service}.{one.handler.handler}")
        ]
        if len(found) == 1:
            return found[0]
        names = ", ".join(one.name for one in found or among) or "none"
        if found:
            raise UsageError(f"several handlers are called {given}.", fix=f"Say which: {names}.")
        raise UsageError(f"the chain has no handler {given}.", fix=f"It has: {names}.")


def _steps(service: Declared) -> Iterator[Step]:
    found = [(one, handler) for one in service.subscriptions for handler in one.handlers]
    named = [_names(service, subscription, handler) for subscription, handler in found]
    # a function may handle several events, those may be classes of one name, and several
    # subscriptions may share function and event: the shortest name that is its own
    times = Counter(name for names in named for name in set(names))
    for (subscription, handler), names in zip(found, named, strict=True):
        name = next((name for name in names if times[name] == 1), names[-1])
        yield Step(service.service, subscription, handler, name)


def _names(
    service: Declared, subscription: SubscriptionDeclared, handler: HandlerDeclared
) -> tuple[str, ...]:
    """Return what a handler can be called, from short to long."""
    plain = f"{service.service}.{handler.handler}"
    whole = f"{plain} on {handler.event}"
    return plain, f"{plain} on {short(handler.event)}", whole, f"{whole} ({subscription.name})"


def merged(services: Iterable[Declared]) -> Chain:
    """Read declarations together; the same of one service twice count once.

    Raises `UsageError` where two say different things of one service.
    """
    found: dict[str, Declared] = {}
    for one in services:
        if found.setdefault(one.service, one) != one:
            raise UsageError(
                f"the service {one.service} is declared twice, in two different ways.",
                fix="Leave the older file out, or export both again.",
            )
    return Chain(tuple(found[name] for name in sorted(found)))
