"""A saga inside another: its steps become steps of the other, under its name.

    checkout.path(reserve >> delivery >> confirm)
    checkout.path(reserve >> delivery.within(parcel) >> confirm)  # if it takes another input

The nested saga's steps are called `delivery.pack`, `delivery.send`, in plans, records and keys.
There is one journal, one order of undoing, and one set of rules for the whole: a pivot inside the
nested saga is the pivot of all of it. Its steps see its own input and the results of its own steps;
`parcel` makes that input from the outer one, and from results of outer steps before it. Retries
and runbooks are those of the nested saga, the deadline is that of the outermost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from switchgear.errors import SagaDefinitionError
from switchgear.saga.path import Branches, Path, Sequence
from switchgear.saga.plan import Kind
from switchgear.saga.signature import Signature, place_of, type_name

if TYPE_CHECKING:
    from switchgear.saga.definition import Saga, Step

__all__ = ["Binding", "Given", "Nested", "expand"]


@dataclass(frozen=True, slots=True)
class Binding:
    """Where one parameter of a step comes from; no producer: it is the context."""

    parameter: str
    producer: str | None
    keyword: bool

    def inside(self, scope: str) -> Binding:
        """Return it as the outer saga calls it."""
        return self if self.producer is None else replace(self, producer=scope + self.producer)


@dataclass(frozen=True, slots=True)
class Given:
    """How the input of a nested saga is made: called again whenever it is needed."""

    function: Callable[..., Any]
    signature: Signature
    scope: str = ""
    """What the nested steps' names begin with; the results that it takes are of other steps."""
    bindings: tuple[Binding, ...] = ()

    def inside(self, scope: str) -> Given:
        """Return it as the outer saga calls it."""
        return replace(self, bindings=tuple(each.inside(scope) for each in self.bindings))


class Nested(Path):
    """A saga in the path of another, with the function that makes its input, if it needs one."""

    def __init__(self, saga: Saga, given: Given | None) -> None:
        self.saga = saga
        self.given = given

    def __repr__(self) -> str:
        return repr(self.saga)


def expand(outer: Saga, path: Path) -> tuple[Path, dict[str, Step[..., Any]]]:
    """Return `path` with every nested saga replaced by its steps, and those steps by name.

    Raises `SagaDefinitionError` if a saga cannot be nested.
    """
    made: dict[str, Step[..., Any]] = {}

    def visit(part: Path) -> Path:
        if isinstance(part, Sequence):
            return Sequence(tuple(_flat(map(visit, part.parts), Sequence)))
        if isinstance(part, Branches):
            return Branches(tuple(_flat(map(visit, part.parts), Branches)))
        if not isinstance(part, Nested):
            return part
        _check(outer, part)
        copies = {step: _copied(part, step) for step in part.saga.steps.values()}
        for step in copies.values():
            if step.name in made:
                raise SagaDefinitionError(
                    f"saga {part.saga.name} is in the path twice.",
                    where=f"path of {outer!r}",
                    fix="Give the second one a name of its own.",
                )
            made[step.name] = step
        return _with(part.saga.laid_path, copies)

    return visit(path), made


def _flat(parts: Iterator[Path], kind: type[Sequence | Branches]) -> Iterator[Path]:
    for part in parts:
        if isinstance(part, kind):
            yield from part.parts
        else:
            yield part


def _with(path: Path, copies: dict[Step[..., Any], Step[..., Any]]) -> Path:
    if isinstance(path, Sequence | Branches):
        return type(path)(tuple(_with(part, copies) for part in path.parts))
    step: Any = path
    return copies[step]


def _copied(nested: Nested, step: Step[..., Any]) -> Step[..., Any]:
    scope = f"{nested.saga.name}."
    first = () if nested.given is None else (replace(nested.given, scope=scope),)
    return step.inside(scope, (*first, *(g.inside(scope) for g in nested.saga.givens(step))))


def _check(outer: Saga, nested: Nested) -> None:
    inner, where = nested.saga, f"path of {outer!r}"
    if inner is outer:
        raise SagaDefinitionError(
            "it is in its own path.", where=where, fix="Nest another saga, or repeat its steps."
        )
    start = next((step for step in inner.steps.values() if step.kind is Kind.START), None)
    if start is not None:
        raise SagaDefinitionError(
            f"saga {inner.name} has an undo of its start, and inside another it has no start.",
            where=where,
            fix=f"Move {start.undo.name if start.undo else 'it'} to {outer.name}.",
        )
    if inner.plan.locks:
        raise SagaDefinitionError(
            f"saga {inner.name} has a lock, and inside another it has no start.",
            where=where,
            fix=f"Declare the lock {inner.plan.locks[0]} in {outer.name}.",
        )
    given = nested.given
    if given is not None and given.signature.returns != inner.input.declared:
        raise SagaDefinitionError(
            f"it returns {type_name(given.signature.returns)}, and the input of saga {inner.name} "
            f"is {type_name(inner.input.declared)}.",
            where=f"{place_of(given.function)}: input of saga {inner.name}",
            fix=f"Return a {type_name(inner.input.declared)}.",
        )
