import asyncio

import pytest

from switchgear.database.postgres import Postgres
from switchgear.events.inbox import STEPS, Inbox
from tests.events.world import until


@pytest.fixture
async def inbox(database):
    await database.migrate("inbox", STEPS)
    return Inbox("orders.x")


async def test_an_event_is_claimed_once(database, inbox):
    events = [f"e{number}" for number in range(150)]
    async with database.transaction() as tx:
        assert await inbox.claim(tx, events) == set(events)
        assert await inbox.claim(tx, ["e1", "new", "new"]) == {"new"}
        assert await inbox.seen(tx, ["e7", "never"]) == {"e7"}
    assert await inbox.look_up(database, ["e8", "never"]) == {"e8"}


async def test_on_postgresql_any_number_is_claimed_at_once(pool):
    database, inbox = Postgres(pool), Inbox("orders.x")
    await database.migrate("inbox", STEPS)
    events = [f"e{number}" for number in range(1_000)]
    async with database.transaction() as tx:
        assert await inbox.claim(tx, [*events, "e1"]) == set(events)
        assert await inbox.claim(tx, ["e1", "new", "new"]) == {"new"}
        assert await Inbox("orders.y").claim(tx, events) == set(events)
    assert await inbox.look_up(database, [*events, "never"]) == set(events)


async def test_consumers_are_independent(database, inbox):
    async with database.transaction() as tx:
        await inbox.claim(tx, ["e"])
        assert await Inbox("orders.y").claim(tx, ["e"]) == {"e"}


async def test_a_claim_that_is_rolled_back_is_none(database, inbox):
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as tx:
            await inbox.claim(tx, ["e"])
            raise ZeroDivisionError
    async with database.transaction() as tx:
        assert await inbox.claim(tx, ["e", "f"]) == {"e", "f"}
        await inbox.disclaim(tx, "e")
    assert await inbox.look_up(database, ["e", "f"]) == {"f"}


async def test_old_rows_are_deleted_in_small_steps(database, inbox):
    async with database.transaction() as tx:
        await inbox.claim(tx, [f"e{number}" for number in range(1200)])
        await tx.run("UPDATE switchgear_inbox SET at = at - 100")
        await inbox.claim(tx, ["young"])
    steps = []
    while step := await Inbox.clean(database, keep=50):
        steps.append(step)
    assert steps == [500, 500, 200]
    assert await inbox.look_up(database, ["young", "e1"]) == {"young"}


async def test_on_postgresql_a_second_claim_waits_for_the_first(pool):
    """A member that took over meets the claim of one that has not ended yet."""
    database = Postgres(pool)
    await database.migrate("inbox", STEPS)
    inbox = Inbox("orders.x")
    claimed = []

    async def second():
        async with database.transaction() as tx:
            claimed.append(await inbox.claim(tx, ["e"]))

    async with database.transaction() as tx:
        assert await inbox.claim(tx, ["e", "e"]) == {"e"}
        waiting = asyncio.create_task(second())
        await asyncio.sleep(0.1)
        assert not claimed
    await until(lambda: claimed)
    await waiting
    assert claimed == [set()]
