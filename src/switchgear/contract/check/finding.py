"""A finding: one change that somebody will notice, where it is, and the safe way to make it."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:  # the model needs protobuf
    from switchgear.contract.check.schema import Element, Field, Place

__all__ = ["BYTES", "CODE", "JSON", "Finding", "Found", "Severity", "Was", "in_order"]

BYTES: Final = "whoever reads or writes the bytes with the other version"
JSON: Final = "whoever reads or writes the JSON with the other version"
CODE: Final = "code that was generated from the old version, when it is generated again"


class Severity(enum.StrEnum):
    """How bad it is: an error fails the check, a warning asks for a look."""

    ERROR = "error"
    WARNING = "warning"


class Was(NamedTuple):
    """A field, and the earlier one of another meaning that has its number, or its name."""

    now: Field
    name: str
    kind: str
    number: int


@dataclass(frozen=True, slots=True)
class Found:
    """What a rule says, before it is known which version and which configuration it is for."""

    message: str
    """What changed, in one sentence."""
    edit: str
    """The exact change that makes it safe."""
    place: Place
    subject: str
    """The full name of what changed."""
    old: Element | None = None
    """What it was in the old version; its file counts too where files are ignored."""
    breaks: str = ""
    """Who notices; empty for what the rule says in general."""
    severity: Severity = Severity.ERROR
    witness: str = ""
    """Bytes that show it, written with the old contract and read with the new."""
    about: tuple[str, ...] = ()
    """Other names that the change goes by: what a field is called now, or was called before."""
    also: tuple[str, ...] = ()
    """Other rules that say the same of the same change (see `once`)."""
    shared: str = ""
    """The name in a schema that operations may share: `Money.amount`."""
    reaches: str = ""
    """What leads to that schema: `GET /orders response 200.lines[]`."""
    was: Was | None = None
    """The earlier field that a field is taken for."""

    @property
    def names(self) -> frozenset[str]:
        """All names that the change goes by."""
        return frozenset((self.subject, *self.about))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding, as it is reported."""

    path: str
    line: int
    column: int
    rule: str
    message: str
    edit: str
    severity: Severity
    breaks: str
    subject: str
    against: str = ""
    """The old version that it was compared with."""
    witness: str = ""
    also: tuple[str, ...] = ()
    """Other rules that say the same of the same change."""
    shared: str = ""
    """The name in a schema that operations may share: `Money.amount`."""
    reaches: tuple[str, ...] = ()
    """What leads to that schema; see `gathering`."""

    @property
    def told(self) -> str:
        """The message without the name of what it is about, if it begins with that."""
        return self.message.removeprefix(self.subject)


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Return each finding once, in the order of the files, the same in every run."""
    return sorted(
        dict.fromkeys(findings),
        key=lambda one: (one.path, one.line, one.column, one.rule, one.subject, one.message),
    )
