"""One call under its policy, as a step machine: (now, event) in, decision out.

The order of the parts
----------------------
Written as functions around each other, outermost first:

    fallback( deadline( retry( budget, breaker( limit( attempt_timeout( attempt ))))))

deadline          is fixed when the call begins, and everything inside is clamped to it.
fallback          is outside everything: it answers when all else has failed.
retry             repeats all that is inside it: each attempt asks the breaker and the limit anew.
budget            is asked only before another attempt, never for the first.
breaker           comes before the limit: what it turns away does not queue. Its ticket is drawn
                  when the place is there, so that nobody holds a probe's place while queueing.
limit             counts attempts in flight, not calls: a call that pauses holds no place.
attempt_timeout   bounds what is in flight, not the time in the queue.

| how an attempt ends   | breaker | budget  | then                                            |
| --------------------- | ------- | ------- | ----------------------------------------------- |
| `Ok`                  | success | deposit | answered                                        |
| `Refused`             | success | deposit | refused                                         |
| `Unavailable`         | failure |         | again, as `retry.py` says, or failed            |
| `Unavailable`, local  |         |         | failed: "not now" is never retried in place     |
| `Unknown`             | failure |         | again where repeatable, or failed               |
| cancelled, or raised  |         |         | over: every permit is given back                |

What a call that failed says
----------------------------
* Doubt stays. If any attempt was `Unknown`, the call is not `Unavailable`, however the last attempt
  ended: the earlier one may have been carried out. With an idempotency key, the same goes for a
  later `Rejected` (it speaks of that one request), though not for a declared refusal.
* `attempts` says how many were made (0: turned away before the first).
* `final` is set when this layer could have retried and did not or no longer did, so that the layers
  above do not multiply what was given up here. It stays unset where the retrying is done
  above: no retry in this policy, not repeatable here, or this call is itself part of a retry.

Steps
-----
    call = machine.call(now, ...)
    step = call.begin(now)
    Attempt   make it; then step = call.ended(now, attempt, outcome)
    Wait      until `until`; then step = call.resumed(now)
    Queue     until woken or `until`; then step = call.resumed(now)
    Instead   compute the degraded answer with `function(outcome)`: the call is over
    Answer, Refused, Unavailable, Unknown: the call is over

`call.cancelled(now)` at any time ends it without a result. State that changed and calls whose turn
has come are in `machine.outbox`, for the driver to report and to wake (`machine.drain()`).
Every step is taken under the machine's lock, which is never held during an attempt.

Nearly every call succeeds at once, so that path is written out here and there where a call of a
method would do: each costs 2% of it (`benchmarks/policy.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Protocol, TypeAlias

from switchgear.model.context import Context
from switchgear.model.outcome import Ok, Outcome, Reason, Refused, Rejected, Unavailable, Unknown
from switchgear.model.signal import Signal, SignalKind
from switchgear.policy.breaker import Circuit, State
from switchgear.policy.budget import Account
from switchgear.policy.deadline import call_deadline
from switchgear.policy.fallback import NOTHING, Shelf, covers
from switchgear.policy.limit import Gate
from switchgear.policy.policy import Policy
from switchgear.policy.retry import pause, worth_retrying
from switchgear.policy.settings import seconds
from switchgear.policy.step import Answer, Attempt, Instead, Queue, Wait

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


Decision: TypeAlias = (
    Attempt | Wait | Queue | Instead | Answer[Any] | Refused | Unavailable | Unknown
)


class Machine:
    """One policy at work: the state that the calls of one edge share.

    `random` returns numbers in [0, 1). `lock` is held for each step; None suits a driver that takes
    all its steps in one thread.
    """

    __slots__ = (
        "account",
        "attempt_timeout",
        "circuit",
        "deadline",
        "gate",
        "lock",
        "name",
        "outbox",
        "policy",
        "random",
        "shelf",
    )

    def __init__(
        self,
        policy: Policy,
        *,
        name: str = "",
        random: Callable[[], float],
        lock: Lock | None = None,
    ) -> None:
        self.policy = policy
        self.name = name
        """The subject of its signals: the edge."""
        self.random = random
        self.lock: Lock = _Unlocked() if lock is None else lock
        self.outbox: list[Signal | Call] = []
        """Signals to emit and calls to wake, in order."""
        self.deadline = None if policy.deadline is None else seconds(policy.deadline)
        self.attempt_timeout = (
            math.inf if policy.attempt_timeout is None else seconds(policy.attempt_timeout)
        )
        self.circuit = (
            None if policy.breaker is None else Circuit(policy.breaker, random, self.report)
        )
        self.account = None if policy.budget is None else Account(policy.budget)
        self.gate: Gate[Call] | None = None if policy.limit is None else Gate(policy.limit)
        stale = policy.fallback.stale if policy.fallback is not None else None
        self.shelf = None if stale is None else Shelf(stale)

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

    @property
    def state(self) -> State | None:
        """What the breaker does with calls; None where there is none."""
        return None if self.circuit is None else self.circuit.state


class Call:
    """One call on its way through the policy. Feed it events; it returns decisions."""

    __slots__ = (
        "attempt",
        "cache_key",
        "deadline",
        "doubt",
        "failure",
        "granted",
        "key",
        "machine",
        "made",
        "paused",
        "queued",
        "repeatable",
        "upstream",
        "wake",
    )

    def __init__(  # noqa: PLR0917  `Machine.call` is the way in; drivers skip it for speed
        self,
        machine: Machine,
        now: float,
        repeatable: bool,  # noqa: FBT001
        key: str | None,
        context: Context | None,
        deadline: float | None,
        cache_key: Hashable,
    ) -> None:
        self.machine = machine
        self.repeatable = repeatable
        self.key = key
        self.cache_key = cache_key
        self.upstream = 1 if context is None else context.attempt
        inherited = None if context is None else context.deadline
        self.deadline = call_deadline(now, machine.deadline, deadline, inherited)
        self.made = 0
        """Attempts made so far."""
        self.attempt: Attempt | None = None
        """The attempt in flight."""
        self.doubt: Unknown | None = None
        """The last attempt of which nobody knows whether it was carried out."""
        self.failure: Unavailable | Unknown | None = None
        """How the last attempt failed."""
        self.paused = 0.0
        self.queued = False
        self.granted = False
        """Its turn in the queue has come: it holds a place."""
        self.wake: Callable[[], None] | None = None
        """How the driver wakes who waits for `granted`; set by the driver that got `Queue`."""

    def begin(self, now: float) -> Decision:
        """Event: the call begins."""
        lock = self.machine.lock
        lock.acquire()
        try:
            return self._next(now)
        finally:
            lock.release()

    def resumed(self, now: float) -> Decision:
        """Event: the pause is over, or the wait in the queue has ended either way."""
        machine = self.machine
        lock = machine.lock
        lock.acquire()
        try:
            if not self.queued:
                return self._next(now)
            self.queued = False
            if not self.granted:
                if machine.gate is not None:
                    machine.gate.abandon(self)
                return self._rejected(now, Reason.LIMIT, "waited too long for a free place")
            self.granted = False
            if now < self.deadline:
                return self._launch(now)
            self._leave(now)
            return self._rejected(now, Reason.EXPIRED, "the deadline has passed")
        finally:
            lock.release()

    def answered(self, now: float, attempt: Attempt, value: Any) -> Answer[Any]:
        """Event: an attempt was answered with `value`; the same as `ended` with `Ok(value)`."""
        machine = self.machine
        lock = machine.lock
        lock.acquire()
        try:
            # `_settle`, written out
            if self.attempt is not attempt:
                raise RuntimeError(f"{attempt!r} is not in flight: it has ended before")
            self.attempt = None
            gate, circuit, account = machine.gate, machine.circuit, machine.account
            if gate is not None:
                if gate.waiting:
                    self._leave(now)
                else:
                    gate.in_flight -= 1
            if circuit is not None and attempt.ticket is not None:
                circuit.succeeded(now, attempt.ticket, now - attempt.started)
            if account is not None:
                tally = account.tally
                if now < tally.edge:
                    tally.good += 1
                else:
                    tally.add_good(now)
            if machine.shelf is not None and self.cache_key is not None:
                machine.shelf.keep(now, self.cache_key, value)
            if self.made > 1:
                self.failure = self.doubt = None
            return Answer(value, False, None, self.made)
        finally:
            lock.release()

    def ended(self, now: float, attempt: Attempt, outcome: Outcome[Any]) -> Decision:
        """Event: an attempt ended. An attempt that overran its time is `Unknown(TIMEOUT)`."""
        if isinstance(outcome, Ok):
            return self.answered(now, attempt, outcome.value)
        lock = self.machine.lock
        lock.acquire()
        try:
            if isinstance(outcome, Refused):
                self._settle(now, attempt)
                return self._refused(now, outcome)
            self._land(now, attempt)
            return self._failed(now, attempt, outcome)
        finally:
            lock.release()

    def cancelled(self, now: float) -> None:
        """Event: the call ends without a result. Gives back what it holds; harmless when over."""
        machine = self.machine
        lock = machine.lock
        lock.acquire()
        try:
            if self.queued:
                self.queued = False
                if machine.gate is not None:
                    if self.granted:
                        self.granted = False
                        self._leave(now)
                    else:
                        machine.gate.abandon(self)
            attempt = self.attempt
            if attempt is not None:
                self.attempt = None
                if machine.circuit is not None and attempt.ticket is not None:
                    machine.circuit.released(attempt.ticket)
                self._leave(now)
        finally:
            lock.release()

    def _next(self, now: float) -> Decision:
        """Go for another attempt, or the first."""
        machine = self.machine
        if now >= self.deadline:
            return self._rejected(now, Reason.EXPIRED, "the deadline has passed")
        circuit, gate = machine.circuit, machine.gate
        if circuit is not None and circuit.standing is None and not circuit.admits(now):
            return self._rejected(now, Reason.BREAKER_OPEN, "the breaker is open")
        if gate is None or gate.enter():
            return self._launch(now)
        until = min(now + seconds(gate.settings.wait), self.deadline)
        if until > now and gate.queue(self, until):
            self.queued = True
            return Queue(until)
        if not gate.full:
            gate.full = True
            machine.report(
                SignalKind.LIMIT_REACHED,
                {"concurrency": gate.concurrency, "queue": len(gate.waiting)},
            )
        return self._rejected(now, Reason.LIMIT, f"{gate.concurrency} attempts are in flight")

    def _launch(self, now: float) -> Decision:
        """Make the attempt; a place is already held."""
        machine = self.machine
        circuit, ticket = machine.circuit, None
        if circuit is not None:
            ticket = circuit.standing or circuit.admit(now)
            if ticket is None:
                self._leave(now)
                return self._rejected(now, Reason.BREAKER_OPEN, "the breaker is open")
        self.made += 1
        deadline = now + machine.attempt_timeout
        if deadline > self.deadline:  # noqa: PLR1730  `min` costs as much as the rest of this line
            deadline = self.deadline
        attempt = self.attempt = Attempt(self, self.made, now, deadline, ticket)
        return attempt

    def _land(self, now: float, attempt: Attempt) -> None:
        """Take an attempt out of flight."""
        if self.attempt is not attempt:
            raise RuntimeError(f"{attempt!r} is not in flight: it has ended before")
        self.attempt = None
        self._leave(now)

    def _settle(self, now: float, attempt: Attempt) -> None:
        """Count an attempt that was answered, if only with a no."""
        self._land(now, attempt)
        circuit, account = self.machine.circuit, self.machine.account
        if circuit is not None and attempt.ticket is not None:
            circuit.succeeded(now, attempt.ticket, now - attempt.started)
        if account is not None:
            account.tally.add_good(now)

    def _leave(self, now: float) -> None:
        """Give the place back, and let the head of the queue have it."""
        gate = self.machine.gate
        if gate is not None:
            following = gate.leave(now)
            if following is not None:
                following.granted = True
                self.machine.outbox.append(following)

    def _failed(self, now: float, attempt: Attempt, outcome: Unavailable | Unknown) -> Decision:
        machine = self.machine
        local = isinstance(outcome, Unavailable) and outcome.local
        if machine.circuit is not None and attempt.ticket is not None:
            if local:
                machine.circuit.released(attempt.ticket)
            else:
                machine.circuit.failed(now, attempt.ticket, now - attempt.started)
        if isinstance(outcome, Unknown):
            outcome.key = outcome.key or self.key
            self.doubt = outcome
        self.failure = outcome
        wait = self._pause(now, outcome)
        if wait is None:
            return self._over(now, outcome)
        self.paused = wait
        return Wait(now + wait)

    def _pause(self, now: float, outcome: Unavailable | Unknown) -> float | None:
        """Return how long to wait before another attempt; None: there is to be none."""
        machine = self.machine
        retry = machine.policy.retry
        if (
            retry is None
            or self.upstream > 1
            or self.made >= retry.attempts
            or outcome.final
            or not worth_retrying(outcome, repeatable=self.repeatable)
            or (outcome.retry_after is not None and outcome.retry_after < 0)
        ):
            return None
        wait = pause(retry, self.made, self.paused, outcome.retry_after, machine.random)
        if now + wait >= self.deadline:
            return None
        account = machine.account
        if account is not None:
            was_empty = account.empty
            if not account.withdraw(now):
                if not was_empty:
                    machine.report(SignalKind.BUDGET_EXHAUSTED, {"balance": account.balance(now)})
                return None
        return wait

    def _rejected(self, now: float, reason: Reason, why: str) -> Decision:
        """Turn the call away on our side."""
        circuit = self.machine.circuit
        retry_after = None
        if reason is Reason.BREAKER_OPEN and circuit is not None:
            retry_after = circuit.wait(now)
        name = self.machine.name
        rejection = Unavailable(
            f"{name}: {why}" if name else why, reason=reason, retry_after=retry_after
        )
        # the failure of an attempt that was made says more than that there was no other
        if self.failure is not None:
            rejection.__cause__ = self.failure
            if reason is Reason.EXPIRED:
                return self._over(now, self.failure)
        return self._over(now, rejection)

    def _refused(self, now: float, outcome: Refused) -> Decision:
        if self.doubt is not None and self.key is not None and isinstance(outcome, Rejected):
            self.doubt.__cause__ = outcome
            return self._over(now, self.doubt)
        self.failure = self.doubt = None
        return outcome

    def _over(self, now: float, outcome: Unavailable | Unknown) -> Decision:
        """End the call as failed, unless a fallback answers."""
        machine = self.machine
        if self.doubt is not None and self.doubt is not outcome:
            if self.doubt.__cause__ is None and not isinstance(outcome, Unknown):
                self.doubt.__cause__ = outcome
            outcome = self.doubt
        # a failure's trace holds the attempt and with it this call: they would free each other late
        self.failure = self.doubt = None
        outcome.attempts = self.made
        retry = machine.policy.retry
        if (
            retry is not None
            and retry.attempts > 1
            and self.upstream == 1
            and (isinstance(outcome, Unavailable) or self.repeatable)
        ):
            outcome.final = True
        fallback = machine.policy.fallback
        query = self.repeatable and self.key is None
        if fallback is None or not covers(outcome, query=query):
            return outcome
        if machine.shelf is not None and self.cache_key is not None:
            kept = machine.shelf.find(now, self.cache_key)
            if kept is not None:
                return Answer(kept[0], True, kept[1], self.made)
        if fallback.function is not None:
            return Instead(fallback.function, outcome, self.made)
        if fallback.value is not NOTHING:
            return Answer(fallback.value, True, None, self.made)
        return outcome
