"""What two descriptors of one file have to agree in.

Left out: positions and comments, the order of declarations that protobuf keeps apart (nested types,
imports), imports that nothing is used of, and what no contract has: extensions and custom options.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto


def normal(files: Iterable[FileDescriptorProto]) -> dict[str, FileDescriptorProto]:
    """Return the files that are somebody's own, by name, in their normal form."""
    return {file.name: _normal(file) for file in files if not file.name.startswith("google/")}


def _normal(file: FileDescriptorProto) -> FileDescriptorProto:
    made = FileDescriptorProto()
    made.CopyFrom(file)
    made.ClearField("source_code_info")
    made.ClearField("extension")
    for name in ("dependency", "public_dependency", "weak_dependency", "option_dependency"):
        made.ClearField(name)
    if made.syntax == "proto2":
        made.ClearField("syntax")
    made.DiscardUnknownFields()
    for message in made.message_type:
        _message(message)
    return made


def _message(message: Any) -> None:
    message.ClearField("extension")
    message.nested_type.sort(key=lambda one: one.name)
    for inner in message.nested_type:
        _message(inner)
    for one in (message, *message.field, *message.enum_type):
        if not one.options.ByteSize():
            one.ClearField("options")
