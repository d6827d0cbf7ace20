"""What is compared with what.

Files are paired by path, messages, enumerations and services by full name wherever they stand,
fields and extensions by number, methods by name. Pairs that are equal to the byte are left out:
almost all of them, in almost every change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import cached_property

from switchgear.contract.check.past import used_by
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
from switchgear.contract.history import Past, Used

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
        self.label = label
        """What the old version is called."""
        self._same_text: dict[tuple[str, str], bool] = {}
        self._uses: dict[str, Used] = {}
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
        return self._may_differ_around(old, new) or bool(old.proto != new.proto)

    def _may_differ_around(self, old: Message, new: Message) -> bool:
        """Whether equal descriptors may mean different things."""
        if self._moved_zero or old.features != new.features or old.file.syntax != new.file.syntax:
            return True
        before, after = old.file.proto, new.file.proto
        return bool(before.options != after.options)  # the UTF-8 check of Java, say

    def fields(self) -> Iterator[tuple[Field, Field]]:
        """Yield the fields of one number that may differ, in messages and as extensions."""
        return iter(self._fields)

    @cached_property
    def _fields(self) -> Sequence[tuple[Field, Field]]:
        """The pairs of fields, which even more rules ask for."""
        found = []
        for old_message, new_message in self._messages:
            around = self._may_differ_around(old_message, new_message)
            for number, old in old_message.fields.items():
                new = new_message.fields.get(number)
                if new is not None and (around or _may_differ(old, new)):
                    found.append((old, new))
        for key, old in self.old.extensions.items():
            new = self.new.extensions.get(key)
            if new is not None:
                found.append((old, new))
        return found

    def moved_extensions(self) -> Iterator[tuple[Field, Field]]:
        """Yield the extensions of one message that have one name, and another number."""
        news = {(one.extendee, one.full_name): one for one in self.new.extensions.values()}
        for old in self.old.extensions.values():
            new = news.get((old.extendee, old.full_name))
            if new is not None and new.number != old.number:
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

    def expected_fields(self) -> Iterator[tuple[Field, Field]]:
        """Yield the fields of which the one or the other may be asked for.

        Of a contract in Python no descriptor says it, so fields that are equal are among them.
        """
        files = (*self.all_old.files.values(), *self.all_new.files.values())
        if any(one.expected is not None for one in files):
            yield from (pair for both in self._both_messages() for pair in _by_number(*both))
        else:
            yield from ((old, new) for old, new in self._fields if not old.extendee)

    def spoken(self) -> Iterator[tuple[Element, Element]]:
        """Yield what may be commented otherwise, as long as its name is the same."""
        yield from self.spoken_messages()
        for old, new in self.spoken_fields():
            if old.name == new.name:
                yield old, new
        yield from self.spoken_methods()
        for name, before in self.all_old.enums.items():
            after = self.all_new.enums.get(name)
            if after is None:
                continue
            pairs: list[tuple[Element, Element]] = [(before, after)]
            for number, values in before.values.items():
                known = after.values.get(number, {})
                pairs += [(one, known[word]) for word, one in values.items() if word in known]
            yield from (pair for pair in pairs if self._may_say_else(*pair))

    def spoken_messages(self) -> Iterator[tuple[Message, Message]]:
        """Yield the messages that may be commented otherwise, equal or not."""
        return iter(self._spoken_messages)

    @cached_property
    def _spoken_messages(self) -> Sequence[tuple[Message, Message]]:
        return [pair for pair in self._both_messages() if self._may_say_else(*pair)]

    def spoken_fields(self) -> Iterator[tuple[Field, Field]]:
        """Yield the fields of one number that may be commented otherwise, equal or not."""
        return iter(self._spoken_fields)

    @cached_property
    def _spoken_fields(self) -> Sequence[tuple[Field, Field]]:
        return [
            pair
            for old, new in self._both_messages()
            if self._may_say_else(old, new) or _order(old) != _order(new)
            for pair in _by_number(old, new)
            if self._may_say_else(*pair)
        ]

    def spoken_methods(self) -> Iterator[tuple[Method, Method]]:
        """Yield the methods that may be commented otherwise, equal or not."""
        for name, old_service in self.all_old.services.items():
            new_service = self.all_new.services.get(name)
            for method, old in old_service.methods.items():
                if new_service is not None and method in new_service.methods:
                    new = new_service.methods[method]
                    if self._may_say_else(old, new):
                        yield old, new

    def _both_messages(self) -> Iterator[tuple[Message, Message]]:
        for name, old in self.all_old.messages.items():
            if name in self.all_new.messages:
                yield old, self.all_new.messages[name]

    def _may_say_else(self, old: Element, new: Element) -> bool:
        """Whether two elements may have other comments: not at one path of texts that say one."""
        if old.path != new.path:
            return True
        key = (old.file.name, new.file.name)
        if key not in self._same_text:
            self._same_text[key] = old.file.text.says_the_same(new.file.text)
        return not self._same_text[key]

    def news(self) -> Iterator[tuple[Message, Used]]:
        """Yield the messages of which history is asked, with what the version before used.

        Where there is no earlier version, those that are as they were have nothing to tell.
        """
        for old, new in self._both_messages() if self.past else self._messages:
            if not new.is_map_entry:
                yield new, self._used(old)

    def enum_news(self) -> Iterator[tuple[Enum, Used]]:
        """Yield the enumerations of which history is asked; see `news`."""
        side = (self.all_old, self.all_new) if self.past else (self.old, self.new)
        for name, old in side[0].enums.items():
            if name in side[1].enums:
                yield side[1].enums[name], self._used(old)

    def _used(self, element: Message | Enum) -> Used:
        """Return what a message or enumeration of the old version used, looked at once."""
        if element.full_name not in self._uses:
            self._uses[element.full_name] = used_by(element)
        return self._uses[element.full_name]

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
            held = (one.type_name for one in message.proto.field)
            waiting += [one.removeprefix(".") for one in held if one]
    return found


def _may_differ(old: Field, new: Field) -> bool:
    """Whether two fields of messages with the same features may differ.

    What a descriptor only points to is compared too: the oneof, the entry of a map, the enumeration
    that a default is a value of.
    """
    if old.proto != new.proto or old.is_map != new.is_map or old.oneof != new.oneof:
        return True
    return old.proto.HasField("default_value") and bool(old.type_name)


def _by_number(old: Message, new: Message) -> Iterator[tuple[Field, Field]]:
    for number, before in old.fields.items():
        if number in new.fields:
            yield before, new.fields[number]


def _order(message: Message) -> list[int]:
    return [one.number for one in message.proto.field]


def _changed(old: Schema, new: Schema) -> Collection[str]:
    """Return the names of the files that differ, or are on one side alone."""
    names = old.files.keys() | new.files.keys()
    same = {
        name
        for name in old.files.keys() & new.files.keys()
        if old.files[name].proto == new.files[name].proto
    }
    return names - same
