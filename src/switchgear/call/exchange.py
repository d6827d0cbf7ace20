"""One request of somebody else's HTTP client, through all its attempts: what the adapters share.

An adapter sends, and says in its client's words what came of it. Here is what that means, in every
one of them: which marks go out, what an answer stands for, what may be repeated, and what the
caller gets in the end. An answer is a response, whatever its status: a 4xx is a definitive no, and
after the last attempt a 5xx is what there is. Only where nobody answered is something raised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar
from urllib.parse import urlsplit

from switchgear.call.answer import inherited
from switchgear.call.marks import headers, http_failure
from switchgear.model import wire
from switchgear.model.context import Context
from switchgear.model.edge import Pattern
from switchgear.model.outcome import Ok, Outcome, Refused, Unavailable, Unknown
from switchgear.policy.machine import Attempt

if TYPE_CHECKING:
    from switchgear.call.guard import Guard

__all__ = ["SAFE", "Exchange", "Kinds", "adopted"]

R = TypeVar("R")

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that ask for no change (RFC 9110, 9.2.1)."""

Kinds: TypeAlias = Callable[[Unavailable | Unknown], Callable[..., Any]]
"""Chooses what to raise for a failure: something that is of ours and of the client's kind."""


class Exchange(Generic[R]):
    """One request on its way; `R` is the client's response.

    `sent` are the request's headers, which are marked in place. `repeatable` are the methods that
    may be repeated whatever happened. `once` tells whether the request's body is used up.
    """

    __slots__ = (
        "_answers",
        "_asked",
        "_guard",
        "_kinds",
        "_once",
        "_sent",
        "_traced",
        "context",
        "key",
        "machine",
        "repeatable",
    )

    def __init__(
        self,
        guard: Guard,
        method: str,
        url: object,
        sent: MutableMapping[str, str],
        *,
        repeatable: frozenset[str],
        once: Callable[[], bool],
        kinds: Kinds,
    ) -> None:
        self._guard = guard
        self._asked = method, url
        self._sent = sent
        self._once = once
        self._kinds = kinds
        self._traced = wire.TRACEPARENT in sent
        """The caller traces by other means, which is left as it is."""
        self._answers: dict[Unavailable | Unknown, R] = {}
        """The response behind each failed attempt that had one."""
        self.machine = guard.machine
        if guard.per != "callee":
            self.machine = guard.machine_at(host=urlsplit(str(url)).netloc.rpartition("@")[2])
        self.context: Context = inherited()
        self.key = sent.get(wire.IDEMPOTENCY_KEY)
        self.repeatable = (
            self.key is not None or guard.pattern is Pattern.QUERY or method in repeatable
        )

    @property
    def single(self) -> bool:
        """Whether the request can be sent only once, because of its body."""
        return self._once()

    @property
    def effect(self) -> bool:
        """Whether the request may change something at the callee."""
        return self._guard.pattern is not Pattern.QUERY and self._asked[0] not in SAFE

    def mark(self, attempt: Attempt, sent: MutableMapping[str, str] | None = None) -> None:
        """Put on the request what this attempt tells the callee.

        sent: the headers of a copy, where attempts may be under way at the same time.
        """
        marked = self._sent if sent is None else sent
        marks = headers(attempt, self.context, monotonic(), caller=self._guard.caller)
        if self._traced:
            marks.pop(wire.TRACEPARENT, None)
            marks.pop(wire.TRACESTATE, None)
        for name, value in marks.items():
            marked[name] = value

    @staticmethod
    def keeps(status: int, marks: Mapping[str, str]) -> bool:
        """Tell whether an answer's body is read at once, also where bodies stream.

        A failure's is: another attempt may follow it, and nobody else would give its connection
        back.
        """
        return http_failure(status, marks) is not None

    def judged(
        self, attempt: Attempt, response: R, status: int, marks: Mapping[str, str]
    ) -> Outcome[R]:
        """Return how an attempt that was answered went."""
        failure = http_failure(status, marks, where=self._where)
        if failure is None:
            if self.context.spent is not None:
                self.context.spent.answered(attempt.call, marks.get(wire.TRAIL))
            return Ok(response)
        self._answers[failure] = response
        return self._repeated(failure)

    def failed(self, error: Exception) -> Unavailable | Unknown:
        """Return how an attempt that was not answered went; raises an error that says nothing."""
        failure = self._guard.outcome(error)
        if failure is None or isinstance(failure, Refused):
            raise error
        return self._repeated(failure)

    def end(self, failure: Unavailable | Unknown) -> R:
        """Return the response that the failure of the call stands for, or raise the failure."""
        response = self._answers.get(failure)
        if response is not None:
            return response
        raise adopted(failure, self._kinds(failure), self._where)

    @property
    def _where(self) -> str:
        """Which request it is, without what may be secret: a password or a token in the URL."""
        method, url = self._asked
        parts = urlsplit(str(url))
        return f"{method} {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def _repeated(self, failure: Unavailable | Unknown) -> Unavailable | Unknown:
        """Forbid another attempt of a body that could be sent only once."""
        if self._once():
            failure.final = True
        return failure


def adopted(
    failure: Unavailable | Unknown, kind: Callable[..., Any], where: str
) -> Unavailable | Unknown:
    """Return a failure as one of another kind, which code written for a client expects."""
    raised: Unavailable | Unknown = kind(
        failure.what,
        reason=failure.reason,
        retry_after=failure.retry_after,
        final=failure.final,
        where=where,
        cause=failure.__cause__,
    )
    raised.attempts = failure.attempts
    raised.trail = failure.trail
    if isinstance(raised, Unknown) and isinstance(failure, Unknown):
        raised.key = failure.key
    return raised
