"""Sagas, written undo first: a step with an effect is made from the undo that takes it back.

    checkout = Saga("checkout", version=1, deadline=timedelta(minutes=15))

    @checkout.undo(runbook="runbooks/release.md")
    async def release(order: Order, done: Reservation | Unknown, ctx: Context) -> None: ...

    @release.undoes
    async def reserve(order: Order, ctx: Context) -> Reservation: ...

    checkout.path(reserve >> debit >> ship >> confirm)

What breaks a rule of sagas raises `SagaDefinitionError` while the defining module is imported;
`switchgear.saga.rules` holds the rules about the path.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from copy import copy
from dataclasses import replace
from datetime import timedelta
from pathlib import Path as FilePath
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypeVar, overload

from switchgear.errors import SagaDefinitionError
from switchgear.model.outcome import Unknown
from switchgear.policy.breaker import Breaker
from switchgear.saga import rules
from switchgear.saga.codec import Codec
from switchgear.saga.context import StepContext
from switchgear.saga.nested import Binding, Given, Nested, expand
from switchgear.saga.path import Path
from switchgear.saga.plan import Backoff, Kind, Plan, Side
from switchgear.saga.runbook_file import Runbook, defining_file, find_runbook, text_of
from switchgear.saga.signature import Signature, place_of, read_signature
from switchgear.saga.stores.port import Wish

__all__ = ["Runbook", "Saga", "Step", "Undo"]

I = TypeVar("I")  # noqa: E741  the saga's input
R = TypeVar("R")
In_contra = TypeVar("In_contra", contravariant=True)
# invariant: in a contravariant position mypy would take the whole union for the step's result
Done = TypeVar("Done")
P = ParamSpec("P")

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")
_UNDO_RETRY = Backoff(first=0.5, most=60.0)


class Step(Path, Generic[P, R]):
    """One step of a saga. It can be called like the function that it was made from."""

    def __init__(
        self,
        saga: Saga,
        function: Callable[P, Awaitable[R]],
        kind: Kind,
        *,
        signature: Signature,
        undo: Undo[Any, Any] | None = None,
        give_up: timedelta | None = None,
        runbook: Runbook | None = None,
        name: str | None = None,
        scope: str = "",
        givens: tuple[Given, ...] = (),
    ) -> None:
        self.saga = saga
        self.name = scope + (name or function.__name__)
        self.scope = scope
        """What comes before the name, where the saga is nested: `delivery.`."""
        self.givens = givens
        """How its input is made from that of the outermost saga; empty: it is the same."""
        self.function = function
        self.kind = kind
        self.signature = signature
        self.undo = undo
        self.give_up = give_up
        self.runbook = runbook
        self.codec: Codec[R] = Codec(signature.returns)
        self.__doc__ = function.__doc__

    def __repr__(self) -> str:
        return f"<step {self.name} of saga {self.saga.name}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
        """Call the function itself, as a test of the step does: no record, no saga."""
        return self.function(*args, **kwargs)

    @property
    def takes(self) -> Any:
        """The type of the saga's input, from which that of the step is made."""
        return self.givens[0].signature.input if self.givens else self.signature.input

    def instructions(self) -> str:
        """Return the text of its runbook as it is now, or why there is none."""
        return text_of(self.runbook)

    def inside(self, scope: str, givens: tuple[Given, ...]) -> Step[P, R]:
        """Return it as a step of the saga that its own is nested in."""
        step = Step(
            self.saga,
            self.function,
            self.kind,
            signature=self.signature,
            undo=self.undo.inside(scope) if self.undo else None,
            give_up=self.give_up,
            runbook=self.runbook,
            name=self.name.removeprefix(self.scope),
            scope=scope + self.scope,
            givens=givens,
        )
        if step.undo is not None:
            step.undo.step = step
        return step


class Undo(Generic[In_contra, Done]):
    """The compensating action of a step that is still to be made: by `@<undo>.undoes`."""

    def __init__(
        self,
        saga: Saga,
        function: Callable[[In_contra, Done, StepContext], Awaitable[None]],
        *,
        runbook: Runbook,
        retry: Backoff,
        breaker: Breaker,
        start: bool = False,
    ) -> None:
        self.saga = saga
        self.name = function.__name__
        self.function = function
        self.runbook = runbook
        self.retry = retry
        self.breaker = breaker
        self.signature = read_signature(function, what=f"undo {self.name}")
        self.step: Step[..., Any] | None = None
        self.__doc__ = function.__doc__
        (rules.check_undone if start else rules.check_undo)(self)

    def __repr__(self) -> str:
        return f"<undo {self.name} of saga {self.saga.name}>"

    def __call__(self, order: In_contra, done: Done, ctx: StepContext) -> Awaitable[None]:
        """Call the function itself, as a test of the undo does."""
        return self.function(order, done, ctx)

    def instructions(self) -> str:
        """Return the text of its runbook as it is now, or why there is none."""
        return text_of(self.runbook)

    def inside(self, scope: str) -> Undo[In_contra, Done]:
        """Return it as an undo of the saga that its own is nested in."""
        undo = copy(self)
        undo.name = scope + self.name
        return undo

    def undoes(
        self: Undo[I, R | Unknown], step: Callable[Concatenate[I, P], Awaitable[R]]
    ) -> Step[Concatenate[I, P], R]:
        """Make a step that this undo takes back.

        Raises `SagaDefinitionError` if the step's input or result is not the undo's.
        """
        made = self.saga._step(step, Kind.COMPENSATABLE, undo=self)  # noqa: SLF001  its own kind
        rules.check_undoes(self, made)
        self.step = made
        return made


class _OfUndo:
    def __init__(
        self, saga: Saga, runbook: str | None, retry: Backoff | None, breaker: Breaker | None
    ) -> None:
        self._saga = saga
        self._runbook = runbook
        self._retry = retry or saga.undo_retry
        self._breaker = breaker or saga.undo_breaker


class _MakesUndo(_OfUndo):
    def __call__(
        self, function: Callable[[I, R | Unknown, StepContext], Awaitable[None]]
    ) -> Undo[I, R | Unknown]:
        runbook = self._saga._runbook(self._runbook, function, f"undo {function.__name__}")  # noqa: SLF001
        undo: Undo[I, R | Unknown] = Undo(
            self._saga, function, runbook=runbook, retry=self._retry, breaker=self._breaker
        )
        self._saga._check_name(undo)  # noqa: SLF001  its own kind
        self._saga._undos[undo.name] = undo  # noqa: SLF001
        return undo


class _MakesUndone(_OfUndo):
    def __call__(self, function: Callable[[I, str, StepContext], Awaitable[None]]) -> Undo[I, str]:
        saga = self._saga
        runbook = saga._runbook(self._runbook, function, f"undone {function.__name__}")  # noqa: SLF001
        undo: Undo[I, str] = Undo(
            saga, function, runbook=runbook, retry=self._retry, breaker=self._breaker, start=True
        )
        saga._check_name(undo)  # noqa: SLF001  its own kind
        saga._undos[undo.name] = undo  # noqa: SLF001
        saga._start(undo)  # noqa: SLF001
        return undo


class _MakesStep:
    def __init__(
        self, saga: Saga, kind: Kind, give_up: timedelta | None, runbook: str | None
    ) -> None:
        self._saga = saga
        self._kind = kind
        self._give_up = give_up
        self._runbook = runbook

    def __call__(self, function: Callable[P, Awaitable[R]]) -> Step[P, R]:
        what = f"{self._kind} step {function.__name__}"
        rules.check_give_up(self._give_up, function, what)
        runbook = self._saga._runbook(self._runbook, function, what)  # noqa: SLF001  its own kind
        return self._saga._step(  # noqa: SLF001  its own kind
            function, self._kind, give_up=self._give_up, runbook=runbook
        )


class Saga(Nested):
    """A saga's definition. The name and version identify it in the record.

    It can be a part of another saga's path: `reserve >> delivery >> confirm`; see
    `switchgear.saga.nested`.

    `deadline` is the time from its start after which a saga that has not reached its pivot is
    undone; None: there is none. `runbook` stands in where an undo, pivot or retriable step names
    none of its own; paths are relative to the file of the module that defines the saga. `retry`
    is how a step is attempted before the pivot is decided, `undo_retry` how an undo is, and
    `attempt_timeout` bounds one attempt of either, whose outcome is unknown when it passes.
    `undo_breaker` is when a failing undo is no longer attempted for every saga (see
    `switchgear.saga.guard`); `Breaker(mode="closed")`: never.
    `fingerprint` pins the structure that this version was published with: a definition that comes
    out otherwise is refused at import, instead of at the start of a worker that finds its sagas.
    `keep` is for how long a saga is kept after its end, to be looked at and refuted; then it is
    archived, if the engine has an archive, and deleted. None: for ever.

    Raises `SagaDefinitionError` if the name or the version cannot be used.
    """

    def __init__(
        self,
        name: str,
        *,
        version: int,
        deadline: timedelta | None = None,
        runbook: str | None = None,
        retry: Backoff | None = None,
        undo_retry: Backoff | None = None,
        undo_breaker: Breaker | None = None,
        attempt_timeout: timedelta = timedelta(minutes=1),
        fingerprint: str | None = None,
        keep: timedelta | None = None,
    ) -> None:
        times = {"deadline": deadline, "attempt_timeout": attempt_timeout, "keep": keep}
        rules.check_saga(name, version, times, valid=_NAME)
        super().__init__(self, None)
        self.name = name
        self.version = version
        self.deadline = deadline
        self.retry = retry or Backoff()
        self.undo_retry = undo_retry or _UNDO_RETRY
        self.undo_breaker = undo_breaker or Breaker()
        self.attempt_timeout = attempt_timeout
        self.keep = keep
        self._pinned = fingerprint
        self._shared = runbook
        self._file = defining_file()
        self._steps: dict[str, Step[..., Any]] = {}
        self._undos: dict[str, Undo[Any, Any]] = {}
        self._locks: dict[str, tuple[Callable[[Any], str], bool]] = {}
        self._laid: rules.Layout | None = None
        self.laid_path: Path
        """The path, with the steps of nested sagas in it."""

    def __repr__(self) -> str:
        return f"<saga {self.name} version {self.version}>"

    def undo(
        self,
        *,
        runbook: str | None = None,
        retry: Backoff | None = None,
        breaker: Breaker | None = None,
    ) -> _MakesUndo:
        """Define an undo: `async def release(order, done: Reservation | Unknown, ctx) -> None`.

        It is called with the saga's input, the step's result (or `Unknown` if the step may have
        been done), and the context. It must do nothing where there is nothing to undo, and be
        safe to repeat. `runbook` is for the day that it fails; `retry` and `breaker` are its own,
        where they are not the saga's.
        """
        return _MakesUndo(self, runbook, retry, breaker)

    def undone(
        self,
        *,
        runbook: str | None = None,
        retry: Backoff | None = None,
        breaker: Breaker | None = None,
    ) -> _MakesUndone:
        """Define the undo of the start: `async def cancel(order, why: str, ctx) -> None`.

        It takes back what was committed together with the start of the saga, and is the place to
        tell others. It runs last, when every step has been undone, and is attempted, recorded and
        handed to a person like any undo. `why` says in a sentence what turned the saga round.
        """
        return _MakesUndone(self, runbook, retry, breaker)

    @overload
    def pivot(self, *, give_up: timedelta, runbook: str) -> _MakesStep: ...
    @overload
    def pivot(self, *, give_up: timedelta) -> _MakesStep: ...
    def pivot(self, *, give_up: timedelta | None = None, runbook: str | None = None) -> _MakesStep:
        """Define the step that cannot be undone and after which the saga only goes forward.

        `give_up` is how long it is asked again while its outcome is unknown, before it stands in
        front of a person with `runbook`.
        """
        return _MakesStep(self, Kind.PIVOT, give_up, runbook)

    @overload
    def retriable(self, *, give_up: timedelta, runbook: str) -> _MakesStep: ...
    @overload
    def retriable(self, *, give_up: timedelta) -> _MakesStep: ...
    def retriable(
        self, *, give_up: timedelta | None = None, runbook: str | None = None
    ) -> _MakesStep:
        """Define a step after the pivot, which is repeated until it succeeds.

        `give_up` is how long, before it stands in front of a person with `runbook`.
        """
        return _MakesStep(self, Kind.RETRIABLE, give_up, runbook)

    def read(self, function: Callable[P, Awaitable[R]]) -> Step[P, R]:
        """Define a step without effect, which needs no undo. It stands before the pivot."""
        return self._step(function, Kind.READ)

    def lock(
        self,
        name: str,
        id: Callable[[Any], str],  # noqa: A002  it is called that
        *,
        held: Literal["wait", "refuse"] = "wait",
    ) -> None:
        """Let one saga at a time be about one thing: `checkout.lock("order", lambda o: o.id)`.

        The lock is held from the start to the end, by this or any other saga of the service that
        names it. `id` says which thing, from the input. While another saga holds it, one that is
        started waits for its turn (its deadline counts meanwhile), or is refused with `SagaLocked`.
        A saga that waits for a person keeps its locks.

        Raises `SagaDefinitionError` if the name cannot be used or is taken.
        """
        rules.check_lock(self, name, self._locks, laid=self._laid is not None, valid=_NAME)
        self._locks[name] = id, held == "refuse"

    def asked(self, step: str, side: Side) -> Step[..., Any] | Undo[Any, Any]:
        """Return what a person is asked about when a half step gives up."""
        whole = self.steps[step]
        return whole.undo if side is Side.UNDO and whole.undo else whole

    def wishes(self, given: Any) -> tuple[Wish, ...]:
        """Return the locks that a saga with the input `given` holds.

        Raises `SagaError` if the id of one is not a text.
        """
        return tuple(
            Wish(f"{name}/{rules.checked_id(self, name, id(given))}", refuse)
            for name, (id, refuse) in self._locks.items()  # noqa: A001
        )

    def path(self, path: Path) -> None:
        """Say in which order the steps run. It ends the definition, and is checked here.

        Raises `SagaDefinitionError` for every rule that `switchgear.saga.rules` holds.
        """
        if self._laid is not None:
            raise SagaDefinitionError(
                "it has a path already.", where=repr(self), fix="Join all steps in one path."
            )
        start = self._steps.get(rules.START)
        expanded, nested = expand(self, path)
        self.laid_path = expanded
        whole = expanded if start is None or start.kind is not Kind.START else start >> expanded
        steps = {**self._steps, **nested}
        laid = rules.lay_out(self, whole, steps, self._undos.values())
        rules.check_pinned(laid.plan, self._pinned)
        self._laid = replace(laid, plan=replace(laid.plan, locks=tuple(self._locks)))

    def within(self, given: Callable[..., Any]) -> Nested:
        """Return the saga as a part of another's path: `reserve >> delivery.within(parcel)`.

        `given` makes its input from the outer saga's, and from results of steps before it, which
        it takes like a step: `def parcel(order: Order, reserved: Reservation) -> Parcel`. It is
        called on every attempt, so it must do nothing else. A saga of the same input needs none.

        Raises `SagaDefinitionError` if its annotations cannot be read.
        """
        signature = read_signature(given, what=f"input of saga {self.name}", awaited=False)
        return Nested(self, Given(given, signature))

    @property
    def steps(self) -> Mapping[str, Step[..., Any]]:
        """The steps by name, each after those that it depends on."""
        return self.layout.steps

    @property
    def plan(self) -> Plan:
        """The structure as data."""
        return self.layout.plan

    @property
    def fingerprint(self) -> str:
        """A hash of steps, order and types. Raise `version` when it changes."""
        return self.plan.fingerprint

    @property
    def input(self) -> Codec[Any]:
        """How the input is recorded; `input.declared` is its type."""
        return self.layout.input

    def givens(self, step: Step[..., Any]) -> tuple[Given, ...]:
        """Return how the input of `step` is made from the saga's, the outermost first."""
        return self.layout.givens[step.name]

    def bindings(self, step: Step[..., Any]) -> tuple[Binding, ...]:
        """Return where each parameter of `step` after the input comes from."""
        return self.layout.bindings[step.name]

    @property
    def layout(self) -> rules.Layout:
        """The definition, checked. Raises `SagaDefinitionError` if it has no path yet."""
        if self._laid is None:
            raise SagaDefinitionError(
                "it has no path.", where=repr(self), fix=f"Add {self.name}.path(first >> second)."
            )
        return self._laid

    def with_layout(self, layout: rules.Layout) -> Saga:
        """Return the same saga with another layout, to be run in a test."""
        other = copy(self)
        other._laid = layout  # noqa: SLF001  its own kind
        return other

    def _step(
        self,
        function: Callable[P, Awaitable[R]],
        kind: Kind,
        *,
        undo: Undo[Any, Any] | None = None,
        give_up: timedelta | None = None,
        runbook: Runbook | None = None,
    ) -> Step[P, R]:
        signature = read_signature(function, what=f"step {function.__name__}")
        step = Step(
            self,
            function,
            kind,
            signature=signature,
            undo=undo,
            give_up=give_up,
            runbook=runbook,
        )
        self._check_name(step)
        self._steps[step.name] = step
        return step

    def _start(self, undo: Undo[Any, Any]) -> None:
        nothing = Signature(undo.signature.input, (), type(None))
        start: Step[..., None] = Step(
            self, undo.function, Kind.START, signature=nothing, undo=undo, name=rules.START
        )
        self._check_name(start)
        self._steps[start.name] = start
        undo.step = start

    def _check_name(self, named: Step[..., Any] | Undo[Any, Any]) -> None:
        if self._laid is not None:
            raise SagaDefinitionError(
                "it comes after the path, which ends the definition.",
                where=f"{place_of(named.function)}: {named!r}",
                fix=f"Move {self.name}.path(...) below it.",
            )
        taken = self._steps.get(named.name) or self._undos.get(named.name)
        rules.check_name(self, named, taken)

    def _runbook(self, own: str | None, function: Callable[..., object], what: str) -> Runbook:
        if own is not None:
            return find_runbook(own, FilePath(inspect.getfile(function)), place_of(function), what)
        if self._shared is not None:
            return find_runbook(self._shared, self._file, place_of(function), what)
        raise SagaDefinitionError(
            "it has no runbook, and neither has the saga.",
            where=f"{place_of(function)}: {what}",
            fix='Add runbook="runbooks/<name>.md", which says what a person does when it fails.',
        )
