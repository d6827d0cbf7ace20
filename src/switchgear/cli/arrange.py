"""`switchgear events hold` and `release`: another key, or more partitions, for a live topic."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from switchgear.app.service import Service
from switchgear.app.target import add_to_path, import_path, load_target
from switchgear.cli.databases import Opened, databases, has_table
from switchgear.config import Config
from switchgear.contract.event import EventContract, event_of
from switchgear.database.port import Database
from switchgear.errors import OperationError
from switchgear.events.arrange import Arrangeable, arrange
from switchgear.events.brokers.url import broker_of

__all__ = ["hold", "release"]


async def hold(config: Config, topic: str, seconds: float) -> None:
    """Let nothing be published to a topic for a while: its events wait in the outboxes."""
    async with _broker(config) as broker:
        behind = await broker.hold(topic, seconds)
    print(f"{topic} is held back for {seconds:g} seconds.")
    for group, events in sorted(behind.items()):
        print(f"  {group} has {events} events to read")


async def release(
    config: Config, topic: str, *, partitions: int | None, rekey: bool, within: float
) -> None:
    """Let a topic be published to again, once it can have what is asked for."""
    async with _broker(config) as broker:
        if partitions is None and not rekey:
            await broker.release(topic)
            print(f"{topic} is published to again.")
            return
        contracts = _contracts(config, topic) if rekey else None
        async with databases(config) as opened:
            changed = await arrange(
                broker,
                topic,
                outboxes=await _with(opened, "switchgear_outbox"),
                consumers=await _with(opened, "switchgear_parked"),
                partitions=partitions,
                contracts=contracts,
                within=within,
            )
    told = [] if partitions is None else [f"has {partitions} partitions"]
    if rekey:
        told.append(f"{changed} waiting events have another key")
    print(f"{topic} is published to again: {', '.join(told)}.")


@asynccontextmanager
async def _broker(config: Config) -> AsyncIterator[Arrangeable]:
    system = config.system
    async with AsyncExitStack() as stack:
        broker = broker_of(system.broker.absolute(config.folder), native=system.broker_options)
        stack.push_async_callback(broker.close)
        found: object = broker
        if not isinstance(found, Arrangeable):
            raise OperationError(
                f"a broker at {system.broker.scheme}:// is not rearranged from here.",
                fix="Its own tools do it; docs/how-to/rearrange-a-topic.md has the steps that keep "
                "the order.",
            )
        yield found


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
