"""CloudEvents in both modes: the CloudEvents SDK reads what we send, and we read what it sends."""

import itertools

import msgspec
import pytest
from cloudevents.core.bindings import kafka
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from switchgear.database.sqlite import Sqlite
from switchgear.errors import EventDeclarationError
from switchgear.events.brokers.kafka_client import wire_headers
from switchgear.events.brokers.port import Record
from switchgear.events.bus import Bus
from switchgear.events.outbox import Outbox
from switchgear.events.structured import unpacked
from tests.events.world import OrderPlaced, until

PLACED = OrderPlaced(order_id="7", number=1)


def prepared(**settings):
    row = Outbox("orders", ids=lambda: "id-1", **settings).prepare(PLACED)
    return msgspec.json.decode(row.headers, type=dict[str, str]), row.data


@pytest.mark.parametrize("mode", ["binary", "structured"])
def test_the_sdk_reads_what_we_send_to_kafka(mode):
    headers, data = prepared(mode=mode)
    message = kafka.KafkaMessage(dict(wire_headers(headers)), b"7", data)
    event = kafka.from_kafka_event(message, JSONFormat())
    assert (event.get_id(), event.get_source()) == ("id-1", "orders")
    assert event.get_type() == "test.orders.OrderPlaced"
    assert event.get_data() == {"order_id": "7", "number": 1}
    assert event.get_extension("correlationid") == "id-1"


def test_protobuf_travels_in_structured_mode_too():
    headers, data = prepared(mode="structured", format="protobuf")
    plain, body = prepared(format="protobuf")
    found, unpacked_data = unpacked(headers, data)
    assert unpacked_data == body
    assert {name: value for name, value in found.items() if name != "ce-time"} == {
        name: value for name, value in plain.items() if name != "ce-time"
    }


@pytest.mark.parametrize("to", [kafka.to_binary, kafka.to_structured])
async def test_what_the_sdk_sends_is_handled(tmp_path, broker, to):
    attributes = {"id": "1", "source": "/theirs", "type": "test.orders.OrderPlaced", "size": 3}
    attributes["datacontenttype"] = "application/json"
    sent = to(CloudEvent(attributes, {"order_id": "7", "number": 1}), JSONFormat())
    headers = {
        f"ce-{name[3:]}" if name.startswith("ce_") else name: value.decode()
        for name, value in sent.headers.items()
    }
    seen = []
    database = Sqlite(tmp_path / "s.db")
    bus = Bus(broker, database, "orders")

    @bus.on(OrderPlaced, name="x", on_failure="park_key", attempts=1)
    async def handler(event):
        seen.append(event)

    await bus.start()
    await broker.publish([Record("test.orders", "7", headers, sent.value)])
    await until(lambda: seen)
    assert seen == [PLACED]
    await bus.stop()
    await database.close()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"id": {}}',
        b'{"id": "1", "data_base64": "%"}',
        b'{"id": "1", "datacontenttype": "text/plain", "data": 7}',
        b'{"id": "1", "data_base64": 7}',
        '{"id": "1", "data_base64": "é"}'.encode(),
        b'{"id": "\xff\xfe"}',
        b'{"id": "1", "datacontenttype": "\xff"}',
        b'{"id": "\\ud800"}',
        b'{"id": "1", "n": ' + b"1" * 6_000 + b"}",
        b'{"id": "1", "data": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    ],
    ids=itertools.count(),
)
def test_what_cannot_be_read_stays_as_it_is(body):
    headers = {"content-type": "application/cloudevents+json"}
    assert unpacked(headers, body) == (headers, body)


def test_a_text_and_numbers_are_read_as_the_specification_says():
    body = (
        b'{"id": "1", "n": 7, "b": true, "absent": null, '
        b'"datacontenttype": "text/plain", "data": "gr\\u00fc\\u00df"}'
    )
    headers = {"content-type": "application/cloudevents+json; charset=utf-8", "x": "y"}
    assert unpacked(headers, body) == (
        {"x": "y", "ce-id": "1", "ce-n": "7", "ce-b": "true", "content-type": "text/plain"},
        "grüß".encode(),
    )


def test_a_mode_that_does_not_exist_is_refused():
    with pytest.raises(EventDeclarationError, match="binary or structured"):
        Outbox("orders", mode="batched")
