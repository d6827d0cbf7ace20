"""`switchgear simulate`: run a scenario in virtual time, and print what it adds up to.

Figures are printed as the drills print theirs, a column for each variant. `--json` prints one
object for each variant (or each value of a sweep) on a line of its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import track

from switchgear.cli.system import screen, table
from switchgear.config.scenario import read_scenario, shipped
from switchgear.drills.report import Report
from switchgear.drills.show import show
from switchgear.drills.statistics import Interval
from switchgear.errors import OperationError, PolicyError
from switchgear.policy.policy import Policy
from switchgear.topology.simulate.blast import Blast, State, blast
from switchgear.topology.simulate.book import Histogram
from switchgear.topology.simulate.estimate import Estimate, estimate
from switchgear.topology.simulate.plot import drawable, plot
from switchgear.topology.simulate.result import OfEntry, OfReaction, Result
from switchgear.topology.simulate.scenario import FaultKind, Scenario
from switchgear.topology.simulate.sweep import Row, adjusted, sweep
from switchgear.topology.simulate.world import World

__all__ = ["fail", "list_scenarios", "named", "run", "run_sweep"]

QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
VARIANTS: Final = (True, False)
"""Naive, then guarded."""
_VISIBLE: Final = 0.001
"""The share of a mean that an interval has to reach to be printed."""
_NOTABLE: Final = 0.005
"""How far an amplification is from 1 to be worth a row."""


def named(given: str) -> Path:
    """Return the file of a scenario: a path, or the name of one that comes with the library.

    Raises `OperationError` where there is neither.
    """
    known = shipped()
    file = Path(given)
    if file.is_file():
        return file
    if given in known:
        return known[given]
    raise OperationError(
        f"there is no file {given}, and no scenario of that name comes with the library.",
        fix=f"Give a TOML file, or one of: {', '.join(known)}.",
    )


def list_scenarios(*, as_json: bool) -> None:
    """Print the scenarios that come with the library."""
    rows = [(name, read_scenario(file).title, str(file)) for name, file in shipped().items()]
    if as_json:
        for name, title, file in rows:
            print(json.dumps({"scenario": name, "title": title, "file": file}))
        return
    table(("scenario", "what it shows"), [row[:2] for row in rows])
    print("\nRun one with: switchgear simulate NAME")


def run(scenario: Scenario, seeds: int | None, picture: Path | None, *, as_json: bool) -> None:
    """Run both variants, print them, and draw them if asked."""
    if picture is not None:
        drawable(picture)
    numbers = range(1, (seeds or scenario.seeds) + 1)
    results = []
    for naive in VARIANTS:
        result = Result(scenario, naive=naive)
        for seed in _progress(numbers, result.variant, quiet=as_json):
            result.add(World(scenario, seed, naive=naive).run())
        results.append(result)
    if picture is not None:
        plot(results, picture)
    if as_json:
        for result in results:
            print(json.dumps(_plain(result)))
        return
    report = Report(scenario.name, _title(scenario, len(numbers)), scenario.shows)
    for name in scenario.entries:
        _entries(report, results, name)
    for result in results:
        _reactions(report, result)
    _amplification(report, results)
    _edges(report, results)
    show(report, screen())
    if picture is not None:
        print(f"\nDrawn in {picture}")


def fail(
    scenario: Scenario,
    service: str,
    seeds: int | None,
    *,
    as_json: bool,
    kind: FaultKind = FaultKind.DOWN,
) -> None:
    """Let one service fail in both variants, and print what goes with it."""
    numbers = range(1, (seeds or scenario.seeds) + 1)
    blasts = [
        blast(
            scenario,
            service,
            _progress(numbers, "naive" if naive else "guarded", quiet=as_json),
            naive=naive,
            kind=kind,
        )
        for naive in VARIANTS
    ]
    if as_json:
        for one in blasts:
            print(json.dumps(_plain_blast(scenario, one)))
        return
    report = Report(scenario.name, f"{service} is {kind}: what goes with it")
    for one in blasts:
        variant = "naive" if one.naive else "guarded"
        for section, states in (
            ("Entries", one.entries),
            ("Services", one.services),
            ("Operations", one.operations),
        ):
            for name, state in states.items():
                said = str(state)
                if section == "Entries":
                    said += f", {one.answered[name]:.0%} answered"
                report.figure(name, said, variant=variant, section=section)
            worse = sum(state in (State.DEGRADED, State.DOWN) for state in states.values())
            report.figure(
                f"degraded or down, of {len(states)}", worse, variant=variant, section=section
            )
    console = screen()
    show(report, console)
    for one in blasts:
        console.print(
            f"\n[bold]{'naive' if one.naive else 'guarded'}: edges in the order in which "
            "they went bad[/]"
        )
        for number, edge in enumerate(one.edges, 1):
            some = "" if edge.runs == one.runs else f" (in {edge.runs} of {one.runs} runs)"
            console.print(f"  {number}. {edge.name}, after {edge.after:.3g} s{some}")
        if not one.edges:
            console.print("  none")


def run_sweep(scenario: Scenario, setting: str, seeds: int | None, *, as_json: bool) -> None:
    """Run the scenario with each value of a setting, and print a row for each."""
    path, values = _setting(setting)
    numbers = range(1, (seeds or scenario.seeds) + 1)
    rows: list[Row] = []
    for value in _progress(values, setting.partition("=")[0], quiet=as_json):
        rows += sweep(scenario, [value], lambda base, one: _changed(base, path, one), numbers)
    name = ".".join(path)
    if as_json:
        for row in rows:
            print(json.dumps(_plain_row(name, row)))
        return
    print(f"{scenario.name}: {_title(scenario, len(numbers))}")
    print(f"{name}: false opens before the outage, and what it takes to see the outage\n")
    table(
        (name, "false opens a run", "calls failed before opening", "seconds", "never", "answered"),
        [
            [
                "none" if row.value is None else f"{row.value}",
                _said(row.false_opens, "{:.1f}"),
                _said(row.failed, "{:.1f}"),
                _said(row.seconds, "{:.2f}"),
                f"{row.missed:.0%}",
                _said(row.answered, "{:.2%}"),
            ]
            for row in rows
        ],
    )


# --- figures ------------------------------------------------------------------------------------


def _title(scenario: Scenario, runs: int) -> str:
    many = f"{runs} runs" if runs > 1 else "one run"
    return f"{scenario.title or 'simulated'} ({scenario.seconds:g} virtual seconds, {many})"


def _entries(report: Report, results: Sequence[Result], name: str) -> None:
    for result in results:
        one = result.entries[name]
        add = _adder(report, result.variant, f"{name}: {result.scenario.entries[name].calls}")
        add("visitors", estimate(one.offered), "/s")
        add("goodput", estimate(one.goodput), "/s")
        add("good answers", estimate(one.good), "share")
        for end in ("degraded", "failed", "left"):
            if any(any(getattr(other.entries[name], end)) for other in results):
                add(f"of all, {end}", estimate(getattr(one, end)), "share")
        known = one.whole.known
        for quantile, share in QUANTILES.items():
            add(f"until they know, {quantile}", known.quantile(share), "s")
        if one.recovery:
            add("time to recover", _recovered(one), "")


def _reactions(report: Report, result: Result) -> None:
    for name, one in result.reactions.items():
        add = _adder(report, result.variant, f"event: {name}")
        add("handled", estimate(one.handled), "/s")
        add("most that waited", estimate(one.backlog), "")
        for quantile, share in QUANTILES.items():
            add(f"until handled, {quantile}", one.whole.answered.quantile(share), "s")
        if one.drained:
            add("backlog gone after", _after(one.drained), "")


def _amplification(report: Report, results: Sequence[Result]) -> None:
    for result in results:
        add = _adder(report, result.variant, "Requests that arrive, per request that is due")
        for name in result.amplification:
            means = [estimate(one.amplification[name]).mean for one in results]
            if any(abs(mean - 1) > _NOTABLE for mean in means):
                add(name, estimate(result.amplification[name]), "")


def _edges(report: Report, results: Sequence[Result]) -> None:
    for result in results:
        add = _adder(report, result.variant, "Breaker opened, times a run")
        for name, edge in result.edges.items():
            if any(any(one.edges[name].opened) for one in results):
                add(name, estimate(edge.opened), "")


def _adder(
    report: Report, variant: str, section: str
) -> Callable[[str, Estimate | float | str, str], None]:
    def add(name: str, value: Estimate | float | str, unit: str) -> None:
        interval = None
        if isinstance(value, Estimate):
            if value.reach > _VISIBLE:
                interval = Interval(value.low, value.high)
            value = value.mean
        if isinstance(value, float) and math.isnan(value):
            value = "-"
        report.figure(name, value, unit, variant=variant, section=section, interval=interval)

    return add


def _recovered(one: OfEntry) -> str:
    return _after(one.recovery)


def _after(times: Sequence[float]) -> str:
    known = [time for time in times if not math.isinf(time)]
    if not known:
        return "not in this run" if len(times) == 1 else "in none of the runs"
    mean = f"{sum(known) / len(known):.1f} s"
    return mean if len(known) == len(times) else f"{mean} ({len(known)} of {len(times)} runs)"


def _said(value: Estimate, form: str) -> str:
    if math.isnan(value.mean):
        return "-"
    said = form.format(value.mean)
    if value.high > value.low:
        said += f" ({form.format(value.low)}..{form.format(value.high)})"
    return said


# --- settings -----------------------------------------------------------------------------------


def _setting(given: str) -> tuple[tuple[str, ...], list[object]]:
    """Return the setting and the values of `breaker.threshold=0.3,0.4`, say."""
    name, mark, listed = given.partition("=")
    values = [_value(one.strip()) for one in listed.split(",") if one.strip()]
    if not name or not mark or not values:
        raise OperationError(
            f"{given!r} does not say what to try.",
            where="--sweep",
            fix="Write a setting and its values: breaker.threshold=0.3,0.4,0.5",
        )
    return tuple(name.strip().split(".")), values


def _value(text: str) -> object:
    words: dict[str, object] = {"none": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _changed(base: Policy, path: tuple[str, ...], value: object) -> Policy:
    try:
        return adjusted(base, path, value)
    except PolicyError as error:
        raise OperationError(
            f"{error.where}: {error.what}", where="--sweep", fix=error.fix
        ) from error


def _progress(values: Iterable[Any], what: str, *, quiet: bool) -> Iterator[Any]:
    """Yield the values, with a bar on a terminal. `Any`: seeds, or values of a setting."""
    console = Console(stderr=True)
    known = list(values)
    return iter(
        track(
            known,
            description=what,
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
    )


# --- JSON ---------------------------------------------------------------------------------------


def _plain(result: Result) -> dict[str, object]:
    scenario = result.scenario
    return {
        "scenario": scenario.name,
        "variant": result.variant,
        "seconds": scenario.seconds,
        "runs": result.runs,
        "entries": {name: _plain_entry(one) for name, one in result.entries.items()},
        "reactions": {name: _plain_reaction(one) for name, one in result.reactions.items()},
        "amplification": {
            name: _plain_estimate(times) for name, times in result.amplification.items()
        },
        "edges": {
            name: {
                "calls": _plain_estimate(edge.calls),
                "attempts": _plain_estimate(edge.attempts),
                "attempts_failed": _plain_estimate(edge.unsound),
                "calls_failed": _plain_estimate(edge.missed),
                "breaker_opened": _plain_estimate(edge.opened),
            }
            for name, edge in result.edges.items()
        },
    }


def _plain_entry(one: OfEntry) -> dict[str, object]:
    return {
        "offered": _plain_estimate(one.offered),
        "goodput": _plain_estimate(one.goodput),
        "good": _plain_estimate(one.good),
        "degraded": _plain_estimate(one.degraded),
        "failed": _plain_estimate(one.failed),
        "left": _plain_estimate(one.left),
        "latency": _quantiles(one.whole.known),
        "latency_answered": _quantiles(one.whole.answered),
        "recovery": [_finite(time) for time in one.recovery],
    }


def _plain_reaction(one: OfReaction) -> dict[str, object]:
    return {
        "handled": _plain_estimate(one.handled),
        "backlog": _plain_estimate(one.backlog),
        "delay": _quantiles(one.whole.answered),
        "drained": [_finite(time) for time in one.drained],
    }


def _plain_blast(scenario: Scenario, one: Blast) -> dict[str, object]:
    return {
        "scenario": scenario.name,
        "variant": "naive" if one.naive else "guarded",
        "fails": one.service,
        "runs": one.runs,
        "entries": {name: str(state) for name, state in one.entries.items()},
        "answered": {name: _finite(share) for name, share in one.answered.items()},
        "services": {name: str(state) for name, state in one.services.items()},
        "operations": {name: str(state) for name, state in one.operations.items()},
        "edges": [
            {"edge": edge.name, "after": edge.after, "runs": edge.runs} for edge in one.edges
        ],
    }


def _plain_row(name: str, row: Row) -> dict[str, object]:
    return {
        "setting": name,
        "value": row.value,
        "false_opens": _spread(row.false_opens),
        "failed_before_opening": _spread(row.failed),
        "seconds_to_open": _spread(row.seconds),
        "never_opened": _finite(row.missed),
        "answered": _spread(row.answered),
    }


def _plain_estimate(values: Sequence[float]) -> dict[str, float | None]:
    return _spread(estimate(values))


def _spread(value: Estimate) -> dict[str, float | None]:
    return {
        "mean": _finite(value.mean),
        "low": _finite(value.low),
        "high": _finite(value.high),
    }


def _quantiles(histogram: Histogram) -> dict[str, float | None]:
    found = {name: _finite(histogram.quantile(share)) for name, share in QUANTILES.items()}
    return {"mean": _finite(histogram.mean)} | found


def _finite(value: float) -> float | None:
    """Return a number that JSON knows; None for what is not there, or never was."""
    return value if math.isfinite(value) else None
