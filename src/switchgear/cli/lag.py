"""`switchgear events lag`: how far every subscription is behind, and what the outboxes hold."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from switchgear.app.service import Service
from switchgear.app.target import add_to_path, import_path, load_target
from switchgear.cli.databases import databases, has_table
from switchgear.cli.system import table
from switchgear.config import Config
from switchgear.contract.event import event_of
from switchgear.database.port import Database
from switchgear.errors import OperationError
from switchgear.events.brokers.port import Broker
from switchgear.events.brokers.url import broker_of
from switchgear.events.parked import Parked
from switchgear.events.relay import Relay

__all__ = ["lag"]


async def lag(config: Config, service: str | None, *, as_json: bool = False) -> None:
    """Print each subscription's lag and parked events, and each outbox that holds events.

    Lag and its age are the broker's answer; the age is that of the oldest event not yet done.
    """
    groups = _groups(config, service)
    system = config.system
    broker = broker_of(system.broker.absolute(config.folder), native=system.broker_options)
    rows: list[dict[str, Any]] = []  # for JSON and for the table alike
    try:
        async with databases(config) as opened:
            stores = {one.service: one.database for one in opened}
            for name, subscriptions in groups.items():
                for group, topics in subscriptions.items():
                    rows.append(await _subscription(broker, stores.get(name), group, topics))
                rows += [row async for row in _outbox(broker, stores.get(name), name)]
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
        ("subscription", "behind", "oldest", "parked", "of keys"),
        [
            [
                row.get("subscription") or f"{row['outbox']} (outbox)",
                str(row["events"]),
                _age(row["oldest"]),
                str(row.get("parked", "")),
                str(row.get("parked_keys", "")),
            ]
            for row in rows
        ],
    )


def _groups(config: Config, service: str | None) -> Mapping[str, Mapping[str, list[str]]]:
    """Return the topics of every subscription, by service and by the name of its group."""
    if not config.services:
        raise OperationError(
            "there is no service.",
            where=str(config.file or config.folder / "switchgear.toml"),
            fix="Name the system's file with --config.",
        )
    add_to_path(import_path(config))
    chosen = [config.service(service)] if service else list(config.services.values())
    found: dict[str, dict[str, list[str]]] = {}
    for settings in chosen:
        app = load_target(settings.app) if settings.app else None
        if isinstance(app, Service):
            subscriptions = found.setdefault(settings.name, {})
            for name, topic in _reactions(app):
                topics = subscriptions.setdefault(f"{app.name}.{name}", [])
                if topic not in topics:
                    topics.append(topic)
    return found


def _reactions(app: Service) -> Iterator[tuple[str, str]]:
    for reaction in app.reactions:
        yield reaction.name, event_of(reaction.event).topic


async def _subscription(
    broker: Broker, database: Database | None, group: str, topics: list[str]
) -> dict[str, Any]:
    found = await broker.lag(group, topics)
    row: dict[str, Any] = {"subscription": group, "events": found.events, "oldest": found.oldest}
    row |= {"parked": 0, "parked_keys": 0}
    if database is not None and await _has(database, "switchgear_parked"):
        row["parked"], row["parked_keys"] = await Parked(database).count(group)
    return row


async def _outbox(broker: Broker, database: Database | None, name: str) -> Any:
    if database is None or not await _has(database, "switchgear_outbox"):
        return
    backlog = await Relay(database, broker).backlog()
    if backlog.events:
        yield {"outbox": name, "events": backlog.events, "oldest": backlog.oldest}


async def _has(database: Database, name: str) -> bool:
    async with database.transaction() as tx:
        return await has_table(tx, name)


def _age(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"
