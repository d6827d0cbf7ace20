"""Tests that need Node.js: skipped without it; with CI=true they fail, as those of servers do."""

from __future__ import annotations

import os
import shutil

import pytest

__all__ = ["need"]


def need(program: str, what: str) -> None:
    """Skip the test or module that needs a program of Node.js, or let it fail; say what for."""
    if shutil.which(program) is not None:
        return
    message = f"Node.js is not installed: {what}"
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message, allow_module_level=True)
