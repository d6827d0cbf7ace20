"""Failures as `google.rpc.Status`, which gRPC carries in `grpc-status-details-bin`.

A declared refusal travels as itself: an `Any` that holds its message, which every client that was
built from the exported `.proto` can read. Bad input names its field in a `BadRequest`. Anything
that is not a refusal has an `ErrorInfo` with the stable code, and the id under which the log has
it.
"""

from __future__ import annotations

import re
from typing import Final

from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status as RpcStatus  # type: ignore[import-untyped]
from grpc import StatusCode

from switchgear.contract.codec import to_proto
from switchgear.model.outcome import Status
from switchgear.model.wire import GRPC_PUSHBACK
from switchgear.serve.failure import Failure

__all__ = ["DETAILS", "DOMAIN", "code_of", "details", "trailers"]

DETAILS: Final = "grpc-status-details-bin"
DOMAIN: Final = "switchgear"
_TYPE_URL: Final = "type.googleapis.com/"
_CODES: Final = {status: StatusCode[status.value] for status in Status}


def code_of(status: Status) -> StatusCode:
    """Return gRPC's object for a canonical status."""
    return _CODES[status]


def trailers(failure: Failure) -> tuple[tuple[str, str | bytes], ...]:
    """Return the trailing metadata that goes with `failure`: the details and our marks."""
    found: list[tuple[str, str | bytes]] = [(DETAILS, details(failure)), *failure.marks().items()]
    if failure.retry_after is not None:
        found.append((GRPC_PUSHBACK, str(round(failure.retry_after * 1000))))
    return tuple(found)


def details(failure: Failure) -> bytes:
    """Return the serialised `google.rpc.Status`."""
    number: int = code_of(failure.status).value[0]
    # the generated modules have no types that mypy takes
    status = RpcStatus(code=number, message=failure.detail)
    if failure.refusal is not None:
        held = to_proto(failure.refusal.to_message())
        url = f"{_TYPE_URL}{failure.refusal.full_name}"
        status.details.append(Any(type_url=url, value=held))
        return bytes(status.SerializeToString())
    info = ErrorInfo(reason=failure.code, domain=DOMAIN)
    if failure.id is not None:
        info.metadata["id"] = failure.id
    if failure.pointer is not None:
        info.metadata["pointer"] = failure.pointer
        bad = BadRequest()
        violation = bad.field_violations.add()
        violation.field, violation.description = _path(failure.pointer), failure.detail
        status.details.add().Pack(bad)
    status.details.add().Pack(info)
    return bytes(status.SerializeToString())


def _path(pointer: str) -> str:
    """Turn `/lines/0/sku` into `lines[0].sku`, as `BadRequest` writes it."""
    names = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", ".".join(names))
