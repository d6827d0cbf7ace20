"""The contracts of several files:

- acme/shared.proto
- acme/old.proto
- acme/api.proto
- acme/e2023.proto
- acme/e2024.proto
- acme/marks.proto
- acme/extended.proto
- acme/extended2.proto
- bare.proto

Written by `switchgear contract import`; the owners of the files change them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Protocol

from switchgear import (
    AnyMessage,
    Empty,
    Enum,
    FieldMask,
    Fixed64,
    Float32,
    Int32,
    Int64Value,
    ListValue,
    Message,
    Money,
    ProtoFile,
    SInt32,
    StringValue,
    Struct,
    UInt64,
    Value,
    command,
    field,
    member,
    query,
    route,
    service,
)

TIMESTAMP = ProtoFile("google/protobuf/timestamp.proto", "google.protobuf", camel=True)
STRUCT = ProtoFile("google/protobuf/struct.proto", "google.protobuf", camel=True)
WRAPPERS = ProtoFile("google/protobuf/wrappers.proto", "google.protobuf", camel=True)
STATUS = ProtoFile("google/rpc/status.proto", "google.rpc", camel=True)
DATE = ProtoFile("google/type/date.proto", "google.type", camel=True)
SHARED = ProtoFile("acme/shared.proto", "acme.shared", camel=True)
OLD = ProtoFile(
    "acme/old.proto",
    "acme.old",
    syntax="proto2",
    options='java_multiple_files: true go_package: "acme.com/old"',
    camel=True,
)
API = ProtoFile(
    "acme/api.proto",
    "acme.api.v1",
    options='go_package: "acme.com/api;api"',
    camel=True,
)
E2023 = ProtoFile(
    "acme/e2023.proto",
    "acme.e23",
    syntax="2023",
    options="features { field_presence: IMPLICIT enum_type: CLOSED }",
    camel=True,
)
E2024 = ProtoFile("acme/e2024.proto", "acme.e24", syntax="2024", camel=True)
MARKS = ProtoFile("acme/marks.proto", "acme.marks", camel=True)
EXTENDED = ProtoFile(
    "acme/extended.proto",
    "acme.extended",
    syntax="2024",
    options='features { [pb.cpp] { string_type: VIEW } } [acme.marks.owner]: "team \\"a\\"\\n"',
    camel=True,
)
EXTENDED2 = ProtoFile(
    "acme/extended2.proto",
    "acme.extended",
    syntax="2023",
    options="features { enum_type: CLOSED [pb.go] { api_level: API_HYBRID } }",
    camel=True,
)
BARE = ProtoFile("bare.proto", "", camel=True)


class Timestamp(Message, package=TIMESTAMP):
    seconds: int = field(1, default=0)
    nanos: Int32 = field(2, default=0)


class NullValue(Enum, package=STRUCT):
    NULL_VALUE = 0


class StringValue_(Message, package=WRAPPERS, wire_name="StringValue"):
    value: str = field(1, default="")


class Status(Message, package=STATUS):
    code: Int32 = field(1, default=0)
    message: str = field(2, default="")
    details: list[AnyMessage] = field(3, default_factory=list)


class Date(Message, package=DATE):
    year: Int32 = field(1, default=0)
    month: Int32 = field(2, default=0)
    day: Int32 = field(3, default=0)


class SharedStatus(Message, package=SHARED, wire_name="Status"):
    """Of something."""

    text: str = field(1, default="")
    message: Message_ | None = field(2, default=None)
    kind: Line.Kind = field(3, default_factory=lambda: Line.Kind.UNSPECIFIED)
    line: Line | None = field(4, default=None, presence=True)


class Message_(Message, package=SHARED, wire_name="Message"):
    list_: list[Int32] = field(1, default_factory=list, name="list")
    dict_: dict[str, str] = field(2, default_factory=dict, name="dict")


class Line(Message, package=SHARED):
    class Kind(Enum, prefix="KIND_"):
        UNSPECIFIED = 0
        A = 1

    kind: Line.Kind = field(1, default_factory=lambda: Line.Kind.UNSPECIFIED)


class Mood(
    Enum,
    package=OLD,
    prefix="MOOD_",
    closed=True,
    aliases=True,
    reserved=(7, range(20, 2147483648), "MOOD_GONE"),
):
    """What it was like."""

    GOOD = 1
    """As usual."""
    FINE = member(1, deprecated=True)
    BAD = -3


class Bare(Enum, package=OLD, closed=True):
    None_ = member(5, name="None")
    value_ = member(6, name="value")
    PRIVATE_ = member(7, name="_PRIVATE")


class Old(
    Message,
    package=OLD,
    reserved=(40, range(50, 60), "gone", "lost"),
    extensions=(range(100, 200), range(1000, 536870912)),
    options="deprecated: true",
):
    class Kept(Message, package=OLD):
        """A group of old."""

        class Inner(Message, package=OLD):
            number: UInt64 = field(1, required=True)

        text: str | None = field(1, default=None)
        inner: list[Old.Kept.Inner] = field(2, default_factory=list, delimited=True)

    class Cash(Message, package=OLD):
        cents: int | None = field(1, default=None)

    class Status(Message, package=OLD):
        outer: SharedStatus | None = field(1, default=None)
        inner: Old.Status | None = field(2, default=None)

    name: str = field(1, required=True)
    """Who it is."""
    size: Int32 = field(2, default=-5, presence=True)
    ratio: float = field(3, default=1.5, presence=True)
    never: float = field(4, default=float("nan"), presence=True)
    always: Float32 = field(5, default=float("-inf"), presence=True)
    blob: bytes = field(6, default=b'\x00\xff"\'\\', presence=True)
    told: str = field(7, default='say "hi"\n\\', presence=True)
    mood: Mood = field(8, default=Mood.BAD, presence=True)
    flag: bool = field(9, default=True, presence=True)
    kept: Old.Kept | None = field(10, default=None, delimited=True)
    loose: list[Int32] = field(11, default_factory=list)
    packed: list[Int32] = field(12, default_factory=list, options="packed: true")
    from_: str | None = field(13, default=None, name="from")
    card: str | None = field(14, default=None, oneof="choice")
    cash: Old.Cash | None = field(15, default=None, oneof="choice", delimited=True)
    bare: Bare | None = field(16, default=None, oneof="choice")
    by_name: dict[str, Old] = field(17, default_factory=dict)
    blobs: dict[bool, bytes] = field(18, default_factory=dict)
    status: SharedStatus = field(20, required=True)
    again: Old.Kept | None = field(21, default=None)
    max: UInt64 = field(22, default=18446744073709551615, presence=True)
    fooBar: str | None = field(23, default=None, json="foo-bar")
    odd__: str | None = field(24, default=None, name="__odd__")
    field_: int | None = field(25, default=None, name="field")
    tags: list[str] = field(26, default_factory=list)
    own: Old.Status | None = field(27, default=None)
    since: datetime | None = field(28, default=None)
    sure: bool = field(29, default=True, required=True)
    third: Float32 = field(30, default=3.14159, presence=True)


class More(Message, package=OLD):
    text: str | None = field(1, default=None)


class Rest(Message, package=OLD):
    more: More | None = field(1, default=None)


class After(Message, package=OLD):
    mood: Mood = field(1, default=Mood.GOOD, presence=True, wire_default="MOOD_FINE")
    other: Mood | None = field(2, default=None, oneof="one", wire_default="MOOD_FINE")


class OldExtensions(Message, package=OLD, extends=Old):
    extra: str | None = field(100, default=None)
    first_extra: Int32 | None = field(110, default=None)
    more: More | None = field(111, default=None, delimited=True)
    rest: list[Rest] = field(112, default_factory=list, delimited=True)


@service(OLD)
class Archive(Protocol):
    @command()
    async def read(self, request: Old) -> SharedStatus: ...


class Book(Message, package=API):
    """What a book is.

    With a second paragraph and a \"\"\"quote\\.
    """

    class Genre(Enum, prefix="GENRE_"):
        UNSPECIFIED = 0
        POETRY = 4

    name: str = field(
        1,
        default="",
        options="[google.api.field_behavior]: REQUIRED [google.api.field_behavior]: IMMUTABLE",
    )
    subtitle: str | None = field(2, default=None)
    price: Money | None = field(3, default=None)
    printed: Date | None = field(4, default=None)
    since: datetime | None = field(5, default=None)
    length: timedelta | None = field(6, default=None)
    any: AnyMessage | None = field(7, default=None)
    struct: Struct | None = field(8, default=None)
    value: Value | None = field(9, default=None)
    list_: ListValue | None = field(10, default=None, name="list")
    mask: FieldMask | None = field(11, default=None)
    wrapped: StringValue | None = field(12, default=None)
    numbers: list[Int64Value] = field(13, default_factory=list)
    status: Status | None = field(14, default=None)
    secret: str = field(15, default="", options='[acme.api.v1.mine]: "x"')
    shared: SharedStatus | None = field(16, default=None)
    big: int = field(17, default=0, options="jstype: JS_STRING")
    expanded: list[SInt32] = field(18, default_factory=list, options="packed: false")
    pages: Int32 | None = field(19, default=None, oneof="format")
    """On paper."""
    minutes: Float32 | None = field(20, default=None, oneof="format", deprecated=True)
    read: dict[str, datetime] = field(21, default_factory=dict)
    genre: Book.Genre = field(22, default_factory=lambda: Book.Genre.UNSPECIFIED)
    nothing: NullValue = field(23, default=NullValue.NULL_VALUE)
    cents: Fixed64 = field(24, default=0)
    """Unit: cents."""


class GetBook(Message, package=API):
    name: str = field(1, default="")
    limit: Int32 = field(2, default=0)


class Nested(Message, package=API):
    book: Book | None = field(1, default=None)
    name: str = field(2, default="")


class FieldOptionsExtensions(Message, package=API, extends="google.protobuf.FieldOptions"):
    mine: str | None = field(50001, default=None)


@service(API, options='[google.api.default_host]: "library.acme.com"')
class Library(Protocol):
    """Books."""

    @query("GET /v1/books/{name}")
    async def get_book(self, request: GetBook) -> Book:
        """Find one."""
        ...

    @query("GET /v1/books", level="unknown")
    async def list_books(self, request: GetBook) -> Book: ...

    @command(route("PATCH /v1/{book.name=shelves/*}", body="book"), "POST /v1/other:go")
    async def put_book(self, request: Nested) -> Book: ...

    @command("POST /v1/books/{name}", keyed=True, options="deprecated: true")
    async def create_book(self, request: Nested) -> Empty: ...

    @command(name="GetURL")
    async def get_url(self, request: StringValue_) -> Timestamp: ...

    @command()
    async def upload(self, requests: AsyncIterator[Book]) -> Empty: ...

    @query()
    def watch(self, request: GetBook) -> AsyncIterator[Book]: ...

    @command(level="idempotent")
    def chat(self, requests: AsyncIterator[Book]) -> AsyncIterator[Book]: ...

    @command(name="import")
    async def import_(self, request: Book) -> Book: ...


class Closed(Enum, package=E2023, closed=True, options="features { enum_type: CLOSED }"):
    A = 2
    B = 0


class Open(
    Enum,
    package=E2023,
    prefix="OPEN_",
    reserved=("gone",),
    options="features { enum_type: OPEN }",
):
    UNKNOWN = 0
    ONE = 1


class New(Message, package=E2023, reserved=(9, "was")):
    implicit: str = field(1, default="")
    explicit: str = field(
        2,
        default="x",
        presence=True,
        options="features { field_presence: EXPLICIT }",
    )
    needed: str = field(
        3,
        required=True,
        options="features { field_presence: LEGACY_REQUIRED }",
    )
    kept: New | None = field(
        4,
        default=None,
        options="features { message_encoding: DELIMITED }",
    )
    loose: list[Int32] = field(
        5,
        default_factory=list,
        options="features { repeated_field_encoding: EXPANDED }",
    )
    open: Open = field(6, default=Open.UNKNOWN)
    closed: Closed | None = field(
        7,
        default=None,
        options="features { field_presence: EXPLICIT }",
    )
    a: str | None = field(10, default=None, oneof="one")
    b: New | None = field(11, default=None, oneof="one")


class E24New(Message, package=E2024, wire_name="New"):
    explicit_name: str | None = field(1, default=None)
    number: int = field(2, default=0, options="features { field_presence: IMPLICIT }")
    inner: E24New | None = field(3, default=None)


class Secrecy(Enum, package=MARKS, prefix="SECRECY_"):
    """How secret something is."""

    OPEN = 0
    SECRET = 1


class Rule(Message, package=MARKS):
    """What is held to a value."""

    at_least: Int32 = field(1, default=0)
    told: dict[str, str] = field(2, default_factory=dict)
    of: list[Secrecy] = field(3, default_factory=list)


class FieldOptionsExtensions_(
    Message,
    package=MARKS,
    extends="google.protobuf.FieldOptions",
):
    sensitive: bool | None = field(51001, default=None, presence=True)
    """Whether logs leave it out."""
    secrecy: Secrecy | None = field(51002, default=None)
    rule: Rule | None = field(51003, default=None)
    tags: list[str] = field(51004, default_factory=list)
    seal: bytes | None = field(51005, default=None)
    weight: float | None = field(51006, default=None)


class FileOptionsExtensions(Message, package=MARKS, extends="google.protobuf.FileOptions"):
    owner: str | None = field(51001, default=None)


class MessageOptionsExtensions(
    Message,
    package=MARKS,
    extends="google.protobuf.MessageOptions",
):
    table: str | None = field(51001, default=None)


class EnumOptionsExtensions(Message, package=MARKS, extends="google.protobuf.EnumOptions"):
    theme: str | None = field(51001, default=None)


class EnumValueOptionsExtensions(
    Message,
    package=MARKS,
    extends="google.protobuf.EnumValueOptions",
):
    label: str | None = field(51001, default=None)


class ServiceOptionsExtensions(
    Message,
    package=MARKS,
    extends="google.protobuf.ServiceOptions",
):
    host: str | None = field(51001, default=None)


class MethodOptionsExtensions(
    Message,
    package=MARKS,
    extends="google.protobuf.MethodOptions",
):
    cost: UInt64 | None = field(51001, default=None)


class OneofOptionsExtensions(
    Message,
    package=MARKS,
    extends="google.protobuf.OneofOptions",
):
    needed: bool | None = field(51001, default=None)


class ExtensionRangeOptionsExtensions(
    Message,
    package=MARKS,
    extends="google.protobuf.ExtensionRangeOptions",
):
    purpose: str | None = field(51001, default=None)


class Order(
    Message,
    package=EXTENDED,
    extensions={range(100, 200): 'declaration { number: 126 full_name: ".acme.extended.priority" type: "int32" } verification: DECLARATION [acme.marks.purpose]: "teams"', range(1000, 536870912): ""},
    oneof_options={"way": "[acme.marks.needed]: true"},
    visibility="export",
    options='[acme.marks.table]: "orders"',
):
    """An order that others add to."""

    class State(
        Enum,
        prefix="STATE_",
        visibility="local",
        options='[acme.marks.theme]: "dark"',
    ):
        UNKNOWN = 0
        OFF = member(1, options='[acme.marks.label]: "Off"')

    class Extra(Message, package=EXTENDED):
        class OrderExtensions(Message, package=EXTENDED, extends="Order"):
            extra: Order.Extra | None = field(1000, default=None)
            """How it came in."""
            before: list[Order] = field(1001, default_factory=list)

        text: str | None = field(1, default=None)

    order_id: str | None = field(
        1,
        default=None,
        options='[acme.marks.sensitive]: true [acme.marks.seal]: "\\000\\377\\""',
    )
    cents: int | None = field(
        2,
        default=None,
        deprecated=True,
        options='[acme.marks.secrecy]: SECRECY_SECRET [acme.marks.rule] { at_least: 1 told { key: "a" value: "b" } of: SECRECY_SECRET } [acme.marks.weight]: inf',
    )
    note: str | None = field(
        3,
        default=None,
        options='[acme.marks.rule] { at_least: 3 } [acme.marks.tags]: "a" [acme.marks.tags]: "b"',
    )
    number: Int32 | None = field(4, default=None, oneof="way", wire_default="7")
    text: str | None = field(5, default=None, oneof="way", wire_default='say "hi"\n')
    blob: bytes | None = field(6, default=None, oneof="way", wire_default='\\000\\377')
    state: Order.State | None = field(7, default=None, oneof="way", wire_default="STATE_OFF")
    ratio: float | None = field(8, default=None, oneof="way", wire_default="nan")
    other: Order | None = field(9, default=None, oneof="way")


class Seen(Message, package=EXTENDED, extensions=(range(10, 11),), visibility="local"):
    pass


class OrderExtensions(Message, package=EXTENDED):
    pass


class OrderExtensions_(Message, package=EXTENDED, extends=Order):
    priority: Int32 = field(
        126,
        default=5,
        presence=True,
        options="[acme.marks.sensitive]: true",
    )
    """How soon."""


class SeenExtensions(Message, package=EXTENDED, extends=Seen):
    at: datetime | None = field(
        10,
        default=None,
        options="features { message_encoding: DELIMITED }",
    )


class OrderExtensions__(Message, package=EXTENDED, extends=Order):
    tags: list[str] = field(1002, default_factory=list)
    numbers: list[Int32] = field(
        1003,
        default_factory=list,
        options="features { repeated_field_encoding: EXPANDED }",
    )
    from_: Order.State | None = field(1004, default=None, name="from")


@service(EXTENDED, options='[acme.marks.host]: "orders.acme.com"')
class Orders(Protocol):
    @query(options="[acme.marks.cost]: 18446744073709551615")
    async def get(self, request: Order) -> Order: ...


class Kind(Enum, package=EXTENDED2, prefix="KIND_", closed=True):
    """The first is not zero: without the feature of this file, that is an error."""

    ONE = 1
    ZERO = 0


class OrderExtensions___(Message, package=EXTENDED2, extends=Order):
    kinds: list[Kind] = field(
        1005,
        default_factory=list,
        options='targets: TARGET_TYPE_FIELD [acme.marks.tags]: "x"',
    )


class Bare_(Message, package=BARE, wire_name="Bare"):
    text: str = field(1, default="")
    other: bare2 | None = field(2, default=None)


class bare2(Message, package=BARE):
    bare: Bare_ | None = field(1, default=None)


@service(BARE)
class Plain(Protocol):
    @command()
    async def ask(self, request: Bare_) -> Bare_: ...


@service(BARE)
class Nothing(Protocol):
    pass
