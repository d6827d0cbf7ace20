"""The AsyncAPI 3.0 document of events: topics, what is published to them, and what orders it."""

from __future__ import annotations

from typing import Final

from switchgear.contract.docs import type_doc
from switchgear.contract.event import EventContract
from switchgear.contract.schemas import Json, Names

__all__ = ["asyncapi"]

_TEXT: Final[Json] = {"type": "string"}
_HEADERS: Final[Json] = {
    "type": "object",
    "description": "The attributes of CloudEvents 1.0, in binary mode.",
    "properties": {
        "ce-specversion": {"const": "1.0"},
        "ce-id": {**_TEXT, "description": "Unique within ce-source; the same in every copy."},
        "ce-type": _TEXT,
        "ce-source": _TEXT,
        "ce-time": {**_TEXT, "format": "date-time"},
        "ce-partitionkey": {**_TEXT, "description": "What orders it."},
        "ce-correlationid": _TEXT,
        "ce-causationid": _TEXT,
        "ce-expirytime": {**_TEXT, "format": "date-time"},
        "traceparent": _TEXT,
        "tracestate": _TEXT,
    },
    "required": ["ce-specversion", "ce-id", "ce-type", "ce-source"],
}


def asyncapi(*events: EventContract, title: str, version: str) -> Json:
    """Return the document that describes `events` as whoever publishes them sends them.

    Each topic is a channel, and each event one of its messages. `x-switchgear-key` names the field
    that orders an event; events without it are declared as unordered.
    """
    names = Names([one.message for one in events])
    channels: dict[str, Json] = {}
    operations: dict[str, Json] = {}
    messages: dict[str, Json] = {}
    for one in sorted(events, key=lambda event: event.type):
        channel = channels.setdefault(one.topic, {"address": one.topic, "messages": {}})
        channel["messages"][one.message.__name__] = {"$ref": f"#/components/messages/{one.type}"}
        messages[one.type] = _message(one, names)
    for topic, channel in channels.items():
        operations[f"publish.{topic}"] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{_escaped(topic)}"},
            "messages": [
                {"$ref": f"#/channels/{_escaped(topic)}/messages/{name}"}
                for name in channel["messages"]
            ],
        }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": title, "version": version},
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": names.schemas(),
            "messageTraits": {"cloudevent": {"headers": _HEADERS}},
        },
    }


def _message(event: EventContract, names: Names) -> Json:
    made: Json = {"name": event.type, "title": event.message.__name__}
    doc = type_doc(event.message)
    if doc:
        made["summary"] = doc.splitlines()[0]
        made["description"] = doc
    if event.key is not None:
        made["x-switchgear-key"] = event.key
    made["traits"] = [{"$ref": "#/components/messageTraits/cloudevent"}]
    return {**made, "payload": names.ref(event.message)}


def _escaped(topic: str) -> str:
    """Return a topic as one token of a JSON pointer."""
    return topic.replace("~", "~0").replace("/", "~1")
