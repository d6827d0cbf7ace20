import random
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchgear.errors import InvalidMessage
from switchgear.events.envelope import Envelope, Ids

WHOLE = Envelope(
    id="01",
    type="shop.orders.OrderPlaced",
    source="orders",
    topic="shop.orders",
    data=b'{"order_id":"7"}',
    time=1_700_000_000.25,
    subject="7",
    partition_key="7",
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    tracestate="a=b",
    correlation="c",
    causation="d",
    deadline=1_700_000_060.0,
)


def test_binary_mode_has_the_attributes_of_cloudevents_as_headers():
    assert WHOLE.headers() == {
        "ce-specversion": "1.0",
        "ce-id": "01",
        "ce-type": "shop.orders.OrderPlaced",
        "ce-source": "orders",
        "ce-time": "2023-11-14T22:13:20.250000Z",
        "content-type": "application/json",
        "ce-subject": "7",
        "ce-partitionkey": "7",
        "ce-traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "ce-tracestate": "a=b",
        "ce-correlationid": "c",
        "ce-causationid": "d",
        "ce-expirytime": "2023-11-14T22:14:20Z",
    }


def test_what_was_written_is_read():
    assert Envelope.from_headers(WHOLE.headers(), WHOLE.data, topic="shop.orders") == WHOLE


@given(
    st.builds(
        Envelope,
        id=st.text(min_size=1),
        type=st.text(min_size=1),
        source=st.text(min_size=1),
        topic=st.just("t"),
        data=st.binary(),
        time=st.integers(1, 4_000_000_000).map(float),
        subject=st.none() | st.text(),
        partition_key=st.none() | st.text(),
        correlation=st.none() | st.text(),
        deadline=st.none() | st.integers(1, 4_000_000_000).map(float),
    )
)
def test_any_envelope_survives_the_headers(envelope):
    assert Envelope.from_headers(envelope.headers(), envelope.data, topic="t") == envelope


def test_a_foreign_producer_may_leave_the_time_out():
    headers = {"ce-id": "1", "ce-type": "t", "ce-source": "s", "ce-specversion": "1.0"}
    assert Envelope.from_headers(headers, b"", topic="t").time == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ce-id": ""}, "ce-id is missing"),
        ({"ce-specversion": "0.3"}, "version 0.3 is not supported"),
        ({"ce-time": "yesterday"}, "ce-time is not a time"),
        ({"ce-time": "2023-11-14T22:13:20"}, "ce-time has no time zone"),
        ({"ce-expirytime": "soon"}, "ce-expirytime is not a time"),
    ],
)
def test_a_malformed_envelope_is_refused(change, message):
    with pytest.raises(InvalidMessage, match=message):
        Envelope.from_headers({**WHOLE.headers(), **change}, b"", topic="t")


def test_ids_are_uuids_of_version_7_with_the_time_in_front():
    found = uuid.UUID(Ids(lambda: 1_700_000_000_123_456_789, random.Random(1).getrandbits)())
    assert found.version == 7
    assert found.variant == uuid.RFC_4122
    assert found.int >> 80 == 1_700_000_000_123


def test_ids_grow_strictly_also_when_the_clock_stands_or_steps_back():
    times = iter([5_000_000] * 9000 + [1_000_000] * 1000)
    ids = Ids(lambda: next(times), random.Random(1).getrandbits)
    found = [ids() for _ in range(10_000)]
    assert found == sorted(set(found))


def test_ids_of_two_generators_differ():
    one, two = (Ids(time.time_ns, random.SystemRandom().getrandbits) for _ in range(2))
    assert not {one() for _ in range(1000)} & {two() for _ in range(1000)}
