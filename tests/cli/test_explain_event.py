"""`switchgear explain event` and `switchgear export`, with files of another repository."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from switchgear.cli.main import main
from switchgear.saga.choreography.declared import (
    Declared,
    HandlerDeclared,
    SubscriptionDeclared,
    write,
)

SHOP = Path(__file__).parents[2] / "examples/shop/switchgear.toml"
ELSEWHERE = """
from switchgear import Message, Service, event, field
from pathlib import Path

@event("shop.orders", key="order_id")
class OrderPlaced(Message):
    order_id: str = field(1)

@event("fraud.alerts", key="order_id")
class Suspicious(Message):
    order_id: str = field(1)

app = Service("fraud")
app.publishes()

@app.on(OrderPlaced, name="watch", on_failure="block_key", emits=[Suspicious])
async def watch(event: OrderPlaced) -> None: ...

@app.on(Suspicious, name="alarm", on_failure="skip", undoes=watch, emits=[])
async def alarm(event: Suspicious) -> None: ...
"""


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    said = capsys.readouterr()
    return said.err if end.value.code else said.out


@pytest.fixture
def elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Path:
    """The exported declarations of a service in a repository of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fraud_watch.py").write_text(ELSEWHERE)
    (tmp_path / "switchgear.toml").write_text('[services.fraud]\napp = "fraud_watch:app"\n')
    assert typed(capsys, "export", "--out", "declared") == "declared/fraud.json\n"
    monkeypatch.chdir("/")
    return tmp_path / "declared"


def explained(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    return typed(capsys, "explain", "event", *arguments, "--config", str(SHOP))


def test_in_words(capsys: pytest.CaptureFixture[str], elsewhere: Path) -> None:
    alone = explained(capsys, "OrderPlaced")
    assert "fraud" not in alone
    said = explained(capsys, "shop.orders.OrderPlaced", "--with", str(elsewhere))
    assert "OrderPlaced by order_id, published by orders" in said
    assert "  fraud.watch: block_key\n    Suspicious by order_id\n" in said
    assert "      fraud.alarm: skip after 8, undoes fraud.watch" in said
    assert (
        "It is tried again for ever, and later events of its order_id of fraud.watch wait" in said
    )
    one = explained(
        capsys, "OrderPlaced", "--fails", "notifications.thank", "--with", f"{elsewhere}/fraud.json"
    )
    lines = one.splitlines()
    assert lines[0] == "OrderPlaced: notifications.thank keeps failing."
    assert lines[1].startswith("After 8 attempts the event is parked, later events of its order_id")
    assert lines[1].endswith("and a person decides (there is no runbook).")
    assert lines[2] == "Done by then: orders (OrderPlaced)."


def test_as_data_and_drawn(capsys: pytest.CaptureFixture[str], elsewhere: Path) -> None:
    told = json.loads(explained(capsys, "OrderPlaced", "-f", "json", "--with", str(elsewhere)))
    assert [one["name"] for one in told["handlers"]] == [
        "analytics.count_placed",
        "fraud.watch",
        "notifications.thank",
        "fraud.alarm",
    ]
    assert {one["how"] for one in told["failures"]} == {"gives-up"}
    assert explained(capsys, "OrderPlaced", "-f", "mermaid").startswith("flowchart LR")
    drawn = explained(capsys, "OrderPlaced", "--fails", "notifications.notify", "-f", "svg")
    assert "keeps failing" in drawn


def test_one_of_several_ways_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    handlers = [HandlerDeclared("a", "x", ("y",)), HandlerDeclared("b", "x", ("y",))]
    handlers.append(HandlerDeclared("c", "y", ()))
    subscriptions = tuple(
        SubscriptionDeclared(one.handler, "skip", 1, 1, 1, (one,)) for one in handlers
    )
    file = tmp_path / "s.json"
    file.write_bytes(write(Declared("s", publishes=("x",), subscriptions=subscriptions)))
    arguments = ["explain", "event", "x", "--fails", "s.c", "-f", "mermaid", "--with", str(file)]
    for after, says in (
        ([], "This is the shortest of 2 ways; --after HANDLER chooses another.\n"),
        (["--after", "s.b"], ""),
    ):
        with pytest.raises(SystemExit):
            main([*arguments, *after, "--config", str(SHOP)])
        said = capsys.readouterr()
        assert said.out.startswith("flowchart LR")
        assert said.err == says


def test_files_alone(
    capsys: pytest.CaptureFixture[str], elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(elsewhere)
    said = typed(capsys, "explain", "event", "OrderPlaced", "--with", ".")
    assert "fraud.watch waits for shop.orders.OrderPlaced, which nobody in sight publishes" in said
    assert "there is no switchgear.toml" in typed(capsys, "explain", "event", "OrderPlaced")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["OrderEaten"], "no service in sight names an event OrderEaten. There are: shop.orders."),
        (["OrderPlaced", "--fails", "a.b"], "the chain has no handler a.b. It has: analytics.c"),
        (["OrderPlaced", "--how", "OrderPlaced"], "none is named"),
        (
            ["OrderPlaced", "--fails", "notifications.thank", "--how", "OrderPlaced"],
            "notifications.thank does not say that it publishes",
        ),
        (["OrderPlaced", "--with", "/nowhere.json"], "/nowhere.json: it cannot be read"),
    ],
)
def test_bad_input(capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    said = explained(capsys, *arguments)
    assert says in said
    assert said.count("\n") == 1


def test_export_of_what_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    for name, says in (("nobody", "has no service 'nobody'"), ("gateway", "is no Service")):
        assert says in typed(capsys, "export", name, "--config", str(SHOP))
    told = json.loads(typed(capsys, "export", "orders", "--config", str(SHOP)))
    assert told["sagas"][0]["steps"][1] == {
        "name": "reserve",
        "kind": "compensatable",
        "undo": "release",
        "runbook": "runbooks/release.md",
    }


def test_export_to_where_it_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "shop.json"
    file.write_text("{}")
    for out in (file, tmp_path / ("x" * 300)):
        said = typed(capsys, "export", "orders", "--out", str(out), "--config", str(SHOP))
        assert said.startswith(f"error[SG220]: {out}/orders.json: it cannot be written: ")
        assert "Name another place" in said
        assert said.count("\n") == 1
    assert file.read_text() == "{}"
