"""Read `switchgear.toml` and the environment into a `Config`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from switchgear.config.policies import policies
from switchgear.config.settings import (
    CallConfig,
    Config,
    EventConfig,
    Objective,
    SagaConfig,
    ServiceConfig,
    SystemConfig,
    Tls,
)
from switchgear.config.source import PREFIX, Section, Source, variable
from switchgear.config.values import (
    Address,
    Url,
    Value,
    address,
    count,
    fraction,
    one_of,
    option,
    path,
    reference,
    seconds,
    secret,
    share,
    text,
    texts,
    url,
)
from switchgear.errors import ConfigError, PolicyError
from switchgear.events.brokers.url import SCHEMES, others
from switchgear.model.context import Priority
from switchgear.policy.adaptive import Adaptive, Aimd, Gradient, Vegas
from switchgear.policy.admission import Admission

__all__ = ["FILE", "admission", "load", "without_file"]

FILE: Final = "switchgear.toml"
_NAME: Final = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_DATABASE: Final = url(
    "sqlite", "postgresql", "postgres", example="sqlite:///.switchgear/orders.db"
)
_SAGAS: Final = url("temporal", example="temporal://127.0.0.1:7233/default")
_REACH: Final = url("grpc", "grpcs", "http", "https", example="grpc://127.0.0.1:7002")
_ADAPTIVE: Final[Mapping[str, Callable[[], Adaptive]]] = {
    "aimd": Aimd,
    "gradient": Gradient,
    "vegas": Vegas,
}
_MODES: Final = one_of("binary", "structured")
_PRIORITIES: Final = one_of(*Priority)
_LEVELS: Final = one_of("debug", "info", "warning", "error")


def load(path: str | Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Return the configuration of a system.

    `path` is the file; without it, `SWITCHGEAR_CONFIG`, else `switchgear.toml` in the current
    folder, else no file at all: every setting has a default and an environment override.
    `environ` is the environment; default: this process's. Raises `ConfigError`.
    """
    environment = os.environ if environ is None else environ
    named = path or environment.get(f"{PREFIX}CONFIG")
    file = Path(named).absolute() if named else Path.cwd() / FILE
    if named is None and not file.exists():
        return without_file(environment)
    return _config(Source(file, environment, file.parent))


def without_file(environ: Mapping[str, str], folder: Path | None = None) -> Config:
    """Return the defaults with the overrides of `environ`, as where there is no file.

    Relative paths start from `folder`, default the current one.
    """
    return _config(Source(None, environ, folder or Path.cwd()))


def _config(source: Source) -> Config:
    root = source.section()
    options = {name: _options(source.section(name)) for name in ("broker", "saga")}
    system = _system(source.section("system"), options["broker"], options["saga"])
    root.known += ["system", "broker", "saga", "policy"]
    sections = root.tables("services")
    services = {name: _service(name, section, system) for name, section in sections.items()}
    objectives = {name: _objective(part) for name, part in root.tables("objectives").items()}
    root.finish()
    calling = policies(source)
    groups = [
        "SYSTEM_",
        "BROKER_",
        "SAGA_",
        "OBJECTIVES_",
        "POLICY_",
        *(["SERVICES_"] if services else []),
    ]
    source.leftover(*(PREFIX + group for group in groups))
    _distinct(source, services)
    return Config(
        system=system,
        services=services,
        objectives=objectives,
        policies=calling,
        folder=source.folder,
        file=source.file,
        overrides={k: v for k, v in source.environ.items() if k.startswith(PREFIX)},
        unlisted=partial(_unlisted, source, system),
    )


def _unlisted(source: Source, system: SystemConfig, name: str) -> ServiceConfig:
    return _service(name, Section(source, ("services", name), {}), system)


def _options(section: Section) -> dict[str, str | int | float | bool]:
    found = {name: option(value) for name, value in section.entries("options").items()}
    section.finish()
    return found


def _broker(value: Value) -> Url:
    example = "sqlite:///.switchgear/broker.db"
    try:
        return url(*SCHEMES, example=example)(value)
    except ConfigError:
        if not others():
            raise
    return url(*SCHEMES, *others(), example=example)(value)


def _system(
    section: Section,
    broker_options: Mapping[str, str | int | float | bool],
    saga_options: Mapping[str, str | int | float | bool],
) -> SystemConfig:
    folder = section.source.folder
    data = section.get("data", path, folder / ".switchgear")
    system = SystemConfig(
        name=section.get("name", text, folder.name or "system"),
        data=data,
        broker=section.get("broker", _broker, _embedded(data / "broker.db")),
        broker_options=broker_options,
        sagas=section.get("sagas", _SAGAS, None),
        saga_options=saga_options,
        path=tuple(folder / part for part in section.get("path", texts, ())),
        ready=section.get("ready", seconds, 30.0),
        drain=section.get("drain", seconds, 10.0),
        log=section.get("log", _LEVELS, "info"),
    )
    section.finish()
    if section.unset is not None:
        raise section.unset
    return system


def _service(name: str, section: Section, system: SystemConfig) -> ServiceConfig:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is not a name for a service.",
            where=section.source.where(section.path),
            fix="Use small letters, digits, and single - or _ between them.",
        )
    service = ServiceConfig(
        name=name,
        app=section.get("app", reference, None),
        asgi=section.get("asgi", reference, None),
        http=section.get("http", address, None),
        grpc=section.get("grpc", address, None),
        url=section.get("url", _REACH, None),
        database=section.get("database", _DATABASE, _embedded(system.data / f"{name}.db")),
        serves=section.get("serves", texts, ()),
        calls=_calls(section),
        tls=_tls(section, clients=True),
        cors=section.get("cors", texts, ()),
        drain=section.get("drain", seconds, system.drain),
        admission=admission(section),
        sagas=_sagas(section, system),
        events=_events(section),
        env=_environment(section),
    )
    service = replace(service, unset=section.unset)
    section.finish()
    if service.app and service.asgi:
        raise section.complaint(
            "app",
            "app and asgi are both set.",
            fix="Keep app for a switchgear Service, asgi for any other ASGI application.",
        )
    if section.table and not (service.app or service.asgi):
        raise ConfigError(
            "it does not say what to run.",
            where=section.source.where(section.path),
            fix='Add app = "module:name" (a Service) or asgi = "module:name".',
        )
    return service


def _embedded(file: Path) -> Url:
    return Url.of(f"sqlite:///{file.absolute()}")


def _tls(section: Section, *, clients: bool = False) -> Tls | None:
    certificate = section.get("certificate", path, None)
    key = section.get("key", path, None)
    ca = section.get("client_ca", path, None) if clients else None
    if certificate and key:
        return Tls(certificate=certificate, key=key, clients=ca)
    if not (certificate or key or ca):
        return None
    there = "certificate" if certificate else "key" if key else "client_ca"
    missing = "key" if certificate else "certificate"
    raise section.complaint(there, f"{there} is set and {missing} is not.", fix=f"Add {missing}.")


def _calls(section: Section) -> dict[str, CallConfig]:
    calls = {}
    for name, value in section.entries("calls").items():
        call = section.read(value, partial(_call, section, name), None)
        if call is not None:
            calls[name] = call
    return calls


def _call(section: Section, name: str, value: Value) -> CallConfig:
    if not isinstance(value.raw, dict):
        return CallConfig(url=_REACH(value))
    inner = section.source.section(*section.path, "calls", name)
    reach = inner.get("url", _REACH, None)
    token = inner.get("token", secret, None)
    ca = inner.get("ca", path, None)
    tls = _tls(inner)
    inner.finish()
    if inner.unset is not None:
        raise inner.unset
    if reach is None:
        raise ConfigError("it has no url.", where=value.where, fix='Add url = "grpcs://host:port".')
    return CallConfig(url=reach, token=token, ca=ca, tls=tls)


def admission(section: Section) -> dict[str, Any]:
    """Read what a table changes of an `Admission`, by setting."""
    section.known.append("admission")
    return _admission(section.source.section(*section.path, "admission"))


def _admission(inner: Section) -> dict[str, Any]:
    # each setting has a type of its own, which its parser knows
    found: dict[str, Any] = {
        "concurrency": inner.get("concurrency", _concurrency, None),
        "queue": inner.get("queue", count(0), None),
        "interval": inner.get("interval", seconds, None),
        "target": inner.get("target", seconds, None),
        "reserve": inner.get("reserve", share, None),
        "priority": inner.get("priority", _priority, None),
        "trust": inner.get("trust", one_of("lower", "all"), None),
        "retry_after": inner.get("retry_after", seconds, None),
        "mode": inner.get("mode", one_of("auto", "observe"), None),
    }
    named: dict[str, Priority | Admission | None] = {}
    for name, value in inner.entries("operations").items():
        if isinstance(value.raw, dict):
            own = inner.source.section(*inner.path, "operations", name)
            named[name] = Admission(**_admission(own))
        else:
            named[name] = inner.read(value, _priority, None)
    inner.finish()
    found = {name: value for name, value in found.items() if value is not None}
    if named:
        found["operations"] = named
    try:
        Admission(**found)
    except PolicyError as error:
        where = inner.source.where(inner.path)
        raise ConfigError(error.what, where=where, fix=error.fix) from error
    return found


def _sagas(section: Section, system: SystemConfig) -> SagaConfig:
    section.known.append("sagas")
    inner = section.source.section(*section.path, "sagas")
    default = SagaConfig()
    found = SagaConfig(
        url=inner.get("url", _SAGAS, system.sagas),
        concurrency=inner.get("concurrency", count(1), default.concurrency),
        lease=inner.get("lease", seconds, default.lease),
        archive=inner.get("archive", path, default.archive),
    )
    inner.finish()
    section.unset = section.unset or inner.unset
    return found


def _events(section: Section) -> EventConfig:
    section.known.append("events")
    inner = section.source.section(*section.path, "events")
    default = EventConfig()
    found = EventConfig(
        mode=inner.get("mode", _mode, default.mode),
        lease=inner.get("lease", seconds, default.lease),
        keep=inner.get("keep", seconds, default.keep),
    )
    inner.finish()
    section.unset = section.unset or inner.unset
    return found


def _mode(value: Value) -> Literal["binary", "structured"]:
    return "structured" if _MODES(value) == "structured" else "binary"


def _concurrency(value: Value) -> int | Adaptive:
    kind = _ADAPTIVE.get(value.raw) if isinstance(value.raw, str) else None
    return kind() if kind else count(1, f" or one of {', '.join(_ADAPTIVE)}")(value)


def _priority(value: Value) -> Priority:
    return Priority(_PRIORITIES(value))


def _environment(section: Section) -> dict[str, str]:
    values = section.entries("env").items()
    for name, value in values:
        if not name or "=" in name or "\0" in name:
            raise ConfigError(
                f"{name!r} cannot be the name of an environment variable.",
                where=value.where,
                fix="Use letters, digits and _.",
            )
    found = {name: section.read(value, _text, None) for name, value in values}
    return {name: content for name, content in found.items() if content is not None}


def _text(value: Value) -> str:
    text = value.text("a text in quotes")
    if "\0" in text:
        value.fail("a text without a zero byte")
    return text


def _objective(section: Section) -> Objective:
    objective = Objective(
        availability=section.get("availability", fraction, None),
        latency=section.get("latency", seconds, None),
        quantile=section.get("quantile", fraction, 0.99),
    )
    section.finish()
    return objective


def _distinct(source: Source, services: Mapping[str, ServiceConfig]) -> None:
    """Refuse two doors on one address, and two services whose variables have the same name."""
    doors: dict[Address, tuple[str, ...]] = {}
    names: dict[str, str] = {}
    for service in services.values():
        for key, door in (("http", service.http), ("grpc", service.grpc)):
            if door is None or door.port == 0:
                continue
            here = ("services", service.name, key)
            if door in doors:
                raise ConfigError(
                    f"{door} is the address of {'.'.join(doors[door])} too.",
                    where=source.where(here),
                    fix="Give one of them another port.",
                )
            doors[door] = here
        other = names.setdefault(variable(service.name), service.name)
        if other != service.name:
            raise ConfigError(
                f"its environment variables have the same names as those of {other}.",
                where=source.where(("services", service.name)),
                fix="Rename one of them.",
            )
