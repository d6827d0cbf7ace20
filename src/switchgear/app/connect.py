"""Clients for what a service calls, as its settings say how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from switchgear.app.callee import Call
from switchgear.app.directory import Wanted, where_to_call
from switchgear.call.client import client
from switchgear.call.tls import Tls
from switchgear.config import CallConfig, Config, ServiceConfig
from switchgear.policy.defaults import Defaults

__all__ = ["connect"]


def connect(calls: Sequence[Call], settings: ServiceConfig, config: Config) -> Mapping[int, object]:
    """Return a client for each call, by `id(call)`. They connect when they are first used.

    Raises `ConfigError` where nobody serves a contract, `MissingExtra` for a wire that is not
    installed.
    """
    wanted = [Wanted(call.contract.full_name, call.url) for call in calls]
    reaches = where_to_call(settings, wanted, config)
    return {
        id(call): _client(call, reaches[call.contract.full_name], settings.name, config.policies)
        for call in calls
    }


def _client(call: Call, reach: CallConfig, caller: str, defaults: Defaults) -> object:
    own = reach.tls
    tls = None
    if reach.ca is not None or own is not None:
        tls = Tls(
            ca=reach.ca,
            cert=None if own is None else own.certificate,
            key=None if own is None else own.key,
        )
    made: object = client(
        call.contract.protocol,
        reach.url.reveal(),
        caller=caller,
        tls=tls,
        token=reach.token,
        operations=call.policies(defaults),
    )
    return made
