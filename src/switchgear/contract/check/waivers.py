"""Waivers: a finding that somebody has decided to live with, until a day that is written down.

    [[waiver]]
    rule = "FIELD_RENAMED"
    subject = "shop.v1.Order.price"
    reason = "No caller has been released yet."
    expires = 2026-12-31

A waiver is for one finding: that of its rule about its subject, which may be what operations share
(`Money.amount`) or one of them. On the day after `expires` the
finding counts again. A waiver that has expired, and one that nothing is found for, are findings
themselves, so that the file holds nothing that is not needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Final

from switchgear.contract.check.finding import Finding, Severity, in_order
from switchgear.contract.check.tables import read_tables
from switchgear.errors import UnreadableContract

__all__ = ["Waiver", "read_waivers", "waived"]

_READERS: Final = "whoever reads the file of waivers"
_KEYS: Final = {"rule", "subject", "reason", "expires"}


@dataclass(frozen=True, slots=True)
class Waiver:
    """One finding that does not count until a day has passed."""

    rule: str
    subject: str
    reason: str
    expires: date
    path: str
    line: int


def read_waivers(path: Path) -> list[Waiver]:
    """Read a file of waivers; raises `UnreadableContract` for one that lacks a reason or a day."""
    found = []
    for line, table in read_tables(path, "waiver"):
        where = f"{path.as_posix()}:{line}"
        texts = [table.get(key) for key in ("rule", "subject", "reason")]
        expires = table.get("expires")
        if set(table) != _KEYS or not all(isinstance(one, str) and one.strip() for one in texts):
            raise UnreadableContract(
                "A waiver has a rule, a subject, a reason and a day on which it expires.",
                where=where,
                fix='Write rule = "...", subject = "...", reason = "..." and expires = 2026-12-31.',
            )
        if not isinstance(expires, date) or isinstance(expires, datetime):
            raise UnreadableContract(
                "`expires` is not a day.", where=where, fix="Write expires = 2026-12-31."
            )
        rule, subject, reason = (str(one) for one in texts)
        found.append(Waiver(rule, subject, reason, expires, path.as_posix(), line))
    return found


def waived(findings: Sequence[Finding], waivers: Sequence[Waiver], today: date) -> list[Finding]:
    """Return what counts: findings without a waiver, and waivers that are not needed."""
    left = list(findings)
    told: list[Finding] = []
    for waiver in waivers:
        matches = _matches(waiver, left)
        if not matches:
            told.append(
                _told(waiver, "WAIVER_UNUSED", "is for nothing that is found", "Delete it.")
            )
        elif waiver.expires < today:
            what = f"expired on {waiver.expires}"
            edit = (
                f"Make the change safe ({matches[0].edit}), or decide anew until when it may stand."
            )
            told.append(_told(waiver, "WAIVER_EXPIRED", what, edit))
        else:
            left = [one for one in left if one not in matches]
    return in_order([*left, *told])


def _matches(waiver: Waiver, findings: Sequence[Finding]) -> list[Finding]:
    """Return the one finding that a waiver is for; of a shared schema, wherever that reaches."""
    of_rule = [one for one in findings if one.rule == waiver.rule]
    exact = [one for one in of_rule if one.subject == waiver.subject]
    shared = [one for one in of_rule if one.shared == waiver.subject]
    of_one = [(one.path, one.told) for one in shared]
    return exact[:1] or [one for one, key in zip(shared, of_one, strict=True) if key == of_one[0]]


def _told(waiver: Waiver, rule: str, what: str, edit: str) -> Finding:
    return Finding(
        path=waiver.path,
        line=waiver.line,
        column=1,
        rule=rule,
        message=f"The waiver of {waiver.rule} for {waiver.subject} {what}.",
        edit=edit,
        severity=Severity.ERROR,
        breaks=_READERS,
        subject=waiver.subject,
    )
