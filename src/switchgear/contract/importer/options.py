"""What a `.proto` file says in options: what a declaration says itself, and the rest as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from switchgear.contract.options import Known

if TYPE_CHECKING:
    from google.protobuf.descriptor_pool import DescriptorPool

__all__ = ["Left", "Options"]


class Left:
    """What was left out of the module, to be told at its top."""

    def __init__(self) -> None:
        self._found: dict[str, None] = {}

    def add(self, what: str) -> None:
        """Note one thing that was left out."""
        self._found.setdefault(what)

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)


class Options:
    """Reads the options of descriptors with all that a pool knows of."""

    def __init__(self, pool: DescriptorPool, left: Left) -> None:
        self._known = Known(pool)
        self._left = left

    def text(self, holder: Any, handled: tuple[str, ...], where: str) -> str:
        """Return options in protobuf's text format, but for those in `handled`."""
        from google.protobuf import text_format  # noqa: PLC0415 - an extra
        from google.protobuf.unknown_fields import UnknownFieldSet  # noqa: PLC0415 - an extra

        if not holder.HasField("options"):
            return ""
        read = self._known.read(holder.options)
        rest = type(read).FromString(read.SerializeToString())
        for field, _ in list(rest.ListFields()):
            if field.full_name == "google.api.http":
                rest.ClearExtension(field)
            elif field.name in handled or field.name == "uninterpreted_option":
                rest.ClearField(field.name)
        unknown: Any = UnknownFieldSet(rest)
        for one in unknown:
            self._left.add(f"the custom option {one.field_number} of {where}")
        return str(text_format.MessageToString(rest, as_one_line=True))
