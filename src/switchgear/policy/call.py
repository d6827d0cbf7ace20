"""One call under its policy, as a step machine: (now, event) in, decision out.

Steps
-----
    call = machine.call(now, ...)
    step = call.begin(now)
    Attempt   make it; then step = call.ended(now, attempt, outcome)
    Wait      until `until`; then step = call.resumed(now)
    Queue     until woken or `until`; then step = call.resumed(now)
    Instead   compute the degraded answer with `function(outcome)`: the call is over
    Answer, Refused, Unavailable, Unknown: the call is over

`call.cancelled(now)` at any time ends it without a result. `call.broke(now, ...)` tells of a stream
that failed after the answer that its beginning was. Every step is taken under the machine's
lock, which is never held during an attempt.

Rivals
------
An attempt has a time `hedge_at`, usually infinite. If it is still in flight then, the driver tells
`call.hedge(now)`, which may decide a further Attempt beside it; if that cannot be made, the driver
tells `call.unsent(now, attempt)`. From then on `ended` may decide an attempt that is already in
flight: go on waiting for that one. When the call is over, each attempt still in flight has lost:
the driver cancels it and, once it has ended, tells `call.lost(now, attempt)`, which gives its place
back.

What a call that failed says
----------------------------
* Doubt stays. If any attempt was `Unknown`, the call is not `Unavailable`, however the last attempt
  ended: the earlier one may have been carried out. With an idempotency key, the same goes for a
  later `Rejected` (it speaks of that one request), though not for a declared refusal.
* `attempts` says how many were made (0: turned away before the first).
* `final` is set when this layer could have retried and did not or no longer did, so that the layers
  above do not multiply what was given up here. It stays unset where the retrying is done
  above: no retry in this policy, not repeatable here, or this call is itself part of a retry.

Nearly every call succeeds at once, so that path is written out here and there where a call of a
method would do: each costs 2% of it (`benchmarks/policy.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from math import inf
from typing import TYPE_CHECKING, Any, Final

from switchgear.model.context import Context
from switchgear.model.outcome import (
    Ok,
    Outcome,
    Reason,
    Refused,
    Rejected,
    Unavailable,
    Unknown,
)
from switchgear.model.signal import SignalKind
from switchgear.policy.another import pause_after, rival_due, takes_rival
from switchgear.policy.deadline import call_deadline
from switchgear.policy.fallback import NOTHING, covers
from switchgear.policy.settings import seconds
from switchgear.policy.sharing import More, follows, spread, unfollow
from switchgear.policy.step import Answer, Attempt, Decision, Hedgeable, Instead, Queue, Wait

if TYPE_CHECKING:
    from switchgear.policy.breaker import Ticket
    from switchgear.policy.machine import Machine
    from switchgear.policy.throttle import Throttling

__all__ = ["Call"]


_OVERLOADED: Final = frozenset({Reason.TIMEOUT, Reason.NOT_EXECUTED})
"""Ends of an attempt by which a callee says that it has too much."""


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
        "more",
        "paused",
        "queued",
        "repeatable",
        "until",
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
        """The attempt in flight; of several, the latest."""
        self.doubt: Unknown | None = None
        """The last attempt of which nobody knows whether it was carried out."""
        self.failure: Unavailable | Unknown | None = None
        """How the last attempt failed."""
        self.paused = 0.0
        self.queued = False
        self.granted = False
        """It need not wait any longer: it holds a place, or its leader has ended."""
        self.until = 0.0
        """Until when it waits to be woken."""
        self.wake: Callable[[], None] | None = None
        """How the driver wakes who waits for `granted`; set by the driver that got `Queue`."""
        self.more: More | None = None
        if machine.more:
            self.more = More(self.deadline - now, now + machine.noted)

    def flies(self, attempt: Attempt) -> bool:
        """Tell whether an attempt is in flight."""
        return attempt is self.attempt or (self.more is not None and attempt in self.more.rivals)

    def begin(self, now: float) -> Decision:
        """Event: the call begins."""
        lock = self.machine.lock
        lock.acquire()
        try:
            if self.more is not None and follows(self, self.more):
                return self._wait(self.deadline)
            return self._next(now)
        finally:
            lock.release()

    def resumed(self, now: float) -> Decision:
        """Event: the pause is over, or the wait in the queue has ended either way."""
        machine = self.machine
        lock = machine.lock
        lock.acquire()
        try:
            if (self.queued or self._following) and not self.granted and now < self.until:
                # woken for a wait that was over already
                return Queue(self.until)
            if self.more is not None and self.more.leader is not None:
                return self._shared(now, self.more)
            if not self.queued:
                return self._next(now)
            self.queued = False
            if not self.granted:
                machine.gate.abandon(self)
                return self._rejected(now, Reason.LIMIT, "waited too long for a free place")
            self.granted = False
            if now < self.deadline:
                return self._launch(now)
            self._leave(now)
            return self._rejected(now, Reason.EXPIRED, "the deadline has passed")
        finally:
            lock.release()

    def hedge(self, now: float) -> Attempt | None:
        """Event: an attempt is in flight at its `hedge_at`. Return a rival for it, or None."""
        lock = self.machine.lock
        lock.acquire()
        try:
            more, late, circuit = self.more, self.attempt, self.machine.circuit
            if more is None or late is None or now >= self.deadline:
                return None
            if not takes_rival(self, now, more, late):
                return None
            more.rivals.append(late)
            return self._made(now, None if circuit is None else circuit.standing)
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
                self._first(attempt)
            self.attempt = None
            gate, circuit, account = machine.gate, machine.circuit, machine.account
            if gate.waiting:
                self._leave(now)
            else:
                gate.in_flight -= 1
            if circuit is not None and attempt.ticket is not None:
                circuit.succeeded(now, attempt.ticket, now - attempt.started)
            if account is not None:
                tally = account.tally
                if tally is None:
                    self._deposit(now, attempt)
                elif now < tally.edge:
                    tally.good += 1
                else:
                    tally.add_good(now)
            if self.made > 1:
                self.failure = self.doubt = None
            answer = Answer(value, False, None, self.made)
            if self.more is not None:
                self._well(now, self.more, attempt, answer)
            return answer
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

    def broke(
        self, now: float, attempt: Attempt, answered: float, failure: Unavailable | Unknown
    ) -> None:
        """Event: what `attempt` was answered with at `answered`, a stream, has failed after all.

        The call is over, and nothing is decided: nobody repeats the rest of a stream. Breaker and
        budget count the failure.
        """
        machine = self.machine
        if isinstance(failure, Unavailable) and failure.local:
            return
        lock = machine.lock
        lock.acquire()
        try:
            if machine.circuit is not None and attempt.ticket is not None:
                machine.circuit.broke(now, attempt.ticket, answered)
            if machine.account is not None:
                machine.account.failed()
        finally:
            lock.release()

    def lost(self, now: float, attempt: Attempt) -> None:
        """Event: an attempt that lost to its rival has ended, by now or by itself."""
        lock = self.machine.lock
        lock.acquire()
        try:
            if self.more is not None and attempt in self.more.rivals:
                self.more.rivals.remove(attempt)
                self._drop(now, attempt)
                if self.machine.pacer is not None:
                    self.machine.pacer.measured(now, now - attempt.started)
        finally:
            lock.release()

    def unsent(self, now: float, attempt: Attempt) -> None:
        """Event: a rival that was decided could not be sent. It is as if it had not been."""
        lock = self.machine.lock
        lock.acquire()
        try:
            if self.more is not None and attempt is self.attempt:
                self.attempt = self.more.rivals.pop()
                self.made -= 1
                self._drop(now, attempt)
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
                if self.granted:
                    self.granted = False
                    self._leave(now)
                else:
                    machine.gate.abandon(self)
            attempt, self.attempt = self.attempt, None
            if attempt is not None:
                self._drop(now, attempt)
            more = self.more
            if more is not None:
                while more.rivals:
                    self._drop(now, more.rivals.pop())
                unfollow(self, more)
                self._closed(now, more, None)
        finally:
            lock.release()

    @property
    def _following(self) -> bool:
        return self.more is not None and self.more.leader is not None

    def _wait(self, until: float) -> Queue:
        self.until = until
        return Queue(until)

    def _next(self, now: float) -> Decision:  # noqa: PLR0911  one for each part that may say no
        """Go for another attempt, or the first."""
        machine = self.machine
        if now >= self.deadline:
            return self._rejected(now, Reason.EXPIRED, "the deadline has passed")
        throttling, circuit, gate = machine.throttling, machine.circuit, machine.gate
        if throttling is not None and not throttling.standing and not self._sent(now, throttling):
            return self._rejected(now, Reason.THROTTLED, "the callee has more than it takes on")
        if circuit is not None and circuit.standing is None and not circuit.admits(now):
            return self._rejected(now, Reason.BREAKER_OPEN, "the breaker is open")
        if gate.enter():
            return self._launch(now)
        detail = {"concurrency": gate.concurrency, "queue": len(gate.waiting)}
        if machine.observes("limit", detail):
            gate.in_flight += 1
            return self._launch(now)
        until = min(now + gate.patience, self.deadline)
        if until > now and gate.queue(self, until):
            self.queued = True
            return self._wait(until)
        if not gate.full:
            gate.full = True
            machine.report(SignalKind.LIMIT_REACHED, detail)
        return self._rejected(now, Reason.LIMIT, f"{gate.concurrency} attempts are in flight")

    def _sent(self, now: float, throttling: Throttling) -> bool:
        """Ask the throttle; True: the attempt is to be sent."""
        was_active, machine = throttling.active, self.machine
        if machine.policy.observes("throttle"):
            share = throttling.share(now)
            if machine.random() < share:
                machine.observes("throttle", {"share": share})
            return True
        sent = throttling.admit(now, machine.random)
        if throttling.active and not was_active:
            machine.report(SignalKind.THROTTLE_ACTIVE, {"share": throttling.share(now)})
        return sent

    def _launch(self, now: float) -> Decision:
        """Make the attempt; a place is already held."""
        machine = self.machine
        circuit, ticket = machine.circuit, None
        if circuit is not None:
            ticket = circuit.standing or circuit.admit(now)
            if ticket is None:
                self._leave(now)
                return self._rejected(now, Reason.BREAKER_OPEN, "the breaker is open")
        return self._made(now, ticket)

    def _made(self, now: float, ticket: Ticket | None) -> Attempt:
        machine = self.machine
        self.made += 1
        deadline = now + machine.attempt_timeout
        if deadline > self.deadline:  # noqa: PLR1730  `min` costs as much as the rest of this line
            deadline = self.deadline
        due = inf
        if machine.pacer is not None and self.more is not None:
            due = rival_due(self, now, deadline, self.more)
        if due == inf:
            attempt = Attempt(self, self.made, now, deadline, ticket)
        else:
            attempt = Hedgeable(self, self.made, now, deadline, ticket)
            attempt.hedge_at = due
        self.attempt = attempt
        return attempt

    # an attempt ends

    def _first(self, attempt: Attempt) -> None:
        """Let `attempt` be the one that the call goes on with; what was that is its rival now."""
        rivals = () if self.more is None else self.more.rivals
        if self.more is None or attempt not in rivals:
            raise RuntimeError(f"{attempt!r} is not in flight: it has ended before")
        self.more.rivals.remove(attempt)
        if self.attempt is not None:
            self.more.rivals.append(self.attempt)
        self.attempt = attempt

    def _land(self, now: float, attempt: Attempt) -> None:
        """Take an attempt out of flight."""
        if self.attempt is not attempt:
            self._first(attempt)
        self.attempt = None
        self._leave(now)

    def _settle(self, now: float, attempt: Attempt) -> None:
        """Count an attempt that was answered, if only with a no."""
        self._land(now, attempt)
        circuit, account = self.machine.circuit, self.machine.account
        if circuit is not None and attempt.ticket is not None:
            circuit.succeeded(now, attempt.ticket, now - attempt.started)
        if account is not None:
            self._deposit(now, attempt)
        if self.more is not None:
            self._learn(now, attempt, None)

    def _deposit(self, now: float, attempt: Attempt) -> None:
        account, before = self.machine.account, self.failure
        if account is not None:
            timed_out = before is not None and before.reason is Reason.TIMEOUT
            account.succeeded(now, retried=attempt.number > 1, timed_out=timed_out)

    def _drop(self, now: float, attempt: Attempt) -> None:
        """Take back what an attempt without a result holds."""
        self._overran(now, attempt)
        if self.machine.circuit is not None and attempt.ticket is not None:
            self.machine.circuit.released(attempt.ticket)
        self._leave(now)

    def _leave(self, now: float) -> None:
        """Give the place back, and let the head of the queue have it."""
        following = self.machine.gate.leave(now)
        if following is not None:
            self.machine.wake(following)

    def _well(self, now: float, more: More, attempt: Attempt, answer: Answer[Any]) -> None:
        """Do what only some policies ask for when a call is answered."""
        machine = self.machine
        self._learn(now, attempt, None)
        if machine.shelf is not None and self.cache_key is not None:
            machine.shelf.keep(now, self.cache_key, answer.value)
        self._closed(now, more, answer)

    def _learn(self, now: float, attempt: Attempt, failure: Unavailable | Unknown | None) -> None:
        """Tell the parts that learn how an attempt ended; None: it was answered."""
        machine, took = self.machine, now - attempt.started
        self._overran(now, attempt)
        if machine.pacer is not None and failure is None:
            machine.pacer.measured(now, took)
        if machine.throttling is not None:
            (machine.throttling.accepted if failure is None else machine.throttling.turned_away)(
                now
            )
        gate = machine.gate
        # a lost connection or a broken callee says nothing about how many are too many
        if gate.estimator is not None and (failure is None or failure.reason in _OVERLOADED):
            gate.learn(now, took, overloaded=failure is not None)
            while (following := gate.next(now)) is not None:
                machine.wake(following)

    def _overran(self, now: float, attempt: Attempt) -> None:
        """Report an attempt that took longer than a timeout which only observes."""
        timeout, took = self.machine.policy.attempt_timeout, now - attempt.started
        if timeout is not None and took > seconds(timeout):
            self.machine.observes("attempt_timeout", {"seconds": took})

    def _failed(self, now: float, attempt: Attempt, outcome: Unavailable | Unknown) -> Decision:
        machine = self.machine
        local = isinstance(outcome, Unavailable) and outcome.local
        if machine.circuit is not None and attempt.ticket is not None:
            if local:
                machine.circuit.released(attempt.ticket)
            else:
                machine.circuit.failed(now, attempt.ticket, now - attempt.started)
        if not local:
            if machine.account is not None:
                machine.account.failed()
            if self.more is not None:
                self._learn(now, attempt, outcome)
        if isinstance(outcome, Unknown):
            outcome.key = outcome.key or self.key
            self.doubt = outcome
        self.failure = outcome
        if self.more is not None and self.more.rivals:
            self.more.heard.append(outcome)
            self.attempt = self.more.rivals.pop()
            return self.attempt
        wait = pause_after(self, now, outcome)
        if wait is None:
            return self._over(now, outcome)
        self.paused = wait
        return Wait(now + wait)

    # the call ends without an answer

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
        more = self.more
        if more is not None:
            if more.rivals and self.key is not None and isinstance(outcome, Rejected):
                # it speaks of that one request: the other may be carrying the command out
                self.attempt = more.rivals.pop()
                return self.attempt
            self._closed(now, more, outcome)
        self.failure = self.doubt = None
        return outcome

    def _over(self, now: float, outcome: Unavailable | Unknown) -> Decision:
        """End the call as failed, unless a fallback answers."""
        if self.doubt is not None and self.doubt is not outcome:
            if self.doubt.__cause__ is None and not isinstance(outcome, Unknown):
                self.doubt.__cause__ = outcome
            outcome = self.doubt
        # a failure's trace holds the attempt and with it this call: they would free each other late
        self.failure = self.doubt = None
        outcome.attempts = self.made
        policy = self.machine.policy
        if (
            policy.retry is not None
            and policy.retry.attempts > 1
            and self.upstream == 1
            and (isinstance(outcome, Unavailable) or self.repeatable)
            and not policy.observes("retry")
        ):
            outcome.final = True
        instead = self._instead(now, outcome)
        if instead is not None and self.machine.observes("fallback", {"reason": outcome.reason}):
            instead = None
        end = outcome if instead is None else instead
        if self.more is not None:
            self._closed(now, self.more, end)
        return end

    def _closed(self, now: float, more: More, end: Decision | None) -> None:
        """Tell who waits for this call how it ended, and by how much it was late."""
        if now > more.noted:
            self.machine.observes("deadline", {"late": now - more.noted})
        more.noted = inf
        spread(now, self, more, end)

    def _instead(self, now: float, outcome: Unavailable | Unknown) -> Answer[Any] | Instead | None:
        """Return what the fallback answers; None: nothing."""
        machine = self.machine
        fallback = machine.policy.fallback
        query = self.repeatable and self.key is None
        if fallback is None or not covers(outcome, query=query):
            return None
        if machine.shelf is not None and self.cache_key is not None:
            kept = machine.shelf.find(now, self.cache_key)
            if kept is not None:
                return Answer(kept[0], True, kept[1], self.made)
        if fallback.function is not None:
            return Instead(fallback.function, outcome, self.made)
        if fallback.value is not NOTHING:
            return Answer(fallback.value, True, None, self.made)
        return None

    # one call for many who ask the same

    def _shared(self, now: float, more: More) -> Decision:
        """End as the leader did, or ask instead of it."""
        if not self.granted:
            unfollow(self, more)
            return self._rejected(now, Reason.EXPIRED, "the deadline has passed")
        self.granted, more.leader = False, None
        end, more.shared = more.shared, None
        if end is not None:
            return end
        return self._wait(self.deadline) if follows(self, more) else self._next(now)
