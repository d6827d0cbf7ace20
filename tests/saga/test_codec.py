"""What a record keeps of a message that a newer service has written."""

from __future__ import annotations

import pytest

from switchgear.contract.codec import from_json, from_proto
from switchgear.contract.enums import Enum
from switchgear.contract.message import Message, field
from switchgear.saga.codec import Codec, failure_of, refusal_of
from switchgear.saga.errors import UnrecordableResult
from tests.saga.shop import OutOfStock


class Mood(Enum, package="recorded.v1"):
    PLAIN = 0


class Guest(Message, package="recorded.v1"):
    name: str = field(1)
    mood: Mood = field(2)


@pytest.mark.parametrize(
    "guest",
    [
        from_proto(Guest, b"\x0a\x03ada\x10\x07"),
        from_json(Guest, b'{"name": "ada", "mood": "BRIGHT"}', open_names=True),
    ],
    ids=["a number", "a name"],
)
def test_a_member_that_is_not_declared_is_recorded(guest: Guest) -> None:
    data, read = Codec(Guest).record(guest)
    assert read == guest
    assert read.mood is guest.mood
    assert Codec(Guest).decode(data) == guest


def test_what_is_none_of_the_type_is_refused_as_before() -> None:
    with pytest.raises(UnrecordableResult, match="Expected `str`, got `int`"):
        Codec(Guest).record(Guest(name=7, mood=Mood.PLAIN))  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "kept"), [(1_000, True), (99_000, True), (100_000, False)])
def test_what_is_kept_of_a_refusal_is_bounded(size: int, *, kept: bool) -> None:
    failure = failure_of(OutOfStock(sku="x" * size))
    assert failure.kind == "tests.saga.OutOfStock"
    assert (failure.fields is not None) is kept
    assert (refusal_of(failure) is not None) is kept
    assert len(failure.what) <= 4_000
