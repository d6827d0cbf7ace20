"""The parts of one policy, composed, and the state that the calls of an edge share.

The order of the parts
----------------------
Written as functions around each other, outermost first:

    fallback( deadline( retry( budget, hedge(
        throttle( breaker( limit( attempt_timeout( attempt ))))))))

deadline          is fixed when the call begins, and everything inside is clamped to it.
fallback          is outside everything: it answers when all else has failed. So is its cache's
                  single flight: a call that shares another's answer goes through nothing else.
retry             repeats all that is inside it: each attempt asks the breaker and the limit anew.
budget            is asked only before another attempt, a rival included, never for the first.
hedge             sends a rival beside an attempt that is late; the first answer wins.
throttle          comes first of what turns an attempt away, and what it turns away is no failure.
breaker           comes before the limit: what it turns away does not queue. Its ticket is drawn
                  when the place is there, so that nobody holds a probe's place while queueing.
limit             counts attempts in flight, not calls: a call that pauses holds no place.
attempt_timeout   bounds what is in flight, not the time in the queue.

| how an attempt ends   | breaker | budget  | then                                            |
| --------------------- | ------- | ------- | ----------------------------------------------- |
| `Ok`                  | success | deposit | answered                                        |
| `Refused`             | success | deposit | refused                                         |
| `Unavailable`         | failure | failure | again, as `retry.py` says, or failed            |
| `Unavailable`, local  |         |         | failed: "not now" is never retried in place     |
| `Unknown`             | failure | failure | again where repeatable, or failed               |
| cancelled, or raised  |         |         | over: every permit is given back                |

What a part that only observes does
-----------------------------------
A part named in `Policy.observe` decides as always, changes nothing, and reports each time what it
would have done (`policy.observed`): a call past its deadline goes on, a failure is not retried and
not replaced, nobody queues or is turned away. An observing retry pays from the budget as if it had
been made, so that the figures are those to expect.

What another policy takes over
------------------------------
`reload` gives the machine another policy while calls run. Every part that both policies have goes
on from where it is: the breaker's state and evidence, the budget's balance, the places taken and
the queue, the kept answers, the measured durations. Calls under way keep their deadline.

The machine emits nothing and wakes nobody: signals, and calls whose turn has come, are in
`machine.outbox` for the driver (`drain()`). What one call does, step by step, is in `call.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from typing import Protocol

from switchgear.model.context import Context
from switchgear.model.signal import Signal, SignalKind
from switchgear.policy.breaker import Circuit, State
from switchgear.policy.budget import Purse, account
from switchgear.policy.call import Call
from switchgear.policy.fallback import Shelf
from switchgear.policy.hedge import Pacer
from switchgear.policy.limit import Gate
from switchgear.policy.policy import Part, Policy
from switchgear.policy.settings import seconds
from switchgear.policy.step import Answer, Attempt, Decision, Instead, Queue, Wait
from switchgear.policy.throttle import Throttling

__all__ = [
    "Answer",
    "Attempt",
    "Call",
    "Decision",
    "Instead",
    "Lock",
    "Machine",
    "Queue",
    "Wait",
]


class Lock(Protocol):
    """What the machine needs of a lock; `threading.Lock` is one."""

    def acquire(self) -> object:
        """Take it, waiting for it if need be."""

    def release(self) -> None:
        """Give it back."""


class _Unlocked:
    """No lock: for drivers that take all their steps in one thread."""

    def acquire(self) -> None:
        pass

    def release(self) -> None:
        pass


class Machine:
    """One policy at work: the state that the calls of one edge share.

    `random` returns numbers in [0, 1). `lock` is held for each step; None suits a driver that takes
    all its steps in one thread. Edges that share one budget are `shared`, and given its `purse`
    (None where the policy has no budget): they need one lock too.
    """

    __slots__ = (
        "account",
        "attempt_timeout",
        "circuit",
        "deadline",
        "gate",
        "generations",
        "lock",
        "more",
        "name",
        "noted",
        "outbox",
        "pacer",
        "policy",
        "random",
        "shared",
        "shelf",
        "throttling",
    )

    def __init__(
        self,
        policy: Policy,
        *,
        name: str = "",
        random: Callable[[], float],
        lock: Lock | None = None,
        shared: bool = False,
        purse: Purse | None = None,
    ) -> None:
        self.name = name
        """The subject of its signals: the edge."""
        self.random = random
        self.lock: Lock = _Unlocked() if lock is None else lock
        self.outbox: list[Signal | Call] = []
        """Signals to emit and calls to wake, in order."""
        self.circuit: Circuit | None = None
        self.generations = 0
        """Those of tickets from here on are free: a breaker that was taken out drew the others."""
        self.account: Purse | None = purse
        self.shared = shared
        """Whether the account is another machine's too."""
        self.gate: Gate[Call] = Gate(policy.limit)
        self.pacer: Pacer | None = None
        self.throttling: Throttling | None = None
        self.shelf: Shelf[Call] | None = None
        self._take(0.0, policy)

    def call(
        self,
        now: float,
        *,
        repeatable: bool,
        key: str | None = None,
        context: Context | None = None,
        deadline: float | None = None,
        cache_key: Hashable = None,
    ) -> Call:
        """Begin one call; see `Call`.

        repeatable: a query, or a command that is sent with an idempotency `key`.
        context: what the call inherits; its deadline bounds it and its attempt stops retries.
        deadline: seconds from now, instead of the policy's; never beyond the context's.
        cache_key: under which its answer is kept for a stale fallback; None: not kept.
        """
        return Call(self, now, repeatable, key, context, deadline, cache_key)

    def reload(self, now: float, policy: Policy, *, purse: Purse | None = None) -> None:
        """Go on under another policy, with the state that there is.

        purse: of edges that share a budget, the account for the new policy.
        """
        lock = self.lock
        lock.acquire()
        try:
            if self.shared:
                self.account = purse
            self._take(now, policy)
            while (call := self.gate.next(now)) is not None:
                self.wake(call)
            self.report(SignalKind.POLICY_RELOADED, {})
        finally:
            lock.release()

    def drain(self) -> list[Signal | Call]:
        """Take what is in the outbox."""
        lock = self.lock
        lock.acquire()
        try:
            taken, self.outbox = self.outbox, []
            return taken
        finally:
            lock.release()

    def report(
        self, kind: SignalKind, detail: Mapping[str, str | int | float | bool | None]
    ) -> None:
        """Put a signal about this edge into the outbox."""
        self.outbox.append(Signal(kind, self.name, detail))

    def observes(self, part: Part, detail: Mapping[str, str | int | float | bool | None]) -> bool:
        """Tell whether a part only observes; if so, report what it would have done."""
        if not self.policy.observe or not self.policy.observes(part):
            return False
        self.report(SignalKind.POLICY_OBSERVED, {"part": part, **detail})
        return True

    def wake(self, call: Call) -> None:
        """Tell a call in a queue that its wait is over."""
        call.granted = True
        self.outbox.append(call)

    @property
    def state(self) -> State | None:
        """What the breaker does with calls; None where there is none."""
        return None if self.circuit is None else self.circuit.state

    def _take(self, now: float, policy: Policy) -> None:
        """Set up every part for a policy; what is there goes over."""
        self.policy = policy
        observed = policy.observes
        self.deadline: float | None = None
        if policy.deadline is not None and not observed("deadline"):
            self.deadline = seconds(policy.deadline)
        self.attempt_timeout = math.inf
        if policy.attempt_timeout is not None and not observed("attempt_timeout"):
            self.attempt_timeout = seconds(policy.attempt_timeout)
        if policy.breaker is None:
            if self.circuit is not None:
                self.generations = self.circuit.generation + 1
            self.circuit = None
        elif self.circuit is None:
            self.circuit = Circuit(
                policy.breaker,
                self.random,
                self.report,
                observe=observed("breaker"),
                generation=self.generations,
            )
        else:
            self.circuit.reload(now, policy.breaker, observe=observed("breaker"))
        if policy.budget is None:
            self.account = None
        elif not self.shared:
            self.account = account(policy.budget, self.account)
        self.gate.reload(policy.limit)
        self.pacer = None if policy.hedge is None else Pacer(policy.hedge, self.pacer)
        throttle = policy.throttle
        self.throttling = None if throttle is None else Throttling(throttle, self.throttling)
        stale = policy.fallback.stale if policy.fallback is not None else None
        self.shelf = None if stale is None else Shelf(stale, self.shelf)
        self.more = bool(policy.observe) or any(
            part is not None
            for part in (self.pacer, self.throttling, self.shelf, self.gate.estimator)
        )
        """Whether calls keep more than those of the default policy: see `call.More`."""
        self.noted = math.inf
        """How long a call may take, if the deadline did more than observe."""
        if policy.deadline is not None and observed("deadline"):
            self.noted = seconds(policy.deadline)
