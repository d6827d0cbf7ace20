"""What a new version does to those who still have a version before the version before.

Every old version is compared rule by rule, so that a change in two steps is found which no single
step shows: a unit that one version stops to declare and the next declares otherwise. But a break
that the version before made was told when it was made, and a project lives with it: it is not told
again for every release after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from switchgear.contract.check.finding import Found, Severity

__all__ = ["new_to_them"]


def new_to_them(
    found: Sequence[tuple[str, Found]],
    was: Iterable[tuple[str, Found]],
    told: Iterable[tuple[str, Found]],
) -> Iterator[tuple[str, Found]]:
    """Yield what is `found` against an earlier version, and is news to its users.

    `was` is what the version before had done to them already, and `told` what has been told of the
    new version: neither is told again, by rule and subject. A warning does not stand for an error.
    """
    known = {(rule, one.subject) for rule, one in told}
    done = {(rule, one.subject, one.severity) for rule, one in was}
    for rule, one in found:
        hit = (rule, one.subject)
        if hit in known or (*hit, Severity.ERROR) in done or (*hit, one.severity) in done:
            continue
        yield rule, one
