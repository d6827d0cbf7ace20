"""Messages that use what only contracts of others have, in every syntax of protobuf."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from switchgear.contract.enums import Enum, member
from switchgear.contract.file import ProtoFile
from switchgear.contract.kinds import (
    BoolValue,
    BytesValue,
    DoubleValue,
    FloatValue,
    Int32,
    Int32Value,
    Int64Value,
    ListValue,
    StringValue,
    Struct,
    UInt32Value,
    UInt64Value,
    Value,
)
from switchgear.contract.message import Message, field
from switchgear.contract.wellknown import AnyMessage, FieldMask

OLD = ProtoFile(
    "acme/old/legacy.proto", "acme.old", syntax="proto2", options='go_package: "acme.com/old"'
)
NEW = ProtoFile("acme/pay/v1/pay.proto", "acme.pay.v1", camel=True)
EDITION = ProtoFile("acme/pay/v2/pay.proto", "acme.pay.v2", syntax="2023", camel=True)


class Mood(Enum, package=OLD, prefix="MOOD_", closed=True, aliases=True, reserved=(9, "MOOD_SAD")):
    """How it is."""

    GOOD = 1
    """As usual."""
    BAD = -2
    FINE = member(1, deprecated=True)
    None_ = member(3, name="None")


class Legacy(Message, package=OLD, extensions=(range(100, 200),), wire_name="legacy"):
    class Kept(Message):
        text: str | None = field(1, default=None)

    class Many(Message):
        """Said of the group."""

        text: str | None = field(1, default=None, doc="Said.")

    name: str = field(1, required=True)
    mood: Mood = field(2, required=True)
    size: Int32 = field(3, presence=True, default=5)
    ratio: float = field(4, presence=True, default=1.5)
    blob: bytes = field(5, presence=True, default=b"\x00\xff\"'")
    told: str = field(6, presence=True, default='say "hi"\n')
    state: Mood = field(7, presence=True, default=Mood.BAD)
    flag: bool = field(8, presence=True, default=True)
    kept: Kept | None = field(9, default=None, delimited=True)
    many: list[Many] = field(10, delimited=True)
    loose: list[Int32] = field(11)
    packed: list[Int32] = field(12, options="packed: true")
    from_: str | None = field(13, name="from", default=None)
    moods: list[Mood] = field(14)
    inner: Legacy.Kept | None = field(15, default=None)


class Choice(Message, package=NEW):
    """How to pay."""

    order_id: str = field(1)
    card: str | None = field(2, oneof="payment", default=None)
    iban: str | None = field(3, oneof="payment", default=None)
    limit: int | None = field(4, oneof="payment", default=None)
    other: Choice | None = field(5, oneof="payment", default=None)
    first_note: str | None = field(6, default=None)
    import_: list[str] = field(7, name="import", default_factory=list)
    ReadMe: bool = field(8)


class WellKnown(Message, package=NEW):
    text: StringValue | None = field(1, default=None)
    blob: BytesValue | None = field(2, default=None)
    flag: BoolValue | None = field(3, default=None)
    ratio: DoubleValue | None = field(4, default=None)
    small_ratio: FloatValue | None = field(5, default=None)
    number: Int64Value | None = field(6, default=None)
    natural: UInt64Value | None = field(7, default=None)
    small: Int32Value | None = field(8, default=None)
    small_natural: UInt32Value | None = field(9, default=None)
    texts: list[StringValue] = field(10)
    by_name: dict[str, Int64Value] = field(11)
    struct: Struct | None = field(12, default=None)
    value: Value | None = field(13, default=None)
    list_value: ListValue | None = field(14, default=None)
    mask: FieldMask | None = field(15, default=None)
    any: AnyMessage | None = field(16, default=None)
    switches: dict[bool, str] = field(17)
    values: list[Value] = field(18)
    blobs: dict[str, bytes] = field(19)
    choice: Choice | None = field(20, default=None)


class Modern(Message, package=EDITION, reserved=("gone", 40)):
    class State(Enum, closed=True, options="features { enum_type: CLOSED }"):
        ON = 0
        OFF = 1

    plain: str = field(1, options="features { field_presence: IMPLICIT }")
    maybe: int | None = field(2, default=None)
    needed: str = field(3, required=True)
    kept: Modern | None = field(4, default=None, delimited=True)
    state: State | None = field(5, default=None)
    loose: list[Int32] = field(6, options="features { repeated_field_encoding: EXPANDED }")
    size: Int32 = field(7, presence=True, default=7)


FOREIGN: list[type[Message]] = [Legacy, Choice, WellKnown, Modern]

_numbers = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | _numbers | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
paths = st.from_regex(r"[a-z]{1,3}(_[a-z]{1,3})?(\.[a-z]{1,3})?", fullmatch=True)

KINDS: dict[str, st.SearchStrategy[Any]] = {
    "struct": st.dictionaries(st.text(max_size=3), json_values, max_size=2),
    "value": json_values,
    "list_value": st.lists(json_values, max_size=2),
    "field_mask": st.lists(paths, max_size=2).map(lambda found: FieldMask(tuple(found))),
    "any": st.text(max_size=3).map(
        lambda name: AnyMessage.pack(Choice(order_id=name, ReadMe=True))
    ),
}
