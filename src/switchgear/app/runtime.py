"""A service that runs: everything that `Service` declares, opened in order and closed in reverse.

Start: settings, resources, database (its tables), clients, handlers, bus, sagas; then the doors,
and only then it is ready. What was opened is closed again if a later part fails.

Stop, within one bound: not ready, doors closed to what is new, requests in flight finished, saga
workers stopped and their leases given back, consumers drained, the outbox flushed, clients closed,
resources closed, in reverse of their opening.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final

from switchgear.app.callee import Call, bind
from switchgear.app.edge import promised_by
from switchgear.app.health import App, Health, with_health
from switchgear.app.resources import Provider, inject, making, needs_of, open_all
from switchgear.app.sagas import engine_of
from switchgear.app.transaction import Transaction
from switchgear.config import Config, ServiceConfig, load, masked
from switchgear.contract.message import Message
from switchgear.database.joined import database_of, is_database, joined
from switchgear.database.port import Database, DatabaseUnavailable
from switchgear.database.port import Transaction as DatabaseTransaction
from switchgear.database.sqlite import Sqlite
from switchgear.errors import (
    BrokerError,
    ConfigError,
    DeclarationError,
    MissingExtra,
    OperationError,
)
from switchgear.events.brokers.port import BrokerUnavailable
from switchgear.events.brokers.url import broker_of
from switchgear.events.bus import Bus
from switchgear.model.outcome import Unknown
from switchgear.model.signal import Signal, SignalKind, emit, listening
from switchgear.policy.admission import Admission
from switchgear.serve.cors import Cors
from switchgear.serve.dispatch import Before, Dispatcher
from switchgear.serve.idempotency import Idempotency, unit
from switchgear.serve.rest import Rest

if TYPE_CHECKING:
    from switchgear.app.door import Door
    from switchgear.app.service import Reaction, Service

__all__ = ["Connect", "Runtime", "open_database"]

_log = logging.getLogger("switchgear")
_PLACEHOLDERS: Final = re.compile(
    r"\{(?!(?:blob|serial|real)\})|(?<!\{blob)(?<!\{serial)(?<!\{real)\}"
)
_PROBE: Final = 1.0
"""Seconds that `/readyz` waits for the database."""
_CLOSING: Final = 1.0
"""Seconds that closing clients and resources may take, however little of the bound is left."""

Connect = Callable[[Sequence[Call], ServiceConfig, Config], Mapping[int, object]]
"""Makes a client of each call, by `id(call)`; `AsyncExitStack` closes those with `aclose`."""


class Runtime:
    """One run of a service, from `start` to `stop`.

    `config` is the system's, default `load()`; `settings` are this service's, default those that
    `config` has. For tests, `connect` makes the clients of what the service calls, `published` is
    told of every event that a transaction has published, `clock` tells sagas the time, and `poll`
    is how many seconds pass between two looks at which are due.
    """

    def __init__(
        self,
        service: Service,
        config: Config | None = None,
        *,
        settings: ServiceConfig | None = None,
        connect: Connect | None = None,
        published: Callable[[Message], None] | None = None,
        clock: Callable[[], float] = time,
        poll: float | None = None,
    ) -> None:
        self.service = service
        self.config = config or load()
        self.settings = settings or self.config.service(service.name)
        self.health = Health(service.name, check=self._check)
        self._connect = connect
        self._published = published
        self._clock = clock
        self._poll = poll
        self._stack = AsyncExitStack()
        self._closers: list[Callable[[float], Awaitable[None]]] = [self._close_doors]
        self.doors: dict[str, Door] = {}
        """The doors that are open, by `http` and `grpc`."""

    # --- start ----------------------------------------------------------------------------

    async def start(self) -> None:
        """Open everything except the doors. Raises what a part raises, with all closed again."""
        self.service.runtime = self
        self._become("starting")
        try:
            await self._open()
        except BaseException:
            await self._close(0.0)
            raise

    async def _open(self) -> None:
        ready = await self._resources()
        self._clients()
        ready = [*ready, *_provided(self.database)]
        self.bus = self._make_bus(ready)
        self.engine = engine_of(
            self.service,
            self.database,
            self.settings,
            self.config,
            clock=self._clock,
            poll=self._poll,
        )
        self.dispatcher = await self._make_dispatcher(ready)
        self.rest = self._make_rest()
        await self._reach_broker()
        self._closers.insert(1, self.bus.stop)  # also what a start that fails has begun
        await self.bus.start()
        if self.service.declared_sagas:
            await self._stack.enter_async_context(self.engine)
            self._closers.insert(1, self.engine.stop)

    async def _resources(self) -> list[Provider]:
        """Open the resources and the database, whichever of them needs the other."""
        service = self.service
        given = [
            Provider(Config, "the configuration", value=self.config),
            Provider(ServiceConfig, "its settings", value=self.settings),
            Provider(type(service), "the service", value=service),
        ]
        given += [
            Provider(call.contract.protocol, f"app.calls({call.contract.name})", value=call.callee)
            for call in service.declared_calls
        ]
        resources = [Provider.of(function, scope) for function, scope, _ in service.resources]
        if _want_database(resources):
            self.database = await self._migrated(await self._embedded())
            return await open_all(resources, [*given, *_provided(self.database)], self._stack)
        ready = await open_all(resources, given, self._stack)
        own = self._own_database(ready)
        self.database = await self._migrated(own or await self._embedded())
        return ready

    def _own_database(self, ready: Sequence[Provider]) -> Database | None:
        """Return the database that a resource is, if one is."""
        found = [one for one in ready if one.source is not None and is_database(one.value)]
        marked = {function for function, _, database in self.service.resources if database}
        chosen = [one for one in found if one.source in marked] or found
        if len(chosen) > 1:
            raise DeclarationError(
                f"{' and '.join(one.name for one in chosen)} are databases.",
                where=f"service {self.service.name}",
                fix="Mark the service's own: @app.resource(database=True).",
            )
        return database_of(chosen[0].value) if chosen else None

    async def _embedded(self) -> Database:
        return await open_database(self.settings, self.config, self._stack)

    async def _migrated(self, database: Database) -> Database:
        with making("the tables of its schema", self.service):
            await database.migrate("service", [_escaped(step) for step in self.service.schema])
        return database

    def _clients(self) -> None:
        calls = self.service.declared_calls
        if not calls:
            return
        connect = self._connect or _connect
        clients = connect(calls, self.settings, self.config)
        for call in calls:
            client = clients[id(call)]
            bind(call.callee, client)
            self._stack.callback(bind, call.callee, None)
            self._stack.push_async_callback(_close_client, client)

    def _make_bus(self, ready: Sequence[Provider]) -> Bus:
        system = self.config.system
        self.broker = broker_of(
            system.broker.absolute(self.config.folder), native=system.broker_options
        )
        self._stack.push_async_callback(self.broker.close)
        events = self.settings.events
        bus = Bus(
            self.broker,
            self.database,
            self.service.name,
            format=self.service.event_format,
            mode=events.mode,
            lease=events.lease,
            keep=None if events.keep is None else timedelta(seconds=events.keep),
            publishes=self.service.published,
        )
        for reaction in self.service.reactions:
            bus.on(
                reaction.event,
                name=reaction.name,
                on_failure=reaction.on_failure,
                attempts=reaction.attempts,
                backoff=reaction.backoff,
                concurrency=reaction.concurrency,
                emits=reaction.emits,
                fresh_within=reaction.fresh_within,
                stuck_after=reaction.stuck_after,
                from_start=reaction.from_start,
                inbox=reaction.inbox,
                handler=self._handler(reaction, ready),
            )
        return bus

    async def _reach_broker(self) -> None:
        """Open the broker now, so that a place that cannot be used is told before work is taken.

        One that is only away is no reason not to start: what is published waits in the outbox.
        """
        try:
            await self.broker.lag(self.service.name, [])
        except BrokerUnavailable as error:
            _log.warning("the broker is away, events wait in the outbox: %s", masked(error.what))

    def _handler(
        self, reaction: Reaction, ready: Sequence[Provider]
    ) -> Callable[..., Awaitable[None]]:
        """Return a handler as the bus calls it, with what it needs injected."""
        needs = reaction.needs
        taken = [need.name for need in needs if need.type is Transaction]
        given = inject([need for need in needs if need.name not in taken], ready)
        function = reaction.function

        async def handle(event: Message, inner: Any) -> None:
            tx = self._given(inner)
            await function(event, **given, **dict.fromkeys(taken, tx))
            await tx.flush()

        async def handle_alone(event: Message) -> None:
            await function(event, **given)

        # the bus sees by the parameters whether the handler takes part in a transaction
        return handle if taken else handle_alone

    async def _make_dispatcher(self, ready: Sequence[Provider]) -> Dispatcher:
        handlers = []
        for handler, scope in self.service.handlers:
            given = inject(needs_of(handler, scope), ready)
            with making(f"the handler {handler.__name__}", handler):
                handlers.append(handler(**given))
        hooks: list[Before] = []
        for hook, scope in self.service.hooks:
            given = inject(needs_of(hook, scope, skip=1), ready)
            hooks.append(partial(hook, **given) if given else hook)
        idempotency = Idempotency(self.database)
        await idempotency.migrate()
        self._stack.push_async_callback(idempotency.close)
        admission = self.service.admission
        if self.settings.admission:
            admission = replace(admission or Admission(), **self.settings.admission)
        return Dispatcher(
            handlers,
            before=hooks,
            idempotency=idempotency,
            admission=admission,
            admissions=self.service.admissions,
            latency=promised_by(self.config, self.service.name),
        )

    def _make_rest(self) -> App:
        origins = self.settings.cors
        rest = Rest(
            self.dispatcher,
            title=self.service.name,
            version=self.service.version,
            cors=Cors(origins=origins) if origins else None,
        )
        return with_health(rest, self.health)

    # --- doors ----------------------------------------------------------------------------

    async def open_doors(self) -> None:
        """Listen where the settings say, then be ready. Raises `OperationError`, all closed."""
        from switchgear.app.door import GrpcDoor, HttpDoor  # noqa: PLC0415  they need the extras

        where = f"services.{self.service.name}"
        settings = self.settings
        if settings.grpc is not None:
            tls = settings.tls
            self.doors["grpc"] = GrpcDoor(self.dispatcher, settings.grpc, f"{where}.grpc", tls)
        if settings.http is not None:
            self.doors["http"] = HttpDoor(self.rest, settings.http, f"{where}.http", settings.tls)
        try:
            for door in self.doors.values():
                await door.open()
        except BaseException:
            await self._close(0.0)
            raise
        self._become("ready")

    def ready(self) -> None:
        """Say that work may be sent, through a door that is not ours."""
        self._become("ready")

    # --- while it runs --------------------------------------------------------------------

    def transaction(
        self, connection: object | None = None
    ) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction, or add to the one that is open on `connection`."""
        return self._added(connection) if connection is not None else self._opened()

    def _given(self, inner: DatabaseTransaction) -> Transaction:
        sagas = self.service.declared_sagas
        return Transaction(inner, self.bus, self.engine, sagas, self._published)

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Transaction]:
        async with unit(self.database) as inner:
            tx = self._given(inner)
            yield tx
            await tx.flush()

    @asynccontextmanager
    async def _added(self, connection: object) -> AsyncIterator[Transaction]:
        tx = self._given(joined(connection))
        yield tx
        await tx.flush()

    async def _check(self) -> None:
        """Look how the parts are, for `/readyz`.

        The database decides, and whether events are handled and sagas driven at all: a consumer
        that a defect keeps from working is no place to send work to. A broker that is away is none:
        events wait. Nor is a subscription that is stuck or stale: it is told, and shutting the
        doors would not help it. What a broker refuses to tell, or does not tell in time, is told as
        well.
        """
        health = self.health
        try:
            async with asyncio.timeout(_PROBE):
                await self._probe()
        except Exception as error:  # noqa: BLE001  whatever it is: the database does not answer
            health.parts["database"] = masked(f"{type(error).__name__}: {error}")
            return
        health.parts["database"] = "ok"
        health.parts.pop("sagas", None)
        if self.service.declared_sagas and not self.engine.running:
            health.parts["sagas"] = "nobody drives them: their worker has ended"
        health.parts.pop("events", None)
        if self.bus.broken:
            health.parts["events"] = masked(self.bus.broken)
        try:
            async with asyncio.timeout(_PROBE):
                await self._look_at_events()
        except DatabaseUnavailable as error:
            health.parts["database"] = masked(f"{type(error).__name__}: {error}")
        except (BrokerUnavailable, Unknown) as error:
            health.details = {"broker": masked(error.what)}
        except BrokerError as error:
            health.details = {"broker": masked(str(error))}
        except TimeoutError:
            health.details = {"events": f"not told within {_PROBE:g} s"}
        except Exception as error:  # noqa: BLE001  a defect: it is told as one
            health.parts["events"] = masked(f"{type(error).__name__}: {error}")

    async def _look_at_events(self) -> None:
        health = self.health
        bus = await self.bus.health()
        health.details = {
            "unpublished": bus.unpublished,
            "unpublished_age": bus.unpublished_age,
            "relay": masked(bus.error or "ok"),
            "subscriptions": {
                name: {
                    "lag": one.lag,
                    "oldest": one.oldest,
                    "blocked": one.blocked,
                    "parked": one.parked,
                    "parked_keys": one.parked_keys,
                    "stuck": one.stuck,
                    "stale": one.stale,
                    "error": one.error and masked(one.error),
                }
                for name, one in bus.subscriptions.items()
            },
        }

    async def _probe(self) -> None:
        """Ask the database something."""
        if isinstance(self.database, Sqlite):
            # a reader: it does not wait for the writer
            await self.database.read(lambda connection: connection.execute("SELECT 1"))
            return
        async with self.database.transaction() as tx:
            await tx.run("SELECT 1")

    # --- stop -----------------------------------------------------------------------------

    async def stop(self, within: float | None = None) -> None:
        """Drain and close everything, in reverse, within `within` seconds (default: `drain`)."""
        self._become("draining")
        await self._close(self.settings.drain if within is None else within)

    async def _close(self, within: float) -> None:
        until = monotonic() + within
        try:
            for close in self._closers:
                try:
                    await close(max(0.0, until - monotonic()))
                except Exception:  # noqa: BLE001  the rest has to close all the same
                    _log.exception("a part of %s did not close", self.service.name)
            async with asyncio.timeout(max(_CLOSING, until - monotonic())):
                await self._stack.aclose()
        except TimeoutError:
            _log.error("what %s holds open did not close in time", self.service.name)
        finally:
            self._become("stopped")
            self.service.runtime = None

    async def _close_doors(self, within: float) -> None:
        await asyncio.gather(*(door.close(within) for door in self.doors.values()))

    def _become(self, state: str) -> None:
        self.health.state = state
        if listening():
            emit(Signal(SignalKind.SERVICE_STATE, self.service.name, {"state": state}))


def _provided(database: Database) -> list[Provider]:
    """Return what can be injected as the service's database: by the port, and by its own type."""
    name = "the service's database"
    return [Provider(kind, name, value=database) for kind in (Database, type(database))]


def _want_database(resources: Sequence[Provider]) -> bool:
    """Tell whether a resource needs the service's database and no resource is one."""
    kinds = (Database, Sqlite)
    provided = [one.type for one in resources]
    wanted = [need.type for one in resources for need in one.needs]
    return any(kind in wanted and kind not in provided for kind in kinds)


def _escaped(step: str) -> str:
    """Double the braces of the team's own SQL: migrations fill in three names and nothing else."""
    return _PLACEHOLDERS.sub(lambda match: match[0] * 2, step)


async def open_database(settings: ServiceConfig, config: Config, stack: AsyncExitStack) -> Database:
    """Open the database that a service's settings name; `stack` closes it.

    Raises `OperationError` where it cannot be reached, `ConfigError` for an unknown option.
    """
    url = settings.database
    if url.scheme != "sqlite":
        return await _postgres(url.reveal(), f"services.{settings.name}.database", stack)
    options: dict[str, Any] = {}
    for name, value in url.options.items():
        # SQLite itself takes a word that it does not know for a weaker one
        if name != "synchronous" or value.upper() not in {"FULL", "NORMAL", "OFF"}:
            raise ConfigError(
                f"the database has the option {name}={value}.",
                where=f"services.{settings.name}.database",
                fix="Use synchronous=FULL, NORMAL or OFF, or leave it out.",
            )
        options[name] = value.upper()
    database = Sqlite(config.file_of(url), **options)
    stack.push_async_callback(database.close)
    return database


async def _postgres(url: str, setting: str, stack: AsyncExitStack) -> Database:
    from switchgear.database.postgres import Postgres  # noqa: PLC0415  an optional dependency

    try:
        import asyncpg  # noqa: PLC0415  an optional dependency
    except ImportError as error:
        raise MissingExtra("asyncpg", "postgres") from error
    try:
        pool = await stack.enter_async_context(asyncpg.create_pool(url))
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise OperationError(
            f"the database cannot be reached: {error}.",
            where=setting,
            fix="Check that it runs, and the host, user and password in the URL.",
        ) from error
    return Postgres(pool)


def _connect(
    calls: Sequence[Call], settings: ServiceConfig, config: Config
) -> Mapping[int, object]:
    """Make the real clients. They connect by themselves when they are first used."""
    from switchgear.app.connect import connect  # noqa: PLC0415  tests do without

    return connect(calls, settings, config)


async def _close_client(client: object) -> None:
    from switchgear.call.client import close  # noqa: PLC0415  tests do without

    await close(client)
