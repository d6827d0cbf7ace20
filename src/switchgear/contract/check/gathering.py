"""A change of a shared schema is told once, with all that it reaches.

Each operation whose request or answer holds the schema is broken by itself, has consumers of its
own and may be waived by itself. What is left then, and says the same of the same place in the
schema, is one finding: it is called by the schema, and lists where it is met.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from switchgear.contract.check.finding import Finding, Severity, in_order

__all__ = ["gathered"]

_TOLD: Final = 5
"""Places that a message names; `reaches` lists them all."""


def gathered(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings, those of one change of a shared schema as one."""
    groups: dict[object, list[Finding]] = {}
    for one in findings:
        key: object = one
        if one.shared:
            key = (one.rule, one.path, one.line, one.column, one.shared, one.told, one.against)
        groups.setdefault(key, []).append(one)
    return in_order(_one(group) for group in groups.values())


def _one(group: Sequence[Finding]) -> Finding:
    first = group[0]
    reaches = tuple(dict.fromkeys(name for one in group for name in one.reaches))
    if len(reaches) <= 1:
        return first
    named = first.told != first.message
    message = f"{first.shared}{first.told}" if named else first.message
    listed = ", ".join(reaches[:_TOLD])
    more = f" and {len(reaches) - _TOLD} more" if len(reaches) > _TOLD else ""
    errors = [one for one in group if one.severity is Severity.ERROR] or list(group)
    return replace(
        first,
        message=f"{message} It reaches {listed}{more}.",
        severity=errors[0].severity,
        breaks="; ".join(dict.fromkeys(one.breaks for one in errors)),
        subject=first.shared,
        witness=next((one.witness for one in errors if one.witness), ""),
        reaches=reaches,
    )
