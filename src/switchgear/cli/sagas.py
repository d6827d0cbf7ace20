"""`switchgear saga`: what waits in front of a person, why, and what the person does."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.markdown import Markdown
from rich.rule import Rule

from switchgear.cli.desks import OpenDesk, desks
from switchgear.cli.system import screen, table, visible
from switchgear.config import Config, masked
from switchgear.errors import OperationError
from switchgear.saga.codec import Failure
from switchgear.saga.errors import NoSuchSaga
from switchgear.saga.evidence import Evidence, WorkItem
from switchgear.saga.port import Desk
from switchgear.saga.state import What
from switchgear.saga.story import Decision

__all__ = ["act", "list_items", "refute", "show"]


async def list_items(config: Config, service: str | None, *, closed: bool, as_json: bool) -> None:
    """Print the work items of a system, open or closed."""
    found: list[tuple[str, WorkItem]] = []
    async with desks(config, service) as opened:
        for one in opened:
            items = await one.desk.items(closed=closed)
            found += [(one.service, item) for item in items]
    if as_json:
        for name, item in found:
            # `item` is the table's word for it; `id` stands where every other record has one
            print(json.dumps({"service": name, "item": item.id, "saga": item.saga, **asdict(item)}))
        return
    if not found:
        print("Nothing has been closed." if closed else "No saga waits for a person.")
        return
    titles = ["item", "service", "saga", "what gave up", "since", "runbook"]
    rows = [
        [
            item.id,
            name,
            f"{item.saga} {item.saga_id}",
            f"undo of {item.step}" if item.side == "undo" else item.step,
            _ago(item.opened),
            item.runbook,
        ]
        for name, item in found
    ]
    if closed:
        titles += ["closed by", "why"]
        for row, (_, item) in zip(rows, found, strict=True):
            row += [f"{item.action} by {item.actor}", item.reason or ""]
    table(titles, rows)


async def show(config: Config, service: str | None, given: str, *, as_json: bool) -> None:
    """Print everything that is recorded about a saga, with the runbook of what waits."""
    async with desks(config, service) as opened:
        name, evidence = await _first(opened, given, lambda desk: desk.show(given))
    if as_json:
        print(json.dumps({"service": name, **_plain(asdict(evidence))}))
        return
    _print(name, evidence, screen())


async def act(
    config: Config,
    service: str | None,
    given: str,
    action: What,
    decision: Decision,
    *,
    elsewhere: bool = False,
) -> None:
    """Carry out a person's action and say what was done."""
    async with desks(config, service, elsewhere=elsewhere) as opened:
        name, item = await _first(opened, given, lambda desk: desk.act(given, action, decision))
    told = _stands(name, item.saga_id, item.status)
    print(f"{item.id}: {item.action} by {item.actor} ({item.reason}). {told}")


async def refute(
    config: Config,
    service: str | None,
    given: str,
    step: str,
    *,
    actor: str,
    evidence: str,
    elsewhere: bool = False,
) -> None:
    """Say that a step does not hold, and say what was done about it."""
    decision = Decision(actor, evidence)
    async with desks(config, service, elsewhere=elsewhere) as opened:
        name, status = await _first(opened, given, lambda desk: desk.refute(given, step, decision))
    print(f"{given}: {step} is refuted by {actor} ({evidence}). {_stands(name, given, status)}")


def _stands(service: str, saga_id: str, status: str) -> str:
    """Say what becomes of a saga that a person has acted on."""
    if status in {"done", "undone"}:
        return f"The saga is {status}."
    if status == "queued":
        return f"The saga waits for a person: switchgear saga show {saga_id}"
    return f"{service} goes on with it."


async def _first(
    opened: list[OpenDesk], given: str, ask: Callable[[Desk], Awaitable[Any]]
) -> tuple[str, Any]:
    """Return the answer of the first desk that knows a saga or item, and its service."""
    for one in opened:
        try:
            return one.service, await ask(one.desk)
        except NoSuchSaga:
            continue
    raise OperationError(
        f"no service knows a saga or a work item {given!r}.",
        fix="List the open items: switchgear saga list",
    )


def _print(service: str, evidence: Evidence, console: Console) -> None:
    console.print(
        f"[bold]{evidence.saga} {evidence.id}[/] (version {evidence.version}, {service}): "
        f"[bold]{evidence.status}[/], began {_ago(evidence.began)}"
    )
    console.print(f"input: {evidence.input}", markup=False)
    if evidence.correlation is not None:
        console.print(f"correlation: {visible(evidence.correlation)}", markup=False)
    for lock, holder in evidence.waits_for:
        console.print(f"waits for the lock {lock}, which saga {holder} holds", markup=False)
    rows = []
    for step in evidence.steps:
        rows.append([step.name, step.kind, step.fate, "", step.result or ""])
        for attempt in step.attempts:
            side = step.undo or "undo" if attempt.side == "undo" else step.name
            said = ""
            if attempt.failure is not None:
                said = masked(f"{attempt.failure.kind}: {attempt.failure.what}")
            elif attempt.decision is not None:
                said = f"by {attempt.decision.actor}: {attempt.decision.reason}"
            rows.append(["", f"  {side}", attempt.what, f"{_clock(attempt.ended)}", said])
    table(("step", "kind", "state", "at", "what is known"), rows, console)
    for item in evidence.items:
        if item.closed is None:
            if console.is_terminal:
                console.print(Rule(f"{item.id}: {item.runbook}", align="left"))
                console.print(Markdown(item.instructions))
            else:
                # in a pipe as it was written: laid out for a wide screen nobody could read it
                console.print(f"{item.id}: {item.runbook}\n", markup=False)
                console.print(item.instructions, markup=False, soft_wrap=True)
            first, *others = _choices(evidence, item)
            then = f"Then: switchgear saga {first} {item.id} --reason '...'"
            console.print(f"{then}, or {', '.join(others)}", style="bold", markup=False)


def _choices(evidence: Evidence, item: WorkItem) -> tuple[str, ...]:
    """Return the commands that an open work item allows, the usual one first."""
    (step,) = (each for each in evidence.steps if each.name == item.step)
    if item.side == "undo" and step.undo is None:
        return "resolve", "skip"
    return "retry", "resolve", "abort" if item.side == "do" and step.kind == "pivot" else "skip"


def _plain(value: Any) -> Any:
    """Make JSON of what evidence holds besides plain values."""
    found: Any = json.loads(json.dumps(value, default=_text))
    return found


def _text(value: object) -> object:
    as_dict = getattr(value, "__struct_fields__", None)
    if isinstance(value, Failure):
        hidden = {"what": masked(value.what), "trace": value.trace and masked(value.trace)}
        return msgspec.structs.asdict(value) | hidden
    if as_dict is not None:
        return {name: getattr(value, name) for name in as_dict}
    return bytes(value).decode() if isinstance(value, bytes | memoryview) else str(value)


def _ago(stamp: float) -> str:
    seconds = max(0.0, (datetime.now(UTC) - datetime.fromtimestamp(stamp, UTC)).total_seconds())
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _clock(stamp: float) -> str:
    return datetime.fromtimestamp(stamp, UTC).astimezone().strftime("%H:%M:%S")
