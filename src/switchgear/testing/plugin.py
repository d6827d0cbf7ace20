"""A plugin of pytest that records what a service consumes of others (see `consuming`).

    # conftest.py
    pytest_plugins = ["switchgear.testing.plugin"]

    pytest --consumer web==2.3 --consumes consumers/web.toml

What the tests of one run have seen takes the place of what the file said of that consumer at that
version. Under pytest-xdist each worker adds what it has seen.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from switchgear.contract.check.consumers import Consumer, write_consumer
from switchgear.errors import SwitchgearError
from switchgear.testing.consuming import Consumed, consuming

__all__ = ["pytest_addoption", "pytest_configure", "pytest_unconfigure"]

_KEY: Final = pytest.StashKey[tuple[Path, Consumer, Consumed, ExitStack]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("switchgear")
    group.addoption("--consumes", metavar="FILE", help="Record into it what the tests consume.")
    group.addoption("--consumer", metavar="NAME==VERSION", help="Who it is that consumes.")


def pytest_configure(config: pytest.Config) -> None:
    """Begin to record, if a file is named."""
    file, who = config.getoption("--consumes"), config.getoption("--consumer")
    if file is None:
        return
    name, _, version = str(who or "").partition("==")
    if not name:
        raise pytest.UsageError("--consumes asks for --consumer NAME==VERSION.")
    path, consumer = Path(str(file)), Consumer(name, version, ())
    if not hasattr(config, "workerinput"):
        try:
            write_consumer(path, consumer, anew=True)
        except SwitchgearError as error:
            raise pytest.UsageError(f"{error}") from None
    stack = ExitStack()
    config.stash[_KEY] = (path, consumer, stack.enter_context(consuming()), stack)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Write down what was seen."""
    found = config.stash.get(_KEY, None)
    if found is not None:
        path, consumer, seen, stack = found
        stack.close()
        write_consumer(path, Consumer(consumer.name, consumer.version, tuple(seen.names)))
