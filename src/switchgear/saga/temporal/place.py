"""Where sagas run on Temporal, from a URL: `temporal://host:7233/namespace`.

Options stand after the question mark, or in `[saga.options]`: `tls` (true or false), `ca`,
`certificate` and `key` (PEM files), `server_name` (whose certificate is expected, where that is not
the host) and `api_key`. A wire that leaves the machine is encrypted unless `tls=false` says
otherwise.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.converter import DataConverter, PayloadCodec
from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)
from temporalio.service import RPCError, RPCStatusCode

from switchgear.model.outcome import Reason, Unavailable
from switchgear.saga.errors import TemporalRefused
from switchgear.saga.temporal.tls import config_of, why
from switchgear.saga.temporal.wire import Converter

__all__ = ["Place", "connect", "is_away"]

_OPTIONS: Final = ("api_key", "ca", "certificate", "key", "server_name", "tls")
_FILES: Final = ("ca", "certificate", "key")
_PORT: Final = 7233
_NOT_LET_IN: Final = ("PermissionDenied", "Unauthenticated")
"""As the client writes the status of its first question, which is raised as no `RPCError`."""
_AWAY: Final = frozenset(
    {
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.CANCELLED,
    }
)


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace of a Temporal cluster, and how to reach it."""

    host: str
    port: int
    namespace: str
    tls: bool
    files: Mapping[str, Path] = field(default_factory=dict)
    """PEM files: `ca`, `certificate` and `key`."""
    server_name: str | None = None
    api_key: str | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        url: str,
        options: Mapping[str, str | int | float | bool] | None = None,
        *,
        folder: Path | None = None,
    ) -> Place:
        """Read a URL. `options` stand over its own; files are relative to `folder`.

        Raises `TemporalRefused`.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:  # without its text: a secret may stand in the wrong place
            raise _wrong("its URL has an address or a port that is none.") from None
        namespace = unquote(parts.path).strip("/")
        if parts.scheme != "temporal" or not parts.hostname or "@" in parts.netloc:
            raise _wrong("its URL names no server.")
        if not namespace or "/" in namespace:
            raise _wrong("its URL names no namespace.")
        given = {**dict(parse_qsl(parts.query)), **(options or {})}
        unknown = sorted(given.keys() - set(_OPTIONS))
        if unknown:
            raise TemporalRefused(
                f"it has the unknown option {unknown[0]}.",
                where=_WHERE,
                fix=f"Known: {', '.join(_OPTIONS)}.",
            )
        tls = str(given.get("tls", not _is_loopback(parts.hostname))).lower()
        if tls not in {"true", "false"}:
            raise TemporalRefused("tls is true or false.", where=_WHERE, fix="Correct it.")
        if ("certificate" in given) != ("key" in given):
            raise TemporalRefused(
                "of certificate and key there is one alone.", where=_WHERE, fix="Give both."
            )
        extra = sorted({"api_key", *_FILES} & given.keys())
        if extra and tls == "false":
            raise TemporalRefused(
                f"{extra[0]} is given, and the wire is not encrypted.",
                where=_WHERE,
                fix="Say tls=true.",
            )
        base = folder or Path()
        api_key = given.get("api_key")
        server_name = given.get("server_name")
        return cls(
            host=parts.hostname,
            port=port or _PORT,
            namespace=namespace,
            tls=tls == "true",
            files={name: base / str(given[name]) for name in _FILES if name in given},
            server_name=None if server_name is None else str(server_name),
            api_key=None if api_key is None else str(api_key),
        )

    def __str__(self) -> str:
        return f"temporal://{self.address}/{self.namespace}"

    @property
    def address(self) -> str:
        """Host and port, with an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


_WHERE: Final = "the place of sagas"


async def connect(
    place: Place, *, codec: PayloadCodec | None = None, within: float = 5.0
) -> Client:
    """Connect to `place`, and see that its namespace is there.

    `codec` encrypts what is stored there, or compresses it. Raises `Unavailable` if nobody answers
    `within` seconds, and `TemporalRefused` if the namespace or the credentials are refused, or one
    side speaks TLS alone.
    """
    try:
        client = await Client.connect(
            place.address,
            namespace=place.namespace,
            api_key=place.api_key,
            tls=config_of(place),
            data_converter=DataConverter(payload_converter_class=Converter, payload_codec=codec),
            connect_timeout=timedelta(seconds=within),
            runtime=_runtime(),
        )
    except RuntimeError as error:  # what the SDK raises where it cannot connect at all
        raise (await _no_wire(place, str(error), within)) from error
    request = DescribeNamespaceRequest(namespace=place.namespace)
    try:
        await client.workflow_service.describe_namespace(request, timeout=timedelta(seconds=within))
    except RPCError as error:
        if is_away(error):
            raise Unavailable(
                f"Temporal does not answer: {error.message}", reason=Reason.CONNECT
            ) from error
        raise TemporalRefused(
            f"the namespace {place.namespace} cannot be used: {error.message}.",
            where=str(place),
            fix="Register it, or correct the URL and the credentials.",
        ) from error
    return client


async def _no_wire(place: Place, told: str, within: float) -> Unavailable | TemporalRefused:
    """Return what it means that Temporal's client has not connected, by what it told of it."""
    if any(f"code: {status}" in told for status in _NOT_LET_IN):
        return TemporalRefused(
            f"who this is, is refused: {told}.",
            where=str(place),
            fix="Correct api_key, or certificate and key.",
        )
    return await why(place, within) or Unavailable(
        f"Temporal cannot be reached: {told}", reason=Reason.CONNECT
    )


@cache
def _runtime() -> Runtime:
    """Return what the clients of this process run on; it logs as Python does."""
    forwarding = LogForwardingConfig(logging.getLogger("temporalio.core"))
    told = LoggingConfig(TelemetryFilter(core_level="WARN", other_level="ERROR"), forwarding)
    return Runtime(telemetry=TelemetryConfig(logging=told))


def is_away(error: RPCError) -> bool:
    """Tell whether a call failed because Temporal is away or too busy, and not by its answer."""
    return error.status in _AWAY


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _wrong(what: str) -> TemporalRefused:
    return TemporalRefused(what, where=_WHERE, fix="Write temporal://host:7233/namespace.")
