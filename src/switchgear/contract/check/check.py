"""The check: two or more versions in, findings out."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from switchgear.contract.check.earlier import new_to_them
from switchgear.contract.check.finding import Finding, Found, in_order
from switchgear.contract.check.git import Repository
from switchgear.contract.check.protofiles import Protos, reading
from switchgear.contract.check.pythonmodule import read_module
from switchgear.contract.check.selection import SWITCHGEAR
from switchgear.contract.check.sources import Kind, Source, open_sources
from switchgear.contract.check.version import Version
from switchgear.contract.history import Past, append, read_history
from switchgear.errors import UnreadableContract

if TYPE_CHECKING:
    from switchgear.contract.check.documents import Document

__all__ = ["check", "record", "release"]

_CALLERS: Final = "callers of the old version"


def check(
    new: str,
    against: Sequence[str],
    *,
    rules: Sequence[str] | None = None,
    compatibility: str = "FULL",
    history: Path | None = None,
    allow_refs: Sequence[str] = (),
) -> list[Finding]:
    """Compare a version of a contract with older ones, the latest of them first.

    `new` and `against` are what `switchgear.contract.check.sources` lists; `rules` are the words
    of `--rules`; `compatibility` is what events have to keep (see `asyncapi`); `history` is a file
    of versions before all of those (see `switchgear.contract.history`); `allow_refs` is what the
    references of a document may lead to (see `references`). Raises `UnreadableContract` for what
    cannot be read.

    What hits those who still have an earlier version counts too, unless the version before did it
    to them already.
    """
    with ExitStack() as stack:
        first, olds = open_sources(new, against, stack)
        if first.kind is Kind.DOCUMENT:
            documents = [_document(one, allow_refs) for one in (first, *olds)]
            return _check_documents(documents[0], documents[1:], rules, compatibility.upper())
        past = read_history(history) if history else []
        held = [one.past for one in olds if one.past is not None]
        version = _version(first, stack, [*held, *past])
        before = [_version(one, stack) for one in olds]
        # What history asks about may be in a file that has not changed since the version before.
        sides = [one.protos for one in before]
        with reading(version.protos, sides, whole=bool(past)) as schemas:
            # while protoc is at work
            from switchgear.contract.check.protos import check_protos  # noqa: PLC0415

            return check_protos(version, before, schemas, rules, past)


def record(new: str, name: str, history: Path) -> None:
    """Add a version of protobuf or Python contracts to a file of history."""
    append(history, release(new, name, history))


def release(new: str, name: str, history: Path) -> Past:
    """Return what a history remembers of a version.

    What earlier versions in `history` had and a module in Python has not any more is reserved.
    """
    from switchgear.contract.check.protos import release as release_of  # noqa: PLC0415  as above

    past = read_history(history) if history.exists() else []
    with ExitStack() as stack:
        source, _ = open_sources(new, [], stack)
        if source.kind is Kind.DOCUMENT:
            raise UnreadableContract(
                "Only contracts with numbers have a history.",
                where=source.label,
                fix="Give a folder of .proto files, or a module.",
            )
        return release_of(_version(source, stack, past), name)


def _version(source: Source, stack: ExitStack, past: Sequence[Past] = ()) -> Version:
    if source.kind is Kind.PROTO:
        return Version(source.label, Protos.of(source.path))
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="switchgear-check-")))
    if source.past is not None:
        return Version.of(source.past, source.label, folder)
    told = read_module(source.target, source.imports, folder, past)
    found = Path(told.file).resolve()
    if source.label.startswith("git:") and not found.is_relative_to(source.imports.resolve()):
        # a package elsewhere on the path comes before a folder without __init__.py
        raise UnreadableContract(
            f"{source.target} was imported from {found}, and not as it was in git.",
            where=source.label,
            fix="Give its package an __init__.py, or name its file.",
        )
    return Version(source.label, Protos.of(folder), told, told.required)


def _document(source: Source, allow_refs: Sequence[str]) -> Document:
    # YAML is not needed for protobuf.
    from switchgear.contract.check.documents import read_document  # noqa: PLC0415
    from switchgear.contract.check.references import References  # noqa: PLC0415

    allowed = list(allow_refs)
    if source.fetch is not None:  # folders are those of the same version
        root = Repository.around(Path.cwd()).root.resolve()
        found = [Path(one).resolve() for one in allow_refs if "://" not in one]
        inside = [one.relative_to(root) for one in found if one.is_relative_to(root)]
        allowed = [one for one in allow_refs if "://" in one]
        allowed += [str(source.imports / one) for one in inside]
    references = References(source.path, source.label, allowed, source.fetch)
    return read_document(source.path, source.label, references)


def _check_documents(
    new: Document, before: Sequence[Document], rules: Sequence[str] | None, compatibility: str
) -> list[Finding]:
    from switchgear.contract.check.asyncapi import (  # noqa: PLC0415
        COMPATIBILITY,
        compare_asyncapi,
        is_asyncapi,
    )
    from switchgear.contract.check.openapi import compare_openapi  # noqa: PLC0415

    if compatibility not in COMPATIBILITY:
        raise UnreadableContract(
            f"{compatibility!r} is not a compatibility.",
            where="--compatibility",
            fix=f"Use one of {', '.join(COMPATIBILITY)}.",
        )
    events = is_asyncapi(new)
    if any(is_asyncapi(one) is not events for one in before):
        raise UnreadableContract("One is OpenAPI and the other AsyncAPI.", where=new.name)
    found: list[tuple[str, Found, str]] = []
    if events:
        for old in before if compatibility.endswith("_TRANSITIVE") else before[:1]:
            told = compare_asyncapi(old, new, compatibility)
            found += [(rule, one, old.name) for rule, one in told]
    else:
        last, *others = before
        found += [(rule, one, last.name) for rule, one in compare_openapi(last, new)]
        for old in others:
            now, was = list(compare_openapi(old, new)), compare_openapi(old, last)
            more = list(new_to_them(now, was, [(rule, one) for rule, one, _ in found]))
            found += [(rule, one, old.name) for rule, one in more]
    return in_order(_finding(*one) for one in found if _wanted(one[0], rules))


def _wanted(rule: str, rules: Sequence[str] | None) -> bool:
    words = None if rules is None else {word.strip().upper() for word in rules}
    return words is None or rule in words or SWITCHGEAR.upper() in words


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
        witness=one.witness,
        shared=one.shared,
        reaches=(one.reaches,) if one.shared else (),
    )
