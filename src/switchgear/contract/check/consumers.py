"""Consumers: who reads what. A finding says whom it hits; what hits nobody is a warning.

    [[consumer]]
    name = "web"
    version = "2.3"
    consumes = ["shop.inventory.v1.Stock.available"]

A name stands for all that is inside it: `shop.inventory.v1.Stock` is every field of it. In OpenAPI
and AsyncAPI it is the subject of a finding, or how it begins: `GET /v1/stock/{sku} response 200`,
or `Stock.available` of `components`, wherever that is met.
`switchgear.testing.consuming` records the file while tests run.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import Final

import msgspec

from switchgear.contract.check.finding import Finding, Severity
from switchgear.contract.check.tables import read_tables
from switchgear.contract.files import writing
from switchgear.errors import UnreadableContract

__all__ = ["Consumer", "concerning", "read_consumers", "write_consumer"]

_OF_SENDERS: Final = frozenset(
    {"REQUIRED_ADDED", "OPTIONAL_TO_REQUIRED", "MESSAGE_SAME_REQUIRED_FIELDS"}
)
"""What hits whoever sends the message, and does not know the field."""


@dataclass(frozen=True, slots=True)
class Consumer:
    """A service at a version, and what it reads."""

    name: str
    version: str
    consumes: tuple[str, ...]

    def reads(self, subject: str) -> str | None:
        """Return what of this consumer a change of `subject` hits; None if nothing."""
        if not subject:
            return None
        hit = (one for one in self.consumes if _inside(subject, one) or _inside(one, subject))
        return next(hit, None)


def _inside(inner: str, outer: str) -> bool:
    return inner == outer or (inner.startswith(outer) and inner[len(outer)] in ". [(")


def read_consumers(path: Path) -> list[Consumer]:
    """Read a file of consumers, or every `.toml` file of a folder.

    Raises `UnreadableContract` for one that does not say who reads what.
    """
    files = sorted(path.glob("*.toml")) if path.is_dir() else [path]
    found = []
    for file in files:
        for line, table in read_tables(file, "consumer"):
            names = table.get("consumes")
            texts = [table.get("name"), table.get("version", "")]
            good = isinstance(names, list) and all(isinstance(one, str) for one in (*names, *texts))
            if not good or not isinstance(names, list) or not texts[0]:
                raise UnreadableContract(
                    "A consumer has a name, a version, and a list of what it consumes.",
                    where=f"{file.as_posix()}:{line}",
                    fix='Write name = "web", version = "2.3" and consumes = ["shop.v1.Order.id"].',
                )
            found.append(Consumer(str(texts[0]), str(texts[1]), tuple(names)))
    return found


def write_consumer(path: Path, consumer: Consumer, *, anew: bool = False) -> None:
    """Add what a consumer at a version consumes to a file; `anew` forgets what it said of it.

    Several processes may write at once. Raises `UnreadableContract` for a file of another form, and
    `OperationError` for one that cannot be written: it then holds what it held.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b", buffering=0) as file:
            with suppress(ImportError):
                import fcntl  # noqa: PLC0415 - not on Windows

                fcntl.flock(file, fcntl.LOCK_EX)
            _write(file, path, consumer, anew=anew)


def _write(file: FileIO, path: Path, consumer: Consumer, *, anew: bool) -> None:
    known = read_consumers(path) if path.stat().st_size else []
    who = (consumer.name, consumer.version)
    mine = [one for one in known if (one.name, one.version) == who and not anew]
    consumes = {name for one in (*mine, consumer) for name in one.consumes}
    rest = [one for one in known if (one.name, one.version) != who]
    found = [*rest, replace(consumer, consumes=tuple(consumes))] if consumes else rest
    text = "\n".join(map(_table, sorted(found, key=lambda one: (one.name, one.version))))
    before = path.read_bytes()
    try:
        _replace(file, text.encode())
    except OSError:  # the disk is full: what was there has fitted
        with suppress(OSError):
            _replace(file, before)
        raise


def _replace(file: FileIO, data: bytes) -> None:
    file.truncate(0)
    while data:  # without a buffer, a write may be of a part
        data = data[file.write(data) :]


def _table(consumer: Consumer) -> str:
    name, version = (_text(one) for one in (consumer.name, consumer.version))
    names = "".join(f"    {_text(one)},\n" for one in sorted(consumer.consumes))
    return f"[[consumer]]\nname = {name}\nversion = {version}\nconsumes = [\n{names}]\n"


def _text(word: str) -> str:
    return msgspec.json.encode(word).decode()  # of JSON's strings each is one of TOML's


def concerning(findings: Sequence[Finding], consumers: Sequence[Consumer]) -> list[Finding]:
    """Say of each finding which consumer reads what changed; what nobody reads is a warning.

    What is about a whole file or package hits whoever generates code, and is left as it is.
    """
    if not consumers:
        return list(findings)
    return [_concerning(one, consumers) for one in findings]


def _concerning(finding: Finding, consumers: Sequence[Consumer]) -> Finding:
    if finding.rule.startswith(("FILE_", "PACKAGE_NO_")):
        return finding
    subject = finding.subject
    if finding.rule in _OF_SENDERS:
        subject = subject.rpartition(".")[0]
    hit = [(one, one.reads(subject) or one.reads(finding.shared)) for one in consumers]
    told = [f"{one.name} {one.version}".strip() + f" reads {what}" for one, what in hit if what]
    if told:
        return replace(finding, breaks="; ".join(told))
    return replace(finding, severity=Severity.WARNING, breaks="nobody that is known reads it")
