"""How the events of one service stand: asked for by `/readyz`, and looked at now and then.

A look asks the broker for the lag of each subscription and the database for what is parked and
unpublished; `progress.py` judges. What has changed is signalled at once, by whichever look sees it
first; the numbers are signalled by the looks that the service takes by itself, every `_EVERY`
seconds, and less often where a look takes long.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from switchgear.database.port import DatabaseUnavailable
from switchgear.events.brokers.port import Broker, BrokerUnavailable, Partition
from switchgear.events.consumer import Consumer
from switchgear.events.parked import Parked
from switchgear.events.progress import Progress, Seen, Verdict
from switchgear.events.relay import Relay
from switchgear.events.troubles import Troubles
from switchgear.model.outcome import Unknown
from switchgear.model.signal import Detail, Signal, SignalKind, emit, listening

__all__ = ["Health", "HealthCheck", "SubscriptionHealth"]

_EVERY: Final = 5.0
_SHARE: Final = 50
"""A look that takes a second is followed by a pause of so many: 2% of the time at most."""


@dataclass(frozen=True, slots=True)
class SubscriptionHealth:
    """One subscription."""

    lag: int
    """Events published and not yet done; those moved to the database are not counted."""
    oldest: float | None
    """Age in seconds of the oldest that waits for no person; None if there is none.

    Of an event that was moved to the database it is the time since then.
    """
    blocked: int
    """Events that were moved to the database and wait for no person: their key is tried again."""
    parked: int
    """Events that wait for a person."""
    parked_keys: int
    blocked_keys: int
    """Keys of this process whose first event is being tried again."""
    running: float | None
    """Seconds since the longest-running handler began; None if none runs."""
    error: str | None
    """What keeps it from working, while something does."""
    broken: str | None = None
    """The part of it that nobody expected: a defect, and no reason to send the service work."""
    stuck: float | None = None
    """Seconds without any progress of the group, once they are over `stuck_after`; else None."""
    stale: float | None = None
    """Age of the oldest event that waits, where it is over `fresh_within`; else None."""
    fresh_within: float | None = None
    silent: int = 0
    """Partitions of which the broker tells nothing at present; they are not in `lag`."""


@dataclass(frozen=True, slots=True)
class Health:
    """What `Bus.health` reports."""

    subscriptions: Mapping[str, SubscriptionHealth] = field(default_factory=dict)
    unpublished: int = 0
    """Events in the outbox."""
    unpublished_age: float | None = None
    """Age in seconds of the oldest of them."""
    error: str | None = None
    """Why the relay cannot publish, while it cannot."""
    broken: str | None = None
    """What fails in a way that nobody expected, in any part; None if nothing does."""


class HealthCheck:
    """Looks at the subscriptions and the outbox of one service, and judges over time."""

    def __init__(
        self,
        source: str,
        broker: Broker,
        relay: Relay,
        parked: Parked,
        consumers: Mapping[str, Consumer],
        *,
        troubles: Troubles,
    ) -> None:
        self._source = source
        self._broker = broker
        self._relay = relay
        self._parked = parked
        self._consumers = consumers
        self._troubles = troubles
        """Of what the service does beside them."""
        self._progress: dict[str, Progress] = {}
        self._said: dict[str, Verdict] = {}

    async def look(self) -> Health:
        """Look once. Raises `BrokerUnavailable` or `DatabaseUnavailable` where that is away."""
        backlog = await self._relay.backlog()
        found = {}
        for name, consumer in tuple(self._consumers.items()):
            found[name] = await self._subscription(name, consumer)
        return Health(
            found,
            backlog.events,
            backlog.oldest,
            self._relay.error,
            self.broken(),
        )

    def broken(self) -> str | None:
        """Return what fails in a way that nobody expected; None if nothing does. Asks nobody."""
        found = [f"{name}: {one.broken}" for name, one in self._consumers.items() if one.broken]
        relay = [f"relay: {self._relay.error}"] if self._relay.broken else []
        others = [self._troubles.broken] if self._troubles.broken else []
        return "; ".join(found + relay + others) or None

    async def run(self) -> None:
        """Look and tell the numbers, for ever. What is away is looked for again."""
        pause = _EVERY
        while True:
            await asyncio.sleep(pause)
            began = time.monotonic()
            try:
                health = await self.look()
                if listening():
                    self._tell(health)
            except (BrokerUnavailable, DatabaseUnavailable, Unknown):
                pass  # whoever works with it says so
            except Exception as error:  # noqa: BLE001  reported; else nobody would look any more
                asyncio.get_running_loop().call_exception_handler(
                    {
                        "message": f"{self._source}: the look at its events failed",
                        "exception": error,
                    }
                )
            pause = max(_EVERY, _SHARE * (time.monotonic() - began))

    async def _subscription(self, name: str, consumer: Consumer) -> SubscriptionHealth:
        settings = consumer.settings
        lag = await self._broker.lag(name, settings.topics)
        parked = await self._parked.waiting(name)
        progress = self._progress.setdefault(
            name, Progress(settings.stuck_after, settings.fresh_within)
        )
        seen = Seen(lag.events, lag.oldest, parked.ready_age, consumer.concluded)
        verdict = progress.look(time.monotonic(), seen)
        self._judged(name, verdict)
        return SubscriptionHealth(
            lag=lag.events,
            oldest=seen.waits,
            blocked=parked.ready,
            parked=parked.held,
            parked_keys=parked.held_keys,
            blocked_keys=consumer.blocked(),
            running=consumer.running(),
            error=consumer.error or _unread(lag.silent),
            broken=consumer.broken,
            stuck=verdict.stuck,
            stale=verdict.stale,
            fresh_within=settings.fresh_within,
            silent=len(lag.silent),
        )

    def _judged(self, name: str, verdict: Verdict) -> None:
        """Signal what has changed since it was last said."""
        before = self._said.get(name, Verdict(None, None))
        self._said[name] = verdict
        for was, seconds, bad, good in (
            (before.stuck, verdict.stuck, SignalKind.EVENT_STUCK, SignalKind.EVENT_MOVING),
            (before.stale, verdict.stale, SignalKind.EVENT_STALE, SignalKind.EVENT_FRESH),
        ):
            if (was is None) != (seconds is None) and listening():
                kind = good if seconds is None else bad
                emit(Signal(kind, name, {} if seconds is None else {"age": seconds}))

    def _tell(self, health: Health) -> None:
        for name, one in health.subscriptions.items():
            numbers: dict[str, Detail] = {
                "events": one.lag,
                "oldest": one.oldest or 0.0,
                "blocked": one.blocked,
                "parked": one.parked,
                "parked_keys": one.parked_keys,
                "blocked_keys": one.blocked_keys,
                "stuck": one.stuck or 0.0,
                "silent": one.silent,
            }
            emit(Signal(SignalKind.EVENT_LAG, name, numbers))
        outbox: dict[str, Detail] = {
            "events": health.unpublished,
            "oldest": health.unpublished_age or 0.0,
        }
        emit(Signal(SignalKind.OUTBOX_BACKLOG, self._source, outbox))


def _unread(silent: Collection[Partition]) -> str | None:
    if not silent:
        return None
    return f"the broker does not answer for {', '.join(sorted(map(str, silent)))}"
