"""Failures as `application/problem+json` (RFC 9457).

`type` is stable: `urn:switchgear:refusal:shop.inventory.v1.OutOfStock` for a declared refusal,
`urn:switchgear:error:SG411` for anything else. `instance` names the request: its path, or the id
under which the log has the failure. Two members are ours: `pointer`, the offending field as an RFC
6901 JSON pointer, and `refusal`, the fields of a refusal. Where a stream has failed, the marks of
`switchgear.model.wire` are members too, under the names that are those of headers elsewhere.
"""

from __future__ import annotations

from math import ceil
from typing import Final

import msgspec

from switchgear.contract.codec import to_json
from switchgear.model.wire import http_status
from switchgear.serve.failure import TITLES, Failure

__all__ = ["ERROR", "MEDIA_TYPE", "REFUSAL", "problem", "retry_after"]

MEDIA_TYPE: Final = "application/problem+json"
REFUSAL: Final = "urn:switchgear:refusal:"
ERROR: Final = "urn:switchgear:error:"

_encode = msgspec.json.Encoder().encode


def problem(
    failure: Failure, *, path: str, status: int | None = None, marks: bool = False
) -> tuple[int, bytes]:
    """Return the HTTP status and the body that say what `failure` says.

    `status` is for what has an HTTP status of its own (405, 413, 415); else it follows from the
    canonical one. `marks`: with those that are headers elsewhere, for a stream, whose headers have
    left before it failed.
    """
    code = status or http_status(failure.status)
    refusal = failure.refusal
    members: dict[str, object] = {
        "type": f"{ERROR}{failure.code}" if refusal is None else f"{REFUSAL}{refusal.full_name}",
        "title": TITLES[failure.status] if refusal is None else type(refusal).__name__,
        "status": code,
        "detail": failure.detail,
    }
    if path or failure.id is not None:
        members["instance"] = path if failure.id is None else f"urn:uuid:{failure.id}"
    if failure.pointer is not None:
        members["pointer"] = failure.pointer
    if refusal is not None:
        members["refusal"] = msgspec.Raw(to_json(refusal.to_message()))
    if marks:
        members |= failure.marks()
    return code, _encode(members)


def retry_after(failure: Failure) -> str | None:
    """Return the Retry-After header that goes with `failure`: whole seconds, at least one."""
    seconds = failure.retry_after
    return None if seconds is None else str(max(1, ceil(seconds)))
