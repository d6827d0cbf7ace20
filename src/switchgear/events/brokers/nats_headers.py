"""A record's key and headers as NATS headers, and back. No I/O.

NATS headers are lines of `name: value`, trimmed, without line breaks, the names in ASCII. So values
are percent-encoded by the rule of CloudEvents' bindings for HTTP and NATS: space, double quote,
percent and whatever is not printable ASCII, as the bytes of UTF-8. Names likewise, with what no
token has. `Status` and what begins with `Nats-` are the server's own, and are not delivered; a
header of ours of such a name is encoded in its first letter.

The key is in `ce-partitionkey`, where every event of ours has it; a record whose key is another
has it in `switchgear-key`.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote

from switchgear.events.brokers.port import Record

__all__ = ["KEY", "headers_of", "headers_size", "seconds_of", "wire_headers"]

KEY: Final = "switchgear-key"
"""Has the key of a record where `ce-partitionkey` does not."""
_PARTITION_KEY: Final = "ce-partitionkey"
_PLAIN: Final = re.compile(r"[!#$&-~]*")
_SAFE: Final = string.punctuation.replace('"', "").replace("%", "")
_SAFE_NAME: Final = "!#$&'*+-.^_`|~"
"""What a name may have beside letters and digits: a token of HTTP (RFC 9110), but no percent."""
_SERVERS: Final = "nats-"
_RESERVED: Final = {"status", KEY}
_LINE: Final = 4
_FRAME: Final = 200
"""Room for the lines that a batch adds, and those around the headers."""


def wire_headers(record: Record) -> dict[str, str]:
    """Return what a message has as headers."""
    found = {_name(name): _value(value) for name, value in record.headers.items()}
    if record.key is not None and record.headers.get(_PARTITION_KEY) != record.key:
        found[KEY] = _value(record.key)
    return found


def headers_of(headers: Mapping[str, str] | None) -> tuple[str | None, dict[str, str]]:
    """Return the key and the headers of a message."""
    found = {}
    key = None
    for name, encoded in (headers or {}).items():
        if name == KEY:
            key = _decoded(encoded)
        elif name[:5].lower() != _SERVERS:
            found[_decoded(name)] = _decoded(encoded)
    return (found.get(_PARTITION_KEY) if key is None else key), found


def headers_size(headers: Mapping[str, str]) -> int:
    """Return how many bytes the headers take on the wire, at most."""
    return _FRAME + sum(len(name) + len(value) + _LINE for name, value in headers.items())


def seconds_of(stamp: str) -> float:
    """Return a time that the server wrote, in Unix seconds."""
    # Go writes nanoseconds, and leaves zeros at the end out
    whole, _, rest = stamp.removesuffix("Z").partition(".")
    begun = datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp()
    return begun + (float(f"0.{rest}") if rest else 0.0)


def _value(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else quote(text, safe=_SAFE)


@lru_cache(maxsize=1024)  # there are few, and each record has them
def _name(text: str) -> str:
    encoded = quote(text, safe=_SAFE_NAME)
    if encoded[:5].lower() == _SERVERS or encoded.lower() in _RESERVED:
        return f"%{ord(encoded[0]):X}{encoded[1:]}"
    return encoded


def _decoded(text: str) -> str:
    return unquote(text) if "%" in text else text
