"""Packages, imports and names: what protobuf allows, and what it would refuse less kindly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Protocol

import pytest
from google.protobuf.descriptor_pool import DescriptorPool

from switchgear.contract import codec
from switchgear.contract.codec import from_json, to_json
from switchgear.contract.descriptors import (
    descriptor,
    descriptor_pool,
    file_descriptors,
    message_class,
)
from switchgear.contract.enums import Enum
from switchgear.contract.message import Message, field
from switchgear.contract.service import query, service
from switchgear.errors import ContractError, MissingExtra
from tests.contract.catalogue import Composite, Painter
from tests.contract.protoc import Protoc


class Shared(Message, package="shop.v1"):
    text: str = field(1)


class Line(Message, package="acme.shop.v1"):
    """Its package ends in the name of another."""

    class Shared(Message):
        own: int = field(1)

    shared: Shared = field(1)
    other: Outer = field(2)


class Outer(Message, package="acme.shop.v1"):
    shared: Shared = field(1)
    shared_by_name: dict[str, Shared] = field(2)
    line: Line | None = field(3)


@service("acme.shop.v1")
class Shop(Protocol):
    @query("POST /line")
    async def line(self, request: Line) -> Line: ...

    @query("POST /outer")
    async def shared(self, request: Shared) -> Outer: ...


def test_each_name_is_found_however_packages_and_messages_are_called(tmp_path: Path) -> None:
    ours = {file.name: file for file in file_descriptors(Shop).file}
    compiled = Protoc(tmp_path, Shop).compiled()
    assert set(compiled) == {"shop/v1.proto", "acme/shop/v1.proto"}
    for name, file in compiled.items():
        assert file == ours[name]


def test_files_come_after_what_they_import() -> None:
    seen: set[str] = set()
    for file in file_descriptors(Painter, Shop).file:
        assert seen.issuperset(file.dependency)
        seen.add(file.name)
    assert "google/api/annotations.proto" in seen


def test_a_pool_for_reflection() -> None:
    pool = descriptor_pool(Painter, Shop)
    assert pool.FindServiceByName("paint.v1.Painter").methods_by_name["GetLeaf"]
    assert pool.FindServiceByName("acme.shop.v1.Shop")
    assert pool.FindMessageTypeByName("paint.v1.OutOfPaint")


def test_two_versions_of_a_message_live_in_one_process() -> None:
    class Word(Message, package="shop.v9"):
        a: int = field(1)

    first = Word

    class Word(Message, package="shop.v9"):  # type: ignore[no-redef]
        a: str = field(1)

    assert message_class(first)(a=1).a == 1
    assert message_class(Word)(a="x").a == "x"
    assert descriptor(first).full_name == descriptor(Word).full_name == "shop.v9.Word"


def test_nothing_is_put_into_the_pool_that_others_share() -> None:
    message_class(Composite)
    shared = DescriptorPool()
    with pytest.raises(KeyError):
        shared.FindMessageTypeByName("paint.v1.Composite")
    from google.protobuf.descriptor_pool import Default

    with pytest.raises(KeyError):
        Default().FindMessageTypeByName("paint.v1.Composite")


class East(Message, package="east.v1"):
    west: West | None = field(1)


class West(Message, package="west.v1"):
    east: East | None = field(1)


def test_packages_do_not_import_each_other() -> None:
    with pytest.raises(ContractError, match=r"east/v1\.proto imports west/v1\.proto imports east"):
        file_descriptors(East)
    assert from_json(East, to_json(East(west=West(east=None)))) == East(west=West(east=None))


def test_two_things_of_one_name_are_refused() -> None:
    class Shop(Message, package="twice.v1"):
        pass

    message = Shop

    @service("twice.v1")
    class Shop(Protocol):  # type: ignore[no-redef]
        @query("POST /a")
        async def a(self, request: message) -> message: ...  # type: ignore[valid-type]

    with pytest.raises(ContractError, match=r"Two things in twice\.v1 are called Shop"):
        file_descriptors(Shop)

    class Kind(Enum, package="twice.v1"):
        Thing = 0

    class Thing(Message, package="twice.v1"):
        kind: Kind = field(1)

    with pytest.raises(ContractError, match=r"Two things in twice\.v1 are called Thing"):
        file_descriptors(Thing)


@pytest.mark.parametrize(
    ("package", "name"), [("shop-words", "Plain"), ("shop", "Größe"), ("9shop.v1", "Plain")]
)
def test_names_that_protobuf_cannot_spell(package: str, name: str) -> None:
    made = type(Message)(
        name,
        (Message,),
        {"__module__": __name__, "__qualname__": name, "__annotations__": {}},
        package=package,
    )
    with pytest.raises(ContractError, match="is not a name in protobuf"):
        file_descriptors(made)


def test_without_protobuf_json_works_and_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Word(Message):
        a: int = field(1)

    for module in list(sys.modules):
        if module.startswith("google.protobuf"):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    assert from_json(Word, to_json(Word(a=1))) == Word(a=1)
    for use in (
        lambda: codec.to_proto(Word(a=1)),
        lambda: codec.from_proto(Word, b""),
        lambda: file_descriptors(Word),
        lambda: message_class(Word),
    ):
        with pytest.raises(MissingExtra, match=r"protobuf.*switchgear\[grpc\]"):
            use()


def test_protobuf_is_not_imported_before_it_is_used() -> None:
    code = (
        "import sys, switchgear.contract.export, switchgear.contract.codec; "
        "assert not [name for name in sys.modules if name.startswith('google')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
