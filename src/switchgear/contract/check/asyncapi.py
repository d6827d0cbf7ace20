"""Two AsyncAPI documents: what producers and consumers of events rely on.

| compatibility | who reads what | upgrade first |
| --- | --- | --- |
| BACKWARD | new consumers read what old producers have published | consumers |
| FORWARD | old consumers read what new producers publish | producers |
| FULL | both | any |

With `_TRANSITIVE` that holds for every earlier version, not for the last one alone. AsyncAPI 2 and
3 are read; an event is known by the address of its channel and its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from switchgear.contract.check.documents import Document
from switchgear.contract.check.finding import Found
from switchgear.contract.check.jsonschema import Direction, SchemaDiff
from switchgear.contract.check.refs import Node
from switchgear.errors import UnreadableContract

__all__ = ["COMPATIBILITY", "compare_asyncapi", "is_asyncapi"]

COMPATIBILITY: Final = tuple(
    f"{one}{transitive}"
    for one in ("BACKWARD", "FORWARD", "FULL")
    for transitive in ("", "_TRANSITIVE")
)
_BACKWARD: Final = (
    "new consumers, which cannot read what was published before: producers upgrade first, and what "
    "is in the log is worked off before consumers do"
)
_FORWARD: Final = "old consumers, which cannot read what is published now: consumers upgrade first"


@dataclass(frozen=True, slots=True)
class _Event:
    address: str
    name: str
    node: Node
    content_type: str

    @property
    def key(self) -> str:
        """The field that orders it."""
        stated = self.node["x-switchgear-key"].value
        return stated if isinstance(stated, str) else ""


def is_asyncapi(document: Document) -> bool:
    """Whether a document says that it is AsyncAPI."""
    return bool(Node.root(document).text("asyncapi"))


def compare_asyncapi(
    old: Document, new: Document, compatibility: str
) -> Iterator[tuple[str, Found]]:
    """Yield rule and finding for each change that breaks the compatibility asked for."""
    before, after = _events(old), _events(new)
    mode = compatibility.removesuffix("_TRANSITIVE")
    for key, event in before.items():
        now = after.get(key)
        if now is None:
            yield _gone(event, after, Node.root(new))
            continue
        label = f"{event.address} {event.name}"
        if event.key != now.key:
            yield (
                "EVENT_KEY_CHANGED",
                Found(
                    f"{label} is ordered by {now.key or 'nothing'} instead of "
                    f"{event.key or 'nothing'}.",
                    "Put the key back, and publish a new event beside it until the last consumer "
                    "has moved.",
                    now.node.place,
                    label,
                    breaks="consumers that rely on the order of its events",
                ),
            )
        if event.content_type != now.content_type:
            yield (
                "EVENT_SAME_CONTENT_TYPE",
                Found(
                    f"{label} is written as {now.content_type} instead of {event.content_type}.",
                    f"Write it as {event.content_type} again.",
                    now.node.place,
                    label,
                    breaks="consumers of the event",
                ),
            )
        if mode in {"BACKWARD", "FULL"}:
            yield from _compared(event, now, label, Direction.TAKEN)
        if mode in {"FORWARD", "FULL"}:
            yield from _compared(event, now, label, Direction.GIVEN)


def _compared(
    old: _Event, new: _Event, label: str, direction: Direction
) -> Iterator[tuple[str, Found]]:
    backward = direction is Direction.TAKEN
    prefix = "EVENT_BACKWARD" if backward else "EVENT_FORWARD"
    breaks = _BACKWARD if backward else _FORWARD
    for part in ("payload", "headers"):
        if old.node[part] and new.node[part]:
            diff = SchemaDiff(direction, prefix)
            for rule, found in diff.compare(old.node[part], new.node[part], f"{label} {part}"):
                yield rule, replace(found, breaks=breaks)


def _gone(event: _Event, after: dict[tuple[str, str], _Event], root: Node) -> tuple[str, Found]:
    label = f"{event.address} {event.name}"
    moved = next((one for one in after.values() if one.name == event.name), None)
    if moved is not None:
        message = f"{event.name} is published to {moved.address} instead of {event.address}."
        edit = "Publish it to both until the last consumer has moved."
        rule, place = "EVENT_TOPIC_CHANGED", moved.node.place
    else:
        message = f"{label} was deleted."
        edit = "Put it back and mark it as deprecated until nobody consumes it."
        rule, place = "EVENT_NO_DELETE", root["channels"].place
    return rule, Found(message, edit, place, label, breaks="consumers of the event")


def _events(document: Document) -> dict[tuple[str, str], _Event]:
    root = Node.root(document)
    version = root.text("asyncapi")
    if not version.startswith(("2.", "3.")):
        raise UnreadableContract(
            f"The version of AsyncAPI is {version or 'not stated'}.",
            where=document.name,
            fix="2 and 3 are read.",
        )
    default = root.text("defaultContentType") or "application/json"
    found: dict[tuple[str, str], _Event] = {}
    for name, channel in root["channels"].items():
        address = channel.text("address") or name
        for key, message in _messages(channel):
            told = message.text("name") or key
            media = message.text("contentType") or default
            found[address, told] = _Event(address, told, message, media)
    return found


def _messages(channel: Node) -> Iterator[tuple[str, Node]]:
    yield from channel["messages"].items()
    for verb in ("publish", "subscribe"):
        message = channel[verb]["message"]
        several = list(message["oneOf"].elements())
        for index, one in enumerate(several or ([message] if message else [])):
            yield one.text("title") or f"{verb} {index}", one
