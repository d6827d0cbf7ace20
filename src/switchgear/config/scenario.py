"""Read what is to be simulated from TOML, with file, line and key in every complaint.

`docs/reference/simulate.md` has the keys. What a scenario means is in
`switchgear.topology.simulate.scenario`; here is only how it is written.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeVar

from switchgear.config.load import admission
from switchgear.config.policies import settings
from switchgear.config.source import Section, Source
from switchgear.config.values import Value, at_least, boolean, count, number, one_of, seconds, text
from switchgear.errors import ConfigError, PolicyError
from switchgear.model.context import Priority
from switchgear.model.edge import Pattern
from switchgear.policy.admission import Admission
from switchgear.policy.defaults import Defaults, Layer, Scope, layer_of
from switchgear.policy.policy import Policy
from switchgear.topology.simulate.chance import (
    Constant,
    Distribution,
    Exponential,
    Hyperexponential,
    Lognormal,
    Quantiles,
    Uniform,
)
from switchgear.topology.simulate.load import Diurnal, Load, Ramp, Steady, Steps, spike
from switchgear.topology.simulate.scenario import (
    NAIVE,
    Ask,
    Entry,
    Fault,
    FaultKind,
    Operation,
    Publish,
    Reaction,
    Scenario,
    ScenarioError,
    Service,
    Step,
    Wire,
    Work,
)

__all__ = ["read_scenario", "shipped"]

T = TypeVar("T")

_TIME: Final = "seconds: a number, or a distribution such as { exponential = 0.05 }"
_SHARE: Final = "a number from 0 to 1"
_STEPS: Final = (
    'a list of steps: 0.05 or { exponential = 0.05 } works, "stock.find" calls, '
    '["a.x", "b.y"] calls side by side, { publish = "topic" } publishes'
)
_LOAD: Final = "a load such as { poisson = 50 }"
_PATTERNS: Final = (Pattern.QUERY, Pattern.COMMAND)

_share: Final = at_least(0.0, 1.0, expected=_SHARE)
_rate: Final = at_least(0.0, expected="a number of requests a second, 0 or more")


def shipped() -> dict[str, Path]:
    """Return the scenarios that come with the library, by name."""
    folder = Path(__file__).resolve().parents[1] / "topology" / "simulate" / "scenarios"
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def read_scenario(file: Path) -> Scenario:
    """Return the scenario that a file describes.

    Raises `ConfigError` with file, line and key if the file cannot be read, is not TOML, or says
    what no scenario can say.
    """
    source = Source(file, {}, file.parent)
    root = source.section()
    usual = _layer(root, "policy")
    scenario = partial(
        Scenario,
        name=file.stem,
        title=root.get("title", text, ""),
        shows=root.get("shows", text, ""),
        seconds=_required(root, "seconds", seconds),
        warm=root.get("warm", at_least(0.0), 0.0),
        seeds=root.get("seeds", count(1), 5),
        policy=_policy(usual),
        naive=_policy(layer_of(NAIVE, "naive"), _layer(root, "naive")),
        services={name: _service(part) for name, part in root.tables("services").items()},
        wires={name: _wire(part, usual) for name, part in root.tables("edges").items()},
        entries={name: _entry(part, usual) for name, part in root.tables("entries").items()},
        faults=tuple(_fault(part) for part in _elements(root, "faults")),
    )
    root.finish()
    for key in ("services", "entries"):
        if not root.table.get(key):
            raise ConfigError(
                f"it has no {key}.",
                where=source.where(()),
                fix=f"Add a table [{key}.NAME].",
            )
    try:
        return scenario()
    except ScenarioError as error:
        if error.path:
            error.where = source.where(error.path)
        raise


def _service(section: Section) -> Service:
    service = Service(
        workers=section.get("workers", count(1), None),
        queue=section.get("queue", count(0), None),
        order=section.get("order", one_of("fifo", "lifo"), "fifo"),  # type: ignore[arg-type]  # one of them
        holds=section.get("holds", one_of("request", "work"), "request"),  # type: ignore[arg-type]  # likewise
        admission=Admission(**admission(section)) if "admission" in section.table else None,
        deadlines=section.get("deadlines", boolean, True),
        operations={name: _operation(part) for name, part in section.tables("operations").items()},
        reacts={name: _reaction(part) for name, part in section.tables("reacts").items()},
    )
    section.finish()
    return service


def _operation(section: Section) -> Operation:
    operation = Operation(
        steps=_required(section, "steps", _steps),
        fails=section.get("fails", _share, 0.0),
        pattern=Pattern(section.get("pattern", one_of(*_PATTERNS), Pattern.QUERY)),
        keyed=section.get("keyed", boolean, False),
    )
    section.finish()
    return operation


def _reaction(section: Section) -> Reaction:
    reaction = Reaction(
        steps=_required(section, "steps", _steps),
        lanes=section.get("lanes", count(1), 8),
        fails=section.get("fails", _share, 0.0),
    )
    section.finish()
    return reaction


def _wire(section: Section, usual: Layer) -> Wire:
    wire = Wire(
        policy=_policy(usual, _layer(section, "policy")),
        latency=section.get("latency", _time, None),
        questions=section.get("questions", count(1), 100),
        optional=section.get("optional", boolean, False),
    )
    section.finish()
    return wire


def _entry(section: Section, usual: Layer) -> Entry:
    load, even = _required(section, "load", _load)
    own = "policy" in section.table
    entry = Entry(
        calls=_required(section, "calls", text),
        load=load,
        evenly=section.get("evenly", boolean, even),
        patience=section.get("patience", seconds, None),
        within=section.get("within", seconds, None),
        policy=_policy(usual, _layer(section, "policy")) if own else None,
        latency=section.get("latency", _time, None),
        priority=Priority(section.get("priority", one_of(*Priority), Priority.DEFAULT)),
    )
    section.known.append("policy")
    section.finish()
    return entry


def _fault(section: Section) -> Fault:
    kind = FaultKind(_required(section, "kind", one_of(*FaultKind)))
    known = {
        FaultKind.SLOW: ("factor", "takes"),
        FaultKind.ERRORS: ("share",),
        FaultKind.LOST: ("share",),
    }.get(kind, ())
    fault = Fault(
        kind=kind,
        service=_required(section, "service", text),
        operation=section.get("operation", text, None) if kind in _OF_OPERATIONS else None,
        at=section.get("at", at_least(0.0), 0.0),
        seconds=section.get("seconds", seconds, None),
        share=section.get("share", _share, 1.0) if "share" in known else 1.0,
        factor=section.get("factor", at_least(0.0), 1.0) if "factor" in known else 1.0,
        takes=section.get("takes", _time, None) if "takes" in known else None,
    )
    section.finish()
    if kind is FaultKind.SLOW and len({"factor", "takes"} & section.table.keys()) != 1:
        raise section.complaint(
            "kind", "it does not say how slow.", fix="Give either factor = 10 or takes = 0.8."
        )
    return fault


_OF_OPERATIONS: Final = (FaultKind.SLOW, FaultKind.ERRORS, FaultKind.LOST)
"""The kinds that can strike one operation alone."""


def _layer(section: Section, key: str) -> Layer:
    """Read the settings of a policy."""
    section.known.append(key)
    return settings(section.source.section(*section.path, key))


def _policy(*layers: Layer) -> Policy:
    """Return the policy that layers of settings make, the weakest first."""
    try:
        return Defaults(tuple((Scope(), layer) for layer in layers)).policy()
    except PolicyError as error:
        raise ConfigError(error.what, where=error.where, fix=error.fix) from error


# --- values -------------------------------------------------------------------------------------


def _time(value: Value) -> Distribution:
    """Read how long something takes."""
    raw = value.raw
    if isinstance(raw, dict):
        kind, inner = _single(value, _DISTRIBUTIONS, _TIME)
        return _DISTRIBUTIONS[kind](inner)
    return Constant(at_least(0.0, expected=_TIME)(value))


def _uniform(value: Value) -> Distribution:
    expected = "uniform = [low, high] in seconds, such as [0.01, 0.09]"
    low, high = _numbers(value, 2, expected)
    return Uniform(low, high) if 0 <= low <= high else value.fail(expected)


def _lognormal(value: Value) -> Distribution:
    expected = "lognormal = { p50 = ..., p99 = ... } in seconds, p50 above 0 and p99 above p50"
    raw = value.raw
    if not isinstance(raw, dict) or raw.keys() != {"p50", "p99"}:
        return value.fail(expected)
    p50, p99 = _numbers(value.of([raw["p50"], raw["p99"]]), 2, expected)
    return Lognormal(p50, p99) if 0 < p50 < p99 else value.fail(expected)


def _hyperexponential(value: Value) -> Distribution:
    expected = "hyperexponential = [[share, mean], ...], the shares together 1"
    kinds = _pairs(value, expected)
    whole_ = abs(sum(share for share, _ in kinds) - 1) < 1e-6  # noqa: PLR2004  what rounding leaves
    fine = all(share >= 0 and mean >= 0 for share, mean in kinds)
    return Hyperexponential(kinds) if whole_ and fine else value.fail(expected)


def _quantiles(value: Value) -> Distribution:
    expected = "quantiles = [[share, seconds], ...], both growing, the shares from 0 to 1"
    points = _pairs(value, expected)
    shares = [share for share, _ in points]
    values = [seconds_ for _, seconds_ in points]
    rising = all(left < right for left, right in pairwise(shares))
    if not rising or values != sorted(values) or shares[0] < 0 or shares[-1] > 1 or values[0] < 0:
        value.fail(expected)
    return Quantiles(points)


_DISTRIBUTIONS: Final[dict[str, Callable[[Value], Distribution]]] = {
    "constant": lambda value: Constant(at_least(0.0)(value)),
    "exponential": lambda value: Exponential(seconds(value)),
    "uniform": _uniform,
    "lognormal": _lognormal,
    "hyperexponential": _hyperexponential,
    "quantiles": _quantiles,
}


def _steps(value: Value) -> tuple[Step, ...]:
    """Read what an operation does."""
    if not isinstance(value.raw, list):
        return value.fail(_STEPS)
    return tuple(_step(value.of(raw)) for raw in value.raw)


def _step(value: Value) -> Step:
    raw = value.raw
    if isinstance(raw, str):
        return Ask((raw,))
    if isinstance(raw, list):
        if not raw or not all(isinstance(target, str) for target in raw):
            value.fail(_STEPS)
        return Ask(tuple(raw))
    if isinstance(raw, dict) and raw.keys() == {"publish"}:
        return Publish(text(value.of(raw["publish"])))
    if isinstance(raw, bool) or not isinstance(raw, dict | int | float):
        value.fail(_STEPS)
    return Work(_time(value))


def _load(value: Value) -> tuple[Load, bool]:
    """Read how many come; and whether they come at equal distances."""
    if not isinstance(value.raw, dict):
        return value.fail(_LOAD)
    kind, inner = _single(value, _LOADS, _LOAD)
    return _LOADS[kind](inner), kind == "constant"


def _load_steps(value: Value) -> Load:
    expected = "steps = [[since, rate], ...], growing in time, the first since 0"
    steps = _pairs(value, expected)
    times = [since for since, _ in steps]
    if times[0] != 0 or times != sorted(times) or any(rate < 0 for _, rate in steps):
        value.fail(expected)
    return Steps(steps)


def _load_spike(value: Value) -> Load:
    expected = "spike = { base = 50, peak = 200, at = 20, seconds = 10 }"
    base, peak, at, lasting = _named(value, expected, "base", "peak", "at", "seconds")
    return spike(base, peak, at, lasting)


def _load_ramp(value: Value) -> Load:
    expected = "ramp = { low = 2, high = 100, begins = 60, ends = 660 }, ends after begins"
    low, high, begins, ends = _named(value, expected, "low", "high", "begins", "ends")
    return Ramp(low, high, begins, ends) if begins < ends else value.fail(expected)


def _load_diurnal(value: Value) -> Load:
    expected = "diurnal = { mean = 50, swing = 0.8, day = 86400, peak = 43200 }, swing at most 1"
    mean, swing, day, peak = _named(value, expected, "mean", "swing", "day", "peak")
    return Diurnal(mean, swing, day, peak) if swing <= 1 and day > 0 else value.fail(expected)


_LOADS: Final[dict[str, Callable[[Value], Load]]] = {
    "constant": lambda value: Steady(_rate(value)),
    "poisson": lambda value: Steady(_rate(value)),
    "steps": _load_steps,
    "spike": _load_spike,
    "ramp": _load_ramp,
    "diurnal": _load_diurnal,
}


def _single(
    value: Value, known: dict[str, Callable[[Value], T]], expected: str
) -> tuple[str, Value]:
    """Return the one key of a table, and what it holds."""
    raw = value.raw
    if not isinstance(raw, dict) or len(raw) != 1 or next(iter(raw)) not in known:
        value.fail(f"{expected}; the kinds are {', '.join(known)}")
    kind = next(iter(raw))
    return kind, value.of(raw[kind])


def _named(value: Value, expected: str, *names: str) -> tuple[float, ...]:
    """Return numbers of a table, in the order of their names; none is below 0."""
    raw = value.raw
    if not isinstance(raw, dict) or raw.keys() != set(names):
        return value.fail(expected)
    found = _numbers(value.of([raw[name] for name in names]), len(names), expected)
    return found if min(found) >= 0 else value.fail(expected)


def _numbers(value: Value, count: int, expected: str) -> tuple[float, ...]:
    raw = value.raw
    if not isinstance(raw, list) or len(raw) != count:
        return value.fail(expected)
    return tuple(number(value.of(one), expected) for one in raw)


def _pairs(value: Value, expected: str) -> tuple[tuple[float, float], ...]:
    raw = value.raw
    if not isinstance(raw, list) or not raw:
        return value.fail(expected)
    pairs = []
    for one in raw:
        left, right = _numbers(value.of(one), 2, expected)
        pairs.append((left, right))
    return tuple(pairs)


# --- sections -----------------------------------------------------------------------------------


def _required(section: Section, key: str, parse: Callable[[Value], T]) -> T:
    found = section.get(key, parse, None)
    if found is None:
        raise ConfigError(
            f"{key} is missing.", where=section.source.where(section.path), fix=f"Add {key} = ..."
        )
    return found


def _elements(section: Section, key: str) -> list[Section]:
    """Return the tables of an array of tables."""
    section.known.append(key)
    value = section.value(key)
    if value is None:
        return []
    expected = f"tables, each under [[{key}]]"
    if not isinstance(value.raw, list):
        return value.fail(expected)
    found = []
    for index, table in enumerate(value.raw):
        if not isinstance(table, dict):
            value.fail(expected)
        found.append(Section(section.source, (*section.path, key, str(index)), table))
    return found
