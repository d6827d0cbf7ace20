"""PostgreSQL as a broker that says nothing any more: no answer, and no end of a connection."""

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from switchgear.events.brokers.port import BrokerUnavailable, Record
from switchgear.events.brokers.postgres import PostgresBroker
from tests.events.world import until
from tests.line import Line


@pytest.fixture
async def line(postgres_url):
    port = urlsplit(postgres_url).port
    async with Line(port) as opened:
        opened.url = postgres_url.replace(f":{port}", f":{opened.port}")
        yield opened


@pytest.fixture
def other(opening, postgres_url):
    return opening(postgres_url)


@pytest.fixture
async def behind(line, other, opening, monkeypatch):
    """A broker behind the line, which waits two seconds for an answer."""
    monkeypatch.setattr("switchgear.events.brokers.postgres._ANSWER", 2.0)
    monkeypatch.setattr("switchgear.database.postgres._ANSWER", 0.1)
    return opening(line.url)


async def subscribed(broker, prefix):
    async def join():
        with suppress(BrokerUnavailable):  # the machine is slow
            return await broker.subscribe(f"{prefix}g", [f"{prefix}t"], lease=60.0)

    return await until(join)


def test_a_statement_has_a_bound_unless_it_is_said_otherwise():
    url = "postgresql://127.0.0.1/none"
    assert PostgresBroker(url)._options["command_timeout"] == 10
    given = PostgresBroker(url, options={"command_timeout": 60})
    assert given._options["command_timeout"] == 60


async def test_what_is_published_after_a_failover_is_read(line, other, behind, prefix):
    member, found = await subscribed(behind, prefix), []

    async def read(value):
        with suppress(BrokerUnavailable):
            found.extend(one.value for one in (await member.poll(10, 1.0)).deliveries)
        return value in found

    await other.publish([Record(f"{prefix}t", "k", {}, b"1")])
    await until(lambda: read(b"1"))
    line.vanish()
    await other.publish([Record(f"{prefix}t", "k", {}, b"2")])
    await until(lambda: read(b"2"))
    await until(lambda: member._owned and all(map(member.owns, member._owned)))


async def test_the_end_waits_for_nothing_that_is_silent(line, behind, prefix):
    member = await subscribed(behind, prefix)
    polling = asyncio.create_task(member.poll(10, 60.0))
    await asyncio.sleep(0)
    line.silence()
    async with asyncio.timeout(60):
        await behind.close()
    polling.cancel()
    assert not behind._subscriptions
