"""A request at the door: who asks for which operation, and what rides along.

`context_of` reads the headers of `switchgear.model.wire`, which are the same on both wires. What
bounds the work (the time that the caller has left) must be readable, or the request is rejected.
What only hints (attempt, priority) falls back to its default, as any header of a stranger may.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any, Final, Literal

from switchgear.contract.route import Route
from switchgear.contract.service import Operation
from switchgear.model import wire
from switchgear.model.context import Context, Priority
from switchgear.model.outcome import Rejected
from switchgear.model.trail import Spent, Trail

__all__ = ["Arrival", "Door", "context_of"]

Door = Literal["http", "grpc", "direct"]

LONGEST_KEY: Final = 1024
_LONGEST_TRACE: Final = 512
_PRIORITIES: Final = {str(one): one for one in Priority}
_PLAIN: Final = Context()


@dataclass(slots=True)
class Arrival:
    """A request before its handler runs. `before` hooks read it, and fill in who asks."""

    operation: Operation
    door: Door
    route: Route | None = None
    """The route by which it came over HTTP."""
    pairs: Iterable[tuple[str | bytes, str | bytes]] = ()
    """Headers or metadata as the server gave them."""
    source: Any = None
    """What else the server knows: the ASGI scope, or the gRPC context."""
    context: Context = _PLAIN
    received: float = field(default_factory=monotonic)
    given_key: str | None = None
    """The idempotency key as it came."""
    principal: str | None = None
    """Who asks, as authenticated by a `before` hook; None: nobody said."""
    key: str | None = None
    """The idempotency key of a keyed command, once it was read."""
    spent: Spent = field(default_factory=Spent)
    """Where its time goes."""
    trail: Trail = ()
    """What its answer says of that; empty: nothing."""
    begun: bool = False
    """Whether the handler may have begun: until then it is certain that nothing was done."""

    @property
    def named(self) -> bool:
        """Whether the caller has said which service it is: then it is one of the system's own."""
        return wire.CALLER in self.headers

    @property
    def peer(self) -> str | None:
        """Address of the other end of the connection, as the server names it."""
        if self.door == "http":
            client = self.source.get("client")
            return None if client is None else f"{client[0]}:{client[1]}"
        return str(self.source.peer()) if self.door == "grpc" else None

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers or metadata by lower-case name; of several with one name, joined by commas.

        Binary metadata (`-bin`) is left out.
        """
        found: dict[str, str] = {}
        for name, value in self.pairs:
            key = _text(name).lower()
            if not key.endswith("-bin"):
                found[key] = f"{found[key]}, {_text(value)}" if key in found else _text(value)
        return found

    def read_key(self) -> None:
        """Read the idempotency key of a keyed command, and put it into the context.

        The keys of the handler's own commands are derived from it. Two authenticated callers may
        have chosen the same key, so theirs is prefixed with who they are.

        Raises `Rejected` if the key is empty, too long, or not printable ASCII.
        """
        given = self.given_key
        if given is None:
            return
        # the draft standard writes it as a quoted string, most of the world does not
        quoted = len(given) > 1 and given[0] == given[-1] == '"'
        key = given[1:-1] if quoted else given
        if not (0 < len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
            raise Rejected(
                f"the {wire.IDEMPOTENCY_KEY} is not 1 to {LONGEST_KEY} printable ASCII characters."
            )
        whole = key if self.principal is None else f"{self.principal}/{key}"
        self.key = key
        self.context = replace(self.context, key=whole, sequence={})


def context_of(found: Mapping[str, str], now: float, *, deadline: float | None = None) -> Context:
    """Return the context that the wire's own headers describe.

    `found` holds those that are there, by lower-case name; `now` is monotonic time, and so is
    `deadline`, where the wire has its own way to say it. The
    idempotency key is not read here: it matters to keyed commands alone (`Arrival.read_key`).

    Raises `Rejected` if the remaining time is not a whole number of milliseconds.
    """
    if not found:
        return _PLAIN if deadline is None else Context(deadline)
    caller = found.get(wire.CALLER)
    if caller is not None and len(found) == 1:
        return Context(deadline, caller=caller)
    timeout = found.get(wire.TIMEOUT)
    if timeout is not None:
        digits = timeout.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 15):  # noqa: PLR2004
            raise Rejected(
                f"the header {wire.TIMEOUT} is not a whole number of milliseconds: {timeout[:20]!r}"
            )
        deadline = now + int(timeout) / 1000
    attempt = found.get(wire.ATTEMPT, "1")
    number = int(attempt) if attempt.isascii() and attempt.isdigit() and len(attempt) < 4 else 1  # noqa: PLR2004
    traceparent = found.get(wire.TRACEPARENT)
    if traceparent is not None and len(traceparent) > _LONGEST_TRACE:
        traceparent = None
    parts = traceparent.split("-") if traceparent else ()
    return Context(
        deadline=deadline,
        attempt=max(1, number),
        priority=_PRIORITIES.get(found.get(wire.PRIORITY, ""), Priority.DEFAULT),
        traceparent=traceparent,
        tracestate=found.get(wire.TRACESTATE) if traceparent else None,
        caller=caller,
        correlation=parts[1] if len(parts) > 1 else None,
    )


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
