"""One setting of the policies, value by value: what being quick costs, and what being sure costs.

For each value the scenario is run as it is. Counted are

false opens   a breaker opened before the first fault began: nothing was wrong but noise
failed        attempts at the failing service that failed from the fault on until a breaker of their
              edge opened
seconds       how long that took
missed        the share of these edges whose breaker never opened during the fault
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Final, cast

from switchgear.errors import PolicyError
from switchgear.model.signal import SignalKind
from switchgear.policy.policy import Policy
from switchgear.topology.simulate.estimate import Estimate, estimate
from switchgear.topology.simulate.scenario import Fault, Scenario, ScenarioError
from switchgear.topology.simulate.world import World

__all__ = ["Row", "adjusted", "changed", "sweep"]

_CODE_ALONE: Final = frozenset({"unguarded", "sources", "value", "function"})
"""Settings that cannot be swept."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one value of the setting does; each figure is a mean over the runs."""

    value: object
    false_opens: Estimate
    failed: Estimate
    seconds: Estimate
    missed: float
    answered: Estimate
    """The share of good answers over all entries and the whole run."""


def changed(scenario: Scenario, change: Callable[[Policy], Policy]) -> Scenario:
    """Return the scenario with what `change` makes of the policy of every guarded edge."""
    return replace(
        scenario,
        policy=change(scenario.policy),
        wires={
            name: wire
            if wire.policy.unguarded is not None
            else replace(wire, policy=change(wire.policy))
            for name, wire in scenario.wires.items()
        },
        entries={
            name: entry if entry.policy is None else replace(entry, policy=change(entry.policy))
            for name, entry in scenario.entries.items()
        },
    )


def adjusted(base: Policy, path: Sequence[str], value: object) -> Policy:
    """Return a policy with the one setting at `path`; as it is, where it has no such part.

    Raises `PolicyError` for a value that the setting does not allow, and for no such setting.
    """
    return cast("Policy", _adjusted(base, path, value))


# `Any`: the settings of every part, dataclasses with little else in common
def _adjusted(base: Any, path: Sequence[str], value: object) -> Any:
    name, *rest = path
    known = [field.name for field in fields(base) if field.name not in _CODE_ALONE]
    if name not in known:
        raise PolicyError(
            f"there is no setting {name}.",
            where=type(base).__name__,
            fix=f"There are: {', '.join(known)}.",
        )
    if not rest:
        return replace(base, **{name: value})
    inner = getattr(base, name)
    if inner is None:
        return base
    if not is_dataclass(inner):
        raise PolicyError(f"{name} has no settings of its own.", where=type(base).__name__)
    return replace(base, **{name: _adjusted(inner, rest, value)})


def sweep(
    scenario: Scenario,
    values: Iterable[object],
    change: Callable[[Policy, object], Policy],
    seeds: Iterable[int | str],
) -> list[Row]:
    """Run the scenario with each value of a setting.

    Raises `ScenarioError` if the scenario has no fault: then there is nothing to open for.
    """
    if not scenario.faults:
        raise ScenarioError(
            "it has no fault, so no breaker should open and nothing can be swept.",
            where=scenario.name,
            fix='Add a [[faults]] table, such as kind = "errors" after a quiet time.',
        )
    fault = min(scenario.faults, key=lambda one: one.at)
    numbers = list(seeds)

    def one(value: object) -> Row:
        whole = changed(scenario, lambda policy: change(policy, value))
        return _row(value, [_run(World(whole, seed), fault) for seed in numbers])

    return [one(value) for value in values]


@dataclass(frozen=True, slots=True)
class _Run:
    false_opens: int
    failed: list[int]
    seconds: list[float]
    missed: int
    answered: float


def _run(world: World, fault: Fault) -> _Run:
    world.mark(fault.at)
    ends = fault.ends(world.scenario.seconds)
    world.mark(ends)
    world.run()
    hit = [
        name
        for name, line in world.lines.items()
        if line.target.station.name == fault.service
        and line.machine is not None
        and line.machine.circuit is not None
    ]
    failed, seconds = [], []
    opened: dict[str, tuple[float, int]] = {}
    false_opens = 0
    for time, signal, so_far in world.signals:
        if signal.kind is not SignalKind.BREAKER_OPENED:
            continue
        if time < fault.at:
            false_opens += 1
        elif time <= ends:
            opened.setdefault(signal.subject, (time, so_far))
    for name in hit:
        before = world.marks[fault.at].edges[name][2]
        if name in opened:
            time, so_far = opened[name]
            failed.append(so_far - before)
            seconds.append(time - fault.at)
        else:
            failed.append(world.marks[ends].edges[name][2] - before)
    books = [world.books[name] for name in world.scenario.entries]
    offered = sum(one.offered for book in books for one in book.bins)
    good = sum(one.good for book in books for one in book.bins)
    return _Run(false_opens, failed, seconds, len(hit) - len(seconds), good / offered)


def _row(value: object, runs: list[_Run]) -> Row:
    edges = sum(len(run.failed) for run in runs)
    return Row(
        value=value,
        false_opens=estimate([run.false_opens for run in runs]),
        failed=estimate([_mean(run.failed) for run in runs]),
        seconds=estimate([_mean(run.seconds) for run in runs]),
        missed=sum(run.missed for run in runs) / edges if edges else math.nan,
        answered=estimate([run.answered for run in runs]),
    )


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known) if known else math.nan
