"""How a service encodes what it publishes; both encodings are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from switchgear import Message, Service, event, field
from switchgear.config import Config, load
from switchgear.errors import EventDeclarationError
from switchgear.testing import testing


@event("formats.noted", key="id")
class Noted(Message, package="formats.v1"):
    id: str = field(1)


@pytest.mark.parametrize(
    ("form", "media"), [("json", b"application/json"), ("protobuf", b"application/protobuf")]
)
async def test_the_service_says_how_its_events_are_encoded(form: str, media: bytes) -> None:
    app = Service("formats", event_format=form)  # type: ignore[arg-type]
    seen: list[Noted] = []

    @app.on(Noted, name="read", on_failure="skip")
    async def read(noted: Noted) -> None:
        seen.append(noted)

    async with testing(app) as running:
        assert media in app.runtime.bus.prepare(Noted(id="1")).headers
        async with app.transaction() as tx:
            tx.publish(Noted(id="1"))
        await running.settle()
    assert seen == [Noted(id="1")]


async def test_another_encoding_is_refused() -> None:
    app = Service("formats", event_format="xml")  # type: ignore[arg-type]
    with pytest.raises(EventDeclarationError, match="Choose json or protobuf"):
        async with testing(app):
            pass


SETTINGS = """
[system]
broker = "sqlite:///broker.db"
[services.formats]
app = "formats:app"
database = "sqlite:///formats.db"
[services.formats.events]
mode = "structured"
keep = {keep}
"""


def settings(folder: Path, keep: float) -> Config:
    (folder / "switchgear.toml").write_text(SETTINGS.format(keep=keep))
    return load(folder / "switchgear.toml", {})


async def test_the_mode_is_set_in_the_systems_file(tmp_path: Path) -> None:
    app = Service("formats")
    seen: list[Noted] = []

    @app.on(Noted, name="read", on_failure="skip")
    async def read(noted: Noted) -> None:
        seen.append(noted)

    async with testing(app, config=settings(tmp_path, 30 * 86_400.0)) as running:
        prepared = app.runtime.bus.prepare(Noted(id="1"))
        assert b"application/cloudevents+json" in prepared.headers
        async with app.transaction() as tx:
            tx.publish(Noted(id="1"))
        await running.settle()
    assert seen == [Noted(id="1")]


async def test_an_inbox_that_forgets_too_soon_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EventDeclarationError, match="the inbox forgets after 1:00:00"):
        async with testing(Service("formats"), config=settings(tmp_path, 3600.0)):
            pass
