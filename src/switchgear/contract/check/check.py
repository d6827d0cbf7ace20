"""The check: two or more versions in, findings out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from switchgear.contract.check.finding import Finding, Found, in_order
from switchgear.contract.check.past import read_history
from switchgear.contract.check.protofiles import Protos
from switchgear.contract.check.protos import Version, check_protos
from switchgear.contract.check.protos import record as record_version
from switchgear.contract.check.pythonmodule import read_module
from switchgear.contract.check.selection import SWITCHGEAR
from switchgear.contract.check.sources import Kind, Source, open_sources
from switchgear.errors import UnreadableContract

__all__ = ["check", "record"]

_CALLERS: Final = "callers of the old version"


def check(
    new: str,
    against: Sequence[str],
    *,
    rules: Sequence[str] | None = None,
    compatibility: str = "FULL",
    history: Path | None = None,
) -> list[Finding]:
    """Compare a version of a contract with older ones, the latest of them first.

    `new` and `against` are what `switchgear.contract.check.sources` lists; `rules` are the words
    of `--rules`; `compatibility` is what events have to keep (see `asyncapi`); `history` is a file
    of versions before all of those (see `past`). Raises `UnreadableContract` for what cannot be
    read.
    """
    with ExitStack() as stack:
        first, olds = open_sources(new, against, stack)
        if first.kind is Kind.DOCUMENT:
            return _check_documents(first, olds, rules, compatibility.upper())
        versions = [_version(one, stack) for one in (first, *olds)]
        past = read_history(history) if history else []
        return check_protos(versions[0], versions[1:], rules, past)


def record(new: str, release: str, history: Path) -> None:
    """Add a version of protobuf or Python contracts to a file of history."""
    with ExitStack() as stack:
        source, _ = open_sources(new, [], stack)
        if source.kind is Kind.DOCUMENT:
            raise UnreadableContract(
                "Only contracts with numbers have a history.",
                where=source.label,
                fix="Give a folder of .proto files, or a module.",
            )
        record_version(_version(source, stack), release, history)


def _version(source: Source, stack: ExitStack) -> Version:
    if source.kind is Kind.PROTO:
        return Version(source.label, Protos.of(source.path))
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="switchgear-check-")))
    told = read_module(source.target, source.imports, folder)
    found = Path(told.file).resolve()
    if source.label.startswith("git:") and not found.is_relative_to(source.imports.resolve()):
        # a package elsewhere on the path comes before a folder without __init__.py
        raise UnreadableContract(
            f"{source.target} was imported from {found}, and not as it was in git.",
            where=source.label,
            fix="Give its package an __init__.py, or name its file.",
        )
    return Version(source.label, Protos.of(folder), told)


def _check_documents(
    first: Source, olds: Sequence[Source], rules: Sequence[str] | None, compatibility: str
) -> list[Finding]:
    # YAML is not needed for protobuf.
    from switchgear.contract.check.asyncapi import (  # noqa: PLC0415
        COMPATIBILITY,
        compare_asyncapi,
        is_asyncapi,
    )
    from switchgear.contract.check.documents import read_document  # noqa: PLC0415
    from switchgear.contract.check.openapi import compare_openapi  # noqa: PLC0415

    if compatibility not in COMPATIBILITY:
        raise UnreadableContract(
            f"{compatibility!r} is not a compatibility.",
            where="--compatibility",
            fix=f"Use one of {', '.join(COMPATIBILITY)}.",
        )
    new = read_document(first.path, first.label)
    before = [read_document(one.path, one.label) for one in olds]
    events = is_asyncapi(new)
    if any(is_asyncapi(one) is not events for one in before):
        raise UnreadableContract("One is OpenAPI and the other AsyncAPI.", where=first.label)
    if not (events and compatibility.endswith("_TRANSITIVE")):
        before = before[:1]
    return in_order(
        _finding(rule, one, old.name)
        for old in before
        for rule, one in _chosen(
            compare_asyncapi(old, new, compatibility) if events else compare_openapi(old, new),
            rules,
        )
    )


def _chosen(
    found: Iterable[tuple[str, Found]], rules: Sequence[str] | None
) -> Iterator[tuple[str, Found]]:
    wanted = None if rules is None else {word.strip().upper() for word in rules}
    every = wanted is None or SWITCHGEAR.upper() in wanted
    return ((rule, one) for rule, one in found if every or rule in (wanted or ()))


def _finding(rule: str, one: Found, against: str) -> Finding:
    return Finding(
        path=one.place.path,
        line=one.place.line,
        column=one.place.column,
        rule=rule,
        message=one.message,
        edit=one.edit,
        severity=one.severity,
        breaks=one.breaks or _CALLERS,
        subject=one.subject,
        against=against,
    )
