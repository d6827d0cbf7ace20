"""Messages that use everything a message can hold, and how to make any of them up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, Protocol, TypeVar

from hypothesis import strategies as st

from switchgear.contract.declaration import Field, fields_of
from switchgear.contract.enums import Enum
from switchgear.contract.kinds import (
    Fixed32,
    Fixed64,
    Float32,
    Int32,
    Kind,
    SFixed32,
    SFixed64,
    Shape,
    SInt32,
    SInt64,
    UInt32,
    UInt64,
)
from switchgear.contract.message import Message, field, replace
from switchgear.contract.money import Money
from switchgear.contract.reading import MAX_SECONDS
from switchgear.contract.refusal import Refusal
from switchgear.contract.service import command, query, service
from switchgear.model.outcome import Status
from tests.contract import foreign

M = TypeVar("M", bound=Message)


class Colour(Enum, package="paint.v1"):
    """What it looks like."""

    COLOUR_UNKNOWN = 0
    RED = 1
    GREEN = 2
    ODD = -7


class Empty(Message, package="paint.v1"):
    pass


class Leaf(Message, package="paint.v1"):
    name: str = field(1)
    size: int = field(2)


class Node(Message, package="paint.v1"):
    leaf: Leaf | None = field(1)
    children: list[Node] = field(2, default_factory=list)
    by_name: dict[str, Node] = field(3, default_factory=dict)


class Scalars(Message, package="paint.v1"):
    text: str = field(1)
    number: int = field(2)
    small: Int32 = field(3)
    natural: UInt32 = field(4)
    big_natural: UInt64 = field(5)
    zigzag: SInt32 = field(6)
    big_zigzag: SInt64 = field(7)
    fixed: Fixed32 = field(8)
    big_fixed: Fixed64 = field(9)
    sfixed: SFixed32 = field(10)
    big_sfixed: SFixed64 = field(11)
    ratio: float = field(12)
    small_ratio: Float32 = field(13)
    flag: bool = field(14)
    blob: bytes = field(15)
    price: Decimal = field(16)
    colour: Colour = field(17)
    quoted: int = field(18, strings=True)


class Present(Message, package="paint.v1"):
    """Every scalar again, with absence told from zero."""

    text: str = field(1, presence=True)
    number: int | None = field(2)
    ratio: float | None = field(3)
    small_ratio: Float32 = field(4, presence=True)
    flag: bool = field(5, presence=True)
    blob: bytes | None = field(6)
    price: Decimal | None = field(7)
    colour: Colour = field(8, presence=True)
    quoted: UInt64 | None = field(9, strings=True)
    fallback: str = field(10, presence=True, default="none")


class Composite(Message, package="paint.v1", reserved=(40, range(50, 60), "removed")):
    """Messages, lists and maps.

    With a second paragraph.
    """

    class Kind(Enum):
        PLAIN = 0
        FANCY = 3

    class Inner(Message):
        kind: Composite.Kind = field(1)

    leaf: Leaf = field(1, doc="The first leaf.")
    maybe: Leaf | None = field(2)
    empty: Empty = field(3)
    since: datetime = field(4)
    until: datetime | None = field(5)
    length: timedelta = field(6)
    pause: timedelta | None = field(7, unit="seconds")
    cost: Money = field(8)
    tip: Money | None = field(9)
    node: Node = field(10)
    texts: list[str] = field(11)
    numbers: list[int] = field(12, deprecated=True)
    ratios: list[float] = field(13)
    blobs: list[bytes] = field(14)
    prices: list[Decimal] = field(15)
    colours: list[Colour] = field(16)
    moments: list[datetime] = field(17)
    lengths: list[timedelta] = field(18)
    leaves: list[Leaf] = field(19)
    inner: Inner = field(20)
    counts: dict[str, int] = field(21)
    names: dict[Int32, str] = field(22)
    wide_names: dict[UInt64, Colour] = field(23)
    leaves_by_name: dict[str, Leaf] = field(24)
    moments_by_name: dict[str, datetime] = field(25)
    quoted_numbers: list[int] = field(26, strings=True)
    scalars: list[Scalars] = field(27)
    ratios_by_name: dict[str, float] = field(28)


class Batch(Message, package="paint.v1"):
    present: list[Present] = field(1)
    composite: list[Composite] = field(2)


ALL: list[type[Message]] = [Empty, Leaf, Node, Scalars, Present, Composite, *foreign.FOREIGN]


class GetLeaf(Message, package="paint.v1"):
    name: str = field(1)
    colours: list[Colour] = field(2, default_factory=list)
    limit: Int32 = field(3, default=10, doc="How many at most.")


class Paint(Message, package="paint.v1"):
    name: str = field(1)
    colour: Colour = field(2)
    wait: timedelta | None = field(3)


class OutOfPaint(Refusal, package="paint.v1"):
    """The pot is empty."""

    colour: Colour = field(1)
    left: int = field(2, default=0)


class NoSuchLeaf(Refusal, package="paint.v1", status=Status.NOT_FOUND):
    name: str = field(1)


@service("paint.v1")
class Painter(Protocol):
    """Paints leaves."""

    @query("GET /v1/leaves/{name}", refuses=[NoSuchLeaf])
    async def get_leaf(self, request: GetLeaf) -> Leaf:
        """Find a leaf.

        By its name.
        """
        ...

    @command("POST /v1/leaves/{name}/paint", keyed=True, refuses=[OutOfPaint, NoSuchLeaf])
    async def paint(self, request: Paint) -> Composite: ...

    @query("POST /v1/watch")
    def watch(self, request: Node) -> AsyncIterator[Scalars]: ...

    @command("DELETE /v1/leaves/{name}", refuses=[OutOfPaint])
    async def remove(self, request: GetLeaf) -> Empty: ...


@cache
def messages(cls: type[M], depth: int = 2) -> st.SearchStrategy[M]:
    """Make up messages of `cls` that every wire can carry."""
    if cls is Money:
        return st.builds(  # type: ignore[return-value]
            lambda cents, code: Money.of(Decimal(cents).scaleb(-9), code),
            st.integers(-(10**27), 10**27),
            st.sampled_from(["EUR", "USD", "JPY"]),
        )
    fields = {one.name: values(one, depth) for one in fields_of(cls).values()}
    if cls is foreign.Choice:
        return st.sampled_from(["card", "iban", "limit", "other"]).flatmap(
            lambda chosen: st.fixed_dictionaries(
                {"order_id": st.text(max_size=3), "ReadMe": st.booleans()},
                optional={name: fields[name] for name in (chosen, "first_note", "import_")},
            ).map(lambda given: cls(**given))
        )
    if cls is not Composite:
        return st.builds(cls, **fields)
    # All at once is slow to make up: a few of its fields differ from the example's.
    some = st.lists(st.sampled_from(list(fields)), max_size=4, unique=True)
    return some.flatmap(
        lambda names: st.fixed_dictionaries({one: fields[one] for one in names})
    ).map(lambda changes: replace(a_composite(), **changes))


def values(one: Field, depth: int) -> st.SearchStrategy[Any]:
    item = kind_values(one.kind, depth)
    leaf = one.kind.name == "message" and depth <= 0
    if one.type.shape is Shape.LIST:
        return st.just([]) if leaf else st.lists(item, max_size=2)
    if one.type.key is not None:
        keys = kind_values(one.type.key, depth)
        return st.just({}) if leaf else st.dictionaries(keys, item, max_size=2)
    if one.type.optional:
        return st.none() if leaf else st.none() | item
    return item


def kind_values(kind: Kind, depth: int) -> st.SearchStrategy[Any]:
    kind = kind.value
    if kind.is_int:
        return st.integers(kind.low, kind.high)
    if kind.name == "message":
        return st.deferred(lambda: messages(kind.python, depth - 1))
    if kind.name == "enum":
        known = st.sampled_from(list(kind.python))
        return (
            known
            if kind.python.__closed__
            else known | st.integers(-(2**31), 2**31 - 1).map(kind.python)
        )
    return KINDS[kind.name]


KINDS: dict[str, st.SearchStrategy[Any]] = {
    **foreign.KINDS,
    "string": st.text(max_size=8),
    "double": st.floats(allow_nan=False),
    "float": st.floats(width=32, allow_nan=False),
    "bool": st.booleans(),
    "bytes": st.binary(max_size=8),
    "decimal": st.decimals(allow_nan=False, allow_infinity=False),
    "timestamp": st.datetimes(timezones=st.just(UTC)),
    "duration": st.timedeltas(timedelta(seconds=-MAX_SECONDS), timedelta(seconds=MAX_SECONDS)),
}


def a_composite() -> Composite:
    """Return one that has something in every field."""
    leaf = Leaf(name="oak", size=-3)
    when = datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)
    scalars = a_scalars()
    return Composite(
        leaf=leaf,
        maybe=leaf,
        empty=Empty(),
        since=when,
        until=when,
        length=timedelta(seconds=-1.5),
        pause=timedelta(days=1),
        cost=Money.of("12.50", "EUR"),
        tip=Money.of("-0.01", "EUR"),
        node=Node(leaf=None, children=[Node(leaf=leaf)], by_name={"x/~y": Node(leaf=leaf)}),
        texts=["", "ü"],
        numbers=[1, -(2**63)],
        ratios=[0.5, float("inf")],
        blobs=[b"", b"\xff\xfe"],
        prices=[Decimal("1.50")],
        colours=[Colour.RED, Colour(99)],
        moments=[when],
        lengths=[timedelta(0), timedelta(microseconds=1)],
        leaves=[leaf, leaf],
        inner=Composite.Inner(kind=Composite.Kind.FANCY),
        counts={"a": 1},
        names={-1: "minus"},
        wide_names={2**64 - 1: Colour.GREEN},
        leaves_by_name={"oak": leaf},
        moments_by_name={"then": when},
        quoted_numbers=[2**53 + 1],
        scalars=[scalars],
        ratios_by_name={"half": 0.5},
    )


def a_scalars() -> Scalars:
    return Scalars(
        text="t",
        number=-1,
        small=-2,
        natural=3,
        big_natural=2**64 - 1,
        zigzag=-4,
        big_zigzag=-5,
        fixed=6,
        big_fixed=7,
        sfixed=-8,
        big_sfixed=-9,
        ratio=0.25,
        small_ratio=0.5,
        flag=True,
        blob=b"blob",
        price=Decimal("19.90"),
        colour=Colour.ODD,
        quoted=2**53 + 1,
    )
