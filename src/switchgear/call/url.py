"""URLs of services: `grpc://`, `grpcs://`, `http://`, `https://`."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from switchgear.errors import ConfigError

__all__ = ["Target", "parse"]

_SECURE: Final = {"http": False, "https": True, "grpc": False, "grpcs": True}
_PORTS: Final = {"http": 80, "https": 443, "grpcs": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """Where a service is, and how to reach it."""

    scheme: str
    host: str
    port: int
    prefix: str = ""
    """Path in front of every route, without a slash at its end; HTTP alone."""

    @property
    def secure(self) -> bool:
        """Whether the connection is encrypted."""
        return _SECURE[self.scheme]

    @property
    def loopback(self) -> bool:
        """Whether the service is on this machine."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def authority(self) -> str:
        """`host:port`, with an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(url: str) -> Target:
    """Read the URL of a service; raises `ConfigError`."""
    if "@" in url:
        # not repeated, wherever it stands: it follows a password, perhaps one that is not encoded
        raise ConfigError(
            "the URL contains credentials.",
            fix="Use token=Secret.env(...); in a path, write @ as %40.",
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{url!r} is not a URL: {error}.") from None
    if parts.scheme not in _SECURE:
        raise ConfigError(
            f"{url!r} does not say how to reach a service.",
            fix="Begin it with grpc://, grpcs://, http:// or https://.",
        )
    if not parts.hostname:
        raise ConfigError(f"{url!r} has no host.", fix="Write, say, grpc://127.0.0.1:7001.")
    if parts.query or parts.fragment:
        raise ConfigError(f"{url!r} has a query or a fragment.", fix="Leave it out.")
    prefix = parts.path.rstrip("/")
    if prefix and parts.scheme.startswith("grpc"):
        raise ConfigError(f"{url!r} has a path, which gRPC does not.", fix="Leave it out.")
    if port is None:
        port = _PORTS.get(parts.scheme)
    if port is None:
        raise ConfigError(f"{url!r} has no port.", fix="Add one: grpc:// has no default.")
    return Target(parts.scheme, parts.hostname, port, prefix)
