"""Findings as text, as JSON lines, or as annotations of GitHub."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Final

import msgspec

from switchgear.contract.check.finding import Finding, Severity

__all__ = ["FORMATS", "summary"]


def _text(findings: Iterable[Finding]) -> Iterator[str]:
    for one in findings:
        yield f"{one.path}:{one.line}:{one.column}: {one.severity} {one.rule}: {one.message}"
        yield f"    do:     {one.edit}"
        yield f"    breaks: {one.breaks}"
        if one.witness:
            yield f"    shown:  {one.witness}"
        if one.also:
            yield f"    also:   {', '.join(one.also)}"
        if one.against:
            yield f"    since:  {one.against}"


def _json(findings: Iterable[Finding]) -> Iterator[str]:
    for one in findings:
        yield msgspec.json.encode(asdict(one)).decode()


def _github(findings: Iterable[Finding]) -> Iterator[str]:
    """Workflow commands, as GitHub Actions reads them from a log."""
    for one in findings:
        told = f"{one.message} {one.edit}"
        if one.witness:
            told += f" ({one.witness})"
        place = f"file={_property(one.path)},line={one.line},col={one.column}"
        yield f"::{one.severity} {place},title={_property(one.rule)}::{_data(told)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


FORMATS: Final[Mapping[str, Callable[[Iterable[Finding]], Iterator[str]]]] = {
    "text": _text,
    "json": _json,
    "github": _github,
}
"""How findings are printed, by the word for it."""


def summary(findings: Sequence[Finding]) -> str:
    """Return how many there are, in words."""
    count = Counter(one.severity for one in findings)
    told = [
        f"{count[kind]} {kind}{'' if count[kind] == 1 else 's'}" for kind in Severity if count[kind]
    ]
    return ", ".join(told) or "Nothing found"
