"""`switchgear contract publish`: the version that a change asks for, and its wheel."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from switchgear.cli.main import _main
from switchgear.contract.history import read_history
from switchgear.contract.publish.publish import Version
from switchgear.errors import OperationError

FIRST = '''
"""Contracts of the paint shop."""
from typing import Protocol
from switchgear import Message, event, field, query, service

class Paint(Message, package="paint.v1"):
    name: str = field(1)
    depth: int = field(2)

@event("paint.done", key="name")
class Painted(Message, package="paint.v1"):
    name: str = field(1)

@service("paint.v1")
class Painter(Protocol):
    @query("GET /v1/paint/{name}")
    async def get(self, request: Paint) -> Paint: ...
'''
SAID = FIRST.replace("field(2)", 'field(2, doc="How deep it is.")')
MORE = FIRST.replace("field(2)", "field(2)\n    shade: str | None = field(3)")
RENAMED = FIRST.replace("depth: int", "width: int")


class Shop:
    """A folder with a module of contracts, its history, and what was published."""

    def __init__(self, folder: Path) -> None:
        self.module = folder / "paint_contracts.py"
        self.history = folder / "history.jsonl"
        self.out = folder / "dist"

    def publish(self, source: str, *arguments: str) -> int:
        self.module.write_text(source)
        folders = ["--history", str(self.history), "--out", str(self.out)]
        return _main(["contract", "publish", str(self.module), *folders, *arguments])


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_each_change_asks_for_its_version(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    for source, told in (
        (FIRST, "1.0.0: the first version"),
        (SAID, "1.0.1: a patch"),
        (MORE, "1.1.0: a minor version"),
        (RENAMED, "2.0.0: a major version"),
    ):
        assert shop.publish(source) == 0
        assert told in capsys.readouterr().out
    versions = [one.version for one in read_history(shop.history)]
    assert versions == ["2.0.0", "1.1.0", "1.0.1", "1.0.0"]
    wheels = sorted(one.name for one in shop.out.iterdir())
    assert wheels[0] == "paint_contracts-1.0.0-py3-none-any.whl"
    assert len(wheels) == 4
    assert shop.publish(RENAMED) == 0
    assert "nothing has changed since 2.0.0" in capsys.readouterr().out
    assert len(list(shop.out.iterdir())) == 4


def test_what_is_gone_stays_reserved(shop: Shop, tmp_path: Path) -> None:
    shop.publish(MORE)
    shop.publish(FIRST)  # without the shade
    text = read_history(shop.history)[0].protos["paint/v1.proto"]
    assert '  reserved 3;\n  reserved "shade";' in text
    shop.publish(FIRST)
    assert len(read_history(shop.history)) == 2
    shop.module.write_text(RENAMED)
    out = ["--proto", str(tmp_path / "out"), "--history", str(shop.history)]
    assert _main(["contract", "export", str(shop.module), *out]) == 0
    assert "reserved 3;" in (tmp_path / "out/paint/v1.proto").read_text()


@pytest.mark.parametrize("command", ["export", "publish"])
def test_a_history_is_a_file(
    shop: Shop, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.module.write_text(FIRST)
    (tmp_path / "protos").mkdir()
    out = ["--proto" if command == "export" else "--out", str(tmp_path / "out")]
    given = ["contract", command, str(shop.module), *out, "--history", str(tmp_path / "protos")]
    assert _main(given) == 2
    assert "It is a folder, and a history is a file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("depth: int = field(2)", "depth: int = field(2, default=0)", "1.1.0: a minor"),
        ("depth: int = field(2)", "depth: int = field(2, unit='mm')", "1.1.0: a minor"),
        ("field(2)", "field(2)\n    shade: str = field(3)", "REQUIRED_ADDED"),
        ('key="name"', "unordered=True", "EVENT_KEY_CHANGED"),
        ('"paint.done"', '"paint.dry"', "EVENT_TOPIC_CHANGED"),
        ('"GET /v1/paint/{name}"', '"GET /v2/paint/{name}"', "ROUTE_CHANGED"),
        ('@query("GET ', '@command("POST ', "PATTERN_CHANGED"),
        ('{name}")', '{name}", refuses=[Dry])', "REFUSAL_CHANGED"),
    ],
)
def test_what_no_proto_file_says_counts_too(
    shop: Shop, capsys: pytest.CaptureFixture[str], before: str, after: str, told: str
) -> None:
    first = FIRST.replace("import Message", "import Message, Refusal, command").replace(
        "@event", 'class Dry(Refusal, package="paint.v1"):\n    name: str = field(1)\n\n@event'
    )
    shop.publish(first)
    capsys.readouterr()
    assert before in first
    assert shop.publish(first.replace(before, after, 1), "--dry-run") == 0
    said = capsys.readouterr().out
    assert told in said
    assert "2.0.0: a major" in said or "1.1.0" in told


def test_every_version_counts(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """What the version before stopped to say, an earlier one has said."""
    cents = FIRST.replace("field(2)", 'field(2, unit="mm")')
    for source in (cents, FIRST, FIRST.replace("field(2)", 'field(2, unit="inches")')):
        capsys.readouterr()
        assert shop.publish(source) == 0
    said = capsys.readouterr().out
    assert "UNIT_CHANGED" in said
    assert "from mm to inches" in said
    assert "2.0.0: a major version" in said
    # A break that was published is lived with.
    assert shop.publish(FIRST.replace("field(2)", 'field(2, unit="inches", doc="Deep.")')) == 0
    assert "2.0.1: a patch" in capsys.readouterr().out


def test_a_break_says_why(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.publish(FIRST)
    capsys.readouterr()
    assert shop.publish(RENAMED, "--dry-run") == 0
    told = capsys.readouterr().out
    assert "2.0.0: a major version" in told
    assert "depth" in told
    assert [one.version for one in read_history(shop.history)] == ["1.0.0"]


def test_a_version_that_is_too_low_is_refused(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.publish(FIRST, "--release", "0.3.0")
    assert shop.publish(MORE, "--release", "0.3.0") == 1
    assert "0.3.0 is too low: after 0.3.0 this is at least 0.3.1" in capsys.readouterr().err
    assert shop.publish(RENAMED, "--release", "0.3.1") == 1
    assert "at least 0.4.0" in capsys.readouterr().err
    assert shop.publish(RENAMED, "--release", "1.0.0") == 0
    assert shop.publish(FIRST, "--release", "next") == 1
    assert "'next' is not a version" in capsys.readouterr().err


def test_the_wheel_is_installed_and_imported(shop: Shop) -> None:
    shop.publish(FIRST)
    shop.publish(MORE)
    wheel = shop.out / "paint_contracts-1.1.0-py3-none-any.whl"
    target = shop.out / "installed"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target"]
    subprocess.run([*pip, target, wheel], check=True, capture_output=True)
    assert (target / "paint_contracts.py").read_text() == MORE
    folder = target / "paint_contracts_contract"
    assert (folder / "proto/paint/v1.proto").read_text().startswith("// Exported")
    assert [one.version for one in read_history(folder / "history.jsonl")] == ["1.0.0"]
    assert json.loads((folder / "openapi.json").read_text())["info"]["version"] == "1.1.0"
    assert json.loads((folder / "asyncapi.json").read_text())["channels"]["paint.done"]
    # what was published once is published again to the byte
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None


def test_a_module_of_a_package_keeps_its_name(tmp_path: Path) -> None:
    folders = ["--history", str(tmp_path / "history.jsonl"), "--out", str(tmp_path)]
    assert _main(["contract", "publish", "examples.shop.contracts", *folders]) == 0
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == "examples_shop_contracts-1.0.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "examples/shop/contracts.py" in names
    assert "examples/shop/contracts_contract/proto/shop/orders/v1.proto" in names


def test_a_module_that_needs_more_than_itself_is_not_published(
    shop: Shop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (shop.module.parent / "not_in_the_wheel.py").write_text("LIMIT = 3\n")
    monkeypatch.syspath_prepend(shop.module.parent)
    assert shop.publish(f"import not_in_the_wheel\n{FIRST}") == 1
    assert "No module named 'not_in_the_wheel'" in capsys.readouterr().err
    assert not list(shop.out.iterdir())
    assert not shop.history.exists()


def test_versions() -> None:
    assert str(Version.of("1.2.3").after("major")) == "2.0.0"
    assert str(Version.of("1.2.3").after("minor")) == "1.3.0"
    assert str(Version.of("0.2.3").after("major")) == "0.3.0"
    assert str(Version.of("0.2.3").after("minor")) == "0.2.4"
    for wrong in ("1", "1.2", "01.2.3", "1.2.3rc1", ""):
        with pytest.raises(OperationError):
            Version.of(wrong)
