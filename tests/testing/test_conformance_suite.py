"""The suite for broker adapters, as somebody else uses it: on an adapter that is not ours."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ADAPTER = """
from switchgear.events.brokers.sqlite import SqliteBroker

class Acme(SqliteBroker):
    async def publish(self, records):
        await super().publish({records})

def connect(url, options):
    return Acme(url.partition("://")[2], partitions=4, **options)
"""
CONFTEST = """
import pytest
{fixtures}

@pytest.fixture
def broker_url(tmp_path):
    return f"acme://{{tmp_path / 'box.db'}}"
"""
TESTS = """
from switchgear.testing.conformance.brokers import *
from switchgear.testing.conformance.reactions import *
"""
ORDER = "test_records_of_a_key_arrive_in_order"
SOME = [
    ORDER,
    "test_two_producers_lose_nothing_and_keep_their_order",
    "test_park_key_parks_the_event_and_what_follows_and_redrive_keeps_the_order",
    "test_a_consumer_killed_in_the_middle_of_handlers_repeats_none",
]


def run(folder: Path, tests: list[str], *options: str, records: str, fixtures: str = "") -> str:
    """Run some of the suite on an adapter; return the last line, which counts."""
    (folder / "acme_broker.py").write_text(ADAPTER.format(records=records))
    info = folder / "acme_broker-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-broker\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[switchgear.brokers]\nacme = acme_broker:connect\n")
    (folder / "conftest.py").write_text(CONFTEST.format(fixtures=fixtures))
    (folder / "test_acme.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_mode = strict\n")
    done = subprocess.run(
        [
            *[sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
            *["-k", " or ".join(tests), "test_acme.py"],
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip().splitlines()[-1] if done.stdout else done.stderr


@pytest.mark.parametrize(
    ("options", "fixtures"),
    [
        (["-p", "switchgear.testing.conformance"], ""),
        ([], "from switchgear.testing.conformance import *"),
    ],
)
def test_an_adapter_that_keeps_the_port_passes(
    tmp_path: Path, options: list[str], fixtures: str
) -> None:
    tests = SOME if options else [ORDER]
    said = run(tmp_path, tests, *options, records="records", fixtures=fixtures)
    assert said.startswith(f"{len(tests)} passed")


def test_an_adapter_that_turns_records_around_fails(tmp_path: Path) -> None:
    plugin = ["-p", "switchgear.testing.conformance"]
    said = run(tmp_path, [ORDER], *plugin, records="records[::-1]")
    assert said.startswith("1 failed")
