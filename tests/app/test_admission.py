"""Admission as a service declares it and its settings change it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Protocol

import pytest

from switchgear import (
    Admission,
    Message,
    PolicyError,
    Priority,
    Service,
    Unavailable,
    field,
    query,
    service,
)
from switchgear.config import load
from switchgear.testing import testing


class Ask(Message):
    what: str = field(1, default="")


class Told(Message):
    what: str = field(1)


@service("admitted.one.v1")
class One(Protocol):
    @query("GET /v1/one")
    async def one(self, request: Ask) -> Told: ...


@service("admitted.two.v1")
class Two(Protocol):
    @query("GET /v1/two")
    async def two(self, request: Ask) -> Told: ...


class Both(One):
    async def one(self, request: Ask) -> Told:
        if request.what == "hold":
            await asyncio.Event().wait()
        return Told(what="one")


class Other(Two):
    async def two(self, request: Ask) -> Told:
        return Told(what="two")


def declared(**given: Admission) -> Service:
    app = Service("admitted", **given)
    app.serves(Both)
    app.serves(Other, admission=Admission(concurrency=7))
    return app


async def test_the_operations_of_a_service_share_its_places_and_a_handler_may_have_its_own():
    app = declared(admission=Admission(concurrency=1, queue=0))
    async with testing(app) as running:
        one, two = running.client(One), running.client(Two)
        holder = asyncio.create_task(one.one(Ask(what="hold")))
        desks = app.runtime.dispatcher._desks
        while not desks["admitted.one.v1.One/one"].turnstile.in_flight:
            await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await one.one(Ask())
        assert (await two.two(Ask())).what == "two"
        holder.cancel()


async def settings_of(app: Service, folder: Path, text: str) -> dict[str, Admission]:
    file = folder / "switchgear.toml"
    file.write_text(f'[services.admitted]\napp = "a:b"\n{text}', encoding="utf-8")
    async with app.lifespan(config=load(file, {})):
        desks = app.runtime.dispatcher._desks
        return {name.rpartition("/")[2]: desk.settings for name, desk in desks.items()}


async def test_the_file_changes_what_it_names_and_leaves_the_rest(tmp_path: Path) -> None:
    mine = Admission(concurrency=5, queue=3)
    text = '[services.admitted.admission]\nqueue = 9\noperations = { one = "critical" }\n'
    found = await settings_of(declared(admission=mine), tmp_path, text)
    named = {"one": Priority.CRITICAL}
    assert found["one"] == Admission(concurrency=5, queue=9, operations=named)
    assert found["two"] == Admission(concurrency=7)


async def test_the_file_gives_a_service_without_admission_one(tmp_path: Path) -> None:
    text = 'admission = { mode = "observe" }\n'
    assert (await settings_of(declared(), tmp_path, text))["one"] == Admission(mode="observe")
    assert set(await settings_of(declared(), tmp_path, "")) == {"two"}


async def test_an_operation_that_the_file_names_and_nobody_has_is_refused(tmp_path: Path) -> None:
    text = 'admission = { operations = { won = "critical" } }\n'
    with pytest.raises(PolicyError, match=r"names won.*There are: one"):
        await settings_of(declared(), tmp_path, text)
