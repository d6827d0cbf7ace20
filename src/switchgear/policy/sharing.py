"""One call for many who ask the same at the same time, and what else only some calls keep.

A query whose answer is kept (`fallback.py`) looks first whether another asks the same. If so it
follows: it goes through nothing of the policy, waits within its own deadline, and ends as its
leader does. A leader that is cancelled lets its followers go; the first of them leads the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from switchgear.model.outcome import Unavailable, Unknown
from switchgear.policy.step import Attempt, Decision

if TYPE_CHECKING:
    from switchgear.policy.call import Call

__all__ = ["More", "follows", "spread", "unfollow"]


class More:
    """What only some calls keep: those whose policy has more parts than the default one."""

    __slots__ = ("followers", "heard", "leader", "noted", "rivals", "shared")

    def __init__(self, noted: float) -> None:
        self.noted = noted
        """When the call would have ended, if its deadline did more than observe."""
        self.rivals: list[Attempt] = []
        """Attempts in flight besides `Call.attempt`."""
        self.heard: list[Unavailable | Unknown] = []
        """How those ended that failed while another was in flight."""
        self.leader: Call | None = None
        """The call whose answer this one waits for."""
        self.followers: list[Call] = []
        """Calls that wait for the answer of this one."""
        self.shared: Decision | None = None
        """How the leader ended."""


def follows(call: Call, more: More) -> bool:
    """Wait for a call that asks the same; False: there is none, others wait for this one."""
    machine, shelf = call.machine, call.machine.shelf
    if (
        shelf is None
        or not shelf.settings.single_flight
        or call.cache_key is None
        or not (call.repeatable and call.key is None)
        or machine.policy.observes("fallback")
    ):
        return False
    leader = shelf.flights.get(call.cache_key)
    if leader is None or leader.more is None:
        shelf.flights[call.cache_key] = call
        return False
    more.leader = leader
    leader.more.followers.append(call)
    return True


def unfollow(call: Call, more: More) -> None:
    """Wait no longer for a call that asks the same."""
    leader, more.leader = more.leader, None
    if leader is not None and leader.more is not None and call in leader.more.followers:
        leader.more.followers.remove(call)


def spread(call: Call, more: More, end: Decision | None) -> None:
    """Tell those who wait for this call how it ended; None: it was cancelled."""
    shelf = call.machine.shelf
    if shelf is not None and shelf.flights.get(call.cache_key) is call:
        del shelf.flights[call.cache_key]
    for follower in more.followers:
        if follower.more is not None:
            follower.more.shared = end
            call.machine.wake(follower)
    more.followers.clear()
