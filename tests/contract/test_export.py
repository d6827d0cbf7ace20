"""`switchgear contract export`: what is written for others, by the command itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from switchgear.cli.main import _main
from switchgear.contract.asyncapi import asyncapi
from switchgear.contract.library import load_library
from switchgear.errors import OperationError

CONTRACTS = '''
from typing import Protocol
from switchgear import Enum, Message, Refusal, command, event, field, service

class Colour(Enum, prefix="COLOUR_"):
    UNSPECIFIED = 0
    RED = 1
    """As blood."""

class Lonely(Enum, prefix="LONELY_"):
    UNSPECIFIED = 0

class Paint(Message, reserved=(2, "shade")):
    name: str = field(1)
    """Who paints,
    and for whom."""
    depth: int = field(3, unit="mm")
    """How thick."""
    old: str | None = field(4, deprecated=True)
    colour: Colour = field(5)

class Unused(Message):
    """Nobody asks for it."""

@event("paint.done", key="name")
class Painted(Message):
    """It is done."""
    name: str = field(1)

class Dry(Refusal):
    left: int = field(1)

@service("acme.paint.v1")
class Painter(Protocol):
    @command("POST /v1/paint", refuses=[Dry])
    async def paint(self, request: Paint) -> Unused: ...
    @command()
    async def secret(self, request: Paint) -> Unused: ...
'''


@pytest.fixture
def module(tmp_path: Path) -> str:
    path = tmp_path / "paint_contracts.py"
    path.write_text(CONTRACTS)
    return str(path)


def test_everything_is_written(
    module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["--proto", f"{out}", "--openapi", f"{out}/o.json", "--asyncapi", f"{out}/a.json"]
    assert _main(["contract", "export", module, *arguments, "--release", "1.2.0"]) == 0
    told = capsys.readouterr().out.split()
    assert told == [
        f"{out}/paint_contracts.proto",
        f"{out}/acme/paint/v1.proto",
        f"{out}/o.json",
        f"{out}/a.json",
    ]
    text = (out / "paint_contracts.proto").read_text()
    assert "  // Who paints,\n  // and for whom.\n  string name = 1;" in text
    assert "  // How thick. Unit: mm.\n  int64 depth = 3;" in text
    assert "  optional string old = 4 [deprecated = true];" in text
    assert '  reserved 2;\n  reserved "shade";' in text
    assert "  COLOUR_UNSPECIFIED = 0;\n  // As blood.\n  COLOUR_RED = 1;" in text
    assert "message Unused {}" in text
    assert "enum Lonely {" in text
    # in the order of the module
    assert (
        text.index("message Paint ") < text.index("message Painted ") < text.index("message Dry ")
    )
    service = (out / "acme/paint/v1.proto").read_text()
    assert "rpc Secret(paint_contracts.Paint) returns (paint_contracts.Unused);" in service
    openapi = json.loads((out / "o.json").read_text())
    assert openapi["info"] == {"title": "paint_contracts", "version": "1.2.0"}
    assert list(openapi["paths"]) == ["/v1/paint"]  # what has no route is not there
    events = json.loads((out / "a.json").read_text())
    assert events["components"]["messages"]["paint.done.Painted"]["x-switchgear-key"] == "name"


def test_every_reference_in_the_asyncapi_document_leads_somewhere() -> None:
    document = asyncapi(*load_library("examples.shop.contracts").events, title="Shop", version="1")

    def follow(node: object) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                target: object = document
                for part in node["$ref"].removeprefix("#/").split("/"):
                    assert isinstance(target, dict)
                    target = target[part.replace("~1", "/").replace("~0", "~")]
            for one in node.values():
                follow(one)
        elif isinstance(node, list):
            for one in node:
                follow(one)

    follow(document)
    assert document["channels"]["shop.orders"]["address"] == "shop.orders"
    assert set(document["channels"]["shop.orders"]["messages"]) == {
        "OrderPlaced",
        "OrderConfirmed",
        "OrderCancelled",
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no.such.module", "--proto", "x"], "there is no module no.such.module"),
        (["json", "--proto", "x"], "it declares no contracts"),
        (["missing.py", "--proto", "x"], "there is no such file"),
        (["examples.shop.contracts"], "it does not say what to write"),
        (["examples.shop.contracts", "--openapi", "/dev/null/x"], "it cannot be written"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _main(["contract", "export", *arguments]) in {1, 2}
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1


def test_a_module_that_cannot_be_imported_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "broken_contracts.py"
    broken.write_text("1 / 0\n")
    with pytest.raises(OperationError, match="ZeroDivisionError"):
        load_library(str(broken))
