"""A process that carries out keyed requests on a database that it shares with another.

    keyed_worker.py KIND PLACE KEYS DIE_AT STAY_AT FIRST

Each request writes its key and answers with this process's id. In the handler of DIE_AT, after it
has written, the process kills itself with SIGKILL; in that of STAY_AT it waits for a line. If FIRST
is not negative it begins with that number and the three after it, and then waits for a line too.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys

from switchgear.serve.idempotency import Idempotency, InProgress, Keyed, Stored, digest, unit
from tests.serve.conftest import opened


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(kind: str, place: str, keys: int, die_at: int, stay_at: int, first: int) -> None:
    async with opened(kind, place) as database:
        idempotency = Idempotency(database, wait=5)
        await idempotency.migrate()
        say("ready")
        sys.stdin.readline()
        replies: dict[str, str] = {}

        async def buy(number: int) -> None:
            async def work() -> Stored:
                await asyncio.sleep(random.random() / 100)
                async with unit(database) as tx:
                    await tx.run("INSERT INTO done VALUES (?)", f"{number}")
                    if number == die_at:
                        os.kill(os.getpid(), signal.SIGKILL)
                if number == stay_at:
                    say("inside")
                    await asyncio.to_thread(sys.stdin.readline)
                return Stored(str(os.getpid()).encode())

            request = Keyed(digest(f"{number}"), "Shop/buy", f"{number}", b"same", 60.0)
            while True:
                try:
                    stored = await idempotency.run(request, work)
                    break
                except InProgress:
                    continue
            replies[f"{number}"] = stored.body.decode()

        if first >= 0:
            await asyncio.gather(*(buy(number) for number in range(first, first + 4)))
            say("begun")
            sys.stdin.readline()
        order = random.sample(range(keys), keys)
        for begin in range(0, keys, 4):
            await asyncio.gather(*(buy(number) for number in order[begin : begin + 4]))
        say(json.dumps(replies))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))
