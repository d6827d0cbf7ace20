"""What two descriptors of one file have to agree in.

Left out: positions and comments, the order of declarations that protobuf keeps apart (nested types,
imports), imports that nothing is used of, and the message sets of proto1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto

from switchgear.contract.options import Known, pool_of


def normal(files: Iterable[FileDescriptorProto]) -> dict[str, FileDescriptorProto]:
    """Return the files that are somebody's own, by name, in their normal form."""
    every = list(files)
    known = Known(pool_of(every))
    own = [file for file in every if not file.name.startswith("google/")]
    return {file.name: _normal(file, known) for file in own}


def _normal(file: FileDescriptorProto, known: Known) -> FileDescriptorProto:
    made = FileDescriptorProto()
    made.CopyFrom(file)
    made.ClearField("source_code_info")
    for name in ("dependency", "public_dependency", "weak_dependency", "option_dependency"):
        made.ClearField(name)
    if made.syntax == "proto2":
        made.ClearField("syntax")
    for message in made.message_type:
        _message(message)
    _options(made, known)
    return made


def _options(holder: Any, known: Known) -> None:
    """Write options in one order, whether protobuf knows them or not; none are no options."""
    for field, value in holder.ListFields():
        if field.name == "options":
            data = known.read(value).SerializeToString(deterministic=True)
            holder.ClearField("options")
            if data:
                holder.options.ParseFromString(data)
        elif field.message_type is not None:
            for one in value if field.is_repeated else [value]:
                _options(one, known)


def _message(message: Any) -> None:
    message.nested_type.sort(key=lambda one: one.name)
    for inner in message.nested_type:
        _message(inner)
