"""Admission at real doors: foreign clients overload a service whose workers are counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from time import monotonic
from typing import Protocol

import aiohttp
import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from switchgear.call.ask import ask
from switchgear.call.client import connect
from switchgear.contract.message import Message, field
from switchgear.contract.service import command, contract_of, query, service
from switchgear.errors import PolicyError
from switchgear.model.context import Context, Priority, bind, current
from switchgear.model.outcome import Reason, Rejected, Status, Unavailable, Unknown
from switchgear.model.signal import SignalKind, subscribe
from switchgear.policy.adaptive import Aimd
from switchgear.policy.admission import Admission
from switchgear.policy.policy import Policy
from switchgear.serve.dispatch import Dispatcher
from tests.serve.world import Handler as Stock
from tests.serve.world import serving


class Work(Message, package="acme.work.v1"):
    name: str = field(1, default="")


class Done(Message, package="acme.work.v1"):
    priority: str = field(1)


@service("acme.work.v1")
class Desk(Protocol):
    @query("GET /v1/work")
    async def work(self, request: Work) -> Done: ...

    @command("POST /v1/pay")
    async def pay(self, request: Work) -> Done: ...

    @query("GET /v1/report")
    async def report(self, request: Work) -> Done: ...

    @query("GET /v1/feed")
    def feed(self, request: Work) -> AsyncIterator[Done]: ...
    @command()
    async def collect(self, requests: AsyncIterator[Work]) -> Done: ...


class Worker(Desk):
    """Has four pairs of hands: more than that at once, and each takes longer in proportion."""

    def __init__(self, seconds: float = 0.02) -> None:
        self.seconds = seconds
        self.ran: list[str] = []
        self.inside = self.most = 0
        self.release = asyncio.Event()
        self._hands = asyncio.Semaphore(4)

    async def work(self, request: Work) -> Done:
        self.ran.append(request.name)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            if request.name == "hold":
                await self.release.wait()
            else:
                async with self._hands:
                    await asyncio.sleep(self.seconds)
        finally:
            self.inside -= 1
        return Done(priority=current().priority)

    async def pay(self, request: Work) -> Done:
        return await self.work(request)

    async def report(self, request: Work) -> Done:
        return await self.work(request)

    async def collect(self, requests: AsyncIterator[Work]) -> Done:
        names = [request.name async for request in requests]
        return Done(priority="".join(names))

    async def feed(self, request: Work) -> AsyncIterator[Done]:
        self.ran.append(request.name)
        yield Done(priority=current().priority)
        await self.release.wait()
        yield Done(priority="released")


ONE = Admission(concurrency=1, queue=0)


async def test_over_http_an_overload_is_429_with_the_mark_and_when_to_come_back():
    worker = Worker()
    async with serving(worker, admission=ONE) as served:
        async with httpx.AsyncClient(base_url=served.http, timeout=60) as http:
            holder = asyncio.create_task(http.get("/v1/work?name=hold"))
            while not worker.inside:
                await asyncio.sleep(0.001)
            answer = await http.get("/v1/work")
            assert answer.status_code == 429
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["switchgear-outcome"] == "not-executed"
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["type"] == "urn:switchgear:error:SG301"
            assert "too much to do" in answer.json()["detail"]
            # health and documents are no operations
            for path in ("/livez", "/readyz", "/openapi.json", "/docs"):
                assert (await http.get(path)).status_code == 200
            worker.release.set()
            assert (await holder).status_code == 200
            assert (await http.get("/v1/work")).status_code == 200
    assert worker.ran == ["hold", ""]


async def test_over_grpc_an_overload_is_resource_exhausted_with_pushback_and_the_mark():
    worker = Worker()
    admission = Admission(concurrency=1, queue=0, retry_after=0.25)
    async with serving(worker, admission=admission) as served:
        async with grpc.aio.insecure_channel(served.grpc.removeprefix("grpc://")) as channel:
            ask = channel.unary_unary("/acme.work.v1.Desk/Work")
            holder = ask(b"\x0a\x04hold")
            while not worker.inside:
                await asyncio.sleep(0.001)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await ask(b"")
            trailers = dict(refused.value.trailing_metadata())
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert trailers["grpc-retry-pushback-ms"] == "250"
            assert trailers["switchgear-outcome"] == "not-executed"
            health = health_pb2_grpc.HealthStub(channel)
            told = await health.Check(health_pb2.HealthCheckRequest())
            assert told.status == health_pb2.HealthCheckResponse.SERVING
            worker.release.set()
            await holder


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_our_client_hears_that_nothing_was_done_and_when_to_come_back(scheme):
    worker = Worker()
    async with serving(worker, admission=ONE) as served:
        async with connect(Desk, served.url(scheme), Policy(retry=None, deadline=60)) as desk:
            holder = asyncio.create_task(desk.work(Work(name="hold")))
            while not worker.inside:
                await asyncio.sleep(0.001)
            with pytest.raises(Unavailable) as away:
                await desk.pay(Work())
            assert (away.value.reason, away.value.retry_after) == (Reason.NOT_EXECUTED, 1.0)
            worker.release.set()
            await holder


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_streams_are_admitted_and_turned_away_alike(scheme):
    worker = Worker()
    async with serving(worker, admission=ONE) as served:
        async with connect(Desk, served.url(scheme), Policy(retry=None, deadline=60)) as desk:
            feed = desk.feed(Work(name="first"))
            assert (await anext(feed)).priority == "default"
            with pytest.raises(Unavailable):
                await anext(desk.feed(Work(name="second")))
            with pytest.raises(Unavailable):
                await desk.work(Work(name="third"))
            worker.release.set()
            assert (await anext(feed)).priority == "released"
            with pytest.raises(StopAsyncIteration):
                await anext(feed)
            assert (await desk.work(Work(name="fourth"))).priority == "default"
    assert worker.ran == ["first", "fourth"]


async def test_a_foreign_stream_that_is_turned_away_has_a_status_of_its_own():
    worker = Worker()
    async with serving(worker, admission=ONE) as served:
        async with aiohttp.ClientSession(served.http) as http:
            async with http.get("/v1/feed") as open_one:
                await open_one.content.readline()
                async with http.get("/v1/feed") as away:
                    assert (away.status, away.headers["retry-after"]) == (429, "1")
            worker.release.set()


async def test_work_that_expires_in_the_queue_never_reaches_the_handler():
    worker = Worker()
    admission = Admission(concurrency=1, interval=30, target=30)
    async with serving(worker, admission=admission) as served:
        async with httpx.AsyncClient(base_url=served.http, timeout=60) as http:
            holder = asyncio.create_task(http.get("/v1/work?name=hold"))
            while not worker.inside:
                await asyncio.sleep(0.001)
            late = {"switchgear-timeout": "50"}
            answer = await http.get("/v1/work?name=late", headers=late)
            assert answer.status_code == 504
            assert answer.headers["switchgear-outcome"] == "not-executed"
            assert (
                await http.get("/v1/work", headers={"switchgear-timeout": "0"})
            ).status_code == 504
            worker.release.set()
            await holder
        async with grpc.aio.insecure_channel(served.grpc.removeprefix("grpc://")) as channel:
            ask = channel.unary_unary("/acme.work.v1.Desk/Work")
            worker.release.clear()
            holder = ask(b"\x0a\x04hold")
            while not worker.inside:
                await asyncio.sleep(0.001)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await ask(b"\x0a\x04late", timeout=0.05)
            assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            worker.release.set()
            await holder
            # the place of the one that left is not lost
            await ask(b"\x0a\x05after", timeout=60)
    assert worker.ran == ["hold", "hold", "after"]


async def test_who_hangs_up_in_the_queue_leaves_it():
    worker = Worker()
    admission = Admission(concurrency=1, queue=1, interval=30, target=30)
    async with serving(worker, admission=admission) as served:
        turnstile = served.dispatcher._desks["acme.work.v1.Desk/work"].turnstile
        async with grpc.aio.insecure_channel(served.grpc.removeprefix("grpc://")) as channel:
            ask = channel.unary_unary("/acme.work.v1.Desk/Work")
            holder = ask(b"\x0a\x04hold")
            while not worker.inside:
                await asyncio.sleep(0.001)
            gone = ask(b"\x0a\x04gone")
            while not turnstile.waiting:
                await asyncio.sleep(0.001)
            gone.cancel()
            while turnstile.waiting:
                await asyncio.sleep(0.01)
            waiting = ask(b"\x0a\x07waiting")
            while not turnstile.waiting:
                await asyncio.sleep(0.001)
            worker.release.set()
            await holder
            await waiting
        assert (turnstile.in_flight, turnstile.waiting) == (0, 0)
    assert worker.ran == ["hold", "waiting"]


async def test_a_body_that_does_not_come_gives_its_place_back():
    worker = Worker()
    async with serving(worker, admission=ONE) as served:
        turnstile = served.dispatcher._desks["acme.work.v1.Desk/pay"].turnstile
        host, port = served.http.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /v1/pay HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: 10\r\n\r\n{"
        )
        while not turnstile.in_flight:
            await asyncio.sleep(0.001)
        writer.close()
        while turnstile.in_flight:
            await asyncio.sleep(0.001)
    assert worker.ran == []


async def test_an_overload_from_outside_leaves_goodput_up_and_critical_requests_served():
    # 80 a second at most: fewer than any machine can ask for
    worker = Worker(seconds=0.05)
    admission = Admission(
        concurrency=4,
        queue=20,
        reserve=0.25,
        operations={"pay": Priority.CRITICAL, "report": Priority.SHEDDABLE},
    )
    statuses: dict[str, Counter[int]] = {path: Counter() for path in ("work", "pay", "report")}
    heard = []
    async with serving(worker, admission=admission) as served:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(served.http, connector=connector) as http:
            end = monotonic() + 1.5

            def enough():
                """For as long as it takes on a machine that is slow."""
                asked = {path: sum(seen.values()) for path, seen in statuses.items()}
                some = asked["report"] > 100 and asked["pay"] > 20
                return monotonic() > end and some and statuses["work"][200] > 10

            async def keep_asking(path, pause):
                while not enough():
                    method = http.post if path == "pay" else http.get
                    json = {} if path == "pay" else None
                    async with method(f"/v1/{path}", json=json) as answer:
                        statuses[path][answer.status] += 1
                    await asyncio.sleep(pause)

            with subscribe(heard.append):
                async with asyncio.TaskGroup() as tasks:
                    for _ in range(24):
                        tasks.create_task(keep_asking("work", 0.005))
                    for _ in range(8):
                        tasks.create_task(keep_asking("report", 0.005))
                    tasks.create_task(keep_asking("pay", 0.02))
    # nobody was answered anything else, and never were more in progress than there are places
    for path, seen in statuses.items():
        assert set(seen) <= {200, 429}, (path, seen)
    assert worker.most <= 4
    done = sum(seen[200] for seen in statuses.values())
    shed = sum(seen[429] for seen in statuses.values())
    assert shed > 0
    assert done == len(worker.ran)
    # the critical ones get through rather than the others, and the sheddable ones last
    kept = {path: seen[200] / sum(seen.values()) for path, seen in statuses.items()}
    assert kept["report"] < kept["work"] < kept["pay"]
    kinds = Counter(signal.kind for signal in heard)
    assert kinds[SignalKind.REQUEST_SHED] == shed
    assert kinds[SignalKind.ADMISSION_OVERLOADED] >= 1
    one = next(signal for signal in heard if signal.kind is SignalKind.REQUEST_SHED)
    assert one.subject.startswith("acme.work.v1.Desk/")
    assert one.detail["reason"] in ("queue-full", "waited", "sheddable")


async def test_what_a_priority_header_is_worth():
    async with serving(
        Worker(), admission=Admission(operations={"pay": Priority.CRITICAL})
    ) as served:
        async with httpx.AsyncClient(base_url=served.http, timeout=60) as http:

            async def seen(path, hint, method="GET"):
                headers = {"switchgear-priority": hint} if hint else {}
                json = {} if method == "POST" else None
                answer = await http.request(method, f"/v1/{path}", headers=headers, json=json)
                return answer.json()["priority"]

            assert await seen("work", "critical") == "default"
            assert await seen("work", "sheddable") == "sheddable"
            assert await seen("work", None) == "default"
            assert await seen("pay", None, "POST") == "critical"
            assert await seen("pay", "default", "POST") == "critical"
    async with serving(Worker(), admission=Admission(trust="all")) as served:
        async with connect(Desk, served.grpc, Policy(deadline=60)) as desk:
            with bind(Context(priority=Priority.CRITICAL)):
                assert (await desk.work(Work())).priority == "critical"


async def test_a_request_is_admitted_before_its_hooks_run():
    asked = []

    async def authenticate(arrival):
        asked.append(arrival.operation.name)
        raise Rejected("who are you?", status=Status.UNAUTHENTICATED)

    worker = Worker()
    async with serving(worker, admission=ONE, before=[authenticate]) as served:
        desk = served.dispatcher._desks["acme.work.v1.Desk/work"]
        async with httpx.AsyncClient(base_url=served.http, timeout=60) as http:
            assert (await http.get("/v1/work")).status_code == 401
            assert desk.turnstile.in_flight == 0
            desk.turnstile.in_flight = 1
            assert (await http.get("/v1/work")).status_code == 429
    assert asked == ["work"]


async def test_an_operation_with_places_of_its_own_takes_none_from_the_others():
    worker = Worker()
    admission = Admission(concurrency=1, queue=0, operations={"report": ONE})
    async with serving(worker, admission=admission) as served:
        async with connect(Desk, served.http, Policy(retry=None, deadline=60)) as desk:
            holder = asyncio.create_task(desk.report(Work(name="hold")))
            while not worker.inside:
                await asyncio.sleep(0.001)
            with pytest.raises(Unavailable):
                await desk.report(Work())
            await desk.work(Work())
            worker.release.set()
            await holder


async def test_observing_turns_nobody_away_and_says_whom_it_would_have():
    worker, heard = Worker(), []
    admission = Admission(concurrency=1, queue=0, mode="observe")
    async with serving(worker, admission=admission) as served:
        async with connect(Desk, served.grpc, Policy(retry=None, deadline=60)) as desk:
            holder = asyncio.create_task(desk.work(Work(name="hold")))
            while not worker.inside:
                await asyncio.sleep(0.001)
            with subscribe(heard.append):
                await desk.work(Work())
            worker.release.set()
            await holder
    shed = [signal for signal in heard if signal.kind is SignalKind.REQUEST_SHED]
    assert [signal.detail["reason"] for signal in shed] == ["observed"]
    overloaded = [signal for signal in heard if signal.kind is SignalKind.ADMISSION_OVERLOADED]
    assert [(one.subject, one.detail["observed"]) for one in overloaded] == [("service", True)]


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_an_adaptive_limit_is_cut_by_what_overruns_and_not_by_who_leaves(scheme):
    worker = Worker()
    admission = Admission(concurrency=Aimd(initial=10))
    async with serving(worker, admission=admission) as served:
        turnstile = served.dispatcher._desks["acme.work.v1.Desk/work"].turnstile
        async with connect(Desk, served.url(scheme), Policy(retry=None, deadline=30)) as desk:
            leaving = asyncio.create_task(desk.work(Work(name="hold")))
            while not worker.inside:
                await asyncio.sleep(0.001)
            leaving.cancel()
            while turnstile.in_flight:
                await asyncio.sleep(0.01)
            assert turnstile.limit == 10
            # its deadline travels, so the door ends it as well, unless he hangs up just before
            async with asyncio.timeout(60):
                while turnstile.limit == 10:
                    with pytest.raises((Unavailable, Unknown)):
                        await ask(desk.work, Work(name="hold"), deadline=0.2)
                    while turnstile.in_flight:
                        await asyncio.sleep(0.01)
            assert turnstile.limit == 9


async def test_streams_in_either_direction_teach_an_adaptive_limit_nothing():
    worker = Worker()
    worker.release.set()
    admission = Admission(concurrency=Aimd(initial=2, increase=100))
    async with serving(worker, admission=admission) as served:
        turnstile = served.dispatcher._desks["acme.work.v1.Desk/work"].turnstile
        async with connect(Desk, served.grpc, Policy(retry=None, deadline=60)) as desk:

            async def works():
                for name in "abc":
                    yield Work(name=name)

            assert (await desk.collect(works())).priority == "abc"
            assert len([one async for one in desk.feed(Work())]) == 2
            assert (turnstile.in_flight, turnstile.limit) == (0, 2)
            await desk.work(Work())
            assert turnstile.limit == 52


async def test_contracts_share_places_if_they_were_given_the_same_object():
    stock = contract_of(type(Stock()).__mro__[1]).full_name
    desk = contract_of(Desk).full_name
    own = Admission(concurrency=3)
    both = Dispatcher([Worker(), Stock()], admission=own)
    assert len({id(one) for one in both._desks.values()}) == 1
    apart = Dispatcher([Worker(), Stock()], admission=own, admissions={stock: Admission()})
    assert {one.subject for one in apart._desks.values()} == {"service", stock}
    some = Dispatcher([Worker(), Stock()], admissions={desk: own})
    assert set(some._desks) == {
        f"{desk}/{name}" for name in ("work", "pay", "report", "feed", "collect")
    }
    assert not Dispatcher([Worker(), Stock()])._desks


async def test_an_operation_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(
        PolicyError, match=r"names wrok.*There are: collect, feed, pay, report, work"
    ):
        async with serving(Worker(), admission=Admission(operations={"wrok": Priority.CRITICAL})):
            pass
