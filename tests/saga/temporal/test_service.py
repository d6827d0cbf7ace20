"""A service whose settings put its sagas on Temporal, and the commands about them."""

from __future__ import annotations

import asyncio
import json
import secrets
from datetime import timedelta
from pathlib import Path

import pytest

from switchgear import Backoff, Message, Rejected, Saga, Service, StepContext, Unknown, field
from switchgear.app.sagas import place_of
from switchgear.config import Config, load
from switchgear.errors import ConfigError
from switchgear.saga import SagaUndone, SagaUnfinished, TemporalRefused
from switchgear.saga.temporal import Place, TemporalEngine
from switchgear.saga.temporal.cluster import Cluster
from switchgear.saga.temporal.desk import TemporalDesk
from switchgear.saga.temporal.place import connect
from tests.cli.test_operate import refused, typed
from tests.saga.shop import eventually
from tests.saga.temporal.replay import replay_all


class Trip(Message):
    town: str = field(1)


class Office:
    """A service whose undo fails while it is closed."""

    def __init__(self, name: str, runbooks: Path) -> None:
        self.closed = True
        self.undone: list[str] = []
        (runbooks / "refund.md").write_text("# Refund by hand\n\n1. Ring the office.\n")
        self.app = Service(name)
        self.trip = Saga("trip", version=1, deadline=timedelta(minutes=5))

        @self.trip.undo(runbook=str(runbooks / "refund.md"), retry=Backoff(first=0.001, attempts=2))
        async def refund(order: Trip, done: Unknown | None, ctx: StepContext) -> None:
            if self.closed:
                raise OSError("nobody answers at db://u:sesame@h")
            self.undone.append(order.town)

        @refund.undoes
        async def pay(order: Trip, ctx: StepContext) -> None: ...

        @self.trip.read
        async def look(order: Trip, ctx: StepContext) -> None:
            if order.town != "Ulm":
                return
            raise Rejected("no such town")

        self.trip.path(pay >> look)
        self.app.runs(self.trip)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(f"office-{secrets.token_hex(4)}", tmp_path)


@pytest.fixture
def config(tmp_path: Path, office: Office, place: Place, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "switchgear.toml").write_text(
        f'[system]\nsagas = "{place}"\n[services.{office.app.name}]\napp = "office:app"\n'
    )
    return load()


async def troubled(office: Office, config: Config, place: Place) -> None:
    async with office.app.lifespan(config=config):
        assert isinstance(office.app.sagas, TemporalEngine)
        async with office.app.transaction() as tx:
            run = await tx.start(office.trip, Trip(town="Ulm"), id="t-1")
            other = await tx.start(office.trip, Trip(town="Bonn"), id="t-2")
        with pytest.raises(SagaUnfinished, match="waits for a person"):
            await run.result(within=120)
        await other.result(within=120)
        desk = TemporalDesk(Cluster(await connect(place), office.app.name))

        async def has_its_text() -> bool:
            return all(item.instructions for item in (await desk.show("t-1")).items)

        await eventually(has_its_text)  # a worker reads it, and there is none afterwards


async def mended(office: Office, config: Config) -> None:
    office.closed = False
    async with office.app.lifespan(config=config):
        with pytest.raises(SagaUndone):
            await office.app.sagas.get("t-1").result(within=120)
        with pytest.raises(SagaUndone, match="refuted by me: it bounced"):
            await office.app.sagas.get("t-2").result(within=120)


async def replayed(place: Place, name: str) -> None:
    cluster = Cluster(await connect(place), name)

    async def all_of_them() -> bool:
        return await replay_all(cluster) == 3

    await eventually(all_of_them)


async def is_listed(place: Place, name: str) -> None:
    desk = TemporalDesk(Cluster(await connect(place), name))

    async def listed() -> bool:
        return len(await desk.items(closed=False)) == 1

    await eventually(listed)


def test_it_waits_and_is_operated_without_a_worker(
    office: Office, config: Config, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(troubled(office, config, place))  # and no worker runs now
    asyncio.run(is_listed(place, office.app.name))
    listed = typed(capsys, "saga", "list")
    assert "t-1/refund" in listed
    assert "trip t-1" in listed
    (line,) = typed(capsys, "saga", "list", "--json").splitlines()
    assert json.loads(line)["service"] == office.app.name
    assert "no list of work items that were dealt with" in refused(
        capsys, "saga", "list", "--closed"
    )
    shown = typed(capsys, "saga", "show", "t-1")
    assert "Ring the office" in shown
    assert "nobody answers at db://u:***@h" in shown
    assert json.loads(typed(capsys, "saga", "show", "t-1", "--json"))["status"] == "queued"
    assert "queued" in typed(capsys, "saga", "show", "t-1/refund")
    assert "done" in typed(capsys, "saga", "show", "t-2")
    said = refused(capsys, "saga", "abort", "t-1", "--reason", "no")
    assert "only a pivot can be aborted" in said
    said = refused(capsys, "saga", "skip", "t-2", "--reason", "no")
    assert "has no work item; it is done" in said
    assert "no service knows" in refused(capsys, "saga", "show", "t-3")
    assert "goes on with it" in typed(
        capsys, "saga", "retry", "t-1/refund", "--reason", "open again", "--actor", "me"
    )
    assert "is refuted by me" in typed(
        capsys, "saga", "refute", "t-2", "look", "--evidence", "it bounced", "--actor", "me"
    )
    said = refused(capsys, "saga", "refute", "t-2", "nothing", "--evidence", "it")
    assert "has no step nothing" in said
    asyncio.run(mended(office, config))
    assert sorted(office.undone) == ["Bonn", "Ulm"]
    # the same action again is the one that was taken
    said = typed(capsys, "saga", "retry", "t-1/refund", "--reason", "open again", "--actor", "me")
    assert "The saga is undone" in said
    asyncio.run(replayed(place, office.app.name))


class TestPlace:
    def test_of_a_url(self) -> None:
        place = Place.of("temporal://cloud.example/orders.prod?api_key=sesame")
        assert (place.host, place.port, place.namespace) == ("cloud.example", 7233, "orders.prod")
        assert place.tls
        assert "sesame" not in f"{place} {place!r}"
        assert not Place.of("temporal://127.0.0.1:7/n").tls
        six = Place.of("temporal://[::1]:7/n")
        assert (six.host, six.address, f"{six}", six.tls) == (
            "::1",
            "[::1]:7",
            "temporal://[::1]:7/n",
            False,
        )
        assert Place.of("temporal://127.0.0.1/n?tls=true", {"api_key": "k"}).api_key == "k"

    @pytest.mark.parametrize(
        ("url", "told"),
        [
            ("temporal://host:7233", "names no namespace"),
            ("temporal:///namespace", "names no server"),
            ("temporal://host:sesame/n", "address or a port"),
            ("temporal://host:99999/n", "address or a port"),
            ("temporal://[::1/n", "address or a port"),
            ("temporal://me:secret@host/namespace", "names no server"),
            ("temporal://host/n?colour=red", "unknown option colour"),
            ("temporal://host/n?tls=maybe", "tls is true or false"),
            ("temporal://host/n?certificate=a.pem", "there is one alone"),
            ("temporal://host/n?tls=false&api_key=sesame", "the wire is not encrypted"),
        ],
    )
    def test_what_is_none(self, url: str, told: str) -> None:
        with pytest.raises(TemporalRefused, match=told) as caught:
            Place.of(url)
        assert "sesame" not in str(caught.value)
        assert "secret" not in str(caught.value)

    async def test_what_cannot_be_reached(self, place: Place, tmp_path: Path) -> None:
        other = f"temporal://{place.host}:{place.port}/no-such-namespace"
        with pytest.raises(TemporalRefused, match="no-such-namespace cannot be used"):
            await connect(Place.of(other))
        pem = Place.of("temporal://127.0.0.1:9/n?tls=true&ca=none.pem", folder=tmp_path)
        with pytest.raises(TemporalRefused, match="the ca cannot be read"):
            await connect(pem)

    def test_of_settings(self, tmp_path: Path) -> None:
        file = tmp_path / "switchgear.toml"
        file.write_text(
            '[system]\nsagas = "temporal://cloud.example/prod"\n'
            '[saga.options]\napi_key = "${env:KEY}"\nca = "ca.pem"\n'
            '[services.a]\napp = "a:app"\n[services.b]\napp = "b:app"\n'
            '[services.b.sagas]\nurl = "temporal://127.0.0.1:7/n?tls=true"\n'
        )
        config = load(file, {"KEY": "sesame"})
        place = place_of(config.service("a"), config)
        assert place is not None
        assert (place.api_key, place.files) == ("sesame", {"ca": tmp_path / "ca.pem"})
        assert "sesame" not in repr(config)
        other = place_of(config.service("b"), config)
        assert other is not None
        assert (other.host, other.port) == ("127.0.0.1", 7)
        wrong = load(file, {"KEY": "k", "SWITCHGEAR_SYSTEM_SAGAS": "temporal://host"})
        with pytest.raises(ConfigError, match="names no namespace"):
            place_of(wrong.service("a"), wrong)
