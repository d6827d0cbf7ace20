"""Read `[policy]`: the defaults of a system for how its services call, by pattern and callee."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from datetime import timedelta
from importlib.metadata import entry_points
from typing import Any, Final, get_args, get_type_hints

from switchgear.config.source import Section, Source
from switchgear.config.values import Value, text
from switchgear.errors import ConfigError, PolicyError
from switchgear.model.edge import Pattern
from switchgear.policy.breaker import Evidence
from switchgear.policy.defaults import PARTS, Defaults, Given, Layer, Scope, Switch
from switchgear.policy.policy import PARTS as NAMES
from switchgear.policy.policy import Policy

__all__ = ["GROUP", "policies", "settings"]

GROUP: Final = "switchgear.policies"
"""The group of entry points under which a package provides presets: objects of `Defaults`."""

_PATTERNS: Final = (Pattern.QUERY, Pattern.COMMAND)
_CODE_ALONE: Final = frozenset({"unguarded", "sources", "value", "function"})
"""Settings that only code can give."""


def policies(source: Source) -> Defaults:
    """Return what `[policy]` says. Raises `ConfigError`."""
    layers: list[tuple[Scope, Layer]] = []
    root = source.section("policy")
    named = root.get("preset", text, None)
    weaker = Defaults() if named is None else _preset(root, named)
    _read(root, Scope(), layers, ("callees",))
    _patterns(root, Scope(), layers)
    for name, section in root.tables("callees").items():
        scope = Scope(callee=name)
        _read(section, scope, layers, ("operations",))
        _patterns(section, scope, layers)
        for operation, inner in section.tables("operations").items():
            _read(inner, Scope(callee=name, operation=operation), layers, ())
    found = Defaults(tuple(layers)).over(weaker)
    _check(found, [scope for scope, _ in layers])
    return found


def settings(section: Section) -> Layer:
    """Return the settings of a policy that one table holds. Raises `ConfigError`."""
    layers: list[tuple[Scope, Layer]] = []
    _read(section, Scope(), layers, None)
    return layers[0][1]


def _patterns(section: Section, outer: Scope, layers: list[tuple[Scope, Layer]]) -> None:
    for pattern in _PATTERNS:
        section.known.append(pattern)
        inner = section.source.section(*section.path, pattern)
        _read(inner, Scope(callee=outer.callee, pattern=pattern), layers, None)


def _read(
    section: Section,
    scope: Scope,
    layers: list[tuple[Scope, Layer]],
    tables: tuple[str, ...] | None,
) -> None:
    """Add the layer that a table holds; `tables` are those in it that are layers of their own."""
    layer: dict[str, Given] = {}
    _settings(section, Policy, "", layer)
    layers.append((scope, layer))
    if tables is not None:
        section.known += [*tables, *(_PATTERNS if scope.operation is None else ())]
    section.finish()


def _settings(section: Section, cls: type[Any], path: str, layer: dict[str, Given]) -> None:
    hints = get_type_hints(cls)
    for setting in fields(cls):
        name = setting.name
        if name in _CODE_ALONE:
            continue
        inner = f"{path}.{name}".lstrip(".")
        section.known.append(name)
        value = section.value(name)
        if inner in PARTS:
            _part(section, name, inner, value, layer)
        elif value is not None:
            layer[inner] = Given(_parse(value, name, hints[name]), value.where)


def _part(
    section: Section, name: str, path: str, value: Value | None, layer: dict[str, Given]
) -> None:
    """Read a part: a table of its settings, or true or false, or for some a plain value."""
    if value is not None and not isinstance(value.raw, dict):
        switch = _switch(value)
        if switch is None and path == "limit.concurrency":
            layer[path] = Given(_whole(value), value.where)
        elif switch is None:
            value.fail(f"a table of settings, true or false for {name}")
        else:
            layer[path] = Given(switch, value.where)
        return
    inner = section.source.section(*section.path, name)
    found: dict[str, Given] = {}
    kinds = {cls.kind: cls for cls in PARTS[path]}
    kind = inner.get("kind", text, None) if len(kinds) > 1 else None
    if kind is not None:
        if kind not in kinds:
            raise inner.complaint("kind", f"expected one of {', '.join(map(str, kinds))}.")
        found[f"{path}.kind"] = Given(kind, inner.source.where((*inner.path, "kind")))
    for cls in [kinds[kind]] if kind is not None else PARTS[path]:
        _settings(inner, cls, path, found)
    inner.finish()
    if found or value is not None:
        layer[path] = Given(Switch.ON, section.source.where((*section.path, name)))
    layer.update(found)


def _switch(value: Value) -> Switch | None:
    words = {"true": True, "false": False}
    raw = words.get(str(value.raw)) if not value.written else value.raw
    return Switch(raw) if isinstance(raw, bool) else None


def _parse(value: Value, name: str, hint: object) -> object:
    """Read a setting as its type says; ranges are what the settings themselves refuse."""
    special = _SPECIAL.get(name)
    if special is not None:
        return special(value)
    kinds = set(_flat(hint))
    if type(None) in kinds and _switch(value) is Switch.OFF:
        return None
    if bool in kinds:
        switch = _switch(value)
        return value.fail("true or false") if switch is None else switch.value
    if kinds & {float, timedelta}:
        return _number(value, "seconds as a number" if timedelta in kinds else "a number")
    if int in kinds:
        return _whole(value)
    return text(value)


def _flat(hint: object) -> Iterable[object]:
    inner = get_args(hint)
    if not inner:
        yield hint
    for one in inner:
        yield from _flat(one)


def _number(value: Value, expected: str, kind: Callable[[Any], float] = float) -> float:
    raw = value.raw
    if isinstance(raw, bool) or (value.written and not isinstance(raw, int | float)):
        value.fail(expected)
    try:
        return kind(raw)
    except (TypeError, ValueError):
        return value.fail(expected)


def _whole(value: Value) -> int:
    expected = "a whole number"
    if isinstance(value.raw, float):
        value.fail(expected)
    return int(_number(value, expected, int))


def _evidence(value: Value) -> tuple[Evidence, ...]:
    try:
        return Evidence.read(value.raw)
    except TypeError:
        return value.fail("pairs of seconds and calls, such as [[1, 20], [10, 10]]")
    except PolicyError as error:
        raise ConfigError(error.what, where=value.where, fix=error.fix) from error


def _observe(value: Value) -> object:
    switch = _switch(value)
    if switch is not None:
        return switch.value
    raw = value.raw.split(",") if isinstance(value.raw, str) and not value.written else value.raw
    if not isinstance(raw, list) or not all(one in NAMES for one in raw):
        value.fail(f"true, or a list of some of {', '.join(NAMES)}")
    return tuple(raw)


_SPECIAL: Final[dict[str, Callable[[Value], object]]] = {
    "evidence": _evidence,
    "observe": _observe,
}


def _preset(section: Section, name: str) -> Defaults:
    """Return what a package provides under a name."""
    there = {point.name: point for point in entry_points(group=GROUP)}
    if name not in there:
        raise section.complaint(
            "preset",
            f"no package that is installed provides the preset {name}.",
            fix=f"There are: {', '.join(sorted(there))}."
            if there
            else f"Install the package, or give it an entry point in the group {GROUP}.",
        )
    try:
        found = there[name].load()
    except (ImportError, AttributeError) as error:
        raise section.complaint(
            "preset", f"{there[name].value} cannot be loaded: {error}."
        ) from error
    if not isinstance(found, Defaults):
        raise section.complaint(
            "preset",
            f"{there[name].value} is {type(found).__name__}, not Defaults.",
            fix="Make it with switchgear.policy.defaults.Defaults.of(...).",
        )
    return found


def _check(found: Defaults, scopes: Iterable[Scope]) -> None:
    """Refuse settings out of range, and those that contradict each other, before they are used."""
    for scope in scopes:
        for pattern in _PATTERNS if scope.pattern is None else (scope.pattern,):
            try:
                found.policy(callee=scope.callee, pattern=pattern, operation=scope.operation)
            except PolicyError as error:
                raise ConfigError(error.what, where=error.where, fix=error.fix) from error
