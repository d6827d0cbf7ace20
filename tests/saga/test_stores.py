"""The store: leases, fences, lost commits, shared commits, on every database of the port."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from switchgear.database.port import Database
from switchgear.saga.codec import Failure
from switchgear.saga.plan import Side
from switchgear.saga.state import Entry, Next, What
from switchgear.saga.stores import store_of
from switchgear.saga.stores.batch import is_whole
from switchgear.saga.stores.group import Group
from switchgear.saga.stores.port import Line, NewItem, NewSaga, Settled, Store, Turn, Wish, Write
from switchgear.saga.stores.units import COMPONENT, STEPS, Units
from switchgear.saga.story import Story
from tests.saga.plans import CHECKOUT, World, script

DEFINITION = "checkout/1/abc"
LEASE = 3600.0
"""Longer than any machine stands still."""


@pytest.fixture
async def store(any_database: Database) -> Store:
    await any_database.migrate(COMPONENT, STEPS)
    return store_of(any_database)


@pytest.fixture
def units(any_database: Database) -> Units:
    return Units(any_database.dialect)


def saga(name: str = "o-1") -> NewSaga:
    return NewSaga(name, DEFINITION, b"{}", b"{}", 1.0, None)


def line(step: str = "reserve", data: bytes | None = b"1") -> Line:
    entry = Entry(What.OK, Next.GO, 2.5, step, Side.DO, 1, None, doubt=False)
    return Line(entry, 2.0, data)


async def claim(store: Store, units: Units, owner: str, lease: float = LEASE) -> list[str]:
    claimed = await store.write(units.claim([DEFINITION], owner, lease, 10, 3.0))
    return [each.row.id for each in claimed]


async def test_a_line_comes_back_as_it_was_written(store: Store, units: Units) -> None:
    await store.write(units.start(saga(), "me", LEASE))
    odd = Line(
        Entry(What.UNKNOWN, Next.AGAIN, 1.25, "a", Side.UNDO, 3, 9.5, doubt=True), None, None
    )
    assert await store.record(Write("o-1", 1, 1, line()))
    assert await store.record(Write("o-1", 1, 2, odd))
    assert await store.read(units.lines(["o-1", "o-2"])) == {"o-1": [line(), odd], "o-2": []}


@pytest.mark.parametrize(
    "answers",
    [
        {"debit": [What.UNKNOWN, What.OK], "ship": [What.UNKNOWN] * 4 + [What.OK]},
        {"ship": [What.UNAVAILABLE, What.REFUSED], "undo_debit": [What.UNKNOWN, What.OK]},
        {"ship": [What.REFUSED], "undo_debit": [What.UNKNOWN], "undo_reserve": [What.OK]},
    ],
)
async def test_what_is_loaded_to_go_on_says_where_it_stands(
    store: Store, units: Units, answers: dict[str, list[What]]
) -> None:
    await store.write(units.start(saga(), "me", LEASE))
    row = await store.read(units.find("o-1"))
    assert row is not None
    world = World(CHECKOUT, script(**answers))
    world.interrupt()
    entries = world.finish().journal
    for seq, entry in enumerate(entries, 1):
        failed = msgspec.json.encode(Failure("Failure", f"the {seq}th"))
        data = {What.OK: b"7", What.INTERRUPTED: None}.get(entry.what, failed)
        assert await store.record(Write("o-1", 1, seq, Line(entry, 1.0, data)))
        whole = (await store.read(units.lines(["o-1"])))["o-1"]
        needed = (await store.read(units.replayable(["o-1"])))["o-1"]
        assert Story.of(CHECKOUT, row, needed) == Story.of(CHECKOUT, row, whole)
    repeated = [one for one in whole if one.entry.next is Next.AGAIN and one.data]
    left = {(one.entry.step, one.entry.side) for one in repeated}
    told = [one for one in needed if one.entry.next is Next.AGAIN and one.data]
    assert len(told) == len(left) > 0, "the newest of each"
    assert (await store.read(units.replayable(["o-1", "o-2"])))["o-2"] == []


async def test_what_is_said_of_many_attempts_is_not_loaded(store: Store, units: Units) -> None:
    await store.write(units.start(saga(), None, 0.0))
    await claim(store, units, "me", lease=0.0)
    for seq in range(1, 40):
        entry = Entry(What.UNKNOWN, Next.AGAIN, 2.0, "ship", Side.DO, seq, 3.0, doubt=True)
        assert await store.record(Write("o-1", 1, seq, Line(entry, 2.0, b"%d" % seq)))
    [claimed] = await store.write(units.claim([DEFINITION], "you", LEASE, 10, 3.0))
    assert [one.data for one in claimed.lines if one.data] == [b"39"]
    assert claimed.seq == 40, "and one that the first worker vanished"
    assert (
        sum(one.data is not None for one in (await store.read(units.lines(["o-1"])))["o-1"]) == 39
    )


async def test_a_claim_raises_the_fence_and_an_older_one_writes_nothing(
    store: Store, units: Units
) -> None:
    await store.write(units.start(saga(), None, 0.0))
    assert await claim(store, units, "first", lease=0.0) == ["o-1"]
    first = await store.read(units.find("o-1"))
    assert first is not None
    assert (first.owner, first.fence) == ("first", 1)
    # the lease has run out: another worker takes it, and notes that the first one vanished
    [claimed] = await store.write(units.claim([DEFINITION], "second", LEASE, 10, 3.0))
    assert claimed.row.fence == 2
    assert [each.entry.what for each in claimed.lines] == [What.INTERRUPTED]
    assert claimed.seq == 1
    assert not await store.record(Write("o-1", 1, 1, line()))
    assert not await store.record(Write("o-1", 1, 2, line(), Turn("done", release=True)))
    await store.write(units.release("o-1", 1, "done", 0.0))
    row = await store.read(units.find("o-1"))
    assert row is not None
    assert (row.owner, row.status) == ("second", "running")
    assert await store.record(Write("o-1", 2, 2, line()))
    assert await claim(store, units, "third") == []


async def test_a_line_whose_commit_was_reported_lost_is_written_once(
    store: Store, units: Units
) -> None:
    await store.write(units.start(saga(), "me", LEASE))
    write = Write("o-1", 1, 1, line(), Turn("done", release=True, ended=4.0))
    assert await store.record(write)
    assert await store.record(write)
    assert len((await store.read(units.lines(["o-1"])))["o-1"]) == 1


async def test_released_and_due_later(store: Store, units: Units) -> None:
    await store.write(units.start(saga(), "me", LEASE))
    await store.record(Write("o-1", 1, 1, line(), Turn("undoing", release=True, wake=LEASE)))
    assert await claim(store, units, "other") == []
    due = await store.read(units.due([DEFINITION]))
    assert due is not None
    assert 0 < due <= LEASE
    await store.write(units.release("o-1", 1, "undoing", 0.0))
    assert await claim(store, units, "other") == ["o-1"]
    [each] = (await store.read(units.lines(["o-1"])))["o-1"]
    assert each.entry.what is What.OK  # nobody vanished: no interruption


async def test_what_waits_for_nobody_is_in_no_ones_way(store: Store, units: Units) -> None:
    await store.write(units.start(saga(), "me", LEASE))
    item = NewItem("refund", "refund.md", "Call someone.")
    await store.record(Write("o-1", 1, 1, line(), Turn("queued", release=True), item))
    assert await store.read(units.due([DEFINITION])) is None
    assert await claim(store, units, "other") == []
    assert await store.read(units.strangers([DEFINITION])) == []
    assert await store.read(units.strangers(["checkout/1/def"])) == [(DEFINITION, 1)]
    ends = Write("o-1", 1, 2, line(), Turn("done", release=True, ended=4.0))
    assert await store.record(ends)
    assert await store.read(units.strangers(["checkout/1/def"])) == []


async def test_who_waits_for_a_lock_has_not_ended(store: Store, units: Units) -> None:
    first, second = (
        NewSaga(name, each, b"{}", b"{}", 1.0, None, (Wish("order/o", refuse=False),))
        for name, each in (("o-1", DEFINITION), ("o-2", "checkout/2/abc"))
    )
    await store.write(units.start(first, "me", LEASE))
    assert (await store.write(units.start(second, "me", LEASE))).waits
    assert await store.read(units.strangers([DEFINITION])) == [("checkout/2/abc", 1)]


async def test_only_known_definitions_are_claimed(store: Store, units: Units) -> None:
    await store.write(units.start(saga(), None, 0.0))
    assert await store.write(units.claim(["checkout/2/abc"], "me", LEASE, 10, 3.0)) == []
    assert await store.read(units.strangers(["checkout/2/abc"])) == [(DEFINITION, 1)]
    assert await store.read(units.strangers([DEFINITION])) == []


async def test_two_that_claim_at_once_share(store: Store, units: Units) -> None:
    for number in range(20):
        await store.write(units.start(saga(f"o-{number}"), None, 0.0))
    found = await asyncio.gather(*(claim(store, units, f"w-{number}") for number in range(4)))
    names = [name for each in found for name in each]
    assert len(names) == len(set(names))
    for owner in ("w-0", "w-1", "w-2", "w-3"):
        names += await claim(store, units, owner)
    assert len(names) == len(set(names)) == 20


async def test_leases(store: Store, units: Units) -> None:
    await store.write(units.start(saga("o-1"), "me", LEASE))
    await store.write(units.start(saga("o-2"), "me", LEASE))
    assert sorted(await store.write(units.extend("me", LEASE))) == ["o-1", "o-2"]
    assert await store.write(units.extend("other", LEASE)) == []
    assert await store.read(units.owners()) == ["me"]
    await store.write(units.give_back("other", ["o-1"]))
    assert await claim(store, units, "other") == []
    await store.write(units.give_back("me", ["o-1"]))
    assert await claim(store, units, "other") == ["o-1"]
    await store.write(units.expire("me"))
    assert await claim(store, units, "other") == ["o-2"]


async def test_many_lines_at_once_share_commits(store: Store, units: Units) -> None:
    for number in range(30):
        await store.write(units.start(saga(f"o-{number}"), "me", LEASE))
    writes = [Write(f"o-{number}", 1, 1, line()) for number in range(30)]
    lost = Write("o-1", 7, 2, line())
    assert await asyncio.gather(*map(store.record, [*writes, lost])) == [True] * 30 + [False]


class TestGroup:
    async def test_what_arrives_meanwhile_goes_together(self) -> None:
        seen: list[list[int]] = []
        go = asyncio.Event()

        async def flush(items: list[int]) -> list[int]:
            seen.append(items)
            await go.wait()
            return [item * 10 for item in items]

        group: Group[int, int] = Group(flush, most=3)
        first = asyncio.create_task(group.put(1))
        while not seen:
            await asyncio.get_running_loop().run_in_executor(None, lambda: None)
        rest = [asyncio.create_task(group.put(number)) for number in range(2, 7)]
        while len(group._waiting) < 5:
            await asyncio.get_running_loop().run_in_executor(None, lambda: None)
        go.set()
        assert await asyncio.gather(first, *rest) == [10, 20, 30, 40, 50, 60]
        assert seen == [[1], [2, 3, 4], [5, 6]]

    async def test_an_error_reaches_each_and_the_next_goes_on(self) -> None:
        failing = True

        async def flush(items: list[int]) -> list[int]:
            if failing:
                raise ZeroDivisionError
            return items

        group: Group[int, int] = Group(flush)
        results = await asyncio.gather(group.put(1), group.put(2), return_exceptions=True)
        assert [type(result) for result in results] == [ZeroDivisionError] * 2
        failing = False
        assert await group.put(3) == 3

    async def test_a_caller_that_was_cancelled_does_not_disturb_the_others(self) -> None:
        go = asyncio.Event()

        async def flush(items: list[int]) -> list[int]:
            await go.wait()
            return items

        group: Group[int, int] = Group(flush)
        tasks = [asyncio.create_task(group.put(number)) for number in range(2)]
        await asyncio.get_running_loop().run_in_executor(None, lambda: None)
        tasks[0].cancel()
        go.set()
        await asyncio.wait(tasks)
        assert tasks[0].cancelled()
        assert tasks[1].result() == 1


async def test_a_group_is_written_as_each_would_be_alone(store: Store, units: Units) -> None:
    """With a stale fence, with a line that stands already, with sagas that end and that queue."""
    for number in range(90):
        await store.write(units.start(saga(f"o-{number}"), "me", LEASE))
    await store.write(units.record([Write("o-1", 1, 1, line())]))
    await store.write(units.record([Write("o-2", 1, 1, line("other"))]))
    writes = []
    for number in range(90):
        fence = 7 if number == 0 else 1
        turn, item = None, None
        if number % 5 == 3:
            turn = Turn("done", release=True, ended=3.5)
        elif number % 5 == 4:
            turn, item = Turn("queued", release=True), NewItem("refund", "r.md", "Call.")
        elif number % 5 == 2:
            turn = Turn("undoing")
        seq = 2 if number == 2 else 1
        writes.append(Write(f"o-{number}", fence, seq, line(data=b"%d" % number), turn, item))
    results = await store.write(units.record(writes))
    # the fence of the first is stale; the line of the second stands already, from the same worker
    assert results == [False, *[True] * 89]
    rows = [await store.read(units.find(write.id)) for write in writes]
    assert [row.status for row in rows if row] == [
        {2: "undoing", 3: "done", 4: "queued"}.get(number % 5, "running") for number in range(90)
    ]
    assert [row.owner for row in rows if row] == [
        None if number % 5 >= 3 else "me" for number in range(90)
    ]
    lines = await store.read(units.lines([write.id for write in writes]))
    assert lines["o-0"] == []
    assert lines["o-1"] == [line()]
    assert lines["o-2"] == [line("other"), line(data=b"2")]
    assert all(lines[f"o-{number}"] == [line(data=b"%d" % number)] for number in range(3, 90))
    assert await claim(store, units, "other") == []


def test_a_line_that_closes_a_work_item_is_not_whole_by_itself() -> None:
    turn, closed = Turn("undone", release=True, ended=4.0), Settled(("refund",), "ann", "a", "b")
    assert is_whole([Write("o-1", 1, 1, line(), turn)])
    assert not is_whole([Write("o-1", 1, 1, line(), turn, settled=closed)])
