"""The functions for people, on queues that no consumer works off."""

import time

import msgspec
import pytest

from switchgear.database.postgres import Postgres
from switchgear.database.sqlite import Sqlite
from switchgear.events.brokers.port import Partition
from switchgear.events.inbox import KEEP, Inbox
from switchgear.events.inbox import STEPS as INBOX
from switchgear.events.incoming import Incoming
from switchgear.events.lane import Cause, State
from switchgear.events.parked import STEPS, NotEditable, NotParked, Parked
from switchgear.events.store import Store

PARTITION = Partition("test.orders", 3)


def incoming(key, number):
    return Incoming(PARTITION, key, f"s/{number}", "t", {"ce-id": str(number)}, b"x", f"k:{key}")


@pytest.fixture
async def parked(database):
    await database.migrate("inbox", INBOX)
    await database.migrate("parked", STEPS)
    return Parked(database)


async def store(
    database: Sqlite | Postgres, *events, hold=True, cause=Cause.FAILED, consumer="a.x"
):
    async with database.transaction() as tx:
        await Store(Inbox(consumer)).append(
            tx, events[0].lane, events, cause=cause, hold=hold, attempts=3, error="no"
        )


async def test_events_are_listed_in_pages_and_chosen(database, parked):
    await store(database, incoming("k", 1), incoming("k", 2))
    await store(database, incoming("other", 3), consumer="a.y")
    everything = await parked.list()
    assert [one.event for one in everything] == ["s/1", "s/2", "s/3"]
    assert [(one.cause, one.attempts, one.error) for one in everything] == [
        ("failed", 3, "no"),
        ("behind", 0, ""),
        ("failed", 3, "no"),
    ]
    assert await parked.list(limit=1, after=everything[0].id) == [everything[1]]
    assert await parked.list(consumer="a.y") == [everything[2]]
    assert await parked.list(key="k") == everything[:2]
    assert await parked.show(everything[2].id) == everything[2]
    assert await parked.count() == (3, 2)
    assert await parked.count("a.y") == (1, 1)


async def test_what_waits_is_told_apart_by_whom_it_waits_for(database, parked):
    """A key that is blocked for long is in nobody's lag any more: it has to be seen here."""
    await store(database, incoming("k", 1), incoming("k", 2), incoming("k", 3))
    assert (await parked.waiting("a.x"))[:4] == (3, 1, 0, None)
    await store(database, incoming("other", 4), incoming("other", 5), hold=False)
    held, held_keys, ready, age = await parked.waiting("a.x")
    assert (held, held_keys, ready) == (3, 1, 2)
    assert age is not None
    assert age >= 0
    assert await parked.waiting("a.y") == (0, 0, 0, None)


async def test_a_queue_is_released_whole_and_once(database, parked):
    await store(database, incoming("k", 1), incoming("k", 2))
    await store(database, incoming("other", 3))
    second = (await parked.list())[1]
    would = await parked.redrive(id=second.id, dry_run=True)
    assert [one.event for one in would] == ["s/1", "s/2"], "none overtakes another"
    assert await parked.count() == (3, 2), "nothing was done"
    assert await parked.redrive(id=second.id, actor="me", reason="fixed") == would
    assert await parked.redrive(id=second.id) == []
    assert [one.state for one in await parked.list()] == ["ready", "ready", "held"]
    assert [(one.action, one.event) for one in await parked.audit()] == [
        ("redrive", "s/2"),
        ("redrive", "s/1"),
    ]


async def test_what_comes_behind_shares_the_fate_of_its_queue(database, parked):
    await store(database, incoming("k", 1))
    await store(database, incoming("k", 2), cause=Cause.BEHIND)
    await parked.redrive()
    await store(database, incoming("k", 3), cause=Cause.BEHIND)
    assert [one.state for one in await parked.list()] == ["ready", "ready", "ready"]


async def test_an_event_that_is_delivered_again_is_not_parked_twice(database, parked):
    await store(database, incoming("k", 1))
    await store(database, incoming("k", 1), incoming("k", 2))
    assert [one.event for one in await parked.list()] == ["s/1", "s/2"]


async def test_a_discarded_event_does_not_come_back(database, parked):
    await store(database, incoming("k", 1), incoming("k", 2))
    first, _ = await parked.list()
    await parked.discard(first.id, reason="a test", actor="me")
    with pytest.raises(NotParked):
        await parked.discard(first.id, reason="a test", actor="me")
    await store(database, incoming("k", 1))
    assert [one.event for one in await parked.list()] == ["s/2"]
    assert await Inbox("a.x").look_up(database, ["s/1"]) == {"s/1"}
    (audit,) = await parked.audit()
    assert (audit.action, audit.event, audit.headers, audit.data) == (
        "discard",
        "s/1",
        {"ce-id": "1"},
        b"x",
    )


async def test_the_state_of_a_queue_is_that_of_its_head(database, parked):
    await store(database, incoming("k", 1), incoming("k", 2))
    await store(database, incoming("ready", 3), hold=False, cause=Cause.BLOCKED)
    async with database.transaction() as tx:
        lanes = await Store(Inbox("a.x")).lanes(tx, ["test.orders", "another"])
    assert lanes == {PARTITION: {"k:k": State.HELD, "k:ready": State.DRAINING}}


async def test_an_edited_event_is_a_new_one_in_its_place(database, parked):
    old = incoming("k", 1)._replace(headers={"ce-source": "s", "ce-id": "1", "ce-time": "then"})
    await store(database, incoming("k", 0), old, incoming("k", 2))
    number = (await parked.list())[1].id
    made = await Parked(database, ids=lambda: "new").edit(number, b"y", reason="typo", actor="me")
    assert (made.id, made.event, made.data, made.state) == (number, "s/new", b"y", "held")
    assert (made.cause, made.attempts) == ("behind", 0)
    assert made.headers == {
        "ce-source": "s",
        "ce-id": "new",
        "ce-time": "then",
        "ce-causationid": "1",
        "ce-replaces": "s/1",
    }
    assert [one.event for one in await parked.list()] == ["s/0", "s/new", "s/2"]
    assert await Inbox("a.x").look_up(database, ["s/1", "s/new"]) == {"s/1"}
    await store(database, old)
    assert [one.event for one in await parked.list()] == ["s/0", "s/new", "s/2"]
    became, was = await parked.audit()
    assert (was.action, was.event, was.data, was.actor, was.reason) == (
        "edit",
        "s/1",
        b"x",
        "me",
        "typo",
    )
    assert (became.action, became.event, became.data) == ("edited", "s/new", b"y")
    again = await parked.edit(number, b"z", reason="still", actor="me")
    assert again.headers["ce-replaces"] == "s/new"


async def test_what_cannot_be_edited(database, parked):
    await store(database, incoming("k", 1))
    (one,) = await parked.list()
    with pytest.raises(NotEditable, match="no CloudEvent"):
        await parked.edit(one.id, b"y", reason="typo", actor="me")
    with pytest.raises(ValueError, match="needs a reason"):
        await parked.edit(one.id, b"y", reason=" ", actor="me")
    with pytest.raises(NotParked):
        await parked.edit(99, b"y", reason="typo", actor="me")
    assert await parked.list() == [one]
    assert await parked.audit() == []


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
async def test_the_clock_of_the_process_counts_for_nothing(database, pool, monkeypatch, dialect):
    """One host whose clock is years ahead deletes nothing that others need."""
    used = database if dialect == "sqlite" else Postgres(pool)
    await used.migrate("inbox", INBOX)
    await used.migrate("parked", STEPS)
    parked = Parked(used)
    before = time.time()
    monkeypatch.setattr("time.time", lambda: 4e9)
    async with used.transaction() as tx:
        await Inbox("a.x").claim(tx, ["s/0"])
        await Inbox("a.y").claim(tx, ["s/0", "s/7", "s/8"])
    await store(used, incoming("k", 1), incoming("k", 2))
    one, two = await parked.list()
    await parked.discard(one.id, reason="a test", actor="me")
    headers = {"ce-source": "s", "ce-id": "2"}
    async with used.transaction() as tx:
        await tx.run("UPDATE switchgear_parked SET headers = ?", msgspec.json.encode(headers))
    await parked.edit(two.id, b"y", reason="a test", actor="me")
    assert await Inbox.clean(used) == 0
    async with used.reading() as reader:
        kept = [at for (at,) in await reader.run("SELECT at FROM switchgear_inbox")]
    assert len(kept) == 6
    assert all(abs(at - before) < 86_400 for at in [*kept, one.at, two.at])
    async with used.transaction() as tx:
        await tx.run("UPDATE switchgear_inbox SET at = at - ? WHERE consumer = 'a.y'", KEEP + 60)
    assert await Inbox.clean(used) == 3
