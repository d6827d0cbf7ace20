"""What to answer when a call fails: the last good answer, a value, or what a function makes of it.

The rules
---------
A fallback takes the place of a failure, never of a refusal. It takes the place of `Unavailable`
always, and of `Unknown` only where the call is a query: hiding that a command may have been done
would make its caller do it twice.

Tried in this order: the last good answer to the same question if it is young enough; then the
function, or else the value. The answer says that it is degraded, and its age where it is a stale
one. Kept answers are bounded in number (the least recently used goes first) and in age.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Generic, TypeVar

from switchgear.errors import PolicyError
from switchgear.model.outcome import Outcome, Unavailable, Unknown
from switchgear.policy.settings import Seconds, Settings, allow, described, part, seconds, settle

__all__ = ["NOTHING", "Fallback", "Shelf", "Stale", "covers"]


C = TypeVar("C")


class _Nothing(Enum):
    NOTHING = "nothing"


NOTHING: Final = _Nothing.NOTHING
"""No value is set; None is a value like any other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale(Settings):
    """Keep the last good answers, to give them again when the callee fails."""

    max_age: Seconds = 60.0
    """An answer older than this is not given. Seconds, above 0."""
    size: int = 1000
    """How many answers are kept, at least 1."""
    single_flight: bool = True
    """Whether calls that ask the same at the same time share one call."""

    def __post_init__(self) -> None:
        settle(self, "max_age")
        allow(self, "max_age", 0, above=True)
        allow(self, "size", 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback(Settings):
    """What to answer when a call fails."""

    stale: Stale | None = None
    value: Any = NOTHING
    """Answer this. (`Any`: one policy serves calls of every type of answer.)"""
    function: Callable[[Unavailable | Unknown], Any] | None = None
    """Answer what this makes of the failure; it may be a coroutine function under asyncio."""

    def __post_init__(self) -> None:
        part(self, "stale", Stale)
        if self.function is not None and not callable(self.function):
            raise PolicyError(
                f"function is {self.function!r}, which cannot be called.",
                where="Fallback",
                fix="Give a function of the failure, or value=... for a fixed answer.",
            )
        if self.stale is None and self.value is NOTHING and self.function is None:
            raise PolicyError(
                "Fallback says nothing to answer.",
                where="Fallback",
                fix="Give stale=Stale(...), value=... or function=..., or leave the fallback out.",
            )
        if self.value is not NOTHING and self.function is not None:
            raise PolicyError(
                "Fallback has both value and function, and can only answer one of them.",
                where="Fallback",
                fix="Leave one of them out.",
            )

    def describe(self) -> dict[str, object]:
        """Return the settings as plain values."""
        plain = described(self)
        plain["value"] = None if self.value is NOTHING else repr(self.value)
        return plain


def covers(outcome: Outcome[object], *, query: bool) -> bool:
    """Tell whether a fallback may take the place of `outcome`."""
    return isinstance(outcome, Unavailable) or (query and isinstance(outcome, Unknown))


class Shelf(Generic[C]):
    """Good answers, kept by key for the day the callee fails. `C` is a call that asks for one."""

    __slots__ = ("_kept", "_max_age", "flights", "settings")

    def __init__(self, settings: Stale, before: Shelf[C] | None = None) -> None:
        self.settings = settings
        self._max_age = seconds(settings.max_age)
        self._kept: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()
        self.flights: dict[Hashable, C] = {}
        """Who is asking each question now, for the others who want to know."""
        if before is not None:
            self._kept, self.flights = before._kept, before.flights  # noqa: SLF001  its own kind
            self._trim()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, now: float, key: Hashable, value: Any) -> None:
        """Keep the answer to the question `key`."""
        self._kept[key] = (now, value)
        self._kept.move_to_end(key)
        self._trim()

    def find(self, now: float, key: Hashable) -> tuple[Any, float] | None:
        """Return the kept answer and its age in seconds, if it is young enough."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        stored, value = kept
        age = now - stored
        if age > self._max_age:
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return value, age

    def _trim(self) -> None:
        while len(self._kept) > self.settings.size:
            self._kept.popitem(last=False)
