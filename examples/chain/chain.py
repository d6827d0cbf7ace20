"""N services in a row, one file: each asks the next, and the last one answers.

`CHAIN_GUARDS=off` gives every link what most systems have: three attempts in a loop, and nothing
else. `CHAIN_RETRIES=off` and `CHAIN_BREAKER=off` take one guard away. `CHAIN_FAILS` is the share
of requests that a link fails, `CHAIN_WORK` the mean of its own work in seconds (exponential),
`CHAIN_SEED` makes both repeatable.
"""

import asyncio
import os
import random
from typing import Protocol

from switchgear import (
    Message,
    Policy,
    Service,
    Transaction,
    Unavailable,
    Unknown,
    event,
    field,
    query,
    service,
)

LENGTH = 5
NAIVE = os.environ.get("CHAIN_GUARDS") == "off"
FAILS = float(os.environ.get("CHAIN_FAILS", "0"))
WORK = float(os.environ.get("CHAIN_WORK", "0"))


class Question(Message):
    number: int = field(1)


class Reply(Message):
    links: int = field(1)
    """How many services took part."""


class GetCount(Message):
    pass


class Count(Message):
    requests: int = field(1)


@service("chain.v1")
class Link(Protocol):
    """One link of the chain."""

    @query("GET /v1/answer/{number}")
    async def answer(self, request: Question) -> Reply:
        """Answer, with the help of the links behind."""
        ...

    @query("GET /v1/count")
    async def count(self, request: GetCount) -> Count:
        """Tell how many questions have reached this link."""
        ...


@event("chain.asked", key="number")
class Asked(Message):
    """The same question, as an event: every link hears it, and nobody waits for another."""

    number: int = field(1)


def policy() -> Policy:
    """Return what a link calls the next one with."""
    if NAIVE:
        return Policy.none(reason="the link repeats by hand, as most systems do: see `repeated`")
    if os.environ.get("CHAIN_RETRIES") == "off":
        return Policy(retry=None, breaker=None, limit=None)
    if os.environ.get("CHAIN_BREAKER") == "off":
        return Policy(breaker=None)
    return Policy()


async def repeated(behind: Link, request: Question) -> Reply:
    """Ask three times before giving up, knowing nothing of who else does the same."""
    for _ in range(2):
        try:
            return await behind.answer(request)
        except (Unavailable, Unknown):
            await asyncio.sleep(0.05)
    return await behind.answer(request)


class LinkFailed(Exception):
    """The failure that was asked for."""


def link(number: int) -> Service:
    """Return the service `link<number>`; the last one is the leaf."""
    app = Service(f"link{number}")
    behind = app.calls(Link, policy()) if number < LENGTH else None
    chance = random.Random(f"{os.environ.get('CHAIN_SEED', '0')}/{number}")  # noqa: S311  no secret
    asked = 0

    async def work() -> None:
        # both are drawn before the pause, so that the same seed gives the same sequence
        pause, fails = chance.expovariate(1 / WORK) if WORK else 0.0, chance.random() < FAILS
        await asyncio.sleep(pause)
        if fails:
            raise LinkFailed

    @app.serves
    class Handler(Link):
        async def answer(self, request: Question) -> Reply:
            nonlocal asked
            asked += 1
            await work()
            if behind is None:
                return Reply(links=1)
            reply = await (repeated(behind, request) if NAIVE else behind.answer(request))
            return Reply(links=reply.links + 1)

        async def count(self, request: GetCount) -> Count:
            return Count(requests=asked)

    @app.on(Asked, name="answer", on_failure="block_key")
    async def answer(event: Asked, tx: Transaction) -> None:
        await work()

    return app


link1, link2, link3, link4, link5 = (link(number) for number in range(1, LENGTH + 1))
