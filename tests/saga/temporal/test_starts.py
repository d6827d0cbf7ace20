"""The rows of sagas that are to start, and whether a start is that of a workflow."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from switchgear.database.sqlite import Sqlite
from switchgear.saga import SagaConflict
from switchgear.saga.stores import store_of
from switchgear.saga.temporal import starts
from switchgear.saga.temporal.relay import compare
from switchgear.saga.temporal.starts import Start
from switchgear.saga.temporal.wire import Begin
from tests.saga.plans import BRANCHES, CHECKOUT


def begin_of(given: bytes = b"1", plan: object = CHECKOUT) -> Begin:
    return Begin("o-1", plan, msgspec.Raw(given), msgspec.Raw(b"{}"))


def start_of(given: bytes = b"1") -> Start:
    return Start("o-1", "orders/checkout", msgspec.json.encode(begin_of(given)))


async def test_a_start_that_was_refused_leaves_its_id(tmp_path: Path) -> None:
    database = Sqlite(tmp_path / "starts.db")
    await database.migrate(starts.COMPONENT, starts.STEPS)
    store = store_of(database)
    first, second = start_of(), start_of(b"2")
    assert await store.write(starts.insert(first, 1.0)) is None
    assert (await store.write(starts.insert(second, 2.0))).given == first.given
    await store.write(starts.refuse(first, "its id is taken"))
    assert await store.read(starts.pending(9)) == []
    assert await store.write(starts.insert(second, 3.0)) is None
    assert await store.read(starts.pending(9)) == [second]
    # a relay that still holds the former row does nothing to the one in its place
    await store.write(starts.refuse(first, "its id is taken"))
    await store.write(starts.drop(first))
    assert await store.read(starts.pending(9)) == [second]
    await store.write(starts.drop(second))
    assert await store.read(starts.find("o-1")) is None
    await database.close()


def test_without_the_definition_bytes_are_compared() -> None:
    compare(None, start_of(), begin_of())
    for other in (begin_of(b"2"), begin_of(plan=BRANCHES)):
        with pytest.raises(SagaConflict, match="the id o-1 is that of a saga"):
            compare(None, start_of(), other)
