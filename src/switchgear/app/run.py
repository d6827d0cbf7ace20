"""One service in one process: `switchgear run`, and what `switchgear up` starts for each service.

    python -m switchgear.app.run NAME            a service that switchgear.toml lists
    python -m switchgear.app.run module:app      any Service or ASGI application

SIGTERM or Ctrl-C drains: the service says that it is not ready, stops accepting, finishes what it
has begun within its bound, and ends with exit code 0. A second Ctrl-C ends it at once.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from switchgear import telemetry
from switchgear.app import logs
from switchgear.app.door import HttpDoor
from switchgear.app.edge import judged, promised_by
from switchgear.app.health import App, Health, with_health
from switchgear.app.lifeline import Lifeline
from switchgear.app.report import exit_code, one_line
from switchgear.app.target import add_to_path, import_path, load_target
from switchgear.config import Address, Config, ServiceConfig, load
from switchgear.contract.service import contracts_of
from switchgear.errors import ConfigError, OperationError, SwitchgearError

if TYPE_CHECKING:
    from switchgear.app.service import Service

__all__ = ["main", "run"]

_log = logging.getLogger("switchgear")
_INTERRUPTED = 130
_DEFAULT = Address("127.0.0.1", 8000)


def run(
    target: str,
    *,
    config: Config | None = None,
    http: Address | None = None,
    grpc: Address | None = None,
    json_lines: bool | None = None,
    path: Sequence[Path] = (),
) -> int:
    """Run a service until it is told to stop, and return the exit code for the process.

    `target` is a name in switchgear.toml or `module:name`. `http` and `grpc` win over the file.
    `path` holds more folders to import from.
    Errors that a user can mend are printed in one line; nothing is raised.
    """
    line = Lifeline.from_environ()
    try:
        settings = config or load()
        logs.configure(settings.system.log, json_lines=json_lines)
        add_to_path([*path, *import_path(settings)])
        service, found = _found(target, settings)
        service = replace(service, http=http or service.http, grpc=grpc or service.grpc)
        logs.configure(settings.system.log, service=service.name, json_lines=json_lines)
        return asyncio.run(_serve(found, service, settings, line))
    except SwitchgearError as error:
        said = one_line(error)
        line.tell("failed", error=said)
        print(said, file=sys.stderr)  # noqa: T201  the log may not be set up, and this is for a person
        return exit_code(error)
    except Exception:  # noqa: BLE001  a resource that cannot be closed, a bug: the log has it
        _log.exception("%s ended", target)
        return 1


def _found(target: str, config: Config) -> tuple[ServiceConfig, object]:
    """Return the settings of what is to run, and the thing itself."""
    from switchgear.app.service import Service  # noqa: PLC0415  a plain ASGI app does without

    if ":" not in target:
        service = _listed(target, config)
        found = load_target(service.app or service.asgi or "")
        if service.app and not isinstance(found, Service):
            raise OperationError(
                f"{service.app} is a {type(found).__name__} and not a Service.",
                where=f"services.{target}.app",
                fix="For another ASGI application write asgi instead of app.",
            )
        if isinstance(found, Service) and service.app and found.name != target:
            raise ConfigError(
                f"{service.app} is the service {found.name!r}.",
                where=f"services.{target}.app",
                fix=f"Call the section [services.{found.name}]: its database, its events and its "
                "sagas go by that name.",
            )
    else:
        found = load_target(target)
        name = found.name if isinstance(found, Service) else target.partition(":")[0].split(".")[-1]
        service = config.service(name)
        if service.http is None and service.grpc is None:
            service = replace(service, http=_DEFAULT)
    if not isinstance(found, Service) and not _asgi(found):
        raise OperationError(
            f"{target} is {_kind(found)}, which cannot be served.",
            fix="Name a Service or an ASGI application.",
        )
    return service, found


def _asgi(found: object) -> bool:
    """Tell whether something can be called as an ASGI application is."""
    if not callable(found) or contracts_of(found):
        return False
    try:
        inspect.signature(found).bind("scope", "receive", "send")
    except TypeError:
        return False
    except ValueError:  # it does not say what it takes
        return True
    return True


def _kind(found: object) -> str:
    if isinstance(found, type):
        return f"the class {found.__name__}"
    return f"a {type(found).__name__}"


def _listed(name: str, config: Config) -> ServiceConfig:
    if name in config.services:
        return config.services[name]
    listed = ", ".join(config.services) or "none"
    raise ConfigError(
        f"there is no service {name!r}.",
        where=str(config.file or "switchgear.toml"),
        fix=f"It lists: {listed}. To run one that it does not list, name it as module:app.",
    )


async def _serve(found: object, service: ServiceConfig, config: Config, line: Lifeline) -> int:
    from switchgear.app.service import Service  # noqa: PLC0415  as above

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def ask(number: int) -> None:
        if stop.is_set() and number == signal.SIGINT:
            os._exit(_INTERRUPTED)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask, number)
    line.drains(service.drain)
    with telemetry.reported(service.name):
        if isinstance(found, Service):
            return await _serve_service(found, service, config, line, stop)
        promised = promised_by(config, service.name)
        return await _serve_plain(judged(cast("App", found), promised), service, line, stop)


async def _serve_service(
    app: Service, service: ServiceConfig, config: Config, line: Lifeline, stop: asyncio.Event
) -> int:
    from switchgear.app.runtime import Runtime  # noqa: PLC0415  a plain ASGI app does without

    runtime = Runtime(app, config, settings=service)
    await runtime.start()
    await runtime.open_doors()
    doors = {kind: str(door.address.reachable()) for kind, door in runtime.doors.items()}
    line.tell("ready", **doors)
    _log.info("ready", extra={"fields": doors})
    await stop.wait()
    line.tell("draining")
    _log.info("draining", extra={"fields": {"within": service.drain}})
    await runtime.stop()
    _log.info("stopped")
    return 0


async def _serve_plain(
    app: App, service: ServiceConfig, line: Lifeline, stop: asyncio.Event
) -> int:
    """Serve an ASGI application that is not ours; it gets our health paths and our drain."""
    health = Health(service.name)
    door = HttpDoor(
        with_health(app, health),
        service.http or _DEFAULT,
        f"services.{service.name}.http",
        service.tls,
        lifespan=True,
    )
    await door.open()
    health.state = "ready"
    line.tell("ready", http=str(door.address.reachable()))
    _log.info("ready", extra={"fields": {"http": str(door.address)}})
    await stop.wait()
    health.state = "draining"
    line.tell("draining")
    _log.info("draining", extra={"fields": {"within": service.drain}})
    await door.close(service.drain)
    _log.info("stopped")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the service that the command line names; see the top of this module."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if len(given) != 1:
        print("usage: python -m switchgear.app.run NAME|module:app", file=sys.stderr)  # noqa: T201
        return 2
    return run(given[0])


if __name__ == "__main__":
    sys.exit(main())
