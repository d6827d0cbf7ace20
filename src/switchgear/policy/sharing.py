"""One call for many who ask the same at the same time, and what else only some calls keep.

A query whose answer is kept (`fallback.py`) looks first whether another asks the same. If so it
follows: it goes through nothing of the policy, waits within its own deadline, and ends as its
leader does. A leader that is cancelled lets its followers go; the first of them leads the others.

A leader that failed, or was answered by a fallback, does not speak for who could have done more: a
call that has more time left than the leader had in all, or that may retry where the leader, itself
part of a retry, could not. They ask again, the first of them for the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from switchgear.model.outcome import Refused, Unavailable, Unknown, twin
from switchgear.policy.step import Answer, Attempt, Decision, Instead

if TYPE_CHECKING:
    from switchgear.policy.call import Call

__all__ = ["More", "follows", "spread", "unfollow"]


class More:
    """What only some calls keep: those whose policy has more parts than the default one."""

    __slots__ = ("followers", "heard", "leader", "noted", "rivals", "shared", "time")

    def __init__(self, time: float, noted: float) -> None:
        self.time = time
        """How many seconds the call had in all."""
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
        """How this call is to end, since its leader did; None: it asks for itself."""


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


def spread(now: float, call: Call, more: More, end: Decision | None) -> None:
    """Tell those who wait for this call how it ended; None: it was cancelled."""
    shelf = call.machine.shelf
    if shelf is not None and shelf.flights.get(call.cache_key) is call:
        del shelf.flights[call.cache_key]
    for follower in more.followers:
        if follower.more is not None:
            bound = call.upstream > follower.upstream or follower.deadline - now > more.time
            follower.more.shared = None if bound and _failed(end) else _copied(end)
            call.machine.wake(follower)
    more.followers.clear()


def _failed(end: Decision | None) -> bool:
    return not (isinstance(end, Refused) or (isinstance(end, Answer) and not end.degraded))


def _copied(end: Decision | None) -> Decision | None:
    """Return the same end for another call: what it is raised with is its own."""
    if isinstance(end, Answer):
        return Answer(end.value, end.degraded, end.age, end.attempts)
    if isinstance(end, Instead):
        return Instead(end.function, twin(end.outcome), end.attempts)
    return twin(end) if isinstance(end, Refused | Unavailable | Unknown) else None
