"""What a subscription asks for, and the broker does not guarantee, is refused at the start."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from switchgear.errors import EventDeclarationError
from switchgear.events.asked import ABLE, AsksTooMuch, Need
from switchgear.events.brokers.sqlite import SqliteBroker
from switchgear.events.brokers.url import SCHEMES, broker_of
from switchgear.events.bus import Bus
from tests.events.world import News, OrderPlaced

URLS = {
    "sqlite": "sqlite:///asked.db",
    "postgresql": "postgresql://localhost/x",
    "kafka": "kafka://localhost:9092",
    "nats": "nats://localhost:4222",
    "amqp": "amqp://localhost",
    "sqs": "sqs://localhost:9324",
}


async def react(event: Any) -> None: ...


def poorer(broker: SqliteBroker, need: Need) -> SqliteBroker:
    """The embedded broker, as if it could not do one thing."""
    broker.capabilities = replace(broker.capabilities, **{need: False})
    return broker


@pytest.mark.parametrize(
    ("need", "asks", "says"),
    [
        ("ordered", {}, "its events have a key"),
        ("replay", {"from_start": True}, "from_start=True asks the broker to have kept"),
        ("exact_lag", {"fresh_within": 5}, "fresh_within= asks the broker to know how old"),
        ("groups", {}, "another subscription hears the same topic"),
    ],
)
async def test_it_is_refused(broker, database, need: Need, asks: Any, says: str) -> None:  # type: ignore[no-untyped-def]
    bus = Bus(poorer(broker, need), database, "orders")
    bus.on(OrderPlaced, name="x", on_failure="skip", handler=react, **asks)
    if need == "groups":
        bus.on(OrderPlaced, name="y", on_failure="skip", handler=react)
    with pytest.raises(AsksTooMuch, match=says) as refused:
        await bus.start()
    assert refused.value.where == "orders.x"
    assert all(f"{scheme}://" in str(refused.value) for scheme in ABLE[need])
    await bus.stop()


@pytest.mark.parametrize("need", ABLE)
async def test_what_is_not_asked_for_is_not_missed(broker, database, need: Need) -> None:  # type: ignore[no-untyped-def]
    bus = Bus(poorer(broker, need), database, "orders")
    bus.on(News, name="x", on_failure="skip", handler=react)
    await bus.start()
    await bus.stop()


@pytest.mark.parametrize("scheme", sorted({*SCHEMES} & {*URLS}))
def test_the_table_is_what_the_adapters_say(scheme: str) -> None:
    capabilities = broker_of(URLS[scheme]).capabilities
    for need, able in ABLE.items():
        assert getattr(capabilities, need) == (scheme in able), need


@pytest.mark.parametrize("bad", [{"fresh_within": 0}, {"stuck_after": -1.0}])
def test_times_are_above_nothing(broker, database, bad: Any) -> None:  # type: ignore[no-untyped-def]
    bus = Bus(broker, database, "orders")
    with pytest.raises(EventDeclarationError, match="above 0 seconds"):
        bus.on(News, name="x", on_failure="skip", handler=react, **bad)
