"""A FastAPI application at the edge: a line says where the time of a late answer went."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from tests.serve.world import Do, Empty, Handler, Inventory, serving

from switchgear.app.edge import judged, promised_by
from switchgear.call.client import connect
from switchgear.config import load
from switchgear.model.trail import read
from switchgear.policy.policy import Policy

OPERATION = "acme.inventory.v1.Inventory/do"


class Slow(Handler):
    async def do(self, request: Do) -> Empty:
        await asyncio.sleep(0.7)
        return Empty()


@pytest.fixture
async def page() -> AsyncIterator[FastAPI]:
    api = FastAPI()
    async with (
        serving(Slow()) as served,
        connect(Inventory, served.url("grpc"), Policy(deadline=6), caller="gateway") as inventory,
    ):

        @api.get("/page/{name}")
        async def page(name: str) -> str:
            await inventory.do(Do(what=name))
            return name

        @api.get("/quick")
        def quick() -> str:  # in a thread
            return "quick"

        yield api


async def ask(app: Any, *paths: str) -> None:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client:
        for path in paths:
            (await client.get(path)).raise_for_status()


def lines(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [one for one in caplog.records if "answered late" in one.getMessage()]


@pytest.mark.parametrize("latency", [{"": 0.5}, {"": 9, "GET /page/{name}": 0.5}])
async def test_the_line_names_the_route_and_who_took_the_time(
    page: FastAPI, latency: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    await ask(judged(page, latency), "/page/ada", "/quick", "/page/bob")
    (line,) = (one for one in lines(caplog) if "/quick" not in one.getMessage())  # of two
    assert line.getMessage().startswith("GET /page/{name} was answered late")
    edges = [hop.edge for hop in read(line.fields["trail"])]
    assert edges == [OPERATION, f"gateway -> {OPERATION}"]


async def test_what_is_in_time_or_promises_nothing_has_none(
    page: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    assert judged(page, {}) is page
    await ask(judged(page, {"": 9, "GET /quick": 9}), "/page/ada", "/quick")
    await ask(judged(page, {"GET /quick": 0.1}), "/page/ada")
    assert not lines(caplog)


def test_the_objectives_of_the_file_are_what_is_promised(tmp_path: Path) -> None:
    file = tmp_path / "switchgear.toml"
    file.write_text(
        "[objectives.gateway]\nlatency = 0.3\n"
        '[objectives."GET /page/{name}"]\nlatency = 0.05\n'
        "[objectives.orders]\navailability = 0.99\n"
    )
    promised = promised_by(load(file, {}), "gateway")
    assert promised == {"": 0.3, "GET /page/{name}": 0.05}
