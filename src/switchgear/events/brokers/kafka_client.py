"""What all connections to Kafka share: settings of librdkafka, its errors, names and headers.

CloudEvents' binding for Kafka names its headers `ce_id` where ours are `ce-id`; they are renamed on
the way, so that a consumer that is not ours finds what it expects.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from switchgear.errors import BrokerError, MissingExtra
from switchgear.events.brokers.port import BrokerUnavailable, TopicRefused
from switchgear.model.outcome import Reason, Unknown

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

__all__ = [
    "LOGGER",
    "KafkaSettings",
    "causes_of_silence",
    "failure",
    "headers_of",
    "import_kafka",
    "is_of_topic",
    "wire_headers",
]

_REMEMBERED: Final = 1_000

LOGGER: Final = logging.getLogger("switchgear.kafka")
_SAID_AGAIN: Final = 60.0
_VARYING: Final = re.compile(r"\(after [^)]*\)|\[[^\]]*\]")


class _Sparing(logging.Filter):
    """Lets a line of librdkafka pass once a minute: of an outage it writes several each second."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the line is to be written."""
        # times and counts differ from one to the next
        said = _VARYING.sub("", record.getMessage())
        if "enable.gapless.guarantee is experi" in said:
            return False  # a warning at the start of every producer that we ask it for this
        now = time.monotonic()
        if now - self._said.get(said, -_SAID_AGAIN) < _SAID_AGAIN:
            return False
        if len(self._said) >= _REMEMBERED:
            self._said.clear()
        self._said[said] = now
        return True


LOGGER.addFilter(_Sparing())


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """How to reach a cluster, and how names are written there."""

    client: Mapping[str, Any] = field(repr=False)
    """librdkafka's own settings, for every connection."""
    prefix: str = ""
    """Before the names of topics and groups."""
    protocol: str | None = None
    """`consumer` (KIP-848) or `classic`; None: the first that the broker has."""


def import_kafka() -> Any:
    """Return the module of the driver. Raises `MissingExtra`."""
    try:
        import confluent_kafka.admin  # noqa: PLC0415  an optional dependency
    except ImportError as error:
        raise MissingExtra("confluent-kafka", "kafka") from error
    return confluent_kafka


def is_of_topic(error: KafkaError) -> bool:
    """Tell whether what is wrong is wrong with one topic, and with nothing else."""
    codes = import_kafka().KafkaError
    return error.code() in {
        codes.UNKNOWN_TOPIC_OR_PART,
        codes._UNKNOWN_TOPIC,  # noqa: SLF001  its name
        codes.TOPIC_EXCEPTION,
        codes.TOPIC_AUTHORIZATION_FAILED,
    }


def failure(error: KafkaError, doing: str, topic: str | None = None) -> Exception:
    """Return what is raised for an error of librdkafka: away, perhaps done, or refused.

    `topic` is what was being published to or asked for, where it was one.
    """
    kafka = import_kafka()
    codes = kafka.KafkaError
    what = f"{doing}: {error.str()}"
    if error.code() in {codes._MSG_TIMED_OUT, codes._PURGE_INFLIGHT, codes._PURGE_QUEUE}:  # noqa: SLF001  their names
        return Unknown(f"Kafka did not confirm in time ({what})", reason=Reason.TIMEOUT)
    refused = {
        codes.UNKNOWN_TOPIC_OR_PART: (
            "Create the topic, or give `partitions` in the broker's URL to have it created."
        ),
        codes._UNKNOWN_TOPIC: (  # noqa: SLF001
            "Create the topic, or give `partitions` in the broker's URL to have it created."
        ),
        codes.TOPIC_EXCEPTION: "Rename the topic: letters and digits of ASCII and ._- are taken.",
        codes.TOPIC_AUTHORIZATION_FAILED: "Give this user the right to it (an ACL on the topic).",
        codes.GROUP_AUTHORIZATION_FAILED: "Give this user the right to it (an ACL on the group).",
        codes.CLUSTER_AUTHORIZATION_FAILED: "Give this user the right IdempotentWrite.",
        codes.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "Give this user the right to it.",
    }
    if error.code() == codes._AUTHENTICATION:  # noqa: SLF001
        return BrokerError(
            f"Kafka does not let this user in ({what}).",
            fix="Correct the user and password in the broker's URL, or its option sasl.",
        )
    if error.code() == codes.MSG_SIZE_TOO_LARGE:
        return BrokerError(
            f"an event is larger than the topic takes ({what}).",
            fix="Raise max.message.bytes of the topic, or publish a reference to the bulk.",
        )
    fix = refused.get(error.code())
    if fix is not None:
        if topic is not None and is_of_topic(error):
            return TopicRefused(topic, f"Kafka refuses {topic} ({what}).", fix=fix)
        return BrokerError(f"Kafka refuses it ({what}).", fix=fix)
    return BrokerUnavailable(f"Kafka cannot do it now ({what})")


def causes_of_silence() -> tuple[int, ...]:
    """Return the codes of errors that say why a broker does not answer, the most telling first."""
    codes = import_kafka().KafkaError
    return codes._AUTHENTICATION, codes._SSL, codes._RESOLVE, codes._TRANSPORT  # noqa: SLF001  their names


def wire_headers(headers: Mapping[str, str]) -> list[tuple[str, str | bytes | None]]:
    """Return our headers as Kafka's."""
    return [(_theirs[name], value.encode()) for name, value in headers.items()]


class _Names(dict[str, str]):
    """The other side's names of headers; there are few, and they come with every message."""

    def __init__(self, here: str, there: str) -> None:
        self._here = here
        self._there = there

    def __missing__(self, name: str) -> str:
        rest = name.removeprefix(self._here)
        other = name if rest == name else self._there + rest
        if len(self) < _REMEMBERED:
            self[name] = other
        return other


_ours = _Names("ce_", "ce-")
_theirs = _Names("ce-", "ce_")


def headers_of(message: Message) -> dict[str, str]:
    """Return a message's headers as ours; bytes that are no text are written as escapes."""
    found: Any = message.headers() or ()
    if isinstance(found, dict):
        found = found.items()
    try:
        return {_ours[name]: value.decode() for name, value in found}
    except (UnicodeDecodeError, AttributeError):  # no text, or no value at all
        return {_ours[name]: text(value) for name, value in found}


def text(value: bytes | str | None) -> str:
    """Return what is sent as bytes as a text, whatever it is."""
    return value if isinstance(value, str) else (value or b"").decode(errors="backslashreplace")
