"""The settings of a system, as typed values. `load` fills them from a file and the environment."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from switchgear.call.tls import Secret
from switchgear.config.values import Address, Url
from switchgear.errors import ConfigError
from switchgear.policy.defaults import Defaults

__all__ = [
    "CallConfig",
    "Config",
    "EventConfig",
    "Objective",
    "SagaConfig",
    "ServiceConfig",
    "SystemConfig",
    "Tls",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemConfig:
    """`[system]`: what all services share."""

    name: str
    """Shown in logs; default: the name of the folder."""
    data: Path
    """Folder of the embedded databases and of the embedded broker; default `.switchgear`."""
    broker: Url
    """Where events go; default `sqlite:///` with `broker.db` in the data folder."""
    broker_options: Mapping[str, str | int | float | bool] = field(default_factory=dict, repr=False)
    """`[broker.options]`: what the broker's driver is given as it is."""
    sagas: Url | None = None
    """Where sagas run, `temporal://host:port/namespace`; default: in each service's database."""
    saga_options: Mapping[str, str | int | float | bool] = field(default_factory=dict, repr=False)
    """`[saga.options]`: how that is reached."""
    path: tuple[Path, ...] = ()
    """Folders added to the import path of every service, relative to the file."""
    ready: float = 30.0
    """Seconds within which a service has to become ready in `switchgear up`."""
    drain: float = 10.0
    """Seconds within which a service that is told to stop finishes what it has begun."""
    log: str = "info"
    """The least level that is logged: debug, info, warning or error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """The certificate and key, both PEM files, with which a door is served."""

    certificate: Path
    key: Path
    clients: Path | None = None
    """From `client_ca`: clients have to present a certificate that these authorities signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallConfig:
    """How to reach one callee: a URL, or a table of `url` and credentials."""

    url: Url
    token: Secret | None = None
    """Sent as `Authorization: Bearer`."""
    ca: Path | None = None
    """The authorities that the callee's certificate is checked against; default: the system's."""
    tls: Tls | None = None
    """The caller's own certificate, where the callee asks for one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaConfig:
    """`[services.NAME.sagas]`: how a service works off its sagas."""

    url: Url | None = None
    """As `sagas` in `[system]`, for this service; None: they run in its own database."""
    concurrency: int = 64
    """How many are driven at once by one process."""
    lease: float = 10.0
    """Seconds for which another process waits for one that is gone."""
    archive: Path | None = None
    """Folder for sagas that were kept long enough; None: they are deleted without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventConfig:
    """`[services.NAME.events]`: how a service publishes its events and reacts to others'."""

    mode: Literal["binary", "structured"] = "binary"
    """That of CloudEvents, of what it publishes; both are read."""
    lease: float = 5.0
    """Seconds for which others wait for a consumer or a relay that is gone."""
    keep: float | None = None
    """Seconds for which the inbox remembers; None: for longer than the broker keeps events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceConfig:
    """`[services.NAME]`: one service."""

    name: str
    database: Url
    """The service's own database; default `sqlite:///` with `NAME.db` in the data folder."""
    app: str | None = None
    """The `Service`, as `module:name`."""
    asgi: str | None = None
    """A plain ASGI application instead, as `module:name`."""
    http: Address | None = None
    """Where the REST door listens, with `/livez` and `/readyz`; without it there is none."""
    grpc: Address | None = None
    """Where the gRPC door listens; without it there is none."""
    url: Url | None = None
    """How other services reach it, where that is not its own address: a proxy, another host."""
    serves: tuple[str, ...] = ()
    """Full names of the contracts it serves, for callers that cannot import it."""
    calls: Mapping[str, CallConfig] = field(default_factory=dict)
    """How it reaches the contracts that it calls, by the contract's full name."""
    tls: Tls | None = None
    """From `certificate` and `key`: both doors are served with TLS."""
    cors: tuple[str, ...] = ()
    """Origins that browsers may call the REST door from; default none."""
    drain: float = 10.0
    """As in `[system]`, for this service alone."""
    admission: Mapping[str, Any] = field(default_factory=dict)
    """What it changes of the service's `Admission`, by setting. (`Any`: each has its own type.)"""
    sagas: SagaConfig = field(default_factory=SagaConfig)
    """How it works off its sagas."""
    events: EventConfig = field(default_factory=EventConfig)
    """How it publishes its events and reacts to others'."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Environment variables of its process in `switchgear up`."""
    unset: ConfigError | None = field(default=None, repr=False, compare=False)
    """The first value that refers to a variable or a file that is not there; it has its default."""

    def reach(self, contract: str) -> CallConfig | None:
        """Return how it reaches the contract with this full name, if its settings say so."""
        by_variable = re.sub(r"\W", "_", contract, flags=re.ASCII).upper()
        return self.calls.get(contract) or self.calls.get(by_variable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """`[objectives.NAME]`: what a service or an operation promises."""

    availability: float | None = None
    """Share of requests that are answered, for example 0.999."""
    latency: float | None = None
    """Seconds within which `quantile` of the requests are answered."""
    quantile: float = 0.99


@dataclass(frozen=True, slots=True, weakref_slot=True, kw_only=True)
class Config:
    """A whole system, as `switchgear.toml` and the environment describe it."""

    system: SystemConfig
    services: Mapping[str, ServiceConfig]
    objectives: Mapping[str, Objective]
    policies: Defaults
    """`[policy]`: how services call, where their code does not say."""
    folder: Path
    """Where relative paths start: the folder of the file."""
    file: Path | None = None
    overrides: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The `SWITCHGEAR_` variables that it was loaded with; child processes need them too."""
    unlisted: Callable[[str], ServiceConfig] = field(repr=False, compare=False)
    """Makes the settings of a service that the file does not list, from the environment alone."""

    def service(self, name: str) -> ServiceConfig:
        """Return the settings of a service that is to run; one not listed gets the defaults.

        Raises `ConfigError` if a value refers to a variable or a file that is not there.
        """
        service = self.services.get(name) or self.unlisted(name)
        if service.unset is not None:
            raise service.unset
        return service

    def file_of(self, url: Url) -> Path:
        """Return the file behind a `sqlite:///` URL of this configuration."""
        return url.path(self.folder)
