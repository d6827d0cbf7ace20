"""The certificate of a door: for gRPC directly, for REST as options of the server that runs it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switchgear.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    import grpc

__all__ = ["Certificate"]


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate chain and its private key, both PEM files.

    With `client_ca`, clients must present a certificate that it signed (mutual TLS). A key file is
    named here, never shown; it must not be encrypted.

    Raises `ConfigError` if a file cannot be read, or the key does not belong to the certificate.
    """

    chain: Path
    key: Path
    client_ca: Path | None = None

    def __init__(
        self, chain: str | Path, key: str | Path, client_ca: str | Path | None = None
    ) -> None:
        object.__setattr__(self, "chain", Path(chain))
        object.__setattr__(self, "key", Path(key))
        object.__setattr__(self, "client_ca", None if client_ca is None else Path(client_ca))
        for name in ("chain", "key", "client_ca"):
            path: Path | None = getattr(self, name)
            if path is not None:
                _read(path, name)
        self._check()

    def _check(self) -> None:
        """Find out now what a server would only find out when it listens, and say less clearly."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # an encrypted key would have OpenSSL ask for its password at the terminal
            context.load_cert_chain(self.chain, self.key, password=lambda: b"")
            if self.client_ca is not None:
                context.load_verify_locations(self.client_ca)
        except (OSError, ValueError) as error:  # what `ssl` raises is an OSError
            raise ConfigError(
                "the certificate and its key cannot be used together, or the client_ca cannot be: "
                f"{getattr(error, 'reason', None) or error}.",
                where=", ".join(str(one) for one in (self.chain, self.key, self.client_ca) if one),
                fix="Name PEM files, and the key of this certificate, not encrypted.",
            ) from error

    def grpc(self) -> grpc.ServerCredentials:
        """Return the credentials for a gRPC server."""
        try:
            import grpc  # noqa: PLC0415  an optional dependency
        except ImportError as error:
            raise MissingExtra("grpcio", "grpc") from error
        ca = None if self.client_ca is None else _read(self.client_ca, "client_ca")
        return grpc.ssl_server_credentials(
            [(_read(self.key, "key"), _read(self.chain, "chain"))],
            root_certificates=ca,
            require_client_auth=ca is not None,
        )

    def uvicorn(self) -> dict[str, Any]:
        """Return the settings for `uvicorn.Config`."""
        settings: dict[str, Any] = {
            "ssl_certfile": str(self.chain),
            "ssl_keyfile": str(self.key),
        }
        if self.client_ca is not None:
            settings["ssl_ca_certs"] = str(self.client_ca)
            settings["ssl_cert_reqs"] = ssl.CERT_REQUIRED
        return settings


def _read(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the {name} of the certificate cannot be read: {error.strerror}.",
            where=str(path),
            fix="Name a PEM file that this user may read.",
        ) from error
