"""The port to a broker: a partitioned log that consumer groups read.

What every adapter keeps:

- `publish` returns once the records are durable. Records of one key, published one after the other,
  are read in that order: key to partition is `partition_of`, the same hash on every broker.
- A group's partitions are split over its subscriptions; one partition has one owner at a time. An
  owner that has lost a partition (`lost`, or `LeaseLost` from `commit`) can no longer commit it.
- A position is the offset of the next record to read. `commit` says that everything below is done;
  a new owner starts there. Offsets grow along a partition and may have gaps.

A broker that acknowledges records one by one keeps the same shape: its adapter numbers deliveries
and acknowledges all below the committed number.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

from switchgear.errors import BrokerError
from switchgear.model.outcome import Reason, Unavailable

__all__ = [
    "Broker",
    "BrokerUnavailable",
    "Capabilities",
    "Declaring",
    "Delivery",
    "Lag",
    "LeaseLost",
    "Limiting",
    "Partition",
    "Polled",
    "Record",
    "RecordTooLarge",
    "Subscription",
    "TopicRefused",
    "UnsupportedBroker",
]


class BrokerUnavailable(Unavailable):
    """The broker could not be reached or was busy, and nothing was published or committed."""

    code = "SG601"

    def __init__(
        self, what: str, *, retry_after: float | None = 1.0, cause: BaseException | None = None
    ) -> None:
        super().__init__(what, reason=Reason.NOT_EXECUTED, retry_after=retry_after, cause=cause)


class LeaseLost(BrokerError):
    """Partitions were given to another member of the group: what was to be committed is not."""

    code = "SG602"

    def __init__(self, group: str, partitions: Collection[Partition]) -> None:
        names = ", ".join(sorted(str(partition) for partition in partitions))
        super().__init__(f"{group} no longer owns {names}.")
        self.partitions = frozenset(partitions)


class RecordTooLarge(BrokerError):
    """A record is over the size that the broker takes; a `limit` of None: it does not say which."""

    code = "SG603"

    def __init__(self, topic: str, size: int, limit: int | None) -> None:
        takes = (
            "that is larger than the topic takes" if limit is None else f"the broker takes {limit}"
        )
        super().__init__(
            f"an event for {topic} has {size} bytes, and {takes}.",
            fix="Put the bulk elsewhere and publish a reference to it.",
        )
        self.topic = topic


class TopicRefused(BrokerError):
    """A topic is not there, not this user's to write, or not as it has to be; others may be fine.

    A `fix` that has been made counts from the next publish on.
    """

    code = "SG606"

    def __init__(self, topic: str, what: str, *, fix: str | None = None) -> None:
        super().__init__(what, fix=fix)
        self.topic = topic

    @classmethod
    def of(cls, topic: str, error: BrokerError) -> TopicRefused:
        """Return `error` as one of this topic alone."""
        return error if isinstance(error, cls) else cls(topic, error.what, fix=error.fix)


class UnsupportedBroker(BrokerError):
    """A broker URL has a scheme that no adapter serves."""

    code = "SG604"


class Partition(NamedTuple):
    """One ordered part of a topic."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.number}]"


@dataclass(frozen=True, slots=True)
class Record:
    """What is published. Records without a key are spread over the partitions."""

    topic: str
    key: str | None
    headers: Mapping[str, str]
    value: bytes


class Delivery(NamedTuple):
    """What is received: a record at its place in the log."""

    partition: Partition
    offset: int
    key: str | None
    headers: Mapping[str, str]
    value: bytes
    published: float
    """When the broker took it, in Unix seconds of the broker's clock."""


@dataclass(frozen=True, slots=True)
class Polled:
    """What one poll brought: changes of ownership first, then records."""

    assigned: Mapping[Partition, int] = field(default_factory=dict)
    """Partitions now owned, with the position to read from."""
    revoking: frozenset[Partition] = frozenset()
    """Partitions another member waits for: finish what runs, commit, then `release` them."""
    lost: frozenset[Partition] = frozenset()
    """Partitions that are already another member's: abandon what runs."""
    deliveries: Sequence[Delivery] = ()


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a group is behind the end of its topics."""

    events: int
    oldest: float | None
    """Age in seconds of the oldest event that is not committed; None if there is none, or if the
    broker does not know (`Capabilities.exact_lag`)."""
    silent: frozenset[Partition] = frozenset()
    """Partitions of which the broker tells nothing at present: they are not in the numbers, and
    nobody can read them."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a broker guarantees; a subscription that asks for more is refused at start-up."""

    durable: bool
    """`publish` returns only once the records survive a crash."""
    ordered: bool
    """Records of one key are read in the order in which they were published."""
    groups: bool
    """Independent groups each read everything."""
    replay: bool
    """A new group reads from the oldest record that is kept. Otherwise it reads what is published
    after its first `subscribe` returned."""
    exact_lag: bool
    """`lag` is the truth, with the age of the oldest. Otherwise it is the broker's estimate."""
    retention: float | None
    """Seconds for which a record is kept after it was read; None: for ever, or as topics say."""
    max_bytes: int | None
    """Largest record, headers and value together; None: no limit."""
    partitions: bool = True
    """A topic has a fixed number of partitions, and members own them for longer than a record.
    Otherwise every key is a partition of its own, owned while records of it are out: any member may
    get the key's next record, once those before it are committed."""


class Subscription(Protocol):
    """One member of a group."""

    async def poll(self, limit: int, wait: float) -> Polled:
        """Return changes of ownership and at most `limit` records.

        Waits up to `wait` seconds if there is nothing to tell. With a `limit` of 0 only changes of
        ownership are told.
        """
        ...

    def owns(self, partition: Partition) -> bool:
        """Tell whether the lease on `partition` is certainly still held. Does not wait."""
        ...

    async def commit(self, positions: Mapping[Partition, int]) -> None:
        """Record durably that all below these positions is done.

        Raises `LeaseLost` naming the partitions that are another member's by now; the others are
        committed all the same.
        """
        ...

    def pause(self, partitions: Collection[Partition]) -> None:
        """Deliver nothing from `partitions` for now; ownership is kept."""
        ...

    def resume(self, partitions: Collection[Partition]) -> None:
        """Deliver from `partitions` again, from where they were paused."""
        ...

    async def release(self, partitions: Collection[Partition]) -> None:
        """Give `partitions` up, so that another member can take them at once."""
        ...

    async def close(self) -> None:
        """Leave the group and give everything up at once."""
        ...


class Broker(Protocol):
    """A connection to a broker; one per process is enough."""

    @property
    def capabilities(self) -> Capabilities:
        """What this broker guarantees."""
        ...

    async def publish(self, records: Sequence[Record]) -> None:
        """Append `records` in order; return once they are durable.

        Raises `BrokerUnavailable` if none was taken, `Unknown` if that is not certain,
        `RecordTooLarge` before anything is sent, and `TopicRefused` for one topic, whatever was
        taken of the others: who publishes those again, and this one later, keeps every order.
        """
        ...

    async def subscribe(
        self, group: str, topics: Sequence[str], *, lease: float = 5.0
    ) -> Subscription:
        """Join `group`. A new group starts at the oldest record that is kept.

        `lease` is how many seconds a member may be silent before its partitions go to others.
        """
        ...

    async def retention(self, topics: Sequence[str]) -> float | None:
        """Return for how many seconds records of these topics are kept at most; None: for ever.

        It is `capabilities.retention`, where that is not up to each topic.
        """
        ...

    async def lag(self, group: str, topics: Sequence[str]) -> Lag:
        """Return how far `group` is behind."""
        ...

    async def close(self) -> None:
        """Release connections and threads; subscriptions are closed first by their owners."""
        ...


@runtime_checkable
class Declaring(Protocol):
    """A broker without replay on which a group can be declared before any member is there."""

    async def declare(self, group: str, topics: Sequence[str]) -> None:
        """Let `group` get what is published to `topics` from now on."""
        ...


@runtime_checkable
class Limiting(Protocol):
    """A broker whose topics may each take less than `Capabilities.max_bytes`."""

    async def learn(self, topics: Collection[str]) -> None:
        """Ask what `topics` take. Raises what `publish` raises for a topic that is not there."""
        ...

    def room(self, topic: str, key: str | None) -> int | None:
        """Return how many bytes headers and value of an event with `key` may have in `topic`.

        As far as that is known; None: it is not. Does not wait.
        """
        ...
