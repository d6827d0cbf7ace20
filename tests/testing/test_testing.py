"""What a test of a service can do, and what it is told when it asks for too much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import httpx
import pytest

from switchgear import (
    Answer,
    Fallback,
    Message,
    OperationError,
    Policy,
    Reason,
    Saga,
    Service,
    Stale,
    StepContext,
    Transaction,
    Unavailable,
    Unknown,
    ask,
    event,
    field,
    query,
    service,
)
from switchgear.testing import NoFake, NotQuiet, testing


class Ask(Message):
    word: str = field(1)


class Said(Message):
    word: str = field(1)


@service("echo.v1")
class Echo(Protocol):
    @query("GET /v1/say/{word}")
    async def say(self, request: Ask) -> Said: ...

    @query("GET /v1/repeat/{word}")
    def repeat(self, request: Ask) -> AsyncIterator[Said]: ...


@service("hall.v1")
class Hall(Protocol):
    @query("GET /v1/call/{word}")
    async def call(self, request: Ask) -> Said: ...


@event("echo.words", key="word")
class Heard(Message):
    word: str = field(1)


class Wall(Echo):
    """A fake that answers, until it is told not to."""

    def __init__(self) -> None:
        self.asked = 0
        self.fails: Exception | None = None

    async def say(self, request: Ask) -> Said:
        self.asked += 1
        if self.fails is not None:
            raise self.fails
        return Said(word=request.word.upper())

    async def repeat(self, request: Ask) -> AsyncIterator[Said]:
        for letter in request.word:
            yield Said(word=letter)


def hall(policy: Policy | None = None) -> tuple[Service, Echo]:
    app = Service("hall")
    echo = app.calls(Echo, policy)

    @app.serves
    class Handler(Hall):
        async def call(self, request: Ask) -> Said:
            return await echo.say(request)

    return app, echo


async def test_a_fake_answers() -> None:
    app, echo = hall()
    async with testing(app, fakes={Echo: Wall()}) as t:
        assert await t.client(Hall).call(Ask(word="hey")) == Said(word="HEY")
        assert [one.word async for one in echo.repeat(Ask(word="ab"))] == ["a", "b"]


async def test_nothing_is_retried_and_nothing_opens() -> None:
    app, _ = hall()
    wall = Wall()
    wall.fails = Unavailable("gone", reason=Reason.CONNECT)
    async with testing(app, fakes={Echo: wall}) as t:
        for number in range(1, 31):
            with pytest.raises((Unavailable, Unknown)):
                await t.client(Hall).call(Ask(word="hey"))
            assert wall.asked == number


async def test_deadline_and_fallback_stay() -> None:
    app, echo = hall(Policy(deadline=20.0, fallback=Fallback(stale=Stale(max_age=60))))
    wall = Wall()
    async with testing(app, fakes={Echo: wall}):
        fresh: Answer[Said] = await ask(echo.say, Ask(word="hey"))
        assert (fresh.value.word, fresh.degraded) == ("HEY", False)
        wall.fails = Unavailable("gone", reason=Reason.CONNECT)
        stale = await ask(echo.say, Ask(word="hey"))
        assert (stale.value.word, stale.degraded) == ("HEY", True)


async def test_a_missing_fake_is_named() -> None:
    app, echo = hall()
    async with testing(app):
        with pytest.raises(NoFake, match=r"echo\.v1\.Echo/say .*testing\(app, fakes={Echo: "):
            await echo.say(Ask(word="hey"))
        with pytest.raises(NoFake):
            _ = [one async for one in echo.repeat(Ask(word="hey"))]


async def test_a_fake_of_something_else_is_refused() -> None:
    app, _ = hall()

    class Other(Hall):
        async def call(self, request: Ask) -> Said:
            return Said(word="")

    with pytest.raises(OperationError, match=r"hall does not call hall\.v1\.Hall\. It calls: echo"):
        async with testing(app, fakes={Hall: Other()}):
            pass


async def test_what_is_not_served_or_not_reacted_to_is_said() -> None:
    app, _ = hall()
    async with testing(app, fakes={Echo: Wall()}) as t:
        with pytest.raises(OperationError, match=r"hall does not serve echo\.v1\.Echo"):
            t.client(Echo)
        with pytest.raises(OperationError, match="hall does not react to echo"):
            await t.deliver(Heard(word="hey"))


async def test_a_value_that_could_not_travel_fails_here_too() -> None:
    app, echo = hall()
    async with testing(app, fakes={Echo: Wall()}):
        with pytest.raises(Exception, match="word"):
            await echo.say(Ask(word=3))  # type: ignore[arg-type]


async def test_the_rest_door_is_there_without_a_socket() -> None:
    app, _ = hall()
    async with testing(app, fakes={Echo: Wall()}) as t:
        transport = httpx.ASGITransport(t.asgi)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (await client.get("/v1/call/hey")).json() == {"word": "HEY"}
            assert (await client.get("/readyz")).status_code == 200


async def test_what_never_comes_to_rest_is_said() -> None:
    app = Service("ear")

    @app.on(Heard, name="listen", on_failure="block_key")
    async def listen(event: Heard, tx: Transaction) -> None:
        raise ValueError("too loud")

    async with testing(app) as t:
        with pytest.raises(NotQuiet, match=r"not quiet after 0\.3 s: ear\.listen has 1 event"):
            await asyncio.wait_for(t.deliver(Heard(word="hey"), within=0.3), 60)


async def test_an_event_leads_to_another() -> None:
    app = Service("ear")

    @app.on(Heard, name="listen", on_failure="park_key")
    async def listen(event: Heard, tx: Transaction) -> None:
        if event.word != "echo":
            tx.publish(Heard(word="echo"))

    async with testing(app) as t:
        await t.deliver(Heard(word="hey"))
        assert t.published == [Heard(word="echo")]


async def test_hours_of_a_saga_pass_at_once(tmp_path: Path) -> None:
    app = Service("clerk")
    (tmp_path / "ask.md").write_text("Ask around.")
    claim = Saga("claim", version=1, deadline=timedelta(days=30))
    tries: list[int] = []

    @claim.retriable(give_up=timedelta(days=7), runbook=str(tmp_path / "ask.md"))
    async def send(order: Said, ctx: StepContext) -> None:
        tries.append(ctx.attempt)
        if order.word == "late" and len(tries) < 12:
            raise OSError("closed")
        if order.word == "never":
            raise OSError("gone")

    claim.path(send)
    app.runs(claim)
    async with testing(app) as t:
        async with t.transaction() as tx:
            late = await tx.start(claim, Said(word="late"), id="late")
        await t.settle()
        assert (await late.state()).status == "done"
        assert tries == list(range(1, 13))
        async with t.transaction() as tx:
            never = await tx.start(claim, Said(word="never"), id="never")
        await t.settle()
        assert (await never.state()).status == "queued"
