"""Values that protobuf carries as a message of its own: from upb's message to Python, and back.

The functions are named as the kinds are. Each writer is given a message that is already there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from switchgear.contract.reading import MAX_SECONDS, split_duration
from switchgear.contract.wellknown import AnyMessage, FieldMask

__all__ = ["READERS", "WRITERS"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NANOS: Final = 1_000_000_000


def _read_timestamp(proto: Any) -> datetime:
    nanos = proto.nanos
    if not 0 <= nanos < _NANOS:
        raise ValueError("has nanos beyond one second")
    return _EPOCH + timedelta(0, proto.seconds, (nanos + 500) // 1000)


def _write_timestamp(value: datetime, proto: Any) -> None:
    since = value - _EPOCH
    proto.seconds = since.days * 86_400 + since.seconds
    proto.nanos = since.microseconds * 1000


def _read_duration(proto: Any) -> timedelta:
    seconds, nanos = proto.seconds, proto.nanos
    if abs(seconds) > MAX_SECONDS or abs(nanos) >= _NANOS or seconds * nanos < 0:
        raise ValueError("is not a duration")
    micros = (abs(nanos) + 500) // 1000
    return timedelta(0, seconds, -micros if nanos < 0 else micros)


def _write_duration(value: timedelta, proto: Any) -> None:
    proto.seconds, micros = split_duration(value)
    proto.nanos = micros * 1000


def _read_field_mask(proto: Any) -> FieldMask:
    return FieldMask(tuple(proto.paths))


def _write_field_mask(value: FieldMask, proto: Any) -> None:
    proto.paths.extend(value.paths)


def _read_any(proto: Any) -> AnyMessage:
    return AnyMessage(proto.type_url, proto.value)


def _write_any(value: AnyMessage, proto: Any) -> None:
    proto.type_url = value.type_url
    proto.value = value.value


def _read_struct(proto: Any) -> dict[str, Any]:
    return {name: _read_value(one) for name, one in proto.fields.items()}


def _write_struct(value: Mapping[str, Any], proto: Any) -> None:
    fields = proto.fields
    for name, one in value.items():
        _write_value(one, fields[name])


def _read_list_value(proto: Any) -> list[Any]:
    return [_read_value(one) for one in proto.values]


def _write_list_value(value: list[Any], proto: Any) -> None:
    for one in value:
        _write_value(one, proto.values.add())


def _read_value(proto: Any) -> Any:
    kind = proto.WhichOneof("kind")
    if kind == "struct_value":
        return _read_struct(proto.struct_value)
    if kind == "list_value":
        return _read_list_value(proto.list_value)
    return None if kind in {None, "null_value"} else getattr(proto, kind)


def _write_value(value: Any, proto: Any) -> None:
    if value is None:
        proto.null_value = 0
    elif isinstance(value, bool):
        proto.bool_value = value
    elif isinstance(value, str):
        proto.string_value = value
    elif isinstance(value, int | float):
        proto.number_value = value
    elif isinstance(value, Mapping):
        proto.struct_value.SetInParent()
        _write_struct(value, proto.struct_value)
    elif isinstance(value, list | tuple):
        proto.list_value.SetInParent()
        _write_list_value(list(value), proto.list_value)
    else:
        raise TypeError(f"{type(value).__name__} is no JSON value")


def _read_wrapper(proto: Any) -> Any:
    return proto.value


def _write_wrapper(value: Any, proto: Any) -> None:
    proto.value = value


_WRAPPERS: Final = (
    *("string_value", "bytes_value", "bool_value", "double_value", "float_value"),
    *("int64_value", "uint64_value", "int32_value", "uint32_value"),
)

READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "timestamp": _read_timestamp,
    "duration": _read_duration,
    "field_mask": _read_field_mask,
    "any": _read_any,
    "struct": _read_struct,
    "value": _read_value,
    "list_value": _read_list_value,
    **dict.fromkeys(_WRAPPERS, _read_wrapper),
}
"""From a message of upb to a value, by the name of the kind; `ValueError`: it is no such value."""

WRITERS: Final[Mapping[str, Callable[[Any, Any], None]]] = {
    "timestamp": _write_timestamp,
    "duration": _write_duration,
    "field_mask": _write_field_mask,
    "any": _write_any,
    "struct": _write_struct,
    "value": _write_value,
    "list_value": _write_list_value,
    **dict.fromkeys(_WRAPPERS, _write_wrapper),
}
"""From a value into a message of upb, by the name of the kind."""
