"""Events: what a service tells everyone, with the topic it goes to and the key that orders it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from switchgear.contract.declaration import fields_of, reach
from switchgear.contract.enums import Enum
from switchgear.contract.kinds import Shape, is_message
from switchgear.contract.message import Message
from switchgear.errors import EventDeclarationError

__all__ = ["EventContract", "event", "event_of", "key_of"]

M = TypeVar("M", bound=Message)

_MessageClass: TypeAlias = type[Message]

_TOPIC: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
_MAX_TOPIC: Final = 200


@dataclass(frozen=True, slots=True)
class EventContract:
    """What `@event` declares."""

    type: str
    """The name of the kind of event: topic and class name."""
    topic: str
    key: str | None
    """The field whose value orders events; None: declared as unordered."""
    message: _MessageClass
    after: str | None = None
    """The type of an event that comes before it, about the same thing."""


def event(
    topic: str,
    *,
    key: str | None = None,
    unordered: bool = False,
    after: type[Message] | None = None,
) -> Callable[[type[M]], type[M]]:
    """Declare a message class as an event of `topic`.

    Events of equal `key` are handled in the order of their commits; `unordered=True` says that no
    order matters. One of the two is required. `after` names an event that comes before this one,
    about the same thing (`OrderCancelled` after `OrderPlaced`): only in one topic and under one key
    do they arrive in that order, so anything else is refused. Raises `EventDeclarationError` at
    import.
    """

    def declare(cls: type[M]) -> type[M]:
        where = f"{cls.__module__}.{cls.__qualname__}"
        _check(cls, topic, key, where, unordered=unordered)
        before = None if after is None else event_of(after)
        if before is not None:
            _check_after(before, topic, key, where)
        earlier = None if before is None else before.type
        contract = EventContract(f"{topic}.{cls.__name__}", topic, key, cls, earlier)
        cls.__event__ = contract  # type: ignore[attr-defined]
        return cls

    return declare


def event_of(cls_or_instance: type[Message] | Message) -> EventContract:
    """Return what `@event` declared; raises `EventDeclarationError` for any other message."""
    cls = cls_or_instance if isinstance(cls_or_instance, type) else type(cls_or_instance)
    contract = vars(cls).get("__event__")
    if not isinstance(contract, EventContract):
        raise EventDeclarationError(
            "This message is not declared as an event.",
            where=f"{cls.__module__}.{cls.__qualname__}",
            fix='Put @event("topic", key="field") above the class.',
        )
    return contract


def key_of(message: Message) -> str | None:
    """Return the value by which `message` is ordered, as text; None for an unordered event."""
    key = event_of(message).key
    if key is None:
        return None
    value: object = getattr(message, key)
    return value.name if isinstance(value, Enum) else str(value)


def _check(cls: type[Message], topic: str, key: str | None, where: str, *, unordered: bool) -> None:
    if not is_message(cls):
        raise EventDeclarationError(
            "An event is a message.", where=where, fix="Derive the class from Message."
        )
    if len(topic) > _MAX_TOPIC or not _TOPIC.fullmatch(topic):
        raise EventDeclarationError(
            f"{topic!r} is not the name of a topic.",
            where=where,
            fix=f"Use at most {_MAX_TOPIC} letters, digits, '-', '_' and '.', as in 'shop.orders'.",
        )
    if (key is None) is not unordered:
        raise EventDeclarationError(
            "Both key= and unordered=True are given."
            if unordered
            else "It does not say which events must stay in order.",
            where=where,
            fix='Say key="field" to keep events of one key in order, or unordered=True.',
        )
    reach(cls)
    if key is None:
        return
    field = fields_of(cls).get(key)
    if field is None:
        raise EventDeclarationError(
            f"The key {key} is not a field of the message.",
            where=where,
            fix=f"Use one of: {', '.join(fields_of(cls))}.",
        )
    if field.type.shape is not Shape.ONE or field.type.optional or not field.kind.is_key:
        raise EventDeclarationError(
            f"The key {key} cannot order events: its text is not one stable value.",
            where=where,
            fix="Use a field of type str, int, bool or Enum that is not optional.",
        )


def _check_after(before: EventContract, topic: str, key: str | None, where: str) -> None:
    """Refuse a pair of events that would be told in either order."""
    if (before.topic, before.key) == (topic, key) and key is not None:
        return
    if before.key is None or key is None:
        differs = "one of the two has no key"
    elif before.topic != topic:
        differs = f"that one goes to {before.topic} and this one to {topic}"
    else:
        differs = f"that one is ordered by {before.key} and this one by {key}"
    raise EventDeclarationError(
        f"it may arrive before {before.type}, which it comes after: {differs}.",
        where=where,
        fix=f'Give both one topic and one key: @event("{before.topic}", key="{before.key or key}");'
        " or leave after= out, if whoever hears both copes with either order.",
    )
