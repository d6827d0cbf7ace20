"""What one service declares, as data: a file that others can read without its code.

`switchgear export` writes it, `switchgear explain event` reads those of several repositories. The
form has a version. A reader takes what it does not know for nothing, so a later release of one
form may add to it; what would change a meaning gets the next number, and is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from switchgear.errors import UsageError

__all__ = [
    "FORMAT",
    "Declared",
    "EventDeclared",
    "HandlerDeclared",
    "OperationDeclared",
    "SagaDeclared",
    "StepDeclared",
    "SubscriptionDeclared",
    "UndoneDeclared",
    "read",
    "write",
]

FORMAT: Final = "switchgear.declarations/1"

OnFailure: TypeAlias = Literal["block_key", "park_key", "skip"]


class OperationDeclared(Struct, frozen=True, omit_defaults=True):
    """An operation that a service answers, or asks of another."""

    name: str
    """In full: `shop.inventory.v1.Inventory/reserve`."""
    pattern: str
    keyed: bool = False


class EventDeclared(Struct, frozen=True, omit_defaults=True):
    """A kind of event that the service publishes or hears."""

    type: str
    topic: str
    key: str | None = None
    after: str | None = None
    """The type of the event that comes before it, about the same thing."""


class UndoneDeclared(Struct, frozen=True, omit_defaults=True):
    """What a handler takes back: a handler of the same service, with its event.

    Without a handler it is what the service did as it published the event.
    """

    event: str
    handler: str | None = None


class HandlerDeclared(Struct, frozen=True, omit_defaults=True):
    """A function that handles one kind of event."""

    handler: str
    """The function's name."""
    event: str
    emits: tuple[str, ...] | None = None
    """Types of what it may publish; None: it does not say."""
    undoes: tuple[UndoneDeclared, ...] = ()
    unordered: bool = False
    """It copes with an undo that comes before its do."""
    runbook: str | None = None


class SubscriptionDeclared(Struct, frozen=True, omit_defaults=True):
    """Handlers under one name, with what happens to an event that keeps failing."""

    name: str
    on_failure: OnFailure
    attempts: int
    backoff: float
    concurrency: int
    handlers: tuple[HandlerDeclared, ...]
    fresh_within: float | None = None
    """Seconds for which its oldest event may wait."""
    from_start: bool = False


class StepDeclared(Struct, frozen=True, omit_defaults=True):
    """A step of a saga."""

    name: str
    kind: str
    undo: str | None = None
    runbook: str | None = None


class SagaDeclared(Struct, frozen=True, omit_defaults=True):
    """A saga that the service runs."""

    name: str
    version: int
    fingerprint: str
    steps: tuple[StepDeclared, ...]


class Declared(Struct, frozen=True, omit_defaults=True):
    """All that a service declares."""

    service: str
    version: str = ""
    serves: tuple[OperationDeclared, ...] = ()
    calls: tuple[OperationDeclared, ...] = ()
    events: tuple[EventDeclared, ...] = ()
    publishes: tuple[str, ...] | None = None
    """Types of what it publishes outside of its handlers; None: it does not say."""
    subscriptions: tuple[SubscriptionDeclared, ...] = ()
    sagas: tuple[SagaDeclared, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, with the number of the form."""
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return {"format": FORMAT, **plain}


class _Form(Struct):
    format: str = ""


def write(declared: Declared) -> bytes:
    """Return the text of the file, ordered so that a version control shows what has changed."""
    return msgspec.json.format(msgspec.json.encode(declared.as_dict()), indent=2) + b"\n"


def read(path: Path) -> Declared:
    """Read a file. Raises `UsageError` that names it and says what is wrong."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"it cannot be read: {error.strerror}.", where=str(path)) from error
    try:
        form = msgspec.json.decode(raw, type=_Form).format
        if form != FORMAT:
            raise UsageError(
                f"its form is {form or 'not given'}, and this release reads {FORMAT}.",
                where=str(path),
                fix="Write it again with `switchgear export`, or read it with a later release.",
            )
        found = msgspec.json.decode(raw, type=Declared)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(
            f"it is no file of declarations: {error}.",
            where=str(path),
            fix="Write it with `switchgear export`.",
        ) from error
    # names go to terminals and into pictures, and this file may be of anybody
    odd = next((text for text in _texts(msgspec.to_builtins(found)) if not _is_name(text)), None)
    if odd is not None:
        raise UsageError(
            f"{odd!a} is no name: it is empty, or has characters that cannot be printed.",
            where=str(path),
            fix="Write it with `switchgear export`.",
        )
    return found


def _is_name(text: str) -> bool:
    return bool(text) and text.isprintable()


def _texts(plain: object) -> Iterator[str]:
    """Return every text in plain values, but for what is left empty by default."""
    if isinstance(plain, str):
        yield plain
    elif isinstance(plain, Mapping):
        for value in plain.values():
            yield from _texts(value)
    elif isinstance(plain, Sequence):
        for value in plain:
            yield from _texts(value)
