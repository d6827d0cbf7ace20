"""`switchgear saga explain`, on the shop's own saga."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from switchgear.cli.main import main

SHOP = str(Path(__file__).parents[2] / "examples/shop/switchgear.toml")


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(["saga", "explain", *arguments, "--config", SHOP])
    said = capsys.readouterr()
    return said.err if end.value.code else said.out


def test_in_words_as_json_and_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(capsys, "checkout", "--fails", "ship", "--after", "debit").splitlines()[:3] == [
        "checkout version 1: ship is refused, after debit.",
        "The saga turns round, and ends undone:",
        "  1. refund undoes debit, or else a person does: runbooks/refund.md",
    ]
    told = json.loads(
        typed(capsys, "checkout/1", "--fails", "debit", "--how", "refuted", "-f", "json")
    )
    assert [each["name"] for each in told["asked"]] == ["confirm", "ship"]
    assert [each["undo"] for each in told["waits"]] == ["release", "cancel"]
    drawn = typed(capsys, "checkout", "--fails", "ship", "-f", "mermaid")
    assert drawn.startswith("flowchart LR")
    assert "</svg>" in typed(capsys, "shop.orders:checkout", "-f", "svg")


def test_every_failure_point(capsys: pytest.CaptureFixture[str]) -> None:
    lines = typed(capsys, "checkout", "-f", "json").splitlines()
    points = [(json.loads(line)["fails"], json.loads(line)["how"]) for line in lines]
    assert len(points) == 4 * 4 + 3
    assert typed(capsys, "checkout").count("checkout version 1:") == len(points)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing"], "no service of the system runs a saga nothing. It runs checkout/1"),
        (["checkout/9"], "no service of the system runs a saga checkout/9"),
        (["checkout", "--fails", "pack"], "has no step pack. Its steps are reserve"),
        (["checkout", "--fails", "debit", "--after", "ship"], "ship does not come before debit"),
        (["checkout", "--after", "ship"], "no step is named"),
        (["shop.orders:app"], "is a Service, not a saga"),
    ],
)
def test_bad_input(capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    said = typed(capsys, *arguments)
    assert says in said
    assert said.count("\n") == 1
