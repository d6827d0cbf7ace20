"""The load is open: requests are due at their times, whatever became of the ones before."""

import asyncio
from random import Random

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from switchgear.drills.load import Answer, Visitors, at_random, evenly, offer


def test_even_times():
    assert evenly(4.0, 1.0) == [0.0, 0.25, 0.5, 0.75]


def test_random_times_come_at_the_rate_and_are_repeatable():
    times = at_random(100.0, 5000, Random(1))
    assert times == at_random(100.0, 5000, Random(1))
    assert times == sorted(times)
    assert times[-1] == pytest.approx(50, rel=0.05)


async def test_a_slow_answer_holds_nobody_else_up():
    began = []
    release = asyncio.Event()

    async def ask(number: int) -> Answer:
        began.append(number)
        if number == 2:
            release.set()
        await release.wait()
        return Answer(200, number)

    samples = await asyncio.wait_for(offer([0.0, 0.01, 0.02], ask), 60)
    assert began == [0, 1, 2]
    assert [sample.answer.body for sample in samples] == [0, 1, 2]
    assert samples[0].took > samples[2].took


async def test_visitors_tell_an_answer_from_none_and_leave_when_they_have_waited_enough():
    async def never(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async def page(_: web.Request) -> web.Response:
        return web.json_response({"n": 1})

    async def down(_: web.Request) -> web.Response:
        return web.Response(status=503, text="sorry")

    app = web.Application()
    app.add_routes([web.get("/page", page), web.get("/down", down), web.get("/never", never)])
    async with TestServer(app) as server, Visitors(5.0) as visitors:
        assert await visitors.get(str(server.make_url("/page"))) == Answer(200, {"n": 1})
        assert await visitors.get(str(server.make_url("/down"))) == Answer(503, "sorry")
        assert not (await visitors.get(str(server.make_url("/down")))).good
        assert await visitors.get(str(server.make_url("/never")), patience=0.1) == Answer(0)
        assert await visitors.post("http://127.0.0.1:9/nobody", {}) == Answer(0)
