"""Where a service's sagas run: in its own database, or on the Temporal cluster of its settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from switchgear.config import Config, ServiceConfig
from switchgear.database.port import Database
from switchgear.errors import ConfigError, MissingExtra
from switchgear.saga.engine import Engine

if TYPE_CHECKING:
    from switchgear.app.service import Service
    from switchgear.saga.temporal import Place, TemporalEngine

__all__ = ["engine_of", "place_of"]


def engine_of(
    service: Service,
    database: Database,
    settings: ServiceConfig,
    config: Config,
    *,
    clock: Callable[[], float],
    poll: float | None,
) -> Engine | TemporalEngine:
    """Return the engine of a service's sagas; nothing runs yet."""
    sagas, given = service.declared_sagas, settings.sagas
    place = place_of(settings, config)
    if place is None:
        return Engine(
            database,
            sagas,
            concurrency=given.concurrency,
            lease=given.lease,
            archive=given.archive,
            clock=clock,
            poll=poll,
            notify=service.hook,
        )
    from switchgear.saga.temporal import TemporalEngine  # noqa: PLC0415  an optional dependency

    return TemporalEngine(
        database,
        place,
        sagas,
        service=service.name,
        concurrency=given.concurrency,
        lease=given.lease,
        notify=service.hook,
    )


def place_of(settings: ServiceConfig, config: Config) -> Place | None:
    """Return the cluster on which a service's sagas run; None: they run in its database.

    Raises `ConfigError` for a URL or option that cannot be used.
    """
    url = settings.sagas.url
    if url is None:
        return None
    try:
        from switchgear.saga.temporal import Place  # noqa: PLC0415  an optional dependency
    except ImportError as error:
        raise MissingExtra("temporalio", "temporal") from error
    from switchgear.saga.errors import TemporalRefused  # noqa: PLC0415  with it

    options = config.system.saga_options
    try:
        return Place.of(url.reveal(), options, folder=config.folder)
    except TemporalRefused as error:
        where = f"services.{settings.name}.sagas.url"
        raise ConfigError(error.what, where=where, fix=error.fix) from error
