"""The participants of a saga in an exhaustive test: what their effects add up to.

    class Stock(Inventory):
        def __init__(self, world: World) -> None: ...
        async def reserve(self, request: Reserve) -> Reservation:
            self.world.do()
            return Reservation(number=1)
        async def release(self, request: Release) -> Released:
            self.world.undo()
            return Released()

`do` and `undo` are those of a participant behind a `Barrier`. A participant of one's own, which is
to be tested with the saga, says with `change` what it does. Whose effect it is, is read off the
idempotency key of the request.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from switchgear.model.context import current
from switchgear.saga.barrier import parsed
from switchgear.saga.errors import BarrierClosed

__all__ = ["Broken", "World"]


class Broken(AssertionError):
    """An effect that no sequence of events may have."""


class World:
    """Effects by step, in memory.

    What a subclass keeps in its attributes is put back between one sequence of events and the
    next, so it has to be data that can be copied.
    """

    def __init__(self) -> None:
        self.stands: dict[tuple[str, str], int] = {}
        """How often each effect of each step stands: 0 or 1."""
        self.broken: str | None = None
        """The first effect that no sequence of events may have."""
        self._keys: set[tuple[str, str]] = set()
        self._closed: set[str] = set()
        self._later: dict[str, frozenset[str]] = {}

    def do(self, effect: str = "") -> bool:
        """Have an effect, once for each key. False: it was had already.

        Raises `BarrierClosed` if it has been undone. A step with several effects names them.
        """
        scope, _, key = parsed(current().key)
        if (key, effect) in self._keys:
            return False
        if scope in self._closed:
            raise BarrierClosed(f"{scope} arrived after its undo.")
        self.change(1, effect)
        return True

    def undo(self, effect: str = "") -> bool:
        """Take the effect back, once for each key. False: there is none, and there will be none."""
        scope, _, key = parsed(current().key)
        self._closed.add(scope)
        if (key, effect) in self._keys or not self.stands.get((scope.rpartition("/")[2], effect)):
            return False
        self.change(-1, effect)
        return True

    def change(self, by: int, effect: str = "") -> None:
        """Say that an effect has been had (1) or taken back (-1), whatever the key.

        Raises `Broken` if it stands twice then, or was taken back without standing, or is taken
        back while an effect that depends on it stands.
        """
        scope, _, key = parsed(current().key)
        step = scope.rpartition("/")[2]
        self._keys.add((key, effect))
        count = self.stands.get((step, effect), 0) + by
        self.stands[step, effect] = count
        name = f"the effect {effect} of {step}" if effect else f"the effect of {step}"
        if count > 1:
            self._break(f"{name} was had twice.")
        if count < 0 and step in self._later:
            self._break(f"{name} was taken back, and it does not stand.")
        standing = {other for (other, _), stands in self.stands.items() if stands > 0}
        over = sorted(standing & self._later.get(step, frozenset()))
        if by < 0 and over:
            self._break(f"{name} was taken back while that of {', '.join(over)} stands.")

    def lose(self, step: str) -> None:
        """Let the effects of a step be gone, as they are when it turns out that they never held."""
        for name, effect in self.stands:
            if name == step:
                self.stands[name, effect] = 0

    def _break(self, what: str) -> None:
        """Note it too: what is between the participant and the test may hide the exception."""
        self.broken = self.broken or what
        raise Broken(what)

    def watch(self, later: dict[str, frozenset[str]]) -> None:
        """Take in the order of the steps: for each, those that depend on it."""
        self._later = later

    def snapshot(self) -> dict[str, Any]:
        """Return a copy of everything that it holds."""
        return deepcopy({name: held for name, held in vars(self).items() if name != "_later"})

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go back to a snapshot."""
        later = self._later
        vars(self).clear()
        vars(self).update(deepcopy(snapshot), _later=later)
