"""A broker from its URL. The URL says how to reach it, never what it means."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from switchgear.events.brokers.port import Broker, UnsupportedBroker
from switchgear.events.brokers.sqlite import SqliteBroker

__all__ = ["broker_of"]

_SUPPORTED: Final = ("sqlite:///relative/path.db", "sqlite:////absolute/path.db")


def broker_of(url: str) -> Broker:
    """Return the broker behind `url`; nothing is opened yet.

    `sqlite:///path` takes the options `partitions`, `retention` (seconds), `retention_bytes` and
    `synchronous`, as in `sqlite:///broker.db?partitions=4`. Raises `UnsupportedBroker`.
    """
    parts = urlsplit(url)
    if parts.scheme != "sqlite":
        raise UnsupportedBroker(
            f"no broker serves the scheme {parts.scheme or url!r}.",
            fix=f"Supported: {', '.join(_SUPPORTED)}.",
        )
    path = unquote(parts.path).removeprefix("/")
    if parts.netloc or not path:
        raise UnsupportedBroker(f"{url!r} names no file.", fix=f"Write {' or '.join(_SUPPORTED)}.")
    return _sqlite(path, dict(parse_qsl(parts.query)), url)


def _sqlite(path: str, options: Mapping[str, str], url: str) -> SqliteBroker:
    known = {"partitions", "retention", "retention_bytes", "synchronous"}
    unknown = options.keys() - known
    if unknown:
        raise UnsupportedBroker(
            f"{url!r} has the unknown option {min(unknown)}.",
            fix=f"Known: {', '.join(sorted(known))}.",
        )
    synchronous = options.get("synchronous", "FULL").upper()
    if synchronous not in {"FULL", "NORMAL", "OFF"}:
        raise UnsupportedBroker(
            f"{url!r}: synchronous is {synchronous}.", fix="Use FULL, NORMAL or OFF."
        )
    try:
        size = options.get("retention_bytes")
        return SqliteBroker(
            path,
            partitions=int(options["partitions"]) if "partitions" in options else None,
            retention=timedelta(seconds=float(options.get("retention", 7 * 86_400))),
            retention_bytes=int(size) if size is not None else None,
            synchronous=synchronous,  # type: ignore[arg-type]  # checked above
        )
    except ValueError as error:
        raise UnsupportedBroker(
            f"{url!r}: {error}.", fix="partitions, retention and retention_bytes are numbers."
        ) from None
