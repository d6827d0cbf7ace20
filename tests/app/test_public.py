"""The public names: all there, and none of them costs anything before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import switchgear


@pytest.mark.parametrize("name", switchgear.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(switchgear, name) is not None
    assert name in dir(switchgear)


def test_another_name_is_not() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = switchgear.Nothing  # type: ignore[attr-defined]


def test_declaring_needs_msgspec_and_nothing_else() -> None:
    code = """
import sys
import switchgear
assert not [name for name in sys.modules if name.startswith("switchgear.")], "lazy"
from switchgear import Message, Policy, Saga, Service, command, event, field, query, service
roots = {name.partition(".")[0] for name in sys.modules}
heavy = {"aiohttp", "asyncpg", "google", "grpc", "httpx", "rich", "sqlalchemy", "typer", "uvicorn"}
assert not heavy & roots, heavy & roots
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
