"""All files of one version of a contract."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cached_property

from switchgear.contract.check.schema.enums import Enum
from switchgear.contract.check.schema.fields import Field
from switchgear.contract.check.schema.files import File
from switchgear.contract.check.schema.messages import Message
from switchgear.contract.check.schema.services import Service
from switchgear.contract.check.schema.wire import split

__all__ = ["Schema"]


class Schema:
    """All files of one version of a contract."""

    def __init__(
        self,
        files: Iterable[File],
        imported: Iterable[File] = (),
        elsewhere: Collection[str] = (),
    ) -> None:
        """Take the files that are compared, and those that are only there to be referred to.

        `elsewhere` are packages that also have files which were not read.
        """
        self.files: Mapping[str, File] = {file.name: file for file in files}
        self._imported = tuple(imported)
        self._elsewhere = elsewhere

    @classmethod
    def of(cls, data: bytes, own: Collection[str], elsewhere: Collection[str] = ()) -> Schema:
        """Read a serialized `FileDescriptorSet`, of which the files named `own` are compared."""
        from google.protobuf.descriptor_pb2 import FileDescriptorProto  # noqa: PLC0415 - an extra

        files = [File(FileDescriptorProto.FromString(file), info) for file, info in split(data)]
        return cls(
            (file for file in files if file.name in own),
            (file for file in files if file.name not in own),
            elsewhere,
        )

    def only(self, names: Collection[str]) -> Schema:
        """Return the version of which only some files are compared."""
        rest = [file for name, file in self.files.items() if name not in names]
        own = (file for name, file in self.files.items() if name in names)
        return Schema(own, (*self._imported, *rest), self._elsewhere)

    @cached_property
    def everything(self) -> Mapping[str, File]:
        """Every file by name, also those that are only referred to."""
        return {file.name: file for file in (*self._imported, *self.files.values())}

    @cached_property
    def enums_everywhere(self) -> Mapping[str, Enum]:
        """Every enumeration by its full name, also those of imported files."""
        return {
            enum.full_name: enum
            for file in self.everything.values()
            for enum in file.enums.values()
        }

    @cached_property
    def messages_everywhere(self) -> Mapping[str, Message]:
        """Every message by its full name, also those of imported files."""
        return {
            one.full_name: one
            for file in self.everything.values()
            for one in file.messages.values()
        }

    @cached_property
    def messages(self) -> Mapping[str, Message]:
        """The messages by their full name."""
        return {
            one.full_name: one for file in self.files.values() for one in file.messages.values()
        }

    @cached_property
    def enums(self) -> Mapping[str, Enum]:
        """The enumerations by their full name."""
        return {one.full_name: one for file in self.files.values() for one in file.enums.values()}

    @cached_property
    def services(self) -> Mapping[str, Service]:
        """The services by their full name."""
        return {
            one.full_name: one for file in self.files.values() for one in file.services.values()
        }

    @cached_property
    def extensions(self) -> Mapping[tuple[str, int], Field]:
        """The extensions by the message that they extend and their number."""
        return {
            (one.extendee, one.number): one
            for file in self.files.values()
            for one in file.extensions.values()
        }

    @cached_property
    def packages(self) -> Mapping[str, list[File]]:
        """The files of each package."""
        found: dict[str, list[File]] = {name: [] for name in self._elsewhere}
        for file in self.files.values():
            found.setdefault(file.package, []).append(file)
        return found
