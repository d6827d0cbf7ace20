"""Running drills: exit codes, JSON lines, names, and what a drill leaves behind."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from contextlib import closing
from io import StringIO

import pytest
from rich.console import Console

from switchgear.drills import books as book
from switchgear.drills.main import DRILLS, run
from switchgear.drills.report import Report
from switchgear.errors import OperationError

folders = []


async def holding(stand):
    stand.say("looking")
    folders.append(stand.folder)
    report = Report("holding", "nothing", "All is well.")
    report.check("one is one", holds=True)
    report.figure("ones", 1)
    return report


async def failing(stand):
    """Keeps books in which a piece is missing, and checks them."""
    file = stand.folder / "inventory.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.executescript(
            "CREATE TABLE stock (sku, available); INSERT INTO stock VALUES ('tea', 99)"
        )
    available = dict(book.rows(file, "SELECT sku, available FROM stock"))
    report = Report("failing", "the books")
    books = book.Books(
        orders={},
        wallets={},
        payments={},
        available=available,
        reserved={},
        shipments={},
        notices=[],
        counted=(0, 0, 0, 0),
    )
    report.invariants.append(book.stock(books, {"tea": 100}))
    return report


async def unable(stand):
    raise OperationError("127.0.0.1:1 is in use.", where="services.orders.http")


def console() -> Console:
    return Console(file=StringIO(), width=120, color_system=None)


def test_exit_0_and_a_json_line_when_all_holds(tmp_path):
    out, file = console(), tmp_path / "drills.jsonl"
    assert run(["holding"], file, out, {"holding": holding}) == 0
    (line,) = map(json.loads, file.read_text().splitlines())
    assert (line["drill"], line["holds"]) == ("holding", True)
    assert "✓ one is one" in out.file.getvalue()
    assert "The drill holds." in out.file.getvalue()


def test_exit_1_when_the_books_were_tampered_with(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    out, file = console(), tmp_path / "drills.jsonl"
    drills = {"holding": holding, "failing": failing}
    assert run(["all"], file, out, drills) == 1
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["drill"], line["holds"]) for line in lines] == [
        ("holding", True),
        ("failing", False),
    ]
    assert lines[1]["invariants"][0]["holds"] is False
    assert "✗ stock adds up" in out.file.getvalue()
    assert "1 of 2 drills do not hold: failing." in out.file.getvalue()
    (kept,) = tmp_path.glob("switchgear-failing-*")
    assert (kept / "inventory.db").is_file()
    assert f"Its logs and books are kept in {kept}" in out.file.getvalue()


def test_a_drill_that_cannot_start_says_why_and_the_others_run(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    out, file = console(), tmp_path / "drills.jsonl"
    assert run(["all"], file, out, {"unable": unable, "holding": holding}) == 1
    first, second = (json.loads(line) for line in file.read_text().splitlines())
    assert "127.0.0.1:1 is in use." in first["invariants"][0]["detail"]
    assert second["holds"] is True
    assert "127.0.0.1:1 is in use." in out.file.getvalue()


def test_the_folder_of_a_drill_is_gone_afterwards():
    folders.clear()
    run(["holding"], None, console(), {"holding": holding})
    assert len(folders) == 1
    assert not folders[0].exists()


def test_a_name_that_is_no_drill_lists_those_that_are():
    with pytest.raises(OperationError, match="slow-inventory, leaf-down, consumer-down") as raised:
        run(["slow"], None, console())
    assert "'slow'" in str(raised.value)


def test_a_json_file_that_cannot_be_written_is_told_before_anything_runs(tmp_path):
    folders.clear()
    with pytest.raises(OperationError, match="--json"):
        run(["holding"], tmp_path / "no" / "x.jsonl", console(), {"holding": holding})
    assert folders == []


def test_the_seven_drills_of_the_documentation_are_there():
    assert list(DRILLS) == [
        "slow-inventory",
        "leaf-down",
        "consumer-down",
        "refused-shipment",
        "shipped-then-bounced",
        "killed-midway",
        "long-chain",
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_what_the_drill_started_and_removes_its_folder(tmp_path, number):
    script = """
        import asyncio, sys
        from rich.console import Console
        from switchgear.drills.main import run

        async def endless(stand):
            child = await asyncio.create_subprocess_exec("sleep", "600")
            try:
                print(child.pid, stand.folder, flush=True)
                await child.wait()
            finally:
                child.kill()
                await child.wait()

        sys.exit(run(["endless"], None, Console(stderr=True), {"endless": endless}))
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
    )
    try:
        pid, folder = process.stdout.readline().split()
        process.send_signal(number)
        assert process.wait(timeout=120) == 130
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert not os.path.exists(folder)  # noqa: PTH110  as the drill told it
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
