"""What several parts' tests share."""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from services import sweep

from tests.servers import PostgresDatabase, address, begin_run, build_ahead, emptied, end_run

# an example takes as long as it takes, and one commit is always tested with the same: a machine's
# slow moment, or a lucky find, is no failure of what was changed (--hypothesis-profile=default
# looks for others)
settings.register_profile(
    "same", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("same")


def pytest_configure(config: pytest.Config) -> None:
    # ignored where the tests run in the background of a shell, and then by all that they start
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        sweep()
        begin_run()
        build_ahead(config.args if config.args_source is config.ArgsSource.ARGS else ())


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        end_run()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresDatabase]:
    """A database of this process on the server that all share."""
    database = PostgresDatabase(address("postgresql"))
    database.create()
    yield database
    database.drop()


@pytest.fixture
async def postgres_url(postgres_server: PostgresDatabase) -> str:
    """The URL of an empty database."""
    return await emptied(postgres_server)
