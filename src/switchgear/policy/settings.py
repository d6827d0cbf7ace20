"""What the settings of every policy share: durations, allowed ranges, descriptions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from datetime import timedelta
from itertools import pairwise
from typing import Any, ClassVar, Self, TypeAlias

from switchgear.errors import PolicyError

__all__ = [
    "Seconds",
    "Settings",
    "allow",
    "described",
    "one_of",
    "ordered",
    "part",
    "seconds",
    "settle",
]

Seconds: TypeAlias = float | timedelta
"""A duration as it is written: a number of seconds, or a `timedelta`. Settings keep a float."""


def seconds(value: Seconds) -> float:
    """Return a duration as a number of seconds."""
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


class Settings:
    """The base of settings. It remembers which were given: defaults may fill in the rest."""

    __slots__ = ("given",)

    kind: ClassVar[str | None] = None
    """Which of several rules for one part these are; None: there is one."""
    given: frozenset[str]
    """The names of the settings that were given when it was made."""

    def __new__(cls, *_: object, **values: object) -> Self:
        """Make settings; each subclass is a dataclass whose settings are given by name."""
        made = object.__new__(cls)
        object.__setattr__(made, "given", frozenset(values))
        return made

    def describe(self) -> dict[str, object]:
        """Return the settings as plain values; of several rules for one part, with its `kind`."""
        return described(self) if self.kind is None else described(self, kind=self.kind)

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, (type(self), {name: getattr(self, name) for name in self.given})


def _made_again(cls: type[Settings], values: dict[str, object]) -> Settings:
    return cls(**values)


def settle(settings: Any, *names: str) -> None:
    """Turn the named durations of a frozen settings object into floats, once, as it is made."""
    for name in names:
        value = getattr(settings, name)
        if value is None and _may_be_off(settings, name):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float | timedelta):
            raise PolicyError(
                f"{name} is {value!r}, which is not a duration.",
                where=type(settings).__name__,
                fix="Give a number of seconds or a timedelta.",
            )
        object.__setattr__(settings, name, seconds(value))


def _declared(settings: Any, name: str) -> str:
    """Return the type of a setting, as its module writes it."""
    return str(type(settings).__dataclass_fields__[name].type)


def _may_be_off(settings: Any, name: str) -> bool:
    return _declared(settings, name).endswith("| None")


def allow(
    settings: Any,
    name: str,
    low: float,
    high: float = math.inf,
    *,
    above: bool = False,
    instead: str = "",
) -> None:
    """Refuse a setting outside `low..high`; with `above`, `low` itself is refused too.

    What is declared as `int` has to be a whole number, and None stands for "off" and passes where
    the setting is declared with it. `instead` says what else the setting could be.

    Raises PolicyError naming the setting and its range.
    """
    value = getattr(settings, name)
    if value is None and _may_be_off(settings, name):
        return
    whole = _declared(settings, name).startswith("int")
    number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if number and (low < value if above else low <= value) and value <= high:
        return
    kind = "a whole number, " if whole else ""
    lower = f"above {low:g}" if above else f"at least {low:g}"
    upper = "" if high == math.inf else f" and at most {high:g}"
    more = f", or {instead}" if instead else ""
    raise PolicyError(
        f"{name} is {value!r}; it has to be {kind}{lower}{upper}{more}.",
        where=type(settings).__name__,
        fix=f"Set {name} inside that range.",
    )


def ordered(settings: Any, *names: str) -> None:
    """Refuse settings of which one is above the one that follows. None stands for "off" and passes.

    Raises PolicyError naming both.
    """
    for low, high in pairwise(names):
        less, more = getattr(settings, low), getattr(settings, high)
        if less is not None and more is not None and less > more:
            raise PolicyError(
                f"{low} is {less:g} and {high} is {more:g}: {low} has to be at most {high}.",
                where=type(settings).__name__,
                fix=f"Lower {low} or raise {high}.",
            )


def one_of(settings: Any, name: str, choices: tuple[str, ...]) -> None:
    """Refuse a setting that is none of its choices."""
    value = getattr(settings, name)
    if value not in choices:
        raise PolicyError(
            f"{name} is {value!r}; it has to be one of {', '.join(choices)}.",
            where=type(settings).__name__,
        )


def part(settings: Any, name: str, *kinds: type[Settings]) -> None:
    """Refuse a part that is none of its kinds. None stands for "off" and passes.

    In a file `true` and `false` turn a part on and off, so they are what is written here by habit.
    """
    value = getattr(settings, name)
    if value is None or isinstance(value, kinds):
        return
    listed = " or ".join(f"{kind.__name__}(...)" for kind in kinds)
    raise PolicyError(
        f"{name} is {value!r}; it has to be {listed}, or None to leave it out.",
        where=type(settings).__name__,
    )


def described(settings: Any, **more: object) -> dict[str, object]:
    """Return the settings by name, as values that JSON knows."""
    plain: dict[str, object] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, tuple):
            value = [item.describe() if hasattr(item, "describe") else item for item in value]
        elif hasattr(value, "describe"):
            value = value.describe()
        elif callable(value):
            value = getattr(value, "__qualname__", repr(value))
        elif not isinstance(value, str | int | float | bool | Mapping | None):
            value = repr(value)
        plain[field.name] = value
    return plain | more
