"""What a broker keeps can be read after the fact, by nobody's group, where it has `search`."""

from __future__ import annotations

from contextlib import suppress

from switchgear.events.brokers.port import Broker, BrokerUnavailable, Record
from switchgear.events.trace import Searchable
from switchgear.testing.conformance import Adapter
from switchgear.testing.conformance.world import until

ABLE = ("sqlite:", "postgresql:", "kafka:", "nats:")


async def test_records_are_found_and_no_group_is_made(adapter: Adapter, broker: Broker) -> None:
    found: object = broker
    assert isinstance(found, Searchable) == adapter.url.startswith(ABLE)
    if not isinstance(found, Searchable):
        return
    assert await found.search(b"needle", [], 10) == []
    about = [
        Record("test.orders", "a", {"ce-correlationid": "needle"}, b"1"),
        Record("test.orders", "b", {"ce-correlationid": "other"}, b"2"),
        Record("test.news", None, {}, b"a needle in the value"),
        Record("test.orders", "a", {"ce-id": "needle"}, b"3"),
    ]
    await broker.publish(about)
    topics = ["test.news", "test.orders"]
    records = await found.search(b"needle", topics, 10)
    assert sorted(one.value for one in records) == [b"1", b"3", b"a needle in the value"]
    (first, second) = (one for one in records if one.key == "a")
    assert first.headers == {"ce-correlationid": "needle"}
    assert first.partition == second.partition
    assert first.offset < second.offset
    assert len(await found.search(b"needle", topics, 2)) == 2

    async def unread() -> bool:
        with suppress(BrokerUnavailable):  # a Kafka that has just been started loads its groups
            return (await broker.lag("anybody", topics)).events == 4
        return False

    await until(unread)


async def test_the_text_is_taken_as_it_is(broker: Broker) -> None:
    found: object = broker
    await broker.publish([Record("test.orders", "a", {}, b"plain")])
    if isinstance(found, Searchable):
        for needle in (b"%", b"_", b"'"):
            assert await found.search(needle, ["test.orders"], 10) == []
