"""What a client needs to be let in: certificates to trust and to show, and secrets.

A `Secret` knows where a value is, not the value: it is read when it is used, so that a rotated file
is noticed, and nothing that is printed, logged or compared shows it.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from switchgear.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    import grpc

__all__ = ["Secret", "Tls"]


class Secret:
    """A value that is never shown. Make one with `Secret.env` or `Secret.file`."""

    __slots__ = ("_cached", "_name", "_path", "_stamp")

    def __init__(self, *, name: str | None = None, path: Path | None = None) -> None:
        self._name = name
        self._path = path
        self._cached = ""
        self._stamp: tuple[int, int] | None = None

    @classmethod
    def env(cls, name: str) -> Secret:
        """Return the secret in an environment variable."""
        return cls(name=name)

    @classmethod
    def file(cls, path: str | Path) -> Secret:
        """Return the secret in a file, without the white space around it; a change is noticed."""
        return cls(path=Path(path))

    def reveal(self) -> str:
        """Return the value. Raises `ConfigError` if there is none."""
        if self._name is not None:
            value = os.environ.get(self._name, "")
            if not value:
                raise ConfigError(
                    "the secret is not set.",
                    where=f"environment variable {self._name}",
                    fix="Set it before the service starts.",
                )
            return value
        if self._path is None:
            raise ConfigError("the secret has no place.", fix="Use Secret.env or Secret.file.")
        try:
            found = self._path.stat()
            stamp = (found.st_mtime_ns, found.st_ino)
            if stamp != self._stamp:
                self._cached, self._stamp = self._path.read_text("utf-8").strip(), stamp
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"the secret cannot be read: {error}.",
                where=str(self._path),
                fix="Name a text file that this user may read.",
            ) from error
        return self._cached

    def __repr__(self) -> str:
        return f"Secret.env({self._name!r})" if self._name else f"Secret.file({str(self._path)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled: name its place again where it is needed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Whom to trust and what to show. Every value is the path of a PEM file.

    `ca` signed the callee's certificate (default: what the system trusts); `cert` and `key` are
    shown to a callee that asks for a certificate. `server_name` is the name that the callee's
    certificate must carry, where it is not the host in the URL.

    Raises `ConfigError` if one of `cert` and `key` is missing.
    """

    ca: str | Path | None = None
    cert: str | Path | None = None
    key: str | Path | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ConfigError(
                "tls has one of cert and key, and needs both or none.",
                fix="Name the certificate and its private key.",
            )

    def context(self) -> ssl.SSLContext:
        """Return the settings for TLS over HTTP."""
        try:
            made = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
            if self.cert is not None and self.key is not None:
                # an encrypted key would have OpenSSL ask for its password at the terminal
                made.load_cert_chain(str(self.cert), str(self.key), password=lambda: b"")
        except (OSError, ValueError) as error:  # what `ssl` raises is an OSError
            raise ConfigError(
                f"the certificates cannot be used: {error}.",
                where=", ".join(str(one) for one in (self.ca, self.cert, self.key) if one),
                fix="Name PEM files that this user may read, and a key that is not encrypted.",
            ) from error
        return made

    def grpc(self) -> grpc.ChannelCredentials:
        """Return the settings for TLS over gRPC."""
        try:
            import grpc  # noqa: PLC0415  an optional dependency
        except ImportError as error:
            raise MissingExtra("grpcio", "grpc") from error
        self.context()  # gRPC would not say what is wrong with them
        return grpc.ssl_channel_credentials(
            root_certificates=_read(self.ca),
            private_key=_read(self.key),
            certificate_chain=_read(self.cert),
        )


def _read(path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the certificate cannot be read: {error.strerror}.",
            where=str(path),
            fix="Name a PEM file that this user may read.",
        ) from error
