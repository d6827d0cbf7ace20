"""TLS on the wire to Temporal: what is trusted and shown, and why no wire comes about.

Of a connection that fails, Temporal's client tells little, and of some reasons nothing. So the
server is asked again, in a handshake of Python's own with the same files:

| the handshake                                        | so the server is | what is wrong       |
| ---------------------------------------------------- | ---------------- | ------------------- |
| is not answered, or comes to nothing else below      | away             |                     |
| meets a certificate that it cannot trust             | away             | `ca`, `server_name` |
| meets no TLS                                         | refused          | `tls`, or the port  |
| ends with an alert: another certificate is wanted    | refused          | `certificate`       |
| finds TLS, though none was to be                     | refused          | `tls`               |

What is away is tried again, as with brokers: a certificate that has expired will be renewed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING, Final

from temporalio.service import TLSConfig

from switchgear.model.outcome import Reason, Unavailable
from switchgear.saga.errors import TemporalRefused

if TYPE_CHECKING:
    from switchgear.saga.temporal.place import Place

__all__ = ["config_of", "why"]

_NO_TLS: Final = "WRONG_VERSION_NUMBER"
"""What OpenSSL calls bytes that are no TLS."""
_ALERT: Final = "ALERT"


def config_of(place: Place) -> TLSConfig | bool:
    """Return what Temporal's client is told. Raises `TemporalRefused` for files of no use."""
    if not place.tls:
        return False
    read = {name: _read(place, name) for name in place.files}
    _context(place)  # the client would not say what is wrong with them
    return TLSConfig(
        server_root_ca_cert=read.get("ca"),
        domain=place.server_name,
        client_cert=read.get("certificate"),
        client_private_key=read.get("key"),
    )


async def why(place: Place, within: float) -> Unavailable | TemporalRefused | None:
    """Return why no wire comes about; None: nobody answers, or not in `within` seconds."""
    context = _context(place) if place.tls else _trusting()
    try:
        async with asyncio.timeout(within):
            await _met(place, context)
    except ssl.SSLCertVerificationError as error:
        return Unavailable(
            f"the certificate of {place.address} is not trusted: {error.verify_message}. Name who "
            "signed it (ca), or the name that it carries (server_name).",
            reason=Reason.CONNECT,
        )
    except ssl.SSLError as error:
        return _told(place, error.reason or "")
    except OSError:  # a TimeoutError is one
        return None
    return None if place.tls else _encrypted(place)


def _told(place: Place, reason: str) -> TemporalRefused | None:
    """Return what OpenSSL's name for a failure means."""
    if _ALERT in reason:
        return _encrypted(place) if not place.tls else _unwanted(place, reason)
    if place.tls and reason == _NO_TLS:
        return TemporalRefused(
            f"{place.address} speaks no TLS.",
            where=str(place),
            fix="Correct the port; or say tls=false, if nobody else is on that wire.",
        )
    return None


def _encrypted(place: Place) -> TemporalRefused:
    return TemporalRefused(
        f"{place.address} speaks TLS, and this wire is not encrypted.",
        where=str(place),
        fix="Say tls=true; and ca=FILE, if the system does not trust who signed its certificate.",
    )


def _unwanted(place: Place, reason: str) -> TemporalRefused:
    shown = "the certificate" if "certificate" in place.files else "a client without a certificate"
    return TemporalRefused(
        f"{place.address} does not take {shown}: {reason.lower().replace('_', ' ')}.",
        where=str(place),
        fix="Name a certificate, and its key, of an authority that the server trusts.",
    )


async def _met(place: Place, context: ssl.SSLContext) -> None:
    """Shake hands, and wait for what the server says first."""
    reader, writer = await asyncio.open_connection(
        place.host, place.port, ssl=context, server_hostname=place.server_name or place.host
    )
    try:
        if place.tls:
            # by TLS 1.3 (RFC 8446, 4.4.2.4) a certificate is refused after the handshake
            await reader.read(1)
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _read(place: Place, name: str) -> bytes:
    try:
        return place.files[name].read_bytes()
    except OSError as error:
        raise TemporalRefused(
            f"the {name} cannot be read: {error}.",
            where=str(place),
            fix="Name a PEM file that this user may read.",
        ) from error


def _context(place: Place) -> ssl.SSLContext:
    files = {name: str(path) for name, path in place.files.items()}
    try:
        made = ssl.create_default_context(cafile=files.get("ca"))
        if "certificate" in files:
            # an encrypted key would have OpenSSL ask for its password at the terminal
            made.load_cert_chain(files["certificate"], files["key"], password=lambda: b"")
    except (OSError, ValueError) as error:  # what `ssl` raises is an OSError
        told = getattr(error, "reason", None) or error
        raise TemporalRefused(
            f"{', '.join(sorted(files))} cannot be used: {told}.",
            where=str(place),
            fix="Name PEM files, and the key of this certificate, not encrypted.",
        ) from error
    made.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the client takes what that would not
    made.set_alpn_protocols(["h2"])
    return made


def _trusting() -> ssl.SSLContext:
    """Return settings that take any certificate: nothing is said on that wire."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.set_alpn_protocols(["h2"])
    return made
