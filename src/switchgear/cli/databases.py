"""The databases of a system's services, as their settings name them, for commands that look in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from switchgear.app.runtime import open_database
from switchgear.config import Config, ServiceConfig
from switchgear.database.port import Database, Transaction
from switchgear.errors import OperationError, UsageError

__all__ = ["Opened", "chosen", "databases", "has_table", "of_service", "some_service"]

_TABLE = {
    "sqlite": "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?",
    "postgres": "SELECT 1 FROM pg_catalog.pg_tables WHERE tablename = ?",
}


@dataclass(frozen=True, slots=True)
class Opened:
    """A service's database, open."""

    service: str
    database: Database


@asynccontextmanager
async def databases(config: Config, service: str | None = None) -> AsyncIterator[list[Opened]]:
    """Open the databases of all services, or of one, for the body of the `async with`.

    A service that has never run has none, and is left out; if it was asked for, that is an
    `OperationError`. What is opened is what `[services.NAME] database` says.
    """
    looked_at = chosen(config, service)
    async with AsyncExitStack() as stack:
        found = []
        for settings in looked_at:
            if _exists(config, settings):
                database = await open_database(settings, config, stack)
                found.append(Opened(settings.name, database))
        if service and not found:
            raise OperationError(
                f"{service} has no database yet.",
                where=str(config.file_of(looked_at[0].database)),
                fix="It is made when the service first runs.",
            )
        yield found


def chosen(config: Config, service: str | None) -> list[ServiceConfig]:
    """Return the settings of all services that the system runs, or of one."""
    return [_named(config, service)] if service else _all(config)


def some_service(config: Config, *, otherwise: str) -> None:
    """Refuse a system without services; `otherwise` is what else can be named than its file."""
    if not config.services:
        missing = config.file is None
        raise OperationError(
            "there is no switchgear.toml here." if missing else "it lists no service.",
            where=str(config.folder if missing else config.file),
            fix=f"Name the system's file with --config, or {otherwise}.",
        )


async def has_table(tx: Transaction, name: str) -> bool:
    """Tell whether a table is there; a service without that part has none."""
    return bool(await tx.run(_TABLE[tx.dialect], name))


def of_service(opened: list[Opened], name: str) -> Opened:
    """Return the database of a service among those that are open."""
    for one in opened:
        if one.service == name:
            return one
    listed = ", ".join(one.service for one in opened) or "none"
    raise UsageError(f"no service {name!r} has a database.", fix=f"There are: {listed}.")


def _named(config: Config, service: str) -> ServiceConfig:
    if config.services and service not in config.services:
        raise UsageError(
            f"the system has no service {service!r}.",
            where="--service",
            fix=f"It has: {', '.join(config.services)}.",
        )
    return config.service(service)


def _all(config: Config) -> list[ServiceConfig]:
    some_service(config, otherwise="one service with --service")
    return [config.service(name) for name, one in config.services.items() if one.app]


def _exists(config: Config, settings: ServiceConfig) -> bool:
    """Tell whether there is something to open: opening a SQLite file would make it."""
    url = settings.database
    return url.scheme != "sqlite" or config.file_of(url).exists()
