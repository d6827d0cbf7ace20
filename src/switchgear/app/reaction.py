"""A handler of one kind of event, as a service declares it, and the rules that it keeps.

Handlers of one name are one subscription: they share its settings and, within one topic and key,
the order of their events.

A handler with `undoes=` takes back what was done before, so it has to come after what it undoes.
The rule, checked while the module is imported: of the two events

- either both have one topic and one key, and both handlers one name: the log keeps the order;
- or the one may follow from the other, because the handler that is undone says what it `emits`
  (whether it does follow is seen with all services in sight: `switchgear explain event`);
- or the handler says `unordered=True`: it copes with an undo that comes before its do, as
  `switchgear.saga.barrier` does.

`undoes=reserve` is that handler. `undoes=OrderPlaced` is, of the first kind that there is: this
service's handlers of that event; its handlers that emit it; what it did as it published it.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final, Literal, TypeAlias

from switchgear.app.resources import Need, Scope, needs_of
from switchgear.app.transaction import Transaction
from switchgear.contract.event import EventContract, event_of
from switchgear.contract.message import Message
from switchgear.errors import EventDeclarationError
from switchgear.events.progress import STUCK_AFTER

__all__ = ["OnFailure", "Reaction", "Undoable", "check_added", "targets"]

OnFailure = Literal["block_key", "park_key", "skip"]
Undoable: TypeAlias = type[Message] | Callable[..., Awaitable[None]]
"""What can be undone: a handler, or what was done about an event."""

_SHARED: Final = (
    "on_failure",
    "attempts",
    "backoff",
    "concurrency",
    "fresh_within",
    "stuck_after",
    "from_start",
    "inbox",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """A handler of one kind of event, as declared; the settings are those of `Service.on`."""

    event: type[Message]
    contract: EventContract
    name: str
    on_failure: OnFailure
    attempts: int
    backoff: float
    concurrency: int
    fresh_within: float | timedelta | None = None
    stuck_after: float | timedelta = STUCK_AFTER
    from_start: bool = False
    inbox: bool = True
    emits: tuple[type[Message], ...] | None = None
    undoes: tuple[Undoable, ...] = ()
    unordered: bool = False
    runbook: str | None = None
    function: Callable[..., Awaitable[None]] = field(repr=False)
    scope: Scope = field(repr=False)

    @property
    def needs(self) -> tuple[Need, ...]:
        """What it wants besides the event, which is its first parameter."""
        return needs_of(self.function, self.scope, skip=1)

    @property
    def where(self) -> str:
        """The function, for errors."""
        return f"{self.function.__module__}.{self.function.__qualname__}"

    @property
    def emitted(self) -> frozenset[str] | None:
        """The types of what it may publish; None: it does not say."""
        return None if self.emits is None else frozenset(event_of(one).type for one in self.emits)


def targets(reaction: Reaction, reactions: Sequence[Reaction]) -> list[Reaction | EventContract]:
    """Return what `reaction` undoes: handlers of its service, or what it did as it published."""
    found: list[Reaction | EventContract] = []
    for undone in reaction.undoes:
        if not isinstance(undone, type):
            found += [other for other in reactions if other.function is undone]
            continue
        contract = event_of(undone)
        others = [other for other in reactions if other is not reaction and not other.undoes]
        found += (
            [other for other in others if other.contract.type == contract.type]
            or [other for other in others if contract.type in (other.emitted or ())]
            or [contract]
        )
    return found


def check_added(reaction: Reaction, reactions: Sequence[Reaction]) -> None:
    """Refuse a handler that breaks a rule, alone or beside the others of its service."""
    _check_function(reaction)
    _check_runbook(reaction)
    for other in reactions:
        _check_together(reaction, other)
    known = [*reactions, reaction]
    for undone in reaction.undoes:
        if isinstance(undone, type):
            event_of(undone)
        elif all(other.function is not undone for other in reactions):
            raise EventDeclarationError(
                f"it undoes {_name(undone)}, which handles no event of this service.",
                where=reaction.where,
                fix="Name a handler that is declared above it, or an event.",
            )
    for one in known:
        for target in targets(one, known):
            if isinstance(target, Reaction) and reaction in (one, target):
                _check_order(one, target, where=reaction.where)


def _check_function(reaction: Reaction) -> None:
    where = reaction.where
    if not inspect.iscoroutinefunction(reaction.function):
        raise EventDeclarationError(
            "it is not async.", where=where, fix="Write: async def name(event: Event, ...)."
        )
    if not inspect.signature(reaction.function).parameters:
        raise EventDeclarationError(
            "it takes no event.", where=where, fix="Let its first parameter be the event."
        )
    if not reaction.inbox and any(need.type is Transaction for need in reaction.needs):
        raise EventDeclarationError(
            "it takes a transaction, and has no inbox to take part in it.",
            where=where,
            fix="Leave out inbox=False, or the transaction.",
        )
    for one in reaction.emits or ():
        event_of(one)


def _check_runbook(reaction: Reaction) -> None:
    if reaction.runbook is None:
        return
    beside = Path(inspect.unwrap(reaction.function).__code__.co_filename)
    file = beside.parent / reaction.runbook
    if not file.is_file():
        raise EventDeclarationError(
            f"its runbook {reaction.runbook} does not exist.",
            where=reaction.where,
            fix=f"Write {file}, or correct the path, which is relative to {beside.name}.",
        )


def _check_together(one: Reaction, other: Reaction) -> None:
    """Refuse what cannot share one subscription."""
    if one.name != other.name:
        return
    if one.event is other.event:
        raise EventDeclarationError(
            f"{other.function.__qualname__} handles {one.contract.type} under {one.name!r} too.",
            where=one.where,
            fix="Choose another name: each name gets every event once.",
        )
    for setting in _SHARED:
        mine, theirs = getattr(one, setting), getattr(other, setting)
        if mine != theirs:
            raise EventDeclarationError(
                f"its {setting} is {mine}, and that of {other.function.__qualname__} under "
                f"the same name {one.name!r} is {theirs}.",
                where=one.where,
                fix="Handlers of one name share a subscription: let them say the same.",
            )


def _check_order(undo: Reaction, done: Reaction, *, where: str) -> None:
    """Refuse an undo that may come before what it undoes. The rule is at the head."""
    one, other = done.contract, undo.contract
    if undo.unordered or done.emits:
        return
    if (one.topic, one.key) == (other.topic, other.key) and one.key is not None:
        if done.name == undo.name:
            return
        differs = f"they are handled under the names {done.name!r} and {undo.name!r}"
    elif one.key is None or other.key is None:
        differs = "one of the two events has no key"
    elif one.topic != other.topic:
        differs = f"{one.type} goes to {one.topic}, and {other.type} to {other.topic}"
    else:
        differs = f"{one.type} is ordered by {one.key}, and {other.type} by {other.key}"
    says = "does not say what it emits" if done.emits is None else "emits nothing"
    name = done.function.__qualname__
    raise EventDeclarationError(
        f"{undo.function.__qualname__} may run before {name}, which it undoes: {differs}, and "
        f"{name} {says}, so that the one does not follow from the other.",
        where=where,
        fix="Publish both to one topic under one key and handle them under one name; or say "
        f"emits=[...] of {name}; or unordered=True, if it copes with either order.",
    )


def _name(undone: Undoable) -> str:
    return getattr(undone, "__qualname__", repr(undone))
