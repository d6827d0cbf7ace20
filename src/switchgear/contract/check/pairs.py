"""What is compared with what.

Files are paired by path, messages, enumerations and services by full name wherever they stand,
fields and extensions by number, methods by name. Pairs that are equal to the byte are left out:
almost all of them, in almost every change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import cached_property

from switchgear.contract.check.past import past_of
from switchgear.contract.check.schema import (
    Element,
    Enum,
    Field,
    File,
    Message,
    Method,
    Schema,
    Service,
)
from switchgear.contract.check.words import declarations
from switchgear.contract.history import Past

__all__ = ["Pairs"]


class Pairs:
    """An old and a new version, side by side."""

    def __init__(
        self, old: Schema, new: Schema, past: Sequence[Past] = (), label: str = "the old version"
    ) -> None:
        self.all_old = old
        self.all_new = new
        self.past = past
        """What came before the old version, the newest first."""
        self._label = label
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
        return iter(self._messages)

    @cached_property
    def _messages(self) -> Sequence[tuple[Message, Message]]:
        """The pairs of messages, which many rules ask for."""
        both = ((old, self.new.messages.get(name)) for name, old in self.old.messages.items())
        return [(old, new) for old, new in both if new is not None and self._may_differ(old, new)]

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

    def spoken(self) -> Iterator[tuple[Element, Element]]:
        """Yield all that a comment can stand at, equal or not, as long as its name is the same."""
        yield from self.spoken_messages()
        for old, new in self.spoken_fields():
            if old.name == new.name:
                yield old, new
        yield from self.spoken_methods()
        for name, before in self.all_old.enums.items():
            after = self.all_new.enums.get(name)
            if after is not None:
                yield before, after
                for number, values in before.values.items():
                    for word, value in values.items():
                        if word in after.values.get(number, {}):
                            yield value, after.values[number][word]

    def spoken_messages(self) -> Iterator[tuple[Message, Message]]:
        """Yield the messages that are on both sides, equal or not: comments are not compared."""
        for name, old in self.all_old.messages.items():
            if name in self.all_new.messages:
                yield old, self.all_new.messages[name]

    def spoken_fields(self) -> Iterator[tuple[Field, Field]]:
        """Yield the fields of one number, equal or not."""
        for old_message, new_message in self.spoken_messages():
            for number, old in old_message.fields.items():
                if number in new_message.fields:
                    yield old, new_message.fields[number]

    def spoken_methods(self) -> Iterator[tuple[Method, Method]]:
        """Yield the methods that are on both sides, equal or not."""
        for name, old_service in self.all_old.services.items():
            new_service = self.all_new.services.get(name)
            for method, old in old_service.methods.items():
                if new_service is not None and method in new_service.methods:
                    yield old, new_service.methods[method]

    @cached_property
    def latest(self) -> Past:
        """What the old version used and reserved."""
        return past_of(self.all_old, self._label)

    def is_sent(self, message: str) -> bool:
        """Whether those who know the old version may send the message: not if it only answers."""
        return message in self._asked or message not in self._answered

    @cached_property
    def _asked(self) -> Collection[str]:
        """The messages that requests and events are made of."""
        methods = [
            one for service in self.all_new.services.values() for one in service.methods.values()
        ]
        events = [
            one.full_name
            for one in self.all_new.messages.values()
            if "topic" in declarations(one.comment)
        ]
        return _reach(self.all_new, [*(one.request for one in methods), *events])

    @cached_property
    def _answered(self) -> Collection[str]:
        """The messages that replies are made of."""
        services = self.all_new.services.values()
        return _reach(
            self.all_new, [one.reply for each in services for one in each.methods.values()]
        )


def _reach(schema: Schema, names: Sequence[str]) -> Collection[str]:
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        message = schema.messages_everywhere.get(name)
        if message is not None and name not in found:
            found.add(name)
            waiting += [one.type_name for one in message.fields.values() if one.type_name]
    return found


def _changed(old: Schema, new: Schema) -> Collection[str]:
    """Return the names of the files that differ, or are on one side alone."""
    names = old.files.keys() | new.files.keys()
    same = {
        name
        for name in old.files.keys() & new.files.keys()
        if old.files[name].proto == new.files[name].proto
    }
    return names - same
