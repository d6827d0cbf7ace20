"""What is compared with what.

Files are paired by path, messages, enumerations and services by full name wherever they stand,
fields and extensions by number, methods by name. Pairs that are equal to the byte are left out:
almost all of them, in almost every change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from switchgear.contract.check.schema import Enum, Field, File, Message, Method, Schema, Service

__all__ = ["Pairs"]


class Pairs:
    """An old and a new version, side by side."""

    def __init__(self, old: Schema, new: Schema) -> None:
        self.all_old = old
        self.all_new = new
        changed = _changed(old, new)
        self.old = old.only(changed)
        """The old version, of which only the files that differ are looked into."""
        self.new = new.only(changed)
        self._moved_zero = any(
            one.full_name in self.new.enums and self.new.enums[one.full_name].first != one.first
            for one in self.old.enums.values()
        )
        if self._moved_zero:  # the default of a field in a file that is equal differs
            self.old, self.new = old, new

    def files(self) -> Iterator[tuple[File, File]]:
        """Yield the files that are on both sides and may differ."""
        for name, old in self.old.files.items():
            if name in self.new.files:
                yield old, self.new.files[name]

    def messages(self) -> Iterator[tuple[Message, Message]]:
        """Yield the messages that are on both sides and may differ."""
        for name, old in self.old.messages.items():
            new = self.new.messages.get(name)
            if new is not None and self._may_differ(old, new):
                yield old, new

    def _may_differ(self, old: Message, new: Message) -> bool:
        if self._moved_zero or old.features != new.features or old.file.syntax != new.file.syntax:
            return True
        if old.file.proto.options != new.file.proto.options:  # the UTF-8 check of Java, say
            return True
        return old.proto != new.proto

    def fields(self) -> Iterator[tuple[Field, Field]]:
        """Yield the fields of one number, in messages and as extensions."""
        for old_message, new_message in self.messages():
            for number, old in old_message.fields.items():
                new = new_message.fields.get(number)
                if new is not None:
                    yield old, new
        for key, old in self.old.extensions.items():
            new = self.new.extensions.get(key)
            if new is not None:
                yield old, new

    def enums(self) -> Iterator[tuple[Enum, Enum]]:
        """Yield the enumerations that are on both sides."""
        for name, old in self.old.enums.items():
            if name in self.new.enums:
                yield old, self.new.enums[name]

    def services(self) -> Iterator[tuple[Service, Service]]:
        """Yield the services that are on both sides."""
        for name, old in self.old.services.items():
            if name in self.new.services:
                yield old, self.new.services[name]

    def methods(self) -> Iterator[tuple[Method, Method]]:
        """Yield the methods that are on both sides."""
        for old_service, new_service in self.services():
            for name, old in old_service.methods.items():
                new = new_service.methods.get(name)
                if new is not None:
                    yield old, new


def _changed(old: Schema, new: Schema) -> Collection[str]:
    """Return the names of the files that differ, or are on one side alone."""
    names = old.files.keys() | new.files.keys()
    same = {
        name
        for name in old.files.keys() & new.files.keys()
        if old.files[name].proto == new.files[name].proto
    }
    return names - same
