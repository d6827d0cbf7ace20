"""`switchgear events`: the events that wait for a person, and what the person does with them.

An event is named by service and number, `kitchen/12`, as `parked` lists it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from switchgear.cli.databases import Opened, databases, has_table, of_service
from switchgear.cli.system import screen, table, visible
from switchgear.config import Config, masked
from switchgear.errors import OperationError
from switchgear.events.parked import Parked, ParkedEvent

__all__ = ["discard", "parked", "redrive", "show"]

_TABLE = "switchgear_parked"


async def parked(
    config: Config,
    service: str | None,
    *,
    key: str | None = None,
    consumer: str | None = None,
    limit: int = 100,
    as_json: bool = False,
) -> None:
    """Print the parked events of a system, each queue in its order."""
    found: list[tuple[str, ParkedEvent]] = []
    async with databases(config, service) as opened:
        for one in await _with_events(opened):
            events = await Parked(one.database).list(consumer=consumer, key=key, limit=limit)
            found += [(one.service, event) for event in events]
    if as_json:
        for name, event in found:
            print(json.dumps(_plain(name, event)))
        return
    if not found:
        print("No event waits.")
        return
    table(
        ("event", "subscription", "type", "key", "why", "state", "tries", "since", "error"),
        [
            [
                f"{name}/{event.id}",
                event.consumer,
                event.type,
                event.key or "",
                event.cause,
                event.state,
                str(event.attempts),
                datetime.fromtimestamp(event.at, UTC).astimezone().strftime("%d %b %H:%M"),
                masked(event.error),
            ]
            for name, event in found
        ],
    )


async def show(config: Config, given: str, *, as_json: bool = False) -> None:
    """Print one parked event with its headers and data."""
    name, number = _named(given)
    async with databases(config, name) as opened:
        event = await (await _parked(opened, name)).show(number)
    if as_json:
        print(json.dumps(_plain(name, event)))
        return
    console = screen()
    rows = [[key, str(value)] for key, value in _plain(name, event).items() if key != "headers"]
    rows += [[header, value] for header, value in sorted(event.headers.items())]
    table(("", ""), rows, console)


async def redrive(
    config: Config,
    given: str | None,
    service: str | None,
    *,
    key: str | None = None,
    consumer: str | None = None,
    actor: str = "",
    reason: str = "",
    dry_run: bool = False,
) -> None:
    """Release queues, so that their consumers handle them in order."""
    number = None
    if given is not None:
        service, number = _named(given)
    elif key is None and consumer is None:
        raise OperationError(
            "it does not say which events.",
            fix="Name one (kitchen/12), or choose by --key or --consumer.",
        )
    released: list[tuple[str, ParkedEvent]] = []
    async with databases(config, service) as opened:
        for one in await _with_events(opened):
            events = await Parked(one.database).redrive(
                id=number, key=key, consumer=consumer, dry_run=dry_run, actor=actor, reason=reason
            )
            released += [(one.service, event) for event in events]
    what = "would be released" if dry_run else "released"
    names = ", ".join(f"{name}/{event.id}" for name, event in released)
    print(f"{what}: {names}" if released else f"Nothing {what}.")


async def discard(config: Config, given: str, *, actor: str, reason: str) -> None:
    """Drop one event for good; the audit keeps it."""
    if not reason.strip():
        raise OperationError("an event is not discarded without a reason.", fix="Give --reason.")
    name, number = _named(given)
    async with databases(config, name) as opened:
        event = await (await _parked(opened, name)).discard(number, reason=reason, actor=actor)
    print(visible(f"discarded: {event.type} of {event.key or 'no key'} ({event.event})."))


async def _with_events(opened: list[Opened]) -> list[Opened]:
    """Leave out the databases of services that react to nothing."""
    found = []
    for one in opened:
        async with one.database.transaction() as tx:
            if await has_table(tx, _TABLE):
                found.append(one)
    return found


async def _parked(opened: list[Opened], service: str) -> Parked:
    if not await _with_events(opened):
        raise OperationError(
            f"{service} reacts to no events.", fix="`switchgear events parked` lists what waits."
        )
    return Parked(of_service(opened, service).database)


def _named(given: str) -> tuple[str, int]:
    service, _, number = given.rpartition("/")
    if not service or not number.isdecimal():
        raise OperationError(
            f"{given!r} is not an event.",
            fix="Write service and number as `switchgear events parked` lists them: kitchen/12.",
        )
    return service, int(number)


def _plain(service: str, event: ParkedEvent) -> dict[str, Any]:
    """Return what `--json` prints; data that is no text is in hexadecimal."""
    names: Sequence[str] = ParkedEvent.__slots__
    told = {name: getattr(event, name) for name in names}
    told["headers"] = dict(event.headers)
    told["error"] = masked(event.error)
    try:
        told["data"] = event.data.decode()
    except UnicodeDecodeError:
        told["data"] = event.data.hex()
    return {"service": service, **told}
