"""What belongs to one process: connections, and the state of policies. What a fork makes of it.

A forked process has copies of its parent's objects, and none of its threads. It shares the parent's
sockets, and would read the answers to the parent's requests; a lock that a thread of the parent
held would stay locked for ever; and attempts that were in flight would hold their places, since
nobody is there to end them. So in the child

* policies begin anew: breakers closed, places free, budgets and caches empty, with new locks;
* connections that we opened are left to the parent, and opened again when they are needed;
* what we cannot open again (a transport that was given to us and has been used) says so;
* the core of `grpc.aio` does not survive a fork at all: whoever used it before is told.

Python seeds its random numbers anew, so that the jitter of many workers differs.

None of it can be pickled, because a copy in another process would be a policy without memory. A
guarded function is pickled by its name, as any function is, and then finds its own process' guard.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Generic, NoReturn, Self, TypeVar
from weakref import WeakSet

from switchgear.errors import PolicyError

__all__ = ["OfOneProcess", "Sender", "abandon", "in_a_forked_process", "refuse_to_leave"]

S = TypeVar("S")

_living: WeakSet[OfOneProcess] = WeakSet()
_then: list[Callable[[], object]] = []
_abandoned: list[Any] = []


class OfOneProcess:
    """An object that is put right in a forked process, and refuses to be pickled or copied."""

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Remember each that is made: a fork has to find them."""
        made = super().__new__(cls)
        _living.add(made)
        return made

    def _forked(self) -> None:
        """Put it right: this is another process than the one that made it."""

    def __reduce__(self) -> NoReturn:
        refuse_to_leave(self)


def refuse_to_leave(one: object) -> NoReturn:
    """Raise what pickling or copying raises of an object that belongs to one process."""
    raise PolicyError(
        "it cannot be pickled or copied: its state belongs to the process that made it.",
        where=type(one).__name__,
        fix="Make it when a module is imported, so that each process has its own, and pass the "
        "guarded function or a name.",
    )


class Sender(Generic[S]):
    """What an adapter sends by, given to it or made by `make`, and what a fork makes of it."""

    __slots__ = ("_given", "_lost", "_make", "_used", "own")

    def __init__(self, given: S | None, make: Callable[[], S]) -> None:
        self._make = make
        self._given = given is not None
        self._used = self._lost = False
        self.own: S = make() if given is None else given

    def take(self) -> S:
        """Return it, for a request. Raises PolicyError where its connections are another's."""
        if self._lost:
            raise PolicyError(
                f"the {type(self.own).__name__} was used before this process was forked: its "
                "connections are the parent's too.",
                fix="Make the client after the fork, or let the guard make what it sends by.",
            )
        self._used = True
        return self.own

    def forked(self) -> None:
        """Put it right in a forked process."""
        if not self._used:
            return
        if self._given:
            self._lost = True
        else:
            abandon(self.own)
            self.own = self._make()


def abandon(connections: Any) -> None:
    """Keep what is the parent's for as long as this process lives, without touching it.

    To close it would end the parent's connections, and so may its destruction.
    """
    _abandoned.append(connections)


def in_a_forked_process(then: Callable[[], object]) -> None:
    """Call `then` in every process that this one forks."""
    _then.append(then)


def _put_right() -> None:
    for call in _then:
        call()
    for one in list(_living):
        one._forked()  # noqa: SLF001  it is what they are for


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_put_right)
