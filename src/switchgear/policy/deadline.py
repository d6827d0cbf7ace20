"""One bound for a whole call, that only ever shrinks.

A call must end by the earliest of: what its policy allows from now, what its caller asked for from
now, and what is left of the work that it is part of. An attempt must end by that, or sooner where
the policy bounds one attempt. Time is monotonic seconds; `inf` is no bound.
"""

from __future__ import annotations

from math import inf

__all__ = ["call_deadline"]


def call_deadline(
    now: float, policy: float | None, asked: float | None, inherited: float | None
) -> float:
    """Return the time by which a call that begins `now` must have ended.

    `policy` and `asked` are seconds from now, and `asked` replaces `policy`: a caller may give one
    call more time than the policy does, never more than the work it is part of has left.
    `inherited` is that: an absolute time.
    """
    allowed = policy if asked is None else asked
    deadline = inf if allowed is None else now + allowed
    return deadline if inherited is None or deadline < inherited else inherited
