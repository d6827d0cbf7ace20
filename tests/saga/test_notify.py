"""Somebody is told of every saga that waits for a person: at least once, and not for ever."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from aiohttp import web

from switchgear.database.port import Database
from switchgear.database.sqlite import Sqlite
from switchgear.errors import SagaError
from switchgear.model.outcome import Refused
from switchgear.model.signal import Signal, SignalKind, subscribe
from switchgear.saga import Engine, SagaUnfinished, runbook
from switchgear.saga.evidence import WorkItem
from switchgear.saga.notify import webhook
from tests.saga.shop import Book, Order, checkout, eventually


async def queued(engine: Engine, database: Database, saga, name: str) -> None:
    async with database.transaction() as tx:
        run = await engine.start(tx, saga, Order(name), id=name)
    with pytest.raises(SagaUnfinished, match="waits for a person"):
        await run.result(within=60)


@pytest.fixture
def stuck(book: Book):
    book.will("ship", Refused("no"))
    book.will("refund", Refused("never"))
    return checkout(book)


async def test_each_item_once_and_again_when_it_opens_again(any_database: Database, stuck) -> None:
    told: list[WorkItem] = []

    async def page(item: WorkItem) -> None:
        told.append(item)

    async with Engine(any_database, [stuck], notify=page) as engine:
        await queued(engine, any_database, stuck, "o-1")
        await queued(engine, any_database, stuck, "o-2")
        await eventually(lambda: len(told) == 2)
        assert [item.id for item in told] == ["o-1/refund", "o-2/refund"]
        assert "Call whoever is on duty" in told[0].instructions
        await runbook.retry(any_database, "o-1", "ann", "once more")
        await eventually(lambda: len(told) == 3)
        assert told[2].id == "o-1/refund"
        assert told[2].opened > told[0].opened
    async with Engine(any_database, [stuck], notify=page) as engine:
        await queued(engine, any_database, stuck, "o-3")
        await eventually(lambda: len(told) == 4)
    assert told[3].id == "o-3/refund"


async def test_who_cannot_be_told_is_told_later(
    database: Sqlite, stuck, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "switchgear.saga")
    told: list[str] = []
    away = True

    async def page(item: WorkItem) -> None:
        if away:
            raise OSError("nobody listens")
        told.append(item.id)

    async with Engine(database, [stuck], notify=page, lease=0.3) as engine:
        await queued(engine, database, stuck, "o-1")
        await eventually(lambda: "nobody could be told that o-1/refund waits" in caplog.text)
        away = False
        await eventually(lambda: bool(told))
    assert told == ["o-1/refund"]


async def test_a_hook_that_hangs_does_not_hold_up_the_work(database: Sqlite, stuck) -> None:
    async def page(item: WorkItem) -> None:
        await asyncio.Event().wait()

    async with Engine(database, [stuck], notify=page, lease=0.3) as engine:
        await queued(engine, database, stuck, "o-1")
        await queued(engine, database, stuck, "o-2")


async def test_a_webhook(database: Sqlite, stuck) -> None:
    posts: list[tuple[str | None, dict[str, object]]] = []

    async def receive(request: web.Request) -> web.Response:
        posts.append((request.headers.get("Authorization"), await request.json()))
        return web.Response(status=204 if len(posts) > 1 else 503)

    app = web.Application()
    app.router.add_post("/hook", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    hook = webhook(f"http://127.0.0.1:{port}/hook", headers={"Authorization": "Bearer t"})
    async with Engine(database, [stuck], notify=hook, lease=0.3) as engine:
        await queued(engine, database, stuck, "o-1")
        await eventually(lambda: len(posts) == 2)
    await runner.cleanup()
    for authorization, body in posts:
        assert authorization == "Bearer t"
        assert (body["id"], body["saga_id"], body["side"]) == ("o-1/refund", "o-1", "undo")
        assert json.dumps(body)
    with pytest.raises(SagaError, match="no http:// or https://"):
        webhook("localhost/hook")


async def test_the_age_of_the_oldest_is_a_signal(database: Sqlite, stuck) -> None:
    heard: list[Signal] = []
    with subscribe(heard.append):
        async with Engine(database, [stuck], lease=0.3) as engine:
            await eventually(lambda: any(each.kind is SignalKind.SAGA_WAITING for each in heard))
            await queued(engine, database, stuck, "o-1")
            await eventually(
                lambda: any(
                    each.kind is SignalKind.SAGA_WAITING and each.detail["open"] == 1
                    for each in heard
                )
            )
    waiting = [each for each in heard if each.kind is SignalKind.SAGA_WAITING]
    assert waiting[0].detail == {"open": 0, "seconds": 0.0}
    assert waiting[-1].detail["seconds"] >= 0
