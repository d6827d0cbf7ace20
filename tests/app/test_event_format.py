"""How a service encodes what it publishes; both encodings are read."""

from __future__ import annotations

import pytest

from switchgear import Message, Service, event, field
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
