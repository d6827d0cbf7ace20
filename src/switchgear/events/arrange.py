"""Another key, or more partitions, for a topic that is in use, with the order of every key kept.

A key's partition follows from the number of partitions, and its place in the order from the key. If
either changes, a key's next event can be read before one that is still in the old place. So:

1. *Hold*: nothing is appended to the topic. Events wait in the outboxes, and doors stay open. A
   hold ends by itself, so that whoever dies in the middle leaves nothing behind.
2. Wait until every group has read the topic to its end, and no consumer's database holds an event
   of it: their queues are of a partition and a key.
3. *Rekey*, if the key has changed: what waits in the outboxes gets the key of the new contract. A
   relay may have read it before, or begin its reads above it, and it may be its own only now: so
   relays are let begin anew (`shares.py`), and it is waited until each of them has.
4. *Release*, with the new number of partitions, in one transaction that looks again whether all of
   this is so. Publishers notice at their next append, consumers at their next beat.

A broker that holds nothing back has the outboxes do it (`holding.py`), and its own tool changes the
number of partitions.

A group that is made afterwards and reads from the start reads old and new partitions side by side:
for it, the order of a key holds among the events before the change, and among those after.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol, runtime_checkable

import msgspec

from switchgear.contract.event import EventContract, key_of
from switchgear.database.port import Database
from switchgear.errors import BrokerError, InvalidMessage
from switchgear.events.envelope import Envelope
from switchgear.events.holding import NotSettled, beaten
from switchgear.events.reaction import decoded
from switchgear.events.shares import begin_anew, locked
from switchgear.events.structured import packed, unpacked

__all__ = ["Arrangeable", "NotSettled", "arrange", "rekey"]

_HOLD: Final = 30.0
"""Seconds of a hold that is renewed while we wait."""
_LOOK: Final = 0.05
_RENEW: Final = 10.0
"""Seconds after which it is renewed."""
_STEP: Final = 500
_KEYS: Final = ("ce-subject", "ce-partitionkey")
_HEADERS: Final = msgspec.json.Decoder(dict[str, str])


@runtime_checkable
class Arrangeable(Protocol):
    """A broker whose topics can be held back and get more partitions while they are in use."""

    async def hold(self, topic: str, seconds: float) -> Mapping[str, int]:
        """Append nothing to `topic` for at least `seconds`; publishers get `BrokerUnavailable`.

        Returns the groups that have not read the topic to its end, with the events that they lack.
        Raises `BrokerError` if there is no such topic.
        """
        ...

    async def release(self, topic: str, partitions: int | None = None) -> None:
        """Let records be appended again, with `partitions` from now on.

        Raises `BrokerError`, and changes nothing, if the number changes and the topic is not held,
        a group has not read it to its end, or it would get fewer.
        """
        ...


async def arrange(
    broker: Arrangeable,
    topic: str,
    *,
    outboxes: Mapping[str, Database],
    consumers: Mapping[str, Database],
    partitions: int | None = None,
    contracts: Mapping[str, EventContract] | None = None,
    within: float = 60.0,
) -> int:
    """Give `topic` more partitions, or the keys of `contracts`, or both, as the head says.

    `outboxes` and `consumers` are the databases of the services that publish and that consume it,
    by name; `contracts` are the new ones, by type of event. Returns how many events in outboxes got
    another key. Raises `NotSettled` after `within` seconds, with nothing changed but those; the
    topic is held for at most half a minute more then.
    """
    until = time.monotonic() + within
    while waits := await _unsettled(broker, topic, consumers):
        if time.monotonic() > until:
            raise NotSettled(
                f"after {within:g} seconds the topic {topic} is not at rest: {'; '.join(waits)}.",
                fix="Let the consumers run; redrive or discard what is parked. Then do it again.",
            )
        await asyncio.sleep(_LOOK)
    changed = 0
    if contracts is not None:

        async def renew() -> bool:
            await broker.hold(topic, _HOLD)
            return True

        for name, database in outboxes.items():
            changed += await rekey(database, topic, contracts, where=name, renew=renew)
        await renew()
        # also where nothing has changed now: whoever began may not have come to the end
        longest = time.monotonic() + max(within, _HOLD)
        await beaten(outboxes, topic, until=longest, renew=renew, every=_RENEW)
    await broker.release(topic, partitions)
    return changed


async def _unsettled(
    broker: Arrangeable, topic: str, consumers: Mapping[str, Database]
) -> list[str]:
    """Hold the topic, and say what of it has not been handled."""
    behind = await broker.hold(topic, _HOLD)
    found = [f"{group} has {events} events to read" for group, events in sorted(behind.items())]
    for name, database in consumers.items():
        async with database.reading() as tx:
            rows = await tx.run("SELECT count(*) FROM switchgear_parked WHERE topic = ?", topic)
        if rows[0][0]:
            found.append(f"{rows[0][0]} events are parked or blocked in {name}")
    return found


async def rekey(
    database: Database,
    topic: str,
    contracts: Mapping[str, EventContract],
    *,
    where: str,
    renew: Callable[[], Awaitable[object]] | None = None,
) -> int:
    """Give the events of `topic` in an outbox the keys of `contracts`; return how many changed.

    There may be millions: `renew` is called every ten seconds, so that the topic stays held.
    Raises `BrokerError` for an event that the contracts cannot read; those before it are changed.
    """
    changed, last = 0, 0
    renew_at = time.monotonic() + _RENEW
    while True:
        if renew is not None and time.monotonic() >= renew_at:
            await renew()
            renew_at = time.monotonic() + _RENEW
        async with database.transaction() as tx:
            await locked(tx)
            before = changed
            rows = await tx.run(
                "SELECT id, key, headers, data FROM switchgear_outbox "
                "WHERE topic = ? AND id > ? ORDER BY id LIMIT ?",
                topic,
                last,
                _STEP,
            )
            for number, key, raw, data in rows:
                last = number
                try:
                    found = _rekeyed(_HEADERS.decode(raw), bytes(data), key, contracts)
                except InvalidMessage as error:
                    raise BrokerError(
                        f"an event that waits there cannot be read by its contract: {error.what}",
                        where=f"the outbox of {where}",
                        fix="Let the new contracts be in the system, and read what old ones wrote.",
                    ) from error
                if found is not None:
                    await tx.run(
                        "UPDATE switchgear_outbox SET key = ?, headers = ?, data = ? WHERE id = ?",
                        *found,
                        number,
                    )
                    changed += 1
            if changed > before:
                await begin_anew(tx)
        if len(rows) < _STEP:
            return changed


def _rekeyed(
    raw: Mapping[str, str], body: bytes, key: str | None, contracts: Mapping[str, EventContract]
) -> tuple[str | None, bytes, bytes] | None:
    """Return key, headers and data of an event under its new contract; None: it is the same."""
    headers, data = unpacked(raw, body)
    kind = headers.get("ce-type", "")
    contract = contracts.get(kind)
    if contract is None:
        raise InvalidMessage(f"no service declares {kind or 'what has no type'}.")
    new = key_of(decoded(contract, Envelope.from_headers(headers, data, topic=contract.topic)))
    if new == key:
        return None
    plain = {name: value for name, value in headers.items() if name not in _KEYS}
    made = plain if new is None else {**plain, **dict.fromkeys(_KEYS, new)}
    if headers is not raw:
        made, data = packed(made, data)
    return new, msgspec.json.encode(made), data
