"""Which URL a contract is reached under.

In this order: `[services.CALLER.calls]`, the `url=` in the code, the one service of the system that
serves the contract. Which service that is, its settings say (`serves`), or its module, which is
then imported: importing a service connects to nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from switchgear.app.target import load_target
from switchgear.config import CallConfig, Config, ServiceConfig, Url, masked
from switchgear.contract.service import contracts_of
from switchgear.errors import ConfigError, SwitchgearError

__all__ = ["Wanted", "served_by", "where_to_call"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A contract that has to be reached, with the URL that the code names, if any."""

    contract: str
    url: str | None = None


def where_to_call(
    caller: ServiceConfig, wanted: Iterable[Wanted], config: Config
) -> dict[str, CallConfig]:
    """Return how `caller` reaches each contract, by its full name.

    Raises `ConfigError` where nobody serves it, or more than one service does.
    """
    found: dict[str, CallConfig] = {}
    open_: list[str] = []
    for want in wanted:
        reach = caller.reach(want.contract)
        if reach is None and want.url is not None:
            reach = CallConfig(url=_url(want))
        if reach is None:
            open_.append(want.contract)
        else:
            found[want.contract] = reach
    if open_:
        others = [service for service in config.services.values() if service.name != caller.name]
        failed: dict[str, SwitchgearError] = {}
        served = {service.name: served_by(service, failed) for service in others}
        found.update((name, _of_system(name, caller, others, served, failed)) for name in open_)
    return found


def served_by(service: ServiceConfig, failed: dict[str, SwitchgearError]) -> frozenset[str]:
    """Return the full names of the contracts that a service serves.

    Where its module cannot be imported that is nothing, and `failed` is told why, by its name.
    """
    if service.serves or service.app is None:
        return frozenset(service.serves)
    try:
        app = load_target(service.app)
    except SwitchgearError as error:
        # its own process says so in full; here it only cannot be a callee
        _log.debug("%s cannot be imported to see what it serves: %s", service.name, error)
        failed[service.name] = error
        return frozenset()
    handlers = getattr(app, "handlers", ())
    return frozenset(
        contract.full_name for handler, _ in handlers for contract in contracts_of(handler)
    )


def _of_system(
    contract: str,
    caller: ServiceConfig,
    others: list[ServiceConfig],
    served: dict[str, frozenset[str]],
    failed: dict[str, SwitchgearError],
) -> CallConfig:
    setting = f"services.{caller.name}.calls"
    example = f'[{setting}] "{contract}" = "grpc://host:port"'
    serving = [service for service in others if contract in served[service.name]]
    if not serving:
        unseen = f" ({', '.join(failed)} cannot be imported here)" if failed else ""
        raise ConfigError(
            f"no service of the system serves {contract}{unseen}.",
            where=setting,
            fix=f'Say where it is: {example}, or who it is: serves = ["{contract}"].',
        )
    if len(serving) > 1:
        names = ", ".join(service.name for service in serving)
        raise ConfigError(
            f"{names} all serve {contract}.", where=setting, fix=f"Say which: {example}"
        )
    url = _address(serving[0])
    if url is None:
        raise ConfigError(
            f"{serving[0].name} serves {contract}, and has no address.",
            where=f"services.{serving[0].name}",
            fix='Give it grpc = "127.0.0.1:7001" or http = "127.0.0.1:8001".',
        )
    return CallConfig(url=url)


def _address(service: ServiceConfig) -> Url | None:
    """Return how a service is reached from this machine: its `url`, else gRPC before REST."""
    if service.url is not None:
        return service.url
    secure = "s" if service.tls else ""
    for scheme, door in (("grpc", service.grpc), ("http", service.http)):
        if door is not None and door.port:
            return Url.of(f"{scheme}{secure}://{door.reachable()}")
    return None


def _url(want: Wanted) -> Url:
    try:
        return Url.of(want.url or "")
    except ValueError as error:
        raise ConfigError(
            f"{masked(repr(want.url))} is not a URL: {error}.",
            where=f"app.calls of {want.contract}",
            fix='Write it as "grpc://host:port".',
        ) from error
