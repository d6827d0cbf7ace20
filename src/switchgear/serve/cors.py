"""Cross-origin requests of browsers (the fetch standard): off unless an application asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from switchgear.errors import ConfigError
from switchgear.model import wire

__all__ = ["Cors"]

Headers: TypeAlias = list[tuple[bytes, bytes]]

_ALLOWED: Final = (
    "content-type",
    "authorization",
    wire.IDEMPOTENCY_KEY,
    wire.TIMEOUT,
    wire.ATTEMPT,
    wire.PRIORITY,
    wire.CALLER,
    wire.TRACEPARENT,
    wire.TRACESTATE,
)
_EXPOSED: Final = ("retry-after", wire.OUTCOME, wire.RETRY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cors:
    """Which origins may call from a browser.

    `origins` are such as `https://shop.example`, or `*` for any; `headers` are allowed besides the
    library's own; `credentials` lets browsers send cookies, and does not go with `*`; `max_age` is
    how many seconds a browser may remember the answer.
    """

    origins: Sequence[str]
    headers: Sequence[str] = ()
    credentials: bool = False
    max_age: int = 600

    def __post_init__(self) -> None:
        if isinstance(self.origins, str) or not self.origins:
            raise ConfigError(
                "cors.origins is not a list of origins.", fix="Write ['https://...']."
            )
        if self.credentials and "*" in self.origins:
            raise ConfigError(
                "cors.credentials does not go with the origin '*'.", fix="Name the origins."
            )

    def answer(self, origin: bytes | None) -> Headers:
        """Return the headers for the answer to a request from `origin`."""
        headers: Headers = [] if "*" in self.origins else [(b"vary", b"origin")]
        if origin is None or not self._allows(origin):
            return headers
        headers.append((b"access-control-allow-origin", b"*" if "*" in self.origins else origin))
        headers.append((b"access-control-expose-headers", ", ".join(_EXPOSED).encode()))
        if self.credentials:
            headers.append((b"access-control-allow-credentials", b"true"))
        return headers

    def preflight(self, origin: bytes, methods: Iterable[str]) -> Headers:
        """Return the headers for the answer to a preflight request from `origin`."""
        headers = self.answer(origin)
        if self._allows(origin):
            headers += [
                (b"access-control-allow-methods", ", ".join(methods).encode()),
                (b"access-control-allow-headers", ", ".join((*_ALLOWED, *self.headers)).encode()),
                (b"access-control-max-age", str(self.max_age).encode()),
            ]
        return headers

    def _allows(self, origin: bytes) -> bool:
        return "*" in self.origins or origin.decode("latin-1") in self.origins
