"""CloudEvents in structured mode: the whole event, attributes and data, as one JSON document.

We publish in binary mode unless told otherwise, and read both. What arrives in structured mode is
unpacked into binary form at the door, so that nothing behind it knows two forms. In structured
mode no attribute is a header: the bindings would allow it, and the CloudEvents SDK would take it
for binary mode.

The source of the rules: CloudEvents 1.0.2, JSON event format, sections 2 to 3.1.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

import msgspec

__all__ = ["STRUCTURED", "packed", "unpacked"]

STRUCTURED: Final = "application/cloudevents+json"
_NOT_HEADERS: Final = frozenset({"data", "data_base64", "datacontenttype"})


def packed(headers: Mapping[str, str], data: bytes) -> tuple[dict[str, str], bytes]:
    """Return headers and body of an event in structured mode, given those of the binary mode."""
    kind = headers.get("content-type", "")
    document: dict[str, Any] = {
        name.removeprefix("ce-"): value for name, value in headers.items() if name.startswith("ce-")
    }
    if kind:
        document["datacontenttype"] = kind
    if _is_json(kind):
        document["data"] = msgspec.Raw(data)
    else:
        document["data_base64"] = base64.b64encode(data).decode()
    others = {name: value for name, value in headers.items() if not name.startswith("ce-")}
    found = others | {"content-type": f"{STRUCTURED}; charset=utf-8"}
    return found, msgspec.json.encode(document)


def unpacked(headers: Mapping[str, str], body: bytes) -> tuple[Mapping[str, str], bytes]:
    """Return headers and data in binary form; what is not in structured mode stays as it is.

    So does what claims to be and cannot be read: its consumer parks it, whole.
    """
    if not headers.get("content-type", "").lower().startswith(STRUCTURED):
        return headers, body
    try:
        document = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        found = {name: value for name, value in headers.items() if not name.startswith("ce-")}
        found.pop("content-type")
        for name, raw in document.items():
            if name not in _NOT_HEADERS and bytes(raw) != b"null":  # null is absent
                found[f"ce-{name}"] = _attribute(raw)
        kind = _attribute(document.get("datacontenttype", msgspec.Raw(b'"application/json"')))
        found["content-type"] = kind
        return found, _data(document, kind)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # no UTF-8, no base64, or nested more deeply than anybody reads
        return headers, body


def _data(document: Mapping[str, msgspec.Raw], kind: str) -> bytes:
    if "data_base64" in document:
        return base64.b64decode(
            msgspec.json.decode(document["data_base64"], type=str), validate=True
        )
    raw = bytes(document.get("data", msgspec.Raw(b"")))
    if raw and not _is_json(kind):
        # other content is a text in the document
        return msgspec.json.decode(raw, type=str).encode()
    return raw


def _attribute(raw: msgspec.Raw) -> str:
    """Return an attribute in its canonical text: CloudEvents has texts, integers and booleans."""
    value = msgspec.json.decode(raw, type=str | int | bool)
    return value if isinstance(value, str) else bytes(raw).decode()


def _is_json(kind: str) -> bool:
    media = kind.partition(";")[0].strip().lower()
    return media.endswith(("/json", "+json"))
