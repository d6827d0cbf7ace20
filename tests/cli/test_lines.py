"""How the logs of several services look as one."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from switchgear.cli.system import table
from switchgear.cli.up import Lines

RECORD = {
    "time": "2026-01-02T03:04:05.678+00:00",
    "level": "warning",
    "service": "orders",
    "logger": "team",
    "message": "slow [bold]",
    "took": 3,
    "trace": "Traceback\n  line",
}


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def test_a_terminal_gets_names_in_colour_and_records_in_words(out: io.StringIO) -> None:
    console = Console(file=out, force_terminal=True, color_system="standard", width=40)
    lines = Lines(console, ["orders", "pay"], json_lines=False)
    lines.line("orders", json.dumps(RECORD))
    lines.line("pay", "printed by [hand] {not json}, and longer than the terminal is wide")
    lines.say("pay", "is ready again")
    lines.say(None, "draining")
    text = out.getvalue()
    assert "\x1b[36morders \x1b[0m" in text
    assert "\x1b[33mwarning " in text
    assert "slow [bold]" in text
    assert "took=" in text
    assert "Traceback" in text
    assert "  line" in text
    assert (
        "\x1b[35mpay    \x1b[0mprinted by [hand] {not json}, and longer than the terminal" in text
    )
    assert "is wide\n" in text
    assert text.endswith("\x1b[1mdraining\x1b[0m\n")


def test_elsewhere_every_line_is_an_object_with_its_service(out: io.StringIO) -> None:
    lines = Lines(Console(file=out, width=20), ["orders"], json_lines=True)
    lines.line("orders", json.dumps(RECORD))
    lines.line("orders", "printed by hand: [x]")
    lines.line("orders", '{"no": "message"}')
    lines.say("orders", "is ready again")
    record, printed, other, said = map(json.loads, out.getvalue().splitlines())
    assert record == RECORD
    assert printed == {"service": "orders", "message": "printed by hand: [x]"}
    assert other == {"service": "orders", "message": '{"no": "message"}'}
    assert (said["message"], said["logger"]) == ("is ready again", "switchgear.up")


def test_a_table_shows_other_peoples_words_and_obeys_none_of_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table(("key", "error"), [["\x1b]0;title\x07a\u202eb", "[red]no[/] \x1b[2J\nnext é"]])
    shown = capsys.readouterr().out
    assert r"\x1b]0;title\x07a\u202eb" in shown
    assert r"[red]no[/] \x1b[2J\nnext é" in shown
    assert "\x1b" not in shown
