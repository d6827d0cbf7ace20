"""Asks the chain's question as an event, as a producer that knows no more than the wire would."""

from __future__ import annotations

import json
import secrets
import time
from types import TracebackType
from typing import Final, Self

from switchgear.drills.stand import System
from switchgear.events.brokers.port import Broker, Record
from switchgear.events.brokers.url import broker_of
from switchgear.events.envelope import Envelope, Ids

__all__ = ["Publisher"]

TOPIC: Final = "chain.asked"
TYPE: Final = "chain.asked.Asked"


class Publisher:
    """Publishes straight to the broker of a system: durable when `ask` returns."""

    def __init__(self, system: System) -> None:
        config = system.config
        self._broker: Broker = broker_of(config.system.broker.absolute(config.folder))
        self._ids = Ids(time.time_ns, secrets.randbits)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._broker.close()

    async def ask(self, number: int) -> None:
        """Publish one question; the event's key is its number."""
        envelope = Envelope(
            id=self._ids(),
            type=TYPE,
            source="drill",
            topic=TOPIC,
            data=json.dumps({"number": number}).encode(),
            time=time.time(),
            subject=str(number),
            partition_key=str(number),
        )
        record = Record(TOPIC, envelope.partition_key, envelope.headers(), envelope.data)
        await self._broker.publish([record])
