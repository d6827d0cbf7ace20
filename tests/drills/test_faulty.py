"""A service is broken from outside: it waits, fails, and has only so many workers."""

import asyncio
import json
import subprocess
import sys

import pytest

from switchgear.drills import faulty
from switchgear.drills.control import Entry, Faults, read_signals
from switchgear.drills.faulty import Pool, behind
from switchgear.drills.load import Visitors
from switchgear.drills.refused_shipment import order_of
from switchgear.drills.slow_inventory import busy_at
from switchgear.drills.stand import Stand, examples, until, workspace


async def test_so_many_workers_and_the_rest_waits():
    told = []
    pool = Pool(2, told.append)
    release = asyncio.Event()

    async def work() -> None:
        async with pool.worker():
            await release.wait()

    tasks = [asyncio.create_task(work()) for _ in range(5)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert pool.busy == 2
    release.set()
    await asyncio.gather(*tasks)
    assert pool.busy == 0
    assert max(told) == 2
    assert told[-1] == 0


async def test_a_worker_whose_request_is_cancelled_is_free_again():
    pool = Pool(1, lambda _: None)

    async def work() -> None:
        async with pool.worker():
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    assert pool.busy == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert pool.busy == 0


async def test_only_requests_take_a_worker():
    pool = Pool(1, lambda _: None)
    seen = []

    async def application(scope, receive, send):
        seen.append((scope["type"], pool.busy))

    worked = behind(application, pool)
    await worked({"type": "http"}, None, None)
    await worked({"type": "lifespan"}, None, None)
    assert seen == [("http", 1), ("lifespan", 0)]


def test_an_attribute_that_is_no_service_is_none(monkeypatch):
    monkeypatch.delenv("DRILL_TARGETS", raising=False)
    with pytest.raises(AttributeError, match="inventory"):
        _ = faulty.inventory


def test_another_service_sees_the_service_as_it_is():
    script = (
        "from switchgear.drills import faulty; print(faulty.inventory.name, faulty.inventory.hooks)"
    )
    targets = json.dumps({"inventory": "shop.inventory:app"})
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"DRILL_TARGETS": targets, "DRILL_SERVICE": "orders", "PYTHONPATH": str(examples())},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "inventory []\n"


def test_busy_workers_at_each_second():
    entries = [
        Entry(10.0, "drill.busy", "workers", {"busy": 1}),
        Entry(10.2, "drill.busy", "workers", {"busy": 2}),
        Entry(11.5, "drill.busy", "workers", {"busy": 0}),
    ]
    assert busy_at(entries, [9.0, 10.1, 11.0, 12.0]) == [0, 1, 2, 0]
    assert busy_at([], [9.0]) == [0]


def test_the_order_in_which_undos_ran():
    entries = [
        Entry(1.0, "request.ended", "shop.payments.v1.Payments/debit"),
        Entry(2.0, "request.ended", "shop.payments.v1.Payments/refund"),
        Entry(3.0, "request.ended", "shop.inventory.v1.Inventory/release"),
    ]
    assert order_of(entries) == ["refund", "release"]


async def test_until_returns_what_was_found_or_the_last_answer():
    answers = iter([[], [], [1]])

    async def ask() -> list[int]:
        return next(answers)

    assert (await until(ask, 5.0, every=0.001))[0] == [1]

    async def never() -> list[int]:
        return []

    found, took = await until(never, 0.02, every=0.001)
    assert found == []
    assert took >= 0.02


@pytest.mark.timeout(600)
async def test_a_real_service_waits_and_fails_as_it_is_told_and_reports(tmp_path):
    said = []
    stand = Stand(tmp_path, said.append)
    async with (
        stand.system("chain", faulty=["link5"], only=["link5"]) as chain,
        Visitors() as visitors,
    ):
        url = chain.url("link5", "/v1/answer/1")
        assert (await visitors.get(url)).body == {"links": 1}
        chain.faults("link5").set(answer=Faults(fail=True))
        assert (await visitors.get(url)).status == 500
        assert (await visitors.get(chain.url("link5", "/v1/count"))).good
        chain.faults("link5").set(answer=Faults(sleep=5.0))
        assert (await visitors.get(url, patience=0.2)).status == 0
        chain.faults("link5").set()
        assert (await visitors.get(url)).good
    outcomes = [
        entry.detail["status"]
        for entry in read_signals(tmp_path / "chain" / "link5.signals")
        if entry.subject == "chain.v1.Link/answer"
    ]
    assert outcomes[:2] == ["OK", "INTERNAL"]
    assert said == ["starting the chain, each service as a process"]


def test_a_workspace_is_gone_after_an_error():
    folders = []

    def fail() -> None:
        with workspace("x") as place:
            folders.append(place.folder)
            (place.folder / "file").write_text("books")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not folders[0].exists()
