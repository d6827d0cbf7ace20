"""The gRPC door, as foreign clients see it: stubs that protoc made from the exported `.proto`."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import socket
import sys
from pathlib import Path

import google.rpc
import grpc
import grpc_tools
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_status import rpc_status
from grpc_tools import protoc

from switchgear.contract.export import proto_files
from switchgear.errors import OperationError
from switchgear.model.outcome import Rejected, Status
from switchgear.serve.dispatch import Dispatcher
from switchgear.serve.grpc import Grpc
from tests.patience import longer
from tests.serve.world import Handler, Inventory, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """The modules that protoc generates: messages, stubs."""
    folder = tmp_path_factory.mktemp("generated")
    texts = proto_files(Inventory)
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    common = Path(next(iter(google.rpc.__path__))).parents[1]
    paths = [f"-I{one}" for one in (folder, well_known, common)]
    outputs = [f"--python_out={folder}", f"--grpc_python_out={folder}"]
    assert protoc.main(["protoc", *paths, *outputs, *texts]) == 0
    sys.path.insert(0, str(folder))
    try:
        messages = [importlib.import_module(name.replace("/", ".")[:-6] + "_pb2") for name in texts]
        stubs = importlib.import_module("acme.inventory.v1_pb2_grpc")
        yield next(one for one in messages if hasattr(one, "Reserve")), stubs
    finally:
        sys.path.remove(str(folder))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server():
    async with serving() as served:
        yield served


@pytest.fixture
def world(server):
    server.handler.reset()
    return server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channel(server):
    async with grpc.aio.insecure_channel(server.grpc.removeprefix("grpc://")) as channel:
        yield channel


@pytest.fixture
def stub(world, channel, generated):
    return generated[1].InventoryStub(channel)


@pytest.fixture
def pb(generated):
    return generated[0]


async def failure(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def details_of(error):
    return rpc_status.from_call(error).details


async def test_a_foreign_stub_is_understood(stub, pb):
    order = pb.Reserve(order_id="1", lines=[pb.Line(sku="tea", quantity=2)], colour=pb.RED)
    reply = await stub.Reserve(order)
    assert (reply.order_id, reply.pieces) == ("1", 2)
    assert (await stub.Stock(pb.GetStock(sku="tea", least=7))).available == 7


async def test_a_refusal_is_an_any_that_holds_it(stub, pb):
    order = pb.Reserve(order_id="1", lines=[pb.Line(sku="gone", quantity=2)])
    error = await failure(stub.Reserve(order))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    held = pb.OutOfStock()
    (detail,) = details_of(error)
    assert detail.Unpack(held)
    assert held == pb.OutOfStock(sku="gone", available=3)


async def test_bytes_that_are_not_protobuf_are_invalid(world, channel):
    call = channel.unary_unary("/acme.inventory.v1.Inventory/Stock")
    for data, field in ((b"\xff\xff\xff", ""), (b"\x0a\x01\xff", None)):
        error = await failure(call(data))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        assert [one.Unpack(bad) or one.Unpack(info) for one in details_of(error)] == [True, True]
        assert (info.reason, info.domain) == ("SG411", "switchgear")
        assert field is None or bad.field_violations[0].field == field
    assert world.handler.ran == []


async def test_a_missing_message_names_its_field(channel):
    from switchgear.serve.failure import Failure
    from switchgear.serve.status import details

    status = details(Failure(Status.INVALID_ARGUMENT, "SG411", "wrong", pointer="/lines/0/a~1b"))
    assert b"lines[0].a/b" in status


async def test_an_unknown_method_is_unimplemented(world, channel):
    error = await failure(channel.unary_unary("/acme.inventory.v1.Inventory/Nothing")(b""))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_message_over_the_limit_is_resource_exhausted(pb, generated):
    async with serving(grpc={"limit": 1000}) as small:
        target = small.grpc.removeprefix("grpc://")
        async with grpc.aio.insecure_channel(target) as channel:
            stub = generated[1].InventoryStub(channel)
            error = await failure(stub.Do(pb.Do(what="x" * 1001)))
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert small.handler.ran == []


async def test_an_exception_is_internal_with_an_id_that_is_in_the_log(stub, pb, caplog):
    for what in ("raise", "refuse", "rejected", "wrong", "unknown"):
        caplog.clear()
        error = await failure(stub.Do(pb.Do(what=what)))
        assert error.code() is grpc.StatusCode.INTERNAL
        info = error_details_pb2.ErrorInfo()
        (detail,) = details_of(error)
        assert detail.Unpack(info)
        assert info.metadata["id"] in caplog.text
        assert "hunter2" not in f"{error.details()}{detail}"
        assert "switchgear-outcome" not in dict(error.trailing_metadata())


async def test_a_dependency_that_is_not_available_has_no_mark(stub, pb):
    error = await failure(stub.Do(pb.Do(what="unavailable")))
    trailers = dict(error.trailing_metadata())
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "switchgear-outcome" not in trailers
    assert trailers["switchgear-retry"] == "no"


async def test_a_deadline_cancels_the_handler(world, stub, pb):
    for timeout in longer(1.0):
        error = await failure(stub.Do(pb.Do(what="wait"), timeout=timeout))
        if world.handler.began.is_set():
            break
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(world.handler.cancelled.wait(), 60)


async def test_a_deadline_that_has_passed_runs_nothing(world):
    # a client's own library gives up first: so the server is asked below it
    for timeout, ran in (("60S", ["stock"]), ("0n", [])):
        world.handler.reset()
        host, port = world.grpc.removeprefix("grpc://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request_with_timeout(timeout))
        data = b""
        while b"grpc-status" not in data:
            data += await asyncio.wait_for(reader.read(65536), 60)
        writer.close()
        assert world.handler.ran == ran


async def test_the_server_keeps_the_deadline_by_itself(world):
    host, port = world.grpc.removeprefix("grpc://").split(":")
    for timeout in longer(1.0):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(request_with_timeout(f"{timeout:.0f}S", "Do", b"\x0a\x04wait"))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(world.handler.began.wait(), timeout + 1)
        if world.handler.began.is_set():
            break
        writer.close()
    # nobody cancels: the client of this test only listens
    await asyncio.wait_for(world.handler.cancelled.wait(), 120)
    writer.close()


def request_with_timeout(timeout, method="Stock", message=b"\x0a\x03tea"):
    """An HTTP/2 connection with one gRPC request, written by hand."""

    def literal(name, value):
        return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()

    def frame(kind, flags, stream, payload):
        head = len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4)
        return head + payload

    block = b"\x83\x86" + literal(":path", f"/acme.inventory.v1.Inventory/{method}")
    block += literal(":authority", "x") + literal("te", "trailers")
    block += literal("content-type", "application/grpc") + literal("grpc-timeout", timeout)
    return (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + frame(4, 0, 0, b"")
        + frame(1, 4, 1, block)
        + frame(0, 1, 1, b"\x00" + len(message).to_bytes(4) + message)
    )


async def test_a_client_that_cancels_cancels_the_handler(world, stub, pb):
    call = stub.Do(pb.Do(what="wait"))
    await world.handler.began.wait()
    call.cancel()
    await asyncio.wait_for(world.handler.cancelled.wait(), 60)


async def test_what_rides_along(stub, pb):
    metadata = (
        ("switchgear-attempt", "2"),
        ("switchgear-caller", "orders"),
        ("switchgear-priority", "sheddable"),
        ("idempotency-key", "k1"),
    )
    seen = await stub.SeenKeyed(pb.Empty(), metadata=metadata, timeout=60)
    assert (seen.attempt, seen.caller, seen.priority, seen.key) == (2, "orders", "sheddable", "k1")
    assert 30 < seen.left < 60.1
    assert not (await stub.Seen(pb.Empty(), metadata=metadata)).HasField("left")


async def test_a_stream(world, stub, pb):
    assert [one.available async for one in stub.Watch(pb.GetStock(sku="tea"))] == [0, 1, 2]
    call = stub.Watch(pb.GetStock(sku="gone"))
    assert [(await call.read()).available for _ in range(2)] == [0, 1]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    held = pb.OutOfStock()
    assert details_of(caught.value)[0].Unpack(held)
    call = stub.Watch(pb.GetStock(sku="endless"))
    await call.read()
    call.cancel()
    await asyncio.wait_for(world.handler.cancelled.wait(), 60)


async def test_before_hooks_reject(pb, generated):
    async def authenticate(request):
        if "authorization" not in request.headers:
            raise Rejected("Say who you are.", status=Status.UNAUTHENTICATED)
        assert request.peer.startswith("ipv4:127.0.0.1")
        return "alice"

    async with serving(before=[authenticate]) as own:
        target = own.grpc.removeprefix("grpc://")
        async with grpc.aio.insecure_channel(target) as channel:
            stub = generated[1].InventoryStub(channel)
            error = await failure(stub.Seen(pb.Empty()))
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
            # nothing is read of who may not ask
            broken = channel.unary_unary("/acme.inventory.v1.Inventory/Do")(b"\xff")
            assert (await failure(broken)).code() is grpc.StatusCode.UNAUTHENTICATED
            seen = await stub.Seen(pb.Empty(), metadata=(("authorization", "x"),))
            assert seen.caller == "alice"


async def test_health_tells_when_it_drains():
    grpc_door = Grpc(Dispatcher([Handler()]))
    port = await grpc_door.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "acme.inventory.v1.Inventory"):
            reply = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
        watch = health.Watch(health_pb2.HealthCheckRequest(service=""))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        stopping = asyncio.create_task(grpc_door.stop(60))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        await stopping


async def test_what_runs_is_finished_before_the_door_closes(pb, generated):
    handler = Handler()
    grpc_door = Grpc(Dispatcher([handler]))
    port = await grpc_door.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = generated[1].InventoryStub(channel).Do(pb.Do(what="wait"))
        await handler.began.wait()
        stopping = asyncio.create_task(grpc_door.stop(60))
        await asyncio.sleep(0.02)
        handler.release.set()
        assert await call == pb.Empty()
        await stopping


async def test_reflection_knows_the_contract(world):
    def ask():
        # the reflection client of grpcio is synchronous
        with grpc.insecure_channel(world.grpc.removeprefix("grpc://")) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            services = set(database.get_services())
            file = database.FindFileContainingSymbol("acme.inventory.v1.Inventory")
            stock = database.FindFileContainingSymbol("acme.stock.v1.OutOfStock")
            return services, file, stock

    services, file, stock = await asyncio.to_thread(ask)
    assert {"acme.inventory.v1.Inventory", "grpc.health.v1.Health"} <= services
    assert "Reserve" in [method.name for method in file.service[0].method]
    assert "OutOfStock" in [message.name for message in stock.message_type]


async def test_reflection_has_its_newer_name_too(channel, world):
    from grpc_reflection.v1alpha import reflection_pb2

    call = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    answers = call(iter([reflection_pb2.ServerReflectionRequest(list_services="*")]))
    answer = await answers.read()
    assert len(answer.list_services_response.service) == 3


async def test_a_port_in_use_is_said_so():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OperationError, match="cannot listen"):
            await Grpc(Dispatcher([Handler()])).start(port=taken.getsockname()[1])
