"""The handlers of all services in sight, and which event leads from one to the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from switchgear.errors import UsageError
from switchgear.saga.choreography.declared import (
    Declared,
    EventDeclared,
    HandlerDeclared,
    SubscriptionDeclared,
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
    also: bool = False
    """Whether the function handles other events too, so that its name does not say which."""

    @property
    def event(self) -> str:
        """The type of the event that it handles."""
        return self.handler.event

    @property
    def name(self) -> str:
        """How reports name it: service and function, with the event where that is needed."""
        plain = f"{self.service}.{self.handler.handler}"
        return f"{plain} on {short(self.event)}" if self.also else plain

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
        return tuple(
            Step(service.service, subscription, handler, _also(service, handler))
            for service in self.services
            for subscription in service.subscriptions
            for handler in subscription.handlers
        )

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

    def emitting(self, event: str) -> tuple[Step, ...]:
        """Return the handlers that may publish an event."""
        return self._from.get(event, ())

    def on(self, event: str) -> tuple[Step, ...]:
        """Return the handlers of an event."""
        return self._on.get(event, ())

    def origins(self, event: str) -> tuple[Origin, ...]:
        """Return the services that publish an event outside of handlers."""
        return tuple(
            Origin(service.service, event)
            for service in self.services
            if event in (service.publishes or ())
        )

    def undone(self, step: Step) -> tuple[Part, ...]:
        """Return what a handler takes back."""
        found: list[Part] = []
        for undone in step.handler.undoes:
            if undone.handler is None:
                found.append(Origin(step.service, undone.event))
                continue
            found += [
                other
                for other in self.on(undone.event)
                if (other.service, other.handler.handler) == (step.service, undone.handler)
            ]
        return tuple(found)

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


def _also(service: Declared, handler: HandlerDeclared) -> bool:
    same = [
        other
        for subscription in service.subscriptions
        for other in subscription.handlers
        if other.handler == handler.handler
    ]
    return len(same) > 1


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
