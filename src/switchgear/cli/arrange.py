"""`switchgear events hold` and `release`: another key, or more partitions, for a live topic."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from switchgear.app.service import Service
from switchgear.app.target import add_to_path, import_path, load_target
from switchgear.cli.databases import Opened, databases, has_table
from switchgear.cli.system import services
from switchgear.config import Config
from switchgear.contract.event import EventContract, event_of
from switchgear.database.port import Database
from switchgear.errors import OperationError
from switchgear.events.arrange import Arrangeable, arrange
from switchgear.events.brokers.url import broker_of
from switchgear.events.holding import OutboxHolds, its_own_tool

__all__ = ["hold", "release"]


async def hold(config: Config, topic: str, seconds: float, *, within: float) -> None:
    """Let nothing be published to a topic for a while: its events wait in the outboxes."""
    async with databases(config) as opened, _broker(config, topic, opened, within) as broker:
        behind = await broker.hold(topic, seconds)
    print(f"{topic} is held back for {seconds:g} seconds.")
    for group, events in sorted(behind.items()):
        print(f"  {group} has {events} events to read")


async def release(
    config: Config, topic: str, *, partitions: int | None, rekey: bool, within: float
) -> None:
    """Let a topic be published to again, once it can have what is asked for."""
    async with databases(config) as opened, _broker(config, topic, opened, within) as broker:
        if partitions is None and not rekey:
            await broker.release(topic)
            print(f"{topic} is published to again.")
            return
        if partitions is not None and isinstance(broker, OutboxHolds):
            raise its_own_tool()
        changed = await arrange(
            broker,
            topic,
            outboxes=await _with(opened, "switchgear_outbox"),
            consumers=await _with(opened, "switchgear_parked"),
            partitions=partitions,
            contracts=_contracts(config, topic) if rekey else None,
            within=within,
        )
    told = [] if partitions is None else [f"has {partitions} partitions"]
    if rekey:
        told.append(f"{changed} waiting events have another key")
    print(f"{topic} is published to again: {', '.join(told)}.")


@asynccontextmanager
async def _broker(
    config: Config, topic: str, opened: Sequence[Opened], within: float
) -> AsyncIterator[Arrangeable]:
    """Give the broker, or the outboxes where the broker itself holds nothing back."""
    system = config.system
    async with AsyncExitStack() as stack:
        broker = broker_of(system.broker.absolute(config.folder), native=system.broker_options)
        stack.push_async_callback(broker.close)
        found: object = broker
        if isinstance(found, Arrangeable):
            yield found
            return
        outboxes = await _with(opened, "switchgear_outbox")
        holding = await _with(opened, "switchgear_outbox_hold")
        if old := sorted(outboxes.keys() - holding.keys()):
            raise OperationError(
                f"the outbox of {', '.join(old)} is of an earlier release, and cannot hold back.",
                fix="Run its migrations, or start the service once.",
            )
        yield OutboxHolds(broker, outboxes, _groups(config, topic), within=within)


def _groups(config: Config, topic: str) -> list[str]:
    """Return who reads a topic. Raises `OperationError` for one that nobody names."""
    found = [
        f"{app.name}.{reaction.name}"
        for app, _ in services(config, None)
        for reaction in app.reactions
        if reaction.contract.topic == topic
    ]
    if not found and not _contracts(config, topic):
        raise OperationError(
            f"there is no topic {topic}.", fix="Name one that a service of the system declares."
        )
    return found


async def _with(opened: Sequence[Opened], table: str) -> Mapping[str, Database]:
    """Return the databases that have a table: a service without that part has none."""
    found = {}
    for one in opened:
        async with one.database.transaction() as tx:
            if await has_table(tx, table):
                found[one.service] = one.database
    return found


def _contracts(config: Config, topic: str) -> Mapping[str, EventContract]:
    """Return the contracts of a topic that the system's services declare, by type."""
    add_to_path(import_path(config))
    found: dict[str, EventContract] = {}
    for service in config.services.values():
        app = load_target(service.app) if service.app else None
        if not isinstance(app, Service):
            continue
        named = [*(app.published or ())]
        for reaction in app.reactions:
            named += [reaction.event, *(reaction.emits or ())]
        found |= {event_of(one).type: event_of(one) for one in named}
    return {kind: contract for kind, contract in found.items() if contract.topic == topic}
