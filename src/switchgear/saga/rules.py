"""The rules of sagas that a definition must keep, each with the edit that restores it.

- An undo takes exactly the input, `<the step's result> | Unknown`, and the context.
- Every step takes the same input. Its other parameters are results of steps before it, found by
  their type; where two earlier steps return that type, `Annotated[T, step]` says which.
- Compensatable steps and reads come first, then at most one pivot, then retriable steps. The
  pivot is in no parallel branch, and everything that could still refuse comes before what cannot
  be undone.
- `start` is the name of the step that the start itself is, where the saga has an `undone`.
- Names are unique; every step that is defined is in the path once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from switchgear.errors import SagaDefinitionError, SagaError
from switchgear.model.outcome import Unknown
from switchgear.saga.codec import Codec
from switchgear.saga.context import StepContext
from switchgear.saga.nested import Binding, Given
from switchgear.saga.path import Path, Place, places
from switchgear.saga.plan import Kind, Plan, StepPlan
from switchgear.saga.signature import Parameter, place_of, type_name, without

if TYPE_CHECKING:
    from switchgear.saga.definition import Saga, Step, Undo

__all__ = [
    "MOST_ID",
    "START",
    "Layout",
    "check_give_up",
    "check_lock",
    "check_name",
    "check_pinned",
    "check_saga",
    "check_undo",
    "check_undoes",
    "checked_id",
    "lay_out",
]

_UNDO_PARAMETERS = 2
MOST_ID: Final = 200
"""Characters of the id of a saga, and of what a lock is on."""
START: Final = "start"
"""The name, in plans and records, of the step that the start of a saga is."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A definition whose path has been checked."""

    plan: Plan
    steps: Mapping[str, Step[..., Any]]
    bindings: Mapping[str, tuple[Binding, ...]]
    givens: Mapping[str, tuple[Given, ...]]
    input: Codec[Any]


def check_saga(
    name: str, version: int, times: Mapping[str, timedelta | None], *, valid: re.Pattern[str]
) -> None:
    """Refuse a name, version or time that cannot be used."""
    where = f"saga {name}"
    if not valid.fullmatch(name):
        raise SagaDefinitionError(
            f"{name!r} is not a name.",
            where="saga",
            fix="Use letters, digits, '_', '-' and '.', beginning with a letter.",
        )
    if version < 1:
        raise SagaDefinitionError(
            f"its version is {version}.", where=where, fix="Count versions from 1."
        )
    for named, time in times.items():
        if time is not None and time <= timedelta():
            raise SagaDefinitionError(
                f"its {named} is {time}.", where=where, fix="Give it a time greater than zero."
            )


def check_lock(
    saga: Saga, name: str, taken: Collection[str], *, laid: bool, valid: re.Pattern[str]
) -> None:
    """Refuse a lock whose name cannot be used, or that comes too late."""
    where = f"saga {saga.name}: lock {name}"
    if not valid.fullmatch(name):
        raise SagaDefinitionError(
            f"{name!r} is not a name.",
            where=where,
            fix='Name the kind of thing, such as "order", and give its id by the function.',
        )
    if name in taken:
        raise SagaDefinitionError("it is declared twice.", where=where, fix="Delete one of them.")
    if laid:
        raise SagaDefinitionError(
            "it comes after the path, which ends the definition.",
            where=where,
            fix=f"Move it above {saga.name}.path(...).",
        )


def checked_id(saga: Saga, name: str, given: object) -> str:
    """Return the id of a lock if it is one."""
    if isinstance(given, str) and given and len(given) <= MOST_ID and given.isprintable():
        return given
    raise SagaError(
        f"the id of the lock {name} is {given!r}.",
        where=f"start of saga {saga.name}",
        fix=f"Let its function return a text of 1 to {MOST_ID} printable characters.",
    )


def check_pinned(plan: Plan, pinned: str | None) -> None:
    """Refuse a structure that is not the one that its version was published with."""
    if pinned is not None and pinned != plan.fingerprint:
        raise SagaDefinitionError(
            f"its definition was changed under version {plan.version}: the fingerprint is "
            f"{plan.fingerprint}, and {pinned} is pinned.",
            where=f"saga {plan.saga}",
            fix=f'Make it version {plan.version + 1} with fingerprint="{plan.fingerprint}", and '
            "keep the former definition beside it until its sagas have ended.",
        )


def check_give_up(give_up: timedelta | None, function: Callable[..., object], what: str) -> None:
    """Refuse a pivot or retriable step without a bound on how long it is repeated."""
    if give_up is None or give_up <= timedelta():
        raise SagaDefinitionError(
            "it has no give_up." if give_up is None else f"its give_up is {give_up}.",
            where=f"{place_of(function)}: {what}",
            fix="Add give_up=timedelta(hours=4): how long it is repeated before a person is asked.",
        )


def check_name(
    saga: Saga,
    named: Step[..., Any] | Undo[Any, Any],
    taken: Step[..., Any] | Undo[Any, Any] | None,
) -> None:
    """Refuse a second step or undo of one name."""
    if taken is not None:
        raise SagaDefinitionError(
            f"{taken!r} has the same name; it stands at {place_of(taken.function)}.",
            where=f"{place_of(named.function)}: {named!r}",
            fix=f"Rename one of them: names are unique in saga {saga.name}.",
        )


def check_undo(undo: Undo[Any, Any]) -> None:
    """Refuse an undo whose signature is not (input, result | Unknown, context)."""
    where = f"{place_of(undo.function)}: undo {undo.name}"
    parameters = undo.signature.parameters
    if len(parameters) != _UNDO_PARAMETERS or parameters[1].type is not StepContext:
        raise SagaDefinitionError(
            "it does not take exactly the input, the step's result or Unknown, and the context.",
            where=where,
            fix=f"Write: async def {undo.name}(order: Order, done: Result | Unknown, ctx: Context)"
            "; other results are in ctx.result(step).",
        )
    declared = parameters[0].type
    if without(declared, Unknown) is declared:
        raise SagaDefinitionError(
            f"its parameter {parameters[0].name}: {type_name(declared)} does not take Unknown.",
            where=where,
            fix=f"Declare it as {type_name(declared)} | Unknown: the step may have been done "
            "without anyone knowing its result.",
        )


def check_undone(undo: Undo[Any, Any]) -> None:
    """Refuse an undo of the start whose signature is not (input, str, context)."""
    parameters = undo.signature.parameters
    if [each.type for each in parameters] != [str, StepContext]:
        raise SagaDefinitionError(
            "it does not take exactly the input, the reason, and the context.",
            where=f"{place_of(undo.function)}: undone {undo.name}",
            fix=f"Write: async def {undo.name}(order: Order, why: str, ctx: StepContext)",
        )


def check_undoes(undo: Undo[Any, Any], step: Step[..., Any]) -> None:
    """Refuse a step whose input or result its undo does not take."""
    where = f"{place_of(step.function)}: step {step.name}"
    if undo.step is not None:
        raise SagaDefinitionError(
            f"undo {undo.name} undoes step {undo.step.name} already.",
            where=where,
            fix=f"Define an undo of its own for {step.name}.",
        )
    if undo.signature.input != step.signature.input:
        raise SagaDefinitionError(
            f"its input is {type_name(step.signature.input)}, and that of undo {undo.name} is "
            f"{type_name(undo.signature.input)}.",
            where=where,
            fix="Give both the saga's input.",
        )
    declared = undo.signature.parameters[0]
    if without(declared.type, Unknown) != step.signature.returns:
        raise SagaDefinitionError(
            f"it returns {type_name(step.signature.returns)}, and undo {undo.name} takes "
            f"{declared.name}: {type_name(declared.type)}.",
            where=where,
            fix=f"Declare {declared.name}: {type_name(step.signature.returns)} | Unknown.",
        )


def lay_out(
    saga: Saga, path: Path, steps: Mapping[str, Step[..., Any]], undos: Iterable[Undo[Any, Any]]
) -> Layout:
    """Check the path and return the layout. Raises `SagaDefinitionError`."""
    laid = _laid_steps(saga, path, steps)
    _check_complete(saga, laid, steps, undos)
    plan = Plan(saga.name, saga.version, tuple(_planned(place) for _, place in laid.values()))
    ordered = {name: step for name, (step, _) in laid.items()}
    for step, place in laid.values():
        _check_order(plan, step, place, ordered)
    first = next(iter(ordered.values()))
    for step in ordered.values():
        if step.takes != first.takes:
            raise SagaDefinitionError(
                f"its input is {type_name(step.takes)}, and that of {first.name} is "
                f"{type_name(first.takes)}.",
                where=_where(step),
                fix="Give every step the saga's input; take what others return by its type. In "
                f"front of a nested saga, make its input: {step.saga.name}.within(function).",
            )
    bindings = {step.name: _bindings(plan, step, ordered) for step in ordered.values()}
    givens = {step.name: _givens(plan, step, ordered) for step in ordered.values()}
    planned = tuple(
        replace(step, needs=_needs(bindings[step.name], givens[step.name])) for step in plan.steps
    )
    whole = replace(plan, steps=planned, fingerprint=_fingerprint(planned, ordered))
    return Layout(whole, ordered, bindings, givens, Codec(first.takes))


def _bindings(
    plan: Plan, step: Step[..., Any], steps: Mapping[str, Step[..., Any]]
) -> tuple[Binding, ...]:
    if step.scope:  # bound inside the saga that is nested, and only there
        name = step.name.removeprefix(step.scope)
        inner = step.saga.steps[name]
        return tuple(each.inside(step.scope) for each in step.saga.bindings(inner))
    return tuple(_bound(plan, step, each, steps) for each in step.signature.parameters)


def _givens(
    plan: Plan, step: Step[..., Any], steps: Mapping[str, Step[..., Any]]
) -> tuple[Given, ...]:
    """Bind what makes the input of the outermost nested saga; the others are bound already."""
    if not step.givens or step.givens[0].bindings:
        return step.givens
    first, *rest = step.givens
    outside = {name: each for name, each in steps.items() if not name.startswith(first.scope)}
    bound = tuple(_bound(plan, step, each, outside) for each in first.signature.parameters)
    return (replace(first, bindings=bound), *rest)


def _needs(bindings: tuple[Binding, ...], givens: tuple[Given, ...]) -> tuple[str, ...]:
    bound = [*bindings, *(each for given in givens for each in given.bindings)]
    return tuple(dict.fromkeys(each.producer for each in bound if each.producer))


def _laid_steps(
    saga: Saga, path: Path, steps: Mapping[str, Step[..., Any]]
) -> dict[str, tuple[Step[..., Any], Place]]:
    by_leaf: Mapping[Path, Step[..., Any]] = {step: step for step in steps.values()}
    laid: dict[str, tuple[Step[..., Any], Place]] = {}
    for place in places(path):
        step = by_leaf.get(place.leaf)
        if step is None:
            raise SagaDefinitionError(
                f"{place.leaf!r} is not a step of it.",
                where=f"path of {saga!r}",
                fix=f"Define it with @{saga.name}.undo and @<undo>.undoes, .read, .pivot or "
                ".retriable.",
            )
        if step.name in laid:
            raise SagaDefinitionError(
                f"step {step.name} is in the path twice.",
                where=f"path of {saga!r}",
                fix="Define a second step, with a name and an undo of its own.",
            )
        laid[step.name] = (step, place)
    return laid


def _check_complete(
    saga: Saga,
    laid: Mapping[str, object],
    steps: Mapping[str, Step[..., Any]],
    undos: Iterable[Undo[Any, Any]],
) -> None:
    for undo in undos:
        if undo.step is None:
            raise SagaDefinitionError(
                "it undoes no step.",
                where=f"{place_of(undo.function)}: undo {undo.name}",
                fix=f"Make its step with @{undo.name}.undoes, or delete it.",
            )
    for step in steps.values():
        if step.name not in laid:
            raise SagaDefinitionError(
                f"it is not in the path of saga {saga.name}.",
                where=_where(step),
                fix="Add it to the path with >> or |, or delete it.",
            )


def _check_order(
    plan: Plan, step: Step[..., Any], place: Place, steps: Mapping[str, Step[..., Any]]
) -> None:
    if step.kind is Kind.PIVOT and place.parallel:
        raise SagaDefinitionError(
            "the pivot stands in a parallel branch.",
            where=_where(step),
            fix="Put it after the branches: (a | b) >> pivot.",
        )
    for other in steps.values():
        if other is step:
            continue
        if step.kind is Kind.PIVOT and other.kind is Kind.PIVOT:
            raise SagaDefinitionError(
                f"{other.name} is a pivot as well.",
                where=_where(step),
                fix="Keep one; give the other an undo before it, or make it retriable after it.",
            )
        before = other.name in plan.earlier[step.name]
        if step.kind is Kind.RETRIABLE and other.kind is not Kind.RETRIABLE and not before:
            raise SagaDefinitionError(
                f"it is retriable and does not come after {other.name}, which is {other.kind}: "
                "when that fails, it could not be undone.",
                where=_where(step),
                fix=f"Move {step.name} after {other.name}, or give it an undo.",
            )
        if step.kind is Kind.PIVOT and other.kind in {Kind.COMPENSATABLE, Kind.READ} and not before:
            raise SagaDefinitionError(
                f"{other.name}, which is {other.kind}, does not come before it.",
                where=_where(step),
                fix=f"Move {other.name} before {step.name}, or make it retriable.",
            )


def _bound(
    plan: Plan, step: Step[..., Any], parameter: Parameter, steps: Mapping[str, Step[..., Any]]
) -> Binding:
    if parameter.context:
        return Binding(parameter.name, None, parameter.keyword)
    wanted = type_name(parameter.type)
    before = [steps[name] for name in steps if name in plan.earlier[step.name]]
    makers = [each for each in before if each.signature.returns == parameter.type]
    if parameter.producer is not None:
        makers = [each for each in makers if each is parameter.producer]
        if not makers:
            raise SagaDefinitionError(
                f"its parameter {parameter.name} is the {wanted} of {parameter.producer!r}, which "
                "does not come before it or does not return that.",
                where=_where(step),
                fix="Move that step before it, or correct the annotation.",
            )
    if not makers:
        known = ", ".join(f"{each.name} -> {type_name(each.signature.returns)}" for each in before)
        raise SagaDefinitionError(
            f"its parameter {parameter.name} needs a {wanted}, which no step before it returns.",
            where=_where(step),
            fix=f"Move the step that returns it before {step.name}. "
            f"Before it come: {known or 'none'}.",
        )
    if len(makers) > 1:
        names = " and ".join(each.name for each in makers)
        raise SagaDefinitionError(
            f"its parameter {parameter.name} needs a {wanted}, and {names} both return one.",
            where=_where(step),
            fix=f"Say which: {parameter.name}: Annotated[{wanted}, {makers[0].name}].",
        )
    return Binding(parameter.name, makers[0].name, parameter.keyword)


def _planned(place: Place) -> StepPlan:
    step: Any = place.leaf
    after: Any = place.after
    saga: Saga = step.saga
    return StepPlan(
        name=step.name,
        kind=step.kind,
        after=tuple(each.name for each in after),
        undo=step.undo.name if step.undo else None,
        runbook=step.runbook.name if step.runbook else None,
        undo_runbook=step.undo.runbook.name if step.undo else None,
        give_up=step.give_up.total_seconds() if step.give_up else None,
        retry=saga.retry,
        undo_retry=step.undo.retry if step.undo else saga.undo_retry,
        attempt_timeout=saga.attempt_timeout.total_seconds(),
    )


def _fingerprint(planned: tuple[StepPlan, ...], steps: Mapping[str, Step[..., Any]]) -> str:
    """Hash what the journal's meaning depends on; times and policies may change under a saga."""
    told = [
        [
            step.name,
            step.kind,
            step.after,
            step.undo,
            step.needs,
            type_name(steps[step.name].signature.input),
            type_name(steps[step.name].signature.returns),
            *(given.function.__name__ for given in steps[step.name].givens),
        ]
        for step in planned
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _where(step: Step[..., Any]) -> str:
    return f"{place_of(step.function)}: step {step.name}"
