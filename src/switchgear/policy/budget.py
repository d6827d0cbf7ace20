"""What retries and hedges may cost: three rules to choose from, the first of them the default.

Budget          A share of what succeeds, plus a small reserve, after Finagle's `RetryBudget`. Over
                the last `window` seconds

                    retries  <=  reserve + ratio * successes

                While the callee is down nothing is deposited, so an outage is met with the reserve
                and what the minutes before it saved: the load on the callee is at most
                `(1 + ratio)` times the offered load plus the reserve per window.
GrpcThrottling  The rule of gRPC's `retryThrottling` (gRFC A6): a bucket of `max_tokens`, full at
                first. A failure takes one token, a success gives `token_ratio`; retries are
                made only while the bucket is more than half full. It has no memory of time: it
                looks at the proportion of failures alone.
TokenBucket     The rule of the AWS SDKs' standard retry mode: a bucket of `capacity`, full at
                first. A retry costs `retry_cost`, after a timeout `timeout_cost`; a retry that
                succeeds gives its cost back, a first attempt that succeeds gives `refund`.

A success is an answer, `Ok` or `Refused`. A failure is one that feeds the breaker too: what was
turned away on our side is neither. Retries and hedges of one caller and callee share one account.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from switchgear.policy.settings import Seconds, Settings, allow, ordered, seconds, settle
from switchgear.policy.window import Tally

__all__ = [
    "Account",
    "AnyBudget",
    "Bucket",
    "Budget",
    "GrpcThrottling",
    "Purse",
    "Thermometer",
    "TokenBucket",
    "account",
]

_DUST: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget(Settings):
    """Retries as a share of successes, plus a reserve."""

    kind = "share"

    ratio: float = 0.1
    """Retries allowed for each success in the window; 0 to 10."""
    reserve: int = 10
    """Retries allowed in the window whatever succeeds."""
    window: Seconds = 10.0
    """How far back to look, in seconds."""

    def __post_init__(self) -> None:
        settle(self, "window")
        allow(self, "ratio", 0, 10)
        allow(self, "reserve", 0)
        allow(self, "window", 0, above=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcThrottling(Settings):
    """Retries while most calls succeed, by gRPC's rule."""

    kind = "grpc"

    max_tokens: float = 10.0
    """Size of the bucket; above 0, at most 1000."""
    token_ratio: float = 0.1
    """Tokens for each success; above 0, at most 1000."""

    def __post_init__(self) -> None:
        allow(self, "max_tokens", 0, 1000, above=True)
        allow(self, "token_ratio", 0, 1000, above=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBucket(Settings):
    """Retries bought from a bucket that successes fill again, by the AWS SDKs' rule."""

    kind = "bucket"

    capacity: int = 500
    """Size of the bucket."""
    retry_cost: int = 5
    """What a retry costs; at least 1, at most `capacity`."""
    timeout_cost: int = 10
    """What a retry after a timeout costs; at least `retry_cost`, at most `capacity`."""
    refund: int = 1
    """What a first attempt that succeeds gives back."""

    def __post_init__(self) -> None:
        allow(self, "capacity", 1)
        allow(self, "retry_cost", 1)
        allow(self, "timeout_cost", 1)
        ordered(self, "retry_cost", "timeout_cost", "capacity")
        allow(self, "refund", 0)


AnyBudget: TypeAlias = Budget | GrpcThrottling | TokenBucket


class Purse(Protocol):
    """The state of a budget, shared by every call of a caller and a callee."""

    empty: bool
    """Whether the last withdrawal was refused."""

    @property
    def tally(self) -> Tally | None:
        """Where a caller in a hurry counts a success by itself; None: tell `succeeded`."""

    def balance(self, now: float) -> float:
        """Return how many retries could be paid for now; the last one may be a fraction."""
        ...

    def succeeded(self, now: float, *, retried: bool = False, timed_out: bool = False) -> None:
        """Count an answer. `retried`: to an attempt that was paid for, after a timeout or not."""

    def failed(self) -> None:
        """Count a failed attempt."""

    def withdraw(self, now: float, *, timed_out: bool = False) -> bool:
        """Pay for one retry, made after a timeout or not; False if the budget is exhausted."""
        ...


class Account:
    """The state of a `Budget`."""

    __slots__ = ("empty", "settings", "tally")

    def __init__(self, settings: Budget) -> None:
        self.settings = settings
        self.tally = Tally([seconds(settings.window)])
        self.empty = False

    def balance(self, now: float) -> float:
        """See `Purse`."""
        ((deposits, withdrawals),) = self.tally.totals(now)
        return self.settings.reserve + self.settings.ratio * deposits - withdrawals

    def succeeded(self, now: float, *, retried: bool = False, timed_out: bool = False) -> None:  # noqa: ARG002
        """See `Purse`."""
        self.tally.add_good(now)

    def failed(self) -> None:
        """See `Purse`."""

    def withdraw(self, now: float, *, timed_out: bool = False) -> bool:  # noqa: ARG002
        """See `Purse`."""
        # ratio * deposits is a float: ten deposits of 0.1 must buy one retry
        self.empty = self.balance(now) < 1 - _DUST
        if not self.empty:
            self.tally.add_bad(now)
        return not self.empty


class Thermometer:
    """The state of `GrpcThrottling`."""

    __slots__ = ("empty", "settings", "tally", "tokens")

    def __init__(self, settings: GrpcThrottling) -> None:
        self.settings = settings
        self.tally = None
        self.tokens = settings.max_tokens
        self.empty = False

    def balance(self, now: float) -> float:  # noqa: ARG002
        """See `Purse`; here it is how many failures more it bears."""
        return max(0.0, self.tokens - self.settings.max_tokens / 2)

    def succeeded(self, now: float, *, retried: bool = False, timed_out: bool = False) -> None:  # noqa: ARG002
        """See `Purse`."""
        self.tokens = min(self.settings.max_tokens, self.tokens + self.settings.token_ratio)

    def failed(self) -> None:
        """See `Purse`."""
        self.tokens = max(0.0, self.tokens - 1)

    def withdraw(self, now: float, *, timed_out: bool = False) -> bool:  # noqa: ARG002
        """See `Purse`; nothing is taken, the failure has been."""
        self.empty = self.balance(now) <= _DUST
        return not self.empty


class Bucket:
    """The state of a `TokenBucket`."""

    __slots__ = ("empty", "settings", "tally", "tokens")

    def __init__(self, settings: TokenBucket) -> None:
        self.settings = settings
        self.tally = None
        self.tokens = settings.capacity
        self.empty = False

    def balance(self, now: float) -> float:  # noqa: ARG002
        """See `Purse`."""
        return self.tokens / self.settings.retry_cost

    def succeeded(self, now: float, *, retried: bool = False, timed_out: bool = False) -> None:  # noqa: ARG002
        """See `Purse`."""
        back = self._cost(timed_out=timed_out) if retried else self.settings.refund
        self.tokens = min(self.settings.capacity, self.tokens + back)

    def failed(self) -> None:
        """See `Purse`."""

    def withdraw(self, now: float, *, timed_out: bool = False) -> bool:  # noqa: ARG002
        """See `Purse`."""
        cost = self._cost(timed_out=timed_out)
        self.empty = self.tokens < cost
        if not self.empty:
            self.tokens -= cost
        return not self.empty

    def _cost(self, *, timed_out: bool) -> int:
        return self.settings.timeout_cost if timed_out else self.settings.retry_cost


def account(settings: AnyBudget, before: Purse | None = None) -> Purse:
    """Return the state of a budget; what `before` holds goes over where the rule is the same."""
    if isinstance(settings, GrpcThrottling):
        thermometer = Thermometer(settings)
        if isinstance(before, Thermometer):
            thermometer.tokens = min(settings.max_tokens, before.tokens)
        return thermometer
    if isinstance(settings, TokenBucket):
        bucket = Bucket(settings)
        if isinstance(before, Bucket):
            bucket.tokens = min(settings.capacity, before.tokens)
        return bucket
    kept = Account(settings)
    if isinstance(before, Account):
        kept.tally = before.tally.resized([seconds(settings.window)])
    return kept
