"""Services in processes of their own: both doors, the drain, the outbox, a death."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from pathlib import Path

import httpx
import pytest

from switchgear.app.up import State, Supervisor, isolated

MODULE = '''
"""A shop of two services, in one file."""

import asyncio
from typing import Protocol

from switchgear import (
    Message, Policy, Service, Transaction, command, event, field, query, service,
)

class Get(Message):
    seconds: float = field(1, default=0.0)

class Count(Message):
    heard: int = field(1)

class Add(Message):
    word: str = field(1)

class Added(Message):
    pass

@service("words.ear.v1")
class Ear(Protocol):
    @query("GET /v1/count")
    async def count(self, request: Get) -> Count: ...

@service("words.mouth.v1")
class Mouth(Protocol):
    @query("GET /v1/heard")
    async def heard(self, request: Get) -> Count: ...
    @command("POST /v1/words", keyed=True)
    async def add(self, request: Add) -> Added: ...

@event("words.said", key="word")
class WordSaid(Message):
    word: str = field(1)

ear = Service("ear", schema=["CREATE TABLE heard (word TEXT)"])

@ear.serves
class EarHandler(Ear):
    async def count(self, request: Get) -> Count:
        await asyncio.sleep(request.seconds)
        async with ear.transaction() as tx:
            rows = await tx.execute("SELECT count(*) FROM heard")
        return Count(heard=rows[0][0])

@ear.on(WordSaid, name="listen", on_failure="block_key")
async def listen(event: WordSaid, tx: Transaction) -> None:
    await tx.execute("INSERT INTO heard VALUES (?)", event.word)

mouth = Service("mouth", schema=["CREATE TABLE said (word TEXT)"])
ask = mouth.calls(Ear, Policy(deadline=60.0))

@mouth.serves
class MouthHandler(Mouth):
    async def heard(self, request: Get) -> Count:
        print("asked", flush=True)
        return await ask.count(request)

    async def add(self, request: Add) -> Added:
        async with mouth.transaction() as tx:
            await tx.execute("INSERT INTO said VALUES (?)", request.word)
            tx.publish(WordSaid(word=request.word))
        return Added()
'''
TOML = """
[system]
drain = 60

[services.ear]
app = "words:ear"
grpc = ":7001"

[services.mouth]
app = "words:mouth"
http = ":8001"
"""


@pytest.fixture
def words(tmp_path: Path) -> Supervisor:
    (tmp_path / "words.py").write_text(MODULE)
    (tmp_path / "switchgear.toml").write_text(TOML)
    return Supervisor(isolated(tmp_path / "switchgear.toml", tmp_path / "data"), restart=True)


async def heard(client: httpx.AsyncClient, seconds: float = 0) -> int:
    answer = await client.get("/v1/heard", params={"seconds": seconds})
    count: int = answer.raise_for_status().json()["heard"]
    return count


async def test_a_system_answers_tells_dies_and_drains(words: Supervisor, tmp_path: Path) -> None:
    async with words as system:
        mouth, ear = system["mouth"], system["ear"]
        assert ear.http is None, "events and gRPC alone: it is ready without a REST door"
        async with httpx.AsyncClient(base_url=f"http://{mouth.http}", timeout=60) as client:
            # found in the module of the other service: nobody wrote down where the ear is
            assert await heard(client) == 0
            await client.post("/v1/words", json={"word": "hey"})
            async with asyncio.timeout(60):
                while await heard(client) < 1:
                    await asyncio.sleep(0.01)

            ear.kill()
            await ear.wait()
            async with asyncio.timeout(60):
                while ear.state is not State.READY:
                    await asyncio.sleep(0.01)
            assert await heard(client) == 1, "handled once, before and after the death"

            words_said = [client.post("/v1/words", json={"word": f"w{n}"}) for n in range(20)]
            answers = await asyncio.gather(*words_said)
            assert all(answer.status_code == 200 for answer in answers)
            before = mouth.logs.count("asked")
            slow = asyncio.create_task(heard(client, 1.0))
            async with asyncio.timeout(60):
                while mouth.logs.count("asked") == before:
                    await asyncio.sleep(0.01)
            assert await mouth.terminate() == 0
            assert await slow >= 1, "in flight when it was told to stop, and answered"
        states = [json.loads(line) for line in mouth.logs if line.startswith("{")]
        assert [one["message"] for one in states][-2:] == ["draining", "stopped"]
        await system["ear"].terminate()
    assert ear.exit_code == 0
    with sqlite3.connect(tmp_path / "data" / "mouth.db") as connection:
        said = connection.execute("SELECT count(*) FROM said").fetchone()[0]
        left = connection.execute("SELECT count(*) FROM switchgear_outbox").fetchone()[0]
    connection.close()
    assert (said, left) == (21, 0), "the outbox was flushed"


async def test_what_is_told_to_stop_while_it_starts_stops(words: Supervisor) -> None:
    mouth = words["mouth"]
    await mouth.start()
    assert await mouth.terminate() in (0, -signal.SIGTERM)
    assert mouth.state is State.STOPPED
