"""`switchgear events declare`: every group of a system, before anything is published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from switchgear.cli.system import services
from switchgear.config import Config
from switchgear.events.brokers.port import Declaring
from switchgear.events.brokers.url import broker_of

__all__ = ["declare"]


async def declare(config: Config, service: str | None) -> None:
    """Let every group of the services get what is published from now on, whoever runs first.

    Where a new group reads from the start there is nothing to do. Raises `OperationError` without a
    service, and what the broker raises.
    """
    groups = _groups(config, service)
    system = config.system
    broker = broker_of(system.broker.absolute(config.folder), native=system.broker_options)
    try:
        if broker.capabilities.replay:
            print("Nothing to declare: a new group reads from the oldest event that is kept.")
            return
        for group, topics in groups.items():
            if isinstance(broker, Declaring):
                await broker.declare(group, topics)
            else:
                # a group is there for good once a member was
                await (await broker.subscribe(group, topics)).close()
            print(f"{group} gets {', '.join(topics)}.")
    finally:
        await broker.close()


def _groups(config: Config, service: str | None) -> Mapping[str, Sequence[str]]:
    """Return the topics of every group."""
    found: dict[str, list[str]] = {}
    for app, _ in services(config, service):
        for reaction in app.reactions:
            topics = found.setdefault(f"{app.name}.{reaction.name}", [])
            if reaction.contract.topic not in topics:
                topics.append(reaction.contract.topic)
    return found
