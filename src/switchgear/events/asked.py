"""What subscriptions ask of a broker, and which brokers can: looked at before anything starts.

| asked for                                      | the broker has to                              |
| ---------------------------------------------- | ---------------------------------------------- |
| an event with a key                            | keep the order of a key (`ordered`)            |
| two subscriptions of a service to one topic    | let groups read independently (`groups`)       |
| `from_start=True`                              | have kept what was published before (`replay`) |
| `fresh_within=`                                | know the age of the oldest (`exact_lag`)       |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from switchgear.errors import BrokerError
from switchgear.events.brokers.port import Capabilities

__all__ = ["ABLE", "Asked", "AsksTooMuch", "Need", "check"]

Need: TypeAlias = Literal["ordered", "groups", "replay", "exact_lag"]

ABLE: Final[Mapping[Need, tuple[str, ...]]] = {
    "ordered": ("sqlite", "postgresql", "kafka", "nats", "amqp", "sqs"),
    "groups": ("sqlite", "postgresql", "kafka", "nats", "amqp", "sqs"),
    "replay": ("sqlite", "postgresql", "kafka", "nats"),
    "exact_lag": ("sqlite", "postgresql", "kafka", "nats", "amqp"),
}
"""The schemes of brokers that can; a test keeps it equal to what their adapters say."""


class AsksTooMuch(BrokerError):
    """A subscription asks for what the broker does not guarantee; nothing was started."""

    code = "SG621"


class Asked(NamedTuple):
    """What one subscription asks for."""

    consumer: str
    topics: Sequence[str]
    keyed: bool
    from_start: bool
    fresh_within: float | None


def check(asked: Sequence[Asked], capabilities: Capabilities) -> None:
    """Raise `AsksTooMuch` for the first subscription that asks for what the broker has not."""
    for consumer, need, why in _needs(asked):
        if not getattr(capabilities, need):
            able = ", ".join(f"{scheme}://" for scheme in ABLE[need])
            raise AsksTooMuch(
                f"{why}, and this broker does not.",
                where=consumer,
                fix=f"Do not ask for it, or use a broker that does: {able}.",
            )


def _needs(asked: Sequence[Asked]) -> Iterator[tuple[str, Need, str]]:
    heard = Counter(topic for one in asked for topic in one.topics)
    for one in asked:
        if one.keyed:
            yield (
                one.consumer,
                "ordered",
                "its events have a key, whose order the broker has to keep",
            )
        if any(heard[topic] > 1 for topic in one.topics):
            why = "another subscription hears the same topic, so each has to get every event"
            yield one.consumer, "groups", why
        if one.from_start:
            why = "from_start=True asks the broker to have kept what was published before"
            yield one.consumer, "replay", why
        if one.fresh_within is not None:
            why = "fresh_within= asks the broker to know how old the oldest event is"
            yield one.consumer, "exact_lag", why
