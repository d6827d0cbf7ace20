from __future__ import annotations

import textwrap
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Protocol

import pytest

from switchgear.contract.codec import to_json
from switchgear.contract.message import Message, field
from switchgear.contract.route import Route
from switchgear.contract.service import command, contract_of, contracts_of, query, service
from switchgear.contract.template import template_of
from switchgear.errors import ContractError
from switchgear.model.edge import Pattern
from tests.contract.catalogue import (
    Colour,
    Composite,
    Empty,
    GetLeaf,
    Leaf,
    Node,
    NoSuchLeaf,
    OutOfPaint,
    Paint,
    Painter,
    Scalars,
)


class Half(Painter):
    async def get_leaf(self, request: GetLeaf) -> Leaf:
        return Leaf(name=request.name, size=request.limit)


class Whole(Half):
    async def paint(self, request: Paint) -> Composite:
        raise OutOfPaint(colour=request.colour)

    async def watch(self, request: Node) -> AsyncIterator[Scalars]:
        for one in ():
            yield one

    async def remove(self, request: GetLeaf) -> Empty:
        return Empty()


def test_what_is_declared() -> None:
    contract = contract_of(Painter)
    assert (contract.name, contract.package, contract.full_name) == (
        "Painter",
        "paint.v1",
        "paint.v1.Painter",
    )
    assert contract.doc == "Paints leaves."
    assert contract.protocol is Painter
    assert list(contract.operations) == ["get_leaf", "paint", "watch", "remove"]

    get_leaf = contract.operations["get_leaf"]
    assert get_leaf.full_name == "paint.v1.Painter/get_leaf"
    assert get_leaf.rpc_name == "GetLeaf"
    assert get_leaf.grpc_path == "/paint.v1.Painter/GetLeaf"
    assert get_leaf.pattern is Pattern.QUERY
    assert (get_leaf.request, get_leaf.reply, get_leaf.streaming) == (GetLeaf, Leaf, False)
    assert get_leaf.route == Route("GET", template_of("/v1/leaves/{name}"))
    assert not get_leaf.route.has_body
    assert get_leaf.repeatable
    assert get_leaf.retention is None
    assert get_leaf.doc == "Find a leaf.\n\nBy its name."

    paint = contract.operations["paint"]
    assert paint.pattern is Pattern.COMMAND
    assert (paint.keyed, paint.repeatable, paint.retention) == (True, True, timedelta(days=1))
    assert paint.refuses == (OutOfPaint, NoSuchLeaf)
    assert paint.refusal("paint.v1.OutOfPaint") is OutOfPaint
    assert paint.refusal("paint.v1.Other") is None
    assert paint.route.has_body

    watch = contract.operations["watch"]
    assert (watch.reply, watch.streaming) == (Scalars, True)
    assert not contract.operations["remove"].repeatable


def test_a_handler_has_the_contract_of_its_protocol() -> None:
    assert contract_of(Half) is contract_of(Whole()) is contract_of(Painter)


def test_a_handler_that_misses_a_method_cannot_be_made() -> None:
    with pytest.raises(TypeError, match=r"abstract methods '?paint'?, '?remove"):
        Half()  # type: ignore[abstract]


def test_what_is_no_service() -> None:
    with pytest.raises(ContractError, match="not a service"):
        contract_of(str)
    assert contracts_of(object()) == ()


def test_a_handler_of_two_contracts() -> None:
    @service("shop.v1")
    class Other(Protocol):
        @query("GET /other")
        async def other(self, request: Empty) -> Empty: ...

    class Both(Whole, Other):
        async def other(self, request: Empty) -> Empty:
            return request

    assert [one.name for one in contracts_of(Both())] == ["Painter", "Other"]
    with pytest.raises(ContractError, match=r"implements paint\.v1\.Painter and shop\.v1\.Other"):
        contract_of(Both)


class Large(Message):
    id: str = field(1)
    leaf: Leaf | None = field(2)
    many: list[str] = field(3, default_factory=list)
    maybe: int | None = field(4)
    sizes: dict[str, int] = field(5, default_factory=dict)


class Small(Message):
    id: str = field(1)


class Other(Message):
    other: str = field(1)


BAD: dict[str, str] = {
    "pass": "The contract has no methods.",
    "async def bare(self, x: Small) -> Small: ...": "bare has no declared pattern.",
    "size: int": "size is not a method",
    "size = 3": "size is not a method",
    '@query("GET /a")\nasync def a(self) -> Small: ...': "takes one message",
    '@query("GET /a")\nasync def a(self, x: Small, y: Small) -> Small: ...': "takes one message",
    '@query("GET /a")\nasync def a(self, x: int) -> Small: ...': "takes one message",
    '@query("GET /a")\nasync def a(self, x: Small) -> int: ...': "returns a message",
    '@query("GET /a")\nasync def a(self, x: Small): ...': "returns a message",
    '@query("GET /a")\ndef a(self, x: Small) -> Small: ...': "The method is not async.",
    '@query("GET /a")\nasync def a(self, x: Nope) -> Small: ...': "A type is not defined",
    '@query("PUT /a")\nasync def a(self, x: Small) -> Small: ...': "a method of a query",
    '@command("GET /a")\nasync def a(self, x: Small) -> Small: ...': "a method of a command",
    '@query("GET")\nasync def a(self, x: Small) -> Small: ...': "does not contain a path",
    '@query("GET a/b")\nasync def a(self, x: Small) -> Small: ...': "does not contain a path",
    '@query("GET /a//b")\nasync def a(self, x: Small) -> Small: ...': "does not contain a path",
    '@query("GET /a b")\nasync def a(self, x: Small) -> Small: ...': "does not contain a path",
    '@query("GET /x{id}")\nasync def a(self, x: Small) -> Small: ...': "does not contain a path",
    '@query("GET /{id}/{id}")\nasync def a(self, x: Small) -> Small: ...': "a parameter twice",
    '@query("GET /{sku}")\nasync def a(self, x: Small) -> Small: ...': "sku is not a field",
    '@query("POST /{leaf}")\nasync def a(self, x: Large) -> Small: ...': "one plain value",
    '@query("POST /{many}")\nasync def a(self, x: Large) -> Small: ...': "one plain value",
    '@query("POST /{maybe}")\nasync def a(self, x: Large) -> Small: ...': "one plain value",
    '@query("GET /a")\nasync def a(self, x: Large) -> Small: ...': "sizes of Large does not fit",
    """@query("GET /a/{id}")\nasync def a(self, x: Small) -> Small: ...
@query("GET /a/{other}")
async def b(self, x: Other) -> Small: ...""": "a and b share the route GET /a/*.",
    """@query("GET /a")\nasync def get_it(self, x: Small) -> Small: ...
@query("GET /b")
async def get__it(self, x: Small) -> Small: ...""": "get_it and get__it are both GetIt in",
    """@command("POST /a", keyed=True)
def a(self, x: Small) -> AsyncIterator[Small]: ...""": "A keyed command cannot stream",
    """@command("POST /a", retention=timedelta(1))
async def a(self, x: Small) -> Small: ...""": "retention= is for keyed commands",
    """@command("POST /a", keyed=True, retention=timedelta(0))
async def a(self, x: Small) -> Small: ...""": "retention= is for keyed commands",
    """@command("POST /a", refuses=[Small])
async def a(self, x: Small) -> Small: ...""": "is not a refusal",
    """@command("POST /a")\n@query("POST /b")
async def a(self, x: Small) -> Small: ...""": "declared twice",
}
VISIBLE = (AsyncIterator, command, query, timedelta)


@pytest.mark.parametrize("body", BAD)
def test_a_mistake_is_told(body: str) -> None:
    source = (
        "from __future__ import annotations\n"
        f"@service('shop.v1')\nclass Bad(Protocol):\n{textwrap.indent(body, '    ')}"
    )
    names: dict[str, Any] = {**globals(), "__name__": "shop.words"}
    with pytest.raises(ContractError) as raised:
        exec(compile(source, "<words>", "exec", dont_inherit=True), names)  # noqa: S102
    assert BAD[body] in str(raised.value)
    assert "Bad" in str(raised.value)


def test_only_protocols_are_contracts() -> None:
    with pytest.raises(ContractError, match="A contract is a Protocol"):

        @service("shop.v1")
        class Plain:
            @query("GET /a")
            async def a(self, request: Small) -> Small: ...

    with pytest.raises(ContractError, match="from Protocol alone, not from Painter"):

        @service("shop.v1")
        class Derived(Painter, Protocol):
            @query("GET /a")
            async def a(self, request: Small) -> Small: ...

    with pytest.raises(ContractError, match="'Shop' is not a package"):

        @service("Shop")
        class Cased(Protocol):
            @query("GET /a")
            async def a(self, request: Small) -> Small: ...


def test_private_members_are_left_alone() -> None:
    @service("shop.v1")
    class Quiet(Protocol):
        _note = 3

        @query("GET /a")
        async def a(self, request: Small) -> Small: ...

        def _helper(self) -> int:
            return self._note

    assert list(contract_of(Quiet).operations) == ["a"]


async def test_the_decorated_methods_are_ordinary_methods() -> None:
    leaf = await Whole().get_leaf(GetLeaf(name="oak"))
    assert to_json(leaf) == b'{"name":"oak","size":10}'
    with pytest.raises(OutOfPaint):
        await Whole().paint(Paint(name="oak", colour=Colour.RED, wait=None))
