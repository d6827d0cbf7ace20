"""An old reader passes on what a newer writer says, at every depth."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from switchgear.contract.codec import from_json, from_proto, to_json, to_proto
from switchgear.contract.descriptors import message_class
from switchgear.contract.enums import Enum
from switchgear.contract.message import Message, field, replace
from switchgear.errors import InvalidMessage


class Old:
    class State(Enum, package="shop.v1"):
        NEW = 0
        PAID = 1

    class Item(Message, package="shop.v1"):
        sku: str = field(1)

    class Order(Message, package="shop.v1"):
        id: str = field(1)
        items: list[Old.Item] = field(2)
        by_name: dict[str, Old.Item] = field(3)
        first: Old.Item | None = field(4)
        state: Old.State = field(5)
        states: list[Old.State] = field(6)


class New:
    class State(Enum, package="shop.v1"):
        NEW = 0
        PAID = 1
        SHIPPED = 2

    class Gift(Message, package="shop.v1"):
        text: str = field(1)

    class Item(Message, package="shop.v1"):
        sku: str = field(1)
        gift: New.Gift | None = field(2)
        weights: list[float] = field(3)

    class Order(Message, package="shop.v1"):
        id: str = field(1)
        items: list[New.Item] = field(2)
        by_name: dict[str, New.Item] = field(3)
        first: New.Item | None = field(4)
        state: New.State = field(5)
        states: list[New.State] = field(6)
        note: str = field(7)
        total: int | None = field(8)


@pytest.fixture
def written() -> New.Order:
    item = New.Item(sku="a", gift=New.Gift(text="hello"), weights=[0.5, 1.5])
    return New.Order(
        id="1",
        items=[item, New.Item(sku="b", gift=None, weights=[])],
        by_name={"x": item},
        first=item,
        state=New.State.SHIPPED,
        states=[New.State.SHIPPED, New.State.PAID],
        note="at the back door",
        total=5,
    )


def test_an_old_reader_keeps_and_re_emits_unknown_fields(written: New.Order) -> None:
    read = from_proto(Old.Order, to_proto(written))
    assert read.id == "1"
    assert [item.sku for item in read.items] == ["a", "b"]
    assert from_proto(New.Order, to_proto(read)) == written


def test_it_keeps_them_when_it_changes_what_it_knows(written: New.Order) -> None:
    read = from_proto(Old.Order, to_proto(written))
    changed = replace(read, id="2", items=[replace(read.items[0], sku="c")])
    again = from_proto(New.Order, to_proto(changed))
    assert (again.id, again.note, again.total) == ("2", "at the back door", 5)
    assert again.items[0].sku == "c"
    assert again.items[0].gift == New.Gift(text="hello")


def test_what_is_kept_survives_copies(written: New.Order) -> None:
    read = from_proto(Old.Order, to_proto(written))
    for twin in (copy.copy(read), copy.deepcopy(read), pickle.loads(pickle.dumps(read))):  # noqa: S301
        assert twin == read
        assert from_proto(New.Order, to_proto(twin)) == written


def test_what_is_kept_is_hidden(written: New.Order) -> None:
    read = from_proto(Old.Order, to_proto(written))
    known = from_proto(Old.Order, to_proto(from_json(Old.Order, to_json(replace(read, states=[])))))
    assert "back door" not in repr(read)
    assert replace(read, states=[]) == known
    assert b"back door" not in to_json(read)


def test_an_unknown_member_is_open_and_kept(written: New.Order) -> None:
    read = from_proto(Old.Order, to_proto(written))
    assert read.state.is_open
    assert read.state.value == 2
    assert read.state is Old.State(2)
    assert not read.states[1].is_open
    assert from_proto(New.Order, to_proto(read)).state is New.State.SHIPPED
    assert from_json(Old.Order, to_json(read)).state is Old.State(2)


def test_a_name_that_is_not_known_is_kept_where_others_tell_it(written: New.Order) -> None:
    data = to_json(written)
    with pytest.raises(InvalidMessage) as refused:
        from_json(Old.Order, data)
    assert refused.value.pointer == "/state"
    read = from_json(Old.Order, data, open_names=True)
    assert (read.state.is_open, read.state.name) == (True, "SHIPPED")
    assert read.states[0] is read.state
    assert read.states[1] is Old.State.PAID
    again = json.loads(to_json(replace(read, id="2")))
    assert (again["id"], again["state"], again["states"]) == ("2", "SHIPPED", ["SHIPPED", "PAID"])
    with pytest.raises(InvalidMessage, match="came as SHIPPED, a name whose number is not") as odd:
        to_proto(read)
    assert odd.value.pointer == "/state"
    assert pickle.loads(pickle.dumps(read)) == read  # noqa: S301


@pytest.mark.parametrize("name", ["", "7UP", "A B", "x" * 256, "NEW\n"])
def test_what_cannot_be_a_name_is_none(name: str) -> None:
    data = to_json(
        Old.Order(id="", items=[], by_name={}, first=None, state=Old.State.NEW, states=[])
    )
    with pytest.raises(InvalidMessage):
        from_json(Old.Order, data.replace(b'"NEW"', json.dumps(name).encode()), open_names=True)


def test_a_new_reader_fills_in_what_an_old_writer_did_not_know() -> None:
    order = Old.Order(id="1", items=[], by_name={}, first=None, state=Old.State.PAID, states=[])
    read = from_proto(New.Order, to_proto(order))
    assert (read.note, read.total) == ("", None)


def test_bytes_that_are_not_written_as_we_would_are_read_all_the_same() -> None:
    proto = message_class(Old.Order)(id="1", states=[1])
    data = proto.SerializeToString()
    unpacked = data.replace(b"\x32\x01\x01", b"\x30\x01")  # one number, not packed: a byte shorter
    assert len(unpacked) == len(data) - 1
    twice = b"\x0a\x01\x30" + unpacked + b"\x28\x00"  # the id twice, a zero written out
    with_unknown = unpacked + b"\x78\x01"
    for odd in (unpacked, twice, with_unknown):
        read = from_proto(Old.Order, odd)
        assert (read.id, read.states) == ("1", [Old.State.PAID])
    assert to_proto(from_proto(Old.Order, with_unknown)).endswith(b"\x78\x01")


def test_an_unknown_field_is_found_behind_unpacked_numbers() -> None:
    # Two lists of one unpacked number are two bytes shorter than we would write them; an unknown
    # field of two bytes makes the size come out right.
    class Lists(Message, package="shop.v1"):
        a: list[int] = field(1)
        b: list[int] = field(2)

    odd = b"\x08\x01" + b"\x10\x01" + b"\x78\x01"
    assert len(odd) == len(to_proto(Lists(a=[1], b=[1])))
    assert to_proto(from_proto(Lists, odd)).endswith(b"\x78\x01")
