"""What a service consumes of others, recorded while its tests run.

    with consuming() as seen:
        ...  # tests, with clients of the services that it calls
    write_consumer(Path("consumers/web.toml"), Consumer("web", "2.3", tuple(seen.names)))

`switchgear contract check --consumers` then says whom a change hits. Recorded is

| what | as |
| --- | --- |
| an operation that is called | `shop.orders.v1.Orders.Place`, `POST /v1/orders` |
| a field of a request that says something | `shop.orders.v1.PlaceOrder.sku` |
| a field that is read of a reply, or of a delivered event | `shop.orders.v1.Accepted.id` |
| a reply that is compared as a whole, or written on in protobuf | `shop.orders.v1.Accepted` |
| a refusal that is met | `shop.orders.v1.OutOfStock` |

What the library itself reads does not count, nor what the service under test reads of requests: it
owns those. A reply that is written on as JSON is not seen, because nothing in Python reads it.

While somebody records, the classes of messages that crossed a client have another
`__getattribute__`; otherwise nothing costs anything.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from switchgear.call.core import Asked, Core, Replies
from switchgear.contract.declaration import fields_of, full_name, reach
from switchgear.contract.message import Message
from switchgear.contract.openapi import told_path
from switchgear.contract.refusal import Refusal
from switchgear.contract.service import Operation

__all__ = ["Consumed", "consuming", "delivered"]

_MOST: Final = 50_000
"""Replies that are watched at once; the oldest are forgotten first."""
_OURS: Final = "switchgear."


class Consumed:
    """What has been called, sent and read."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        """Full names, as `consumes` lists them."""
        self._watched: OrderedDict[int, Message] = OrderedDict()
        self._events: set[type[Message]] = set()

    def called(self, operation: Operation, request: Asked) -> None:
        """Take down a call."""
        service = operation.full_name.partition("/")[0]
        self.names.add(f"{service}.{operation.rpc_name}")
        for route in operation.routes:
            self.names.add(f"{route.method} {told_path(route.template)}")
        if isinstance(request, Message):
            self._sent(request)

    def _sent(self, message: Message) -> None:
        for field in fields_of(type(message)).values():
            value = getattr(message, field.name)
            if value is None or (field.has_default and value == field.absent()):
                continue
            self.names.add(f"{full_name(type(message))}.{field.wire}")
            for one in _messages(value):
                self._sent(one)

    def refused(self, refusal: BaseException) -> None:
        """Take down a refusal that the contract declares."""
        if isinstance(refusal, Refusal):
            self.names.add(refusal.full_name)

    def watch(self, value: object) -> None:
        """Take down what will be read of a reply, and of the messages in it."""
        for one in _messages(value):
            _hook(type(one))
            self._watched[id(one)] = one
            if len(self._watched) > _MOST:
                self._watched.popitem(last=False)

    def events(self, cls: type[Message]) -> None:
        """Take down what is read of events of a class."""
        _hook(cls)
        self._events.add(cls)

    def read(self, message: Message, name: str, value: object, reader: str | None) -> None:
        """Take down that a field was read, if the message is one that is watched."""
        cls = type(message)
        if self._watched.get(id(message)) is not message and cls not in self._events:
            return
        if reader is None:  # what is generated to write it on
            self.names.add(full_name(cls))
        elif not reader.startswith(_OURS):
            self.names.add(f"{full_name(cls)}.{fields_of(cls)[name].wire}")
            self.watch(value)

    def compared(self, message: Message) -> None:
        """Take down that all of a message was looked at."""
        if self._watched.get(id(message)) is message:
            self.names.add(full_name(type(message)))


_recording: Final[list[Consumed]] = []
_hooked: Final[dict[type[Message], dict[str, Any]]] = {}
"""What each class had of its own in the place of what watches it."""
_WATCHING: Final = ("__getattribute__", "__eq__")


@contextmanager
def consuming() -> Iterator[Consumed]:
    """Record what is consumed until the block ends; several may record at once."""
    seen = Consumed()
    _recording.append(seen)
    if len(_recording) == 1:
        Core.call, Core.stream = _call, _stream  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        _recording.remove(seen)
        if not _recording:
            Core.call, Core.stream = _CALL, _STREAM  # type: ignore[method-assign]
            for cls, own in _hooked.items():
                for name in _WATCHING:
                    delattr(cls, name)
                for name, value in own.items():
                    setattr(cls, name, value)
            _hooked.clear()


def delivered(cls: type[Message]) -> None:
    """Say that events of a class reach the service under test."""
    for seen in _recording:
        seen.events(cls)


_CALL: Final = Core.call
_STREAM: Final = Core.stream


async def _call(self: Core, name: str, request: Asked, *args: Any, **kwargs: Any) -> Any:
    for seen in _recording:
        seen.called(self.lines[name].operation, request)
    try:
        answer = await _CALL(self, name, request, *args, **kwargs)
    except Refusal as refusal:
        for seen in _recording:
            seen.refused(refusal)
        raise
    for seen in _recording:
        seen.watch(answer.value)
    return answer


async def _stream(self: Core, name: str, request: Asked) -> Replies:
    for seen in _recording:
        seen.called(self.lines[name].operation, request)
    replies = _STREAM(self, name, request)
    try:
        async for reply in replies:
            for seen in _recording:
                seen.watch(reply)
            yield reply
    except Refusal as refusal:
        for seen in _recording:
            seen.refused(refusal)
        raise
    finally:
        await replies.aclose()


def _hook(cls: type[Message]) -> None:
    for one in reach(cls) if cls not in _hooked else ():
        if issubclass(one, Message) and one not in _hooked:
            _hooked[one] = {name: vars(one)[name] for name in _WATCHING if name in vars(one)}
            _install(one)


def _install(cls: type[Message]) -> None:
    names = frozenset(fields_of(cls))
    equal = cls.__eq__

    def read(self: Message, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if name in names:
            reader = sys._getframe(1).f_globals.get("__name__")  # noqa: SLF001 - who reads
            for seen in _recording:
                seen.read(self, name, value, reader)
        return value

    def compare(self: Message, other: object) -> Any:
        for seen in _recording:
            for one in (self, other):
                if isinstance(one, Message):
                    seen.compared(one)
        return equal(self, other)

    cls.__getattribute__ = read  # type: ignore[assignment, method-assign]
    cls.__eq__ = compare  # type: ignore[assignment, method-assign]


def _messages(value: object) -> Iterator[Message]:
    """Yield the messages that a value is, or holds."""
    if isinstance(value, Message):
        yield value
    elif isinstance(value, list | tuple):
        yield from (one for one in value if isinstance(one, Message))
    elif isinstance(value, dict):
        yield from (one for one in value.values() if isinstance(one, Message))
