"""What all connections to RabbitMQ share: how it is reached, its names, its errors, its headers.

CloudEvents' binding for AMQP names its properties `cloudEvents_id` where our headers are `ce-id`;
they are renamed on the way. The key has a header of its own, because routing keys are partitions.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote, urlencode

from switchgear.errors import BrokerError, MissingExtra
from switchgear.events.brokers.port import BrokerUnavailable, Delivery, Partition

if TYPE_CHECKING:
    from aiormq.abc import AbstractConnection, DeliveredMessage
    from aiormq.channel import Channel
    from pamqp.commands import Basic

__all__ = [
    "LOGGER",
    "RabbitSettings",
    "connect",
    "delivery_of",
    "import_aiormq",
    "open_channel",
    "properties_of",
    "talking",
]

LOGGER: Final = logging.getLogger("switchgear.rabbitmq")

ANSWER: Final = 10.0
"""Seconds within which RabbitMQ has to answer a request."""
_KEY: Final = "switchgear-key"
_PUBLISHED: Final = "timestamp_in_ms"
"""The name under which RabbitMQ's own interceptor writes it, which may replace ours."""
_CLOUD: Final = "cloudEvents_"
_CLOUD_OTHERS: Final = "cloudEvents:"
_SHORT: Final = 255
_NAME: Final = re.compile(r"[a-zA-Z0-9\-_.:@#,/+ ]{1,127}")
_PERSISTENT: Final = 2


@dataclass(frozen=True, slots=True)
class RabbitSettings:
    """How to reach a cluster, and how names are written there."""

    hosts: Sequence[tuple[str, int]]
    """Any of them is asked; the first that answers is used."""
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    vhost: str = "/"
    tls: bool = False
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    prefix: str = ""
    """Before the names of exchanges and queues."""
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    """Of the driver, in its URL."""

    def exchange(self, topic: str) -> str:
        """Return the name of a topic's exchange. Like all of these it raises `BrokerError`."""
        return _name(self.prefix + topic)

    def unheard(self, partitions: int) -> str:
        """Return the name of the exchange for what no group had asked for; it tells the number."""
        return f"{self.prefix}switchgear.unheard-of-{partitions}"

    def queue(self, group: str, partition: Partition) -> str:
        """Return the name of a group's queue of a partition."""
        return _name(f"{self.prefix}{group}/{partition.topic}/{partition.number}")

    def owner(self, group: str, partition: Partition) -> str:
        """Return the name of the queue that only the partition's owner can have."""
        return _name(self.queue(group, partition) + "/owner")

    def members(self, group: str) -> str:
        """Return the name of the exchange on which members hear of each other."""
        return _name(f"{self.prefix}{group}/members")

    def member(self, number: str) -> str:
        """Return the name of the queue that is a member."""
        return _name(f"{self.prefix}switchgear.member-{number}")

    def asker(self, number: str) -> str:
        """Return the name of the queue to which the lag is told."""
        return _name(f"{self.prefix}switchgear.asker-{number}")

    def context(self) -> ssl.SSLContext | None:
        """Return how TLS is spoken, if it is. Raises `BrokerError` for a file that is wrong."""
        if not self.tls:
            return None
        try:
            made = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                made.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise BrokerError(
                f"the certificates for RabbitMQ cannot be read: {error}.",
                fix="Correct `ca`, `certificate` and `key` in the broker's URL.",
            ) from error
        return made


@lru_cache(maxsize=4_096)
def _name(name: str) -> str:
    """Return `name`, if an exchange or a queue can have it."""
    if not _NAME.fullmatch(name):
        raise BrokerError(
            f"RabbitMQ cannot have the name {name}.",
            fix="Names of topics and groups have letters and digits of ASCII and -_.:@#,+ and "
            "spaces, and are together no longer than 100.",
        )
    return name


def import_aiormq() -> Any:
    """Return the module of the driver. Raises `MissingExtra`."""
    try:
        import aiormq  # noqa: PLC0415  an optional dependency
    except ImportError as error:
        raise MissingExtra("aiormq", "rabbitmq") from error
    return aiormq


async def connect(settings: RabbitSettings, name: str, *, heartbeat: int) -> AbstractConnection:
    """Open a connection, which RabbitMQ ends when it hears nothing for `heartbeat` seconds twice.

    Raises `BrokerUnavailable`, or `BrokerError` if it does not let us in.
    """
    aiormq = import_aiormq()
    _quieten()
    context = settings.context()
    hosts = list(settings.hosts)
    random.shuffle(hosts)
    transport = await _reach(hosts, context)
    host, port = hosts[0]
    login = f"{quote(settings.user, safe='')}:{quote(settings.password, safe='')}"
    query = settings.options | {"heartbeat": heartbeat, "name": name}
    url = f"amqp://{login}@{_bracketed(host)}:{port}/{quote(settings.vhost, safe='')}"
    try:
        async with talking("connecting"):
            connection: AbstractConnection = await aiormq.connect(
                f"{url}?{urlencode(query)}", transport_factory=_Given(*transport)
            )
            return connection
    except BrokerError as error:
        # what RabbitMQ says of it is lost on the way
        if "OpenOk" in str(error):
            raise BrokerError(
                f"RabbitMQ does not let {settings.user} into the virtual host {settings.vhost}.",
                fix="Create the virtual host, or give the user rights on it.",
            ) from error
        raise


async def open_channel(connection: AbstractConnection, *, confirms: bool = False) -> Channel:
    """Open a channel. Raises `BrokerUnavailable`."""
    if connection.is_closed:
        raise BrokerUnavailable("the connection to RabbitMQ was lost")
    async with talking("opening a channel"):
        opened = await connection.channel(publisher_confirms=confirms, on_return_raises=False)
    return cast("Channel", opened)


@asynccontextmanager
async def talking(doing: str, *, within: float = ANSWER) -> AsyncIterator[None]:
    """Raise our errors for those of the driver, and `BrokerUnavailable` without an answer.

    What waits for an answer when the connection ends is cancelled by the driver: if nobody
    cancelled the task itself, the connection was lost.
    """
    aiormq = import_aiormq()
    ours = _OURS.set(True)
    try:
        async with asyncio.timeout(within):
            yield
    except TimeoutError as error:
        raise BrokerUnavailable(f"{doing}: RabbitMQ does not answer", cause=error) from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        lost = f"{doing}: the connection to RabbitMQ was lost"
        raise BrokerUnavailable(lost, cause=error) from error
    except (aiormq.exceptions.AMQPError, RuntimeError) as error:
        # the driver's errors of what is closed, and of an end in the middle of a greeting, are
        # RuntimeErrors
        raise _failure(error, doing) from error
    except OSError as error:
        raise BrokerUnavailable(f"{doing}: {error}", cause=error) from error
    finally:
        _OURS.reset(ours)


def properties_of(key: str | None, headers: Mapping[str, str], at: float) -> dict[str, Any]:
    """Return the properties of a message, as `Basic.Properties` takes them."""
    table: dict[str, Any] = {_PUBLISHED: int(at * 1000)}
    if key is not None:
        table[_KEY] = key
    content = None
    for name, value in headers.items():
        if name == "content-type" and len(value.encode()) <= _SHORT:
            content = value
        elif name.startswith("ce-"):
            table[_CLOUD + name[3:]] = value
        else:
            table[name] = value
    return {"delivery_mode": _PERSISTENT, "content_type": content, "headers": table}


def delivery_of(partition: Partition, offset: int, message: DeliveredMessage) -> Delivery:
    """Return a message as the port's delivery, whoever wrote it."""
    properties: Basic.Properties = message.header.properties
    table = dict(properties.headers or {})
    key = table.pop(_KEY, None)
    at = table.pop(_PUBLISHED, None)
    if isinstance(at, int):
        published = at / 1000
    else:
        published = properties.timestamp.timestamp() if properties.timestamp is not None else 0.0
    headers = {_ours(name): _text(value) for name, value in table.items()}
    if properties.content_type:
        headers["content-type"] = properties.content_type
    return Delivery(
        partition, offset, None if key is None else _text(key), headers, message.body, published
    )


def _ours(name: str) -> str:
    for cloud in (_CLOUD, _CLOUD_OTHERS):
        if name.startswith(cloud):
            return f"ce-{name[len(cloud) :]}"
    return name


def _text(value: object) -> str:
    """Return a header's value as a text; bytes that are none are written as escapes."""
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode(errors="backslashreplace")
    return "" if value is None else str(value)


def _failure(error: Exception, doing: str) -> Exception:
    """Return what is raised for an error of the driver: away, or refused."""
    known = import_aiormq().exceptions
    what = f"{doing}: {_reason(error)}"
    if isinstance(error, known.ChannelPreconditionFailed) and "message size" in what:
        return BrokerError(
            f"an event is larger than RabbitMQ takes ({what}).",
            fix="Raise its max_message_size, or publish a reference to the bulk.",
        )
    refused = {
        known.ProbableAuthenticationError: (
            "does not let this user in: authentication failed",
            "Correct user and password in the broker's URL.",
        ),
        known.AuthenticationError: (
            "has no such way to prove who one is",
            "Correct `auth` in [broker.options], or what RabbitMQ offers.",
        ),
        known.ChannelAccessRefused: (
            "refuses it",
            "Give this user the rights configure, write and read on the names that it uses.",
        ),
        known.ChannelPreconditionFailed: (
            "has it in another way",
            "Give the broker's URL the options of what exists, or delete what exists.",
        ),
        known.ChannelNotFoundEntity: (
            "does not have it",
            "It is declared at the next start; if it was deleted on purpose, start again.",
        ),
        known.InvalidFrameError: ("answered strangely", "Look into its log."),
    }
    for kind, (says, fix) in refused.items():
        if isinstance(error, kind):
            return BrokerError(f"RabbitMQ {says} ({what}).", fix=fix)
    return BrokerUnavailable(what, cause=error)


def _reason(error: Exception) -> str:
    return " ".join(str(one) for one in error.args if one) or type(error).__name__


async def _reach(
    hosts: list[tuple[str, int]], context: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the first host that answers, which is then the first of `hosts`."""
    failed: Exception | None = None
    for index, (host, port) in enumerate(hosts):
        try:
            async with asyncio.timeout(ANSWER):
                found = await asyncio.open_connection(host, port, ssl=context)
        except (OSError, TimeoutError) as error:
            failed = error
            continue
        hosts[0], hosts[index] = hosts[index], hosts[0]
        return found
    names = ", ".join(f"{host}:{port}" for host, port in hosts)
    raise BrokerUnavailable(f"RabbitMQ at {names}: {failed}", cause=failed)


class _Given:
    """A transport that is connected already. The driver's own writes an error into the log."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._streams = reader, writer

    async def create(self, *_: object, **__: object) -> Any:
        return self._streams


_OURS: ContextVar[bool] = ContextVar("switchgear-rabbitmq", default=False)
"""Whether what runs was begun by a connection of ours."""


def _quieten() -> None:
    """Keep the driver from writing tracebacks for what is raised to us; other users' are theirs."""
    for name in ("aiormq.connection", "aiormq.channel", "aiormq.marshall"):
        logger = logging.getLogger(name)
        if _is_foreign not in logger.filters:
            logger.addFilter(_is_foreign)


def _is_foreign(_: logging.LogRecord) -> bool:
    return not _OURS.get()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
