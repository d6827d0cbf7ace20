"""Where a person works with the sagas of a system's services, for commands that look in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from switchgear.app.sagas import place_of
from switchgear.app.service import Service
from switchgear.app.target import add_to_path, import_path, load_target
from switchgear.cli.databases import chosen, databases, has_table
from switchgear.config import Config
from switchgear.errors import SwitchgearError
from switchgear.saga.port import DatabaseDesk, Desk

__all__ = ["OpenDesk", "desks"]


@dataclass(frozen=True, slots=True)
class OpenDesk:
    """The desk of one service."""

    service: str
    desk: Desk


@asynccontextmanager
async def desks(
    config: Config, service: str | None = None, *, elsewhere: bool = False
) -> AsyncIterator[list[OpenDesk]]:
    """Open the desks of all services with sagas, or of one, for the body of the `async with`.

    `elsewhere` is that workers with other definitions than the ones declared here are at work.
    """
    found = []
    for settings in chosen(config, service):
        place = place_of(settings, config)
        if place is not None:
            from switchgear.saga.temporal.cluster import Cluster  # noqa: PLC0415  an extra
            from switchgear.saga.temporal.desk import TemporalDesk  # noqa: PLC0415
            from switchgear.saga.temporal.place import connect  # noqa: PLC0415

            cluster = Cluster(await connect(place), settings.name)
            found.append(OpenDesk(settings.name, TemporalDesk(cluster)))
    on_temporal = {one.service for one in found}
    if service in on_temporal:
        yield found
        return
    async with databases(config, service) as opened:
        for one in opened:
            if one.service not in on_temporal:
                async with one.database.transaction() as tx:
                    if await has_table(tx, "switchgear_sagas"):
                        known = partial(_declared, config, one.service, elsewhere=elsewhere)
                        desk = DatabaseDesk(one.database, known)
                        found.append(OpenDesk(one.service, desk))
        yield found


def _declared(config: Config, service: str, *, elsewhere: bool) -> Collection[str] | None:
    """Return the definitions of sagas that the services with this one's database declare.

    None: the code of one of them is not here, and whoever operates it need not have it.
    """
    if elsewhere or service not in config.services:
        return None
    add_to_path(import_path(config))
    database = config.service(service).database
    found: set[str] = set()
    for settings in config.services.values():
        if settings.unset is not None:
            return None
        if settings.database != database:
            continue
        try:
            app = load_target(settings.app) if settings.app else None
        except SwitchgearError:
            return None
        if not isinstance(app, Service):
            return None
        found |= {saga.plan.id for saga in app.declared_sagas}
    return found
