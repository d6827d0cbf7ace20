"""`switchgear contract check`: what changed in a contract, and whom it breaks."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from switchgear.contract.check.check import check
from switchgear.contract.check.consumers import concerning, read_consumers
from switchgear.contract.check.finding import Severity
from switchgear.contract.check.gathering import gathered
from switchgear.contract.check.report import FORMATS, summary
from switchgear.contract.check.waivers import read_waivers, waived
from switchgear.errors import ConfigError, UnreadableContract

__all__ = ["run"]


def run(
    new: str,
    against: Sequence[str],
    *,
    rules: Sequence[str],
    form: str,
    compatibility: str,
    history: Path | None,
    consumers: Sequence[Path],
    waivers: Path | None,
    errors_only: bool,
    allow_refs: Sequence[str],
) -> int:
    """Print what is found; return 0 for nothing, 1 for findings, 2 for unusable input."""
    if form not in FORMATS:
        raise ConfigError(
            f"{form!r} is not a format.", where="--format", fix=f"Use one of {', '.join(FORMATS)}."
        )
    words = [word for given in rules for word in given.split(",") if word.strip()]
    try:
        with _uncollected():
            findings = check(
                new,
                against,
                rules=words or None,
                compatibility=compatibility,
                history=history,
                allow_refs=allow_refs,
            )
        readers = [one for path in consumers for one in read_consumers(path)]
        findings = concerning(findings, readers)
        if waivers is not None:
            findings = waived(findings, read_waivers(waivers), datetime.now(UTC).date())
    except UnreadableContract as error:
        for one in error.diagnostics:
            print(f"{one.path}:{one.line}:{one.column}: {one.what}", file=sys.stderr)
        raise
    findings = gathered(findings)
    for line in FORMATS[form](findings):
        print(line)
    if form == "text":
        print(f"{summary(findings)}.")
    failing = [one for one in findings if not errors_only or one.severity is Severity.ERROR]
    return 1 if failing else 0


@contextmanager
def _uncollected() -> Iterator[None]:
    """Leave garbage alone: a large tree is many objects and next to no rings of them.

    Looking for rings takes a fifth of the time, and the process ends soon.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
