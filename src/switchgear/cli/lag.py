"""`switchgear events lag`: how far every subscription is behind, and what the outboxes hold.

One look shows what is stale, because that is declared. What is stuck shows only over time: with
`--watch` there are two looks, and `events/progress.py` judges, as it does in a service.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from switchgear.cli.databases import databases, has_table
from switchgear.cli.system import services, table
from switchgear.config import Config
from switchgear.database.port import Database
from switchgear.events.brokers.port import Broker
from switchgear.events.brokers.url import broker_of
from switchgear.events.parked import Parked, Waiting
from switchgear.events.pending import Pending
from switchgear.events.progress import Progress, Seen, in_seconds

__all__ = ["lag"]

_NAMED = 3
"""Topics of an outbox that are named in the table, those that wait for longest."""


@dataclass(slots=True)
class _Group:
    """One subscription, as its service declares it."""

    name: str
    progress: Progress
    topics: list[str] = field(default_factory=list)


async def lag(
    config: Config, service: str | None, *, watch: float | None = None, as_json: bool = False
) -> None:
    """Print each subscription's lag and parked events, and each outbox that holds events, by topic.

    Lag and its age are the broker's answer; the age is that of the oldest event not yet done. With
    `watch` it looks again after so many seconds, and says which have made no progress.
    """
    groups = _groups(config, service, watch)
    system = config.system
    broker = broker_of(system.broker.absolute(config.folder), native=system.broker_options)
    try:
        async with databases(config) as opened:
            stores = {one.service: one.database for one in opened}
            rows = await _look(broker, groups, stores)
            if watch is not None:
                await asyncio.sleep(watch)
                rows = await _look(broker, groups, stores)
    finally:
        await broker.close()
    if as_json:
        for row in rows:
            print(json.dumps(row))
        return
    if not rows:
        print("No service reacts to events, and no outbox holds any.")
        return
    table(
        ("subscription", "behind", "oldest", "blocked", "parked", "of keys", ""),
        [
            [
                row.get("subscription") or f"{row['outbox']} (outbox)",
                str(row["events"]),
                _age(row["oldest"]),
                str(row.get("blocked", "")),
                str(row.get("parked", "")),
                str(row.get("parked_keys", "")),
                _remark(row),
            ]
            for row in rows
        ],
    )


def _groups(
    config: Config, service: str | None, watch: float | None
) -> Mapping[str, Mapping[str, _Group]]:
    """Return every subscription, by service and by the name of its group."""
    found: dict[str, dict[str, _Group]] = {}
    for app, place in services(config, service):
        groups = found.setdefault(place, {})
        for reaction in app.reactions:
            name = f"{app.name}.{reaction.name}"
            fresh = reaction.fresh_within
            within = None if fresh is None else in_seconds(fresh)
            group = groups.setdefault(name, _Group(name, Progress(watch or 0.0, within)))
            if reaction.contract.topic not in group.topics:
                group.topics.append(reaction.contract.topic)
    return found


async def _look(
    broker: Broker,
    groups: Mapping[str, Mapping[str, _Group]],
    stores: Mapping[str, Database],
) -> list[dict[str, Any]]:  # rows for JSON and for the table alike
    rows: list[dict[str, Any]] = []
    for service, subscriptions in groups.items():
        store = stores.get(service)
        rows += [await _subscription(broker, store, group) for group in subscriptions.values()]
        rows += [row async for row in _outbox(store, service)]
    return rows


async def _subscription(broker: Broker, database: Database | None, group: _Group) -> dict[str, Any]:
    found = await broker.lag(group.name, group.topics)
    waiting = Waiting(0, 0, 0, None)
    if database is not None and await _has(database, "switchgear_parked"):
        waiting = await Parked(database).waiting(group.name)
    progress = group.progress
    seen = Seen(found.events, found.oldest, waiting.ready_age, 0)
    verdict = progress.look(time.monotonic(), seen)
    row: dict[str, Any] = {
        "subscription": group.name,
        "events": found.events,
        "oldest": seen.waits,
        "blocked": waiting.ready,
        "parked": waiting.held,
        "parked_keys": waiting.held_keys,
    }
    if found.silent:
        row["silent"] = sorted(map(str, found.silent))
    if not broker.capabilities.exact_lag:
        row["estimate"] = True
    if progress.fresh_within is not None:
        row |= {"fresh_within": progress.fresh_within, "stale": verdict.stale is not None}
    if progress.stuck_after:
        row["stuck"] = verdict.stuck is not None
    return row


async def _outbox(database: Database | None, name: str) -> AsyncIterator[dict[str, Any]]:
    if database is None or not await _has(database, "switchgear_outbox"):
        return
    topics = [
        {"topic": topic, "events": one.events, "oldest": one.oldest}
        for topic, one in (await Pending(database).topics()).items()
    ]
    if topics:
        yield {
            "outbox": name,
            "events": sum(one["events"] for one in topics),
            "oldest": topics[0]["oldest"],
            "topics": topics,
        }


async def _has(database: Database, name: str) -> bool:
    async with database.transaction() as tx:
        return await has_table(tx, name)


def _remark(row: Mapping[str, Any]) -> str:
    said = ["about, as the broker says"] if row.get("estimate") else []
    if row.get("silent"):
        said.append(f"the broker does not answer for {', '.join(row['silent'])}")
    if row.get("stale"):
        said.append(f"stale: should be within {_age(row['fresh_within'])}")
    if row.get("stuck"):
        said.append("no progress")
    topics = row.get("topics", [])
    if len(topics) > 1:  # one that the broker refuses waits while the others come and go
        said += [
            f"{one['topic']}: {one['events']}, {_age(one['oldest'])}" for one in topics[:_NAMED]
        ]
    if len(topics) > _NAMED:
        said.append(f"{len(topics) - _NAMED} topics more")
    return ", ".join(said)


def _age(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"
