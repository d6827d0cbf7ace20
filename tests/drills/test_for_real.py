"""A cheap drill from the command line, for real; and what is left when one is interrupted."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROC = Path("/proc")


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of the processes that were started with `folder` for their files."""
    found = []
    for process in PROC.glob("[0-9]*"):
        try:
            if str(folder).encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # it has ended meanwhile, or is somebody else's
    return found


def started(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "switchgear", "drill", *arguments],
        env={**os.environ, "TMPDIR": str(folder), "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.timeout(600)
def test_a_refused_shipment_for_real(tmp_path):
    file = tmp_path / "drills.jsonl"
    with started(tmp_path, "refused-shipment", "--json", str(file)) as process:
        printed, _ = process.communicate()
    assert process.returncode == 0, printed
    (line,) = map(json.loads, file.read_text().splitlines())
    assert line["holds"] is True
    assert {invariant["name"] for invariant in line["invariants"]} >= {
        "refund ran before release",
        "after the retry the saga ends and nothing waits any more",
    }
    assert "✓ refund ran before release" in printed
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.timeout(600)
def test_a_payment_that_bounces_later_for_real(tmp_path):
    with started(tmp_path, "shipped-then-bounced") as process:
        printed, _ = process.communicate()
    assert process.returncode == 0, printed
    assert "✓ called back: the stock can be sold again" in printed
    assert "✓ stays: what the parcel stands on stays with it" in printed


@pytest.mark.timeout(600)
@pytest.mark.skipif(not PROC.is_dir(), reason="needs /proc to see other processes")
def test_ctrl_c_ends_every_process_that_the_drill_started(tmp_path):
    with started(tmp_path, "consumer-down") as process:
        line = ""
        while "orders while notifications is up" not in line:
            line = process.stdout.readline()
            assert line, "it ended before it began"
        assert len(processes_of(tmp_path)) > 7
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate()
    assert process.returncode == 130, printed
    assert processes_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
