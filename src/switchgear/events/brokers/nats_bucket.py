"""The key-value bucket that holds the groups: read, and compared-and-swapped by revision.

It is a bucket like any other (ADR-8 of NATS), so `nats kv` shows it. Keys are `group.<group>` and
`position.<group>.=.<topic>.<number>`; a lone `=` is in no name, so no two groups share a key.
"""

from __future__ import annotations

import json
from urllib.parse import quote

from switchgear.errors import BrokerError
from switchgear.events.brokers.nats_client import NatsConnection, failure
from switchgear.events.brokers.port import BrokerUnavailable, Partition

__all__ = ["Bucket", "Outdated", "group_key", "position_key"]

_NOT_FOUND = 404
_CHANGED = {10071, 10164}


class Outdated(Exception):
    """Somebody else has changed the entry since it was read."""


def group_key(group: str) -> str:
    """Return the key of a group's roll."""
    return f"group.{_quoted(group)}"


def position_key(group: str, partition: Partition) -> str:
    """Return the key of a partition's position in a group."""
    return f"position.{_quoted(group)}.=.{partition.topic}.{partition.number}"


def _quoted(name: str) -> str:
    return quote(name, safe="").replace("%", "=")


class Bucket:
    """The bucket of all groups; created with its first use."""

    def __init__(self, connection: NatsConnection, *, replicas: int) -> None:
        self.name = f"{connection.settings.prefix.replace('.', '_')}switchgear"
        self._connection = connection
        self._replicas = replicas
        self._open = False

    def subject(self, key: str) -> str:
        """Return the subject to which changes of `key` are published."""
        return f"$KV.{self.name}.{key}"

    async def get(self, key: str) -> tuple[bytes | None, int]:
        """Return an entry and its revision; None and 0 if there is none."""
        await self._ensure()
        subject = f"$JS.API.DIRECT.GET.KV_{self.name}.{self.subject(key)}"
        found = await self._connection.request(subject)
        headers = found.headers or {}
        if headers.get("Status") == str(_NOT_FOUND):
            return None, 0
        if "Nats-Sequence" not in headers:
            raise BrokerUnavailable(f"NATS does not give the entry {key}: {headers}")
        value = None if "KV-Operation" in headers else found.data  # deleted: its marker is left
        return value, int(headers["Nats-Sequence"])

    async def put(self, key: str, value: bytes, revision: int, *, within: float) -> int:
        """Write an entry if it still has `revision`, and return the new one. Raises `Outdated`."""
        found = await self._connection.request(
            self.subject(key),
            value,
            headers={"Nats-Expected-Last-Subject-Sequence": str(revision)},
            within=within,
        )
        answer = json.loads(found.data)
        error = answer.get("error")
        if error is None:
            return int(answer["seq"])
        if error.get("err_code") in _CHANGED:
            raise Outdated
        raise failure(error, f"writing {key}")

    async def _ensure(self) -> None:
        if self._open:
            return
        stream = f"KV_{self.name}"
        found = await self._connection.ask(f"STREAM.INFO.{stream}")
        if found.get("error", {}).get("code") == _NOT_FOUND:
            wanted = {
                "name": stream,
                "description": "Consumer groups of Switchgear: who owns what, and how far it is.",
                "subjects": [f"$KV.{self.name}.>"],
                "max_msgs_per_subject": 1,
                "discard": "new",
                "storage": "file",
                "retention": "limits",
                "num_replicas": self._replicas,
                "allow_rollup_hdrs": True,
                "deny_delete": True,
                "allow_direct": True,
            }
            found = await self._connection.ask(f"STREAM.CREATE.{stream}", wanted)
        if "error" in found:
            raise failure(found["error"], f"opening the bucket {self.name}")
        if not found["config"].get("allow_direct"):
            raise BrokerError(
                f"the bucket {self.name} cannot be read directly.",
                fix="Set allow_direct on its stream.",
            )
        self._open = True
