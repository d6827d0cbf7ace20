"""`switchgear events`: the events that wait for a person, and what the person does with them.

An event is named by service and number, `kitchen/12`, as `parked` lists it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from switchgear.app.reaction import Reaction
from switchgear.app.service import Service
from switchgear.app.target import add_to_path, import_path, load_target
from switchgear.cli.databases import Opened, databases, has_table, of_service
from switchgear.cli.system import screen, table, visible
from switchgear.config import Config, masked
from switchgear.contract.event import EventContract, key_of
from switchgear.errors import InvalidMessage, OperationError, UsageError
from switchgear.events.envelope import Envelope
from switchgear.events.parked import Parked, ParkedEvent
from switchgear.events.reaction import decoded

__all__ = ["discard", "edit", "parked", "redrive", "show"]

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
        print(f"No event of {consumer} waits." if consumer else "No event waits.")
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


async def show(config: Config, given: str, *, as_json: bool = False, raw: bool = False) -> None:
    """Print one parked event with its headers and data; `raw`: its data alone, byte by byte."""
    name, number = _named(given)
    async with databases(config, name) as opened:
        event = await (await _parked(opened, name)).show(number)
    if raw:
        sys.stdout.buffer.write(event.data)
        return
    runbook = _runbook(config, name, event)
    told = _plain(name, event) | ({"runbook": runbook} if runbook else {})
    if as_json:
        print(json.dumps(told))
        return
    console = screen()
    rows = [[key, str(value)] for key, value in told.items() if key != "headers"]
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
    nothing = f"Nothing of {consumer}" if consumer else "Nothing"
    print(f"{what}: {names}" if released else f"{nothing} {what}.")


async def discard(config: Config, given: str, *, actor: str, reason: str) -> None:
    """Drop one event for good; the audit keeps it."""
    if not reason.strip():
        raise OperationError("an event is not discarded without a reason.", fix="Give --reason.")
    name, number = _named(given)
    async with databases(config, name) as opened:
        event = await (await _parked(opened, name)).discard(number, reason=reason, actor=actor)
    print(visible(f"discarded: {event.type} of {event.key or 'no key'} ({event.event})."))


async def edit(
    config: Config, given: str, payload: Path, *, actor: str, reason: str, unchecked: bool = False
) -> None:
    """Put a new event with the data of a file in the place of a parked one."""
    if not reason.strip():
        raise OperationError("an event is not edited without a reason.", fix="Give --reason.")
    name, number = _named(given)
    data = _payload(payload)
    async with databases(config, name) as opened:
        parked = await _parked(opened, name)
        if not unchecked:
            _check(config, name, await parked.show(number), data)
        event = await parked.edit(number, data, reason=reason, actor=actor)
    print(visible(f"{given} is now {event.event}, which replaces {event.headers['ce-replaces']}."))
    if event.state == "held":
        print(f"It waits as before. Then: switchgear events redrive {given}")


def _payload(file: Path) -> bytes:
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"it cannot be read: {error.strerror}.", where=str(file)) from error


def _check(config: Config, service: str, event: ParkedEvent, data: bytes) -> None:
    """Refuse data that the service's handler could not read, or that belongs to another key."""
    contract = _contract(config, service, event)
    envelope = Envelope.from_headers(event.headers, data, topic=event.topic)
    try:
        message = decoded(contract, envelope)
    except InvalidMessage as error:
        at = f" at {error.pointer}" if error.pointer else ""
        raise UsageError(
            f"the payload is no {event.type}: {error.what}{at}",
            fix="Begin with the event's own: switchgear events show EVENT --raw > payload.json",
        ) from error
    if key_of(message) != event.key:
        raise UsageError(
            f"the payload is of the key {key_of(message)}, and the event of {event.key}: it would "
            "overtake others of its key.",
            fix="Publish it as a new event from its source, and discard this one.",
        )


def _contract(config: Config, service: str, event: ParkedEvent) -> EventContract:
    """Return the contract by which the service reads an event."""
    reaction = _reaction(config, service, event)
    if reaction is not None:
        return reaction.contract
    raise UsageError(
        f"{event.consumer} has no handler of {event.type} by which the payload could be checked.",
        fix="Write it as it has to be, and say --unchecked.",
    )


def _reaction(config: Config, service: str, event: ParkedEvent) -> Reaction | None:
    """Return the handler of an event, as the service's module declares it."""
    add_to_path(import_path(config))
    target = config.service(service).app
    app = load_target(target) if target else None
    for reaction in app.reactions if isinstance(app, Service) else ():
        named = f"{service}.{reaction.name}" == event.consumer
        if named and reaction.contract.type == event.type:
            return reaction
    return None


def _runbook(config: Config, service: str, event: ParkedEvent) -> str | None:
    """Return what a person reads about an event; None also where the module is not here."""
    try:
        reaction = _reaction(config, service, event)
    except OperationError:
        return None
    return None if reaction is None else reaction.runbook


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
