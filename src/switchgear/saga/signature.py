"""What the signature of a step or an undo says: its input, what it needs, what it returns."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Never, Union, get_args, get_origin, get_type_hints

from switchgear.errors import SagaDefinitionError
from switchgear.saga.context import StepContext
from switchgear.saga.path import Path as StepPath

__all__ = [
    "Parameter",
    "Signature",
    "hints_of",
    "place_of",
    "read_signature",
    "type_name",
    "without",
]

_VARIADIC = frozenset({inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD})


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter after the input."""

    name: str
    type: Any
    producer: StepPath | None
    """The step that `Annotated[T, step]` names."""
    keyword: bool

    @property
    def context(self) -> bool:
        """Whether it is the saga's context and not a result."""
        return self.type is StepContext


@dataclass(frozen=True, slots=True)
class Signature:
    """The types that a step or undo is declared with."""

    input: Any
    parameters: tuple[Parameter, ...]
    returns: Any


def place_of(function: Callable[..., object]) -> str:
    """Return the file and line where `function` stands."""
    code = function.__code__ if isinstance(function, types.FunctionType) else None
    name = getattr(function, "__qualname__", repr(function))
    return f"{Path(code.co_filename).name}:{code.co_firstlineno} ({name})" if code else name


def read_signature(
    function: Callable[..., object], *, what: str, awaited: bool = True
) -> Signature:
    """Read the types of a step's or undo's signature. `what` names it in errors.

    Raises `SagaDefinitionError` if it is not an `async def` where it is `awaited` (or is one where
    it is not), if an annotation is missing or cannot be resolved while the module is imported, or
    if its parameters cannot be bound.
    """
    where = f"{place_of(function)}: {what}"
    if awaited and not inspect.iscoroutinefunction(function):
        raise SagaDefinitionError(
            "it is not a coroutine function.", where=where, fix="Define it with `async def`."
        )
    if not awaited and inspect.iscoroutinefunction(function):
        raise SagaDefinitionError(
            "it is a coroutine function.",
            where=where,
            fix="Define it with `def`: it only makes a value; what asks others is a step.",
        )
    try:
        hints = hints_of(function)
    except (NameError, TypeError, AttributeError) as error:
        raise SagaDefinitionError(
            f"an annotation cannot be resolved: {error}.",
            where=where,
            fix="Import its type for real, not only under TYPE_CHECKING, above the function.",
        ) from error
    parameters = list(inspect.signature(function).parameters.values())
    for parameter in parameters:
        if parameter.kind in _VARIADIC or parameter.default is not parameter.empty:
            raise SagaDefinitionError(
                f"the parameter {parameter.name} cannot be bound by type.",
                where=where,
                fix="Take the input, results of earlier steps and the context, without defaults.",
            )
    for name in (*(parameter.name for parameter in parameters), "return"):
        if name not in hints:
            raise SagaDefinitionError(
                f"{'its result' if name == 'return' else f'the parameter {name}'} has no type.",
                where=where,
                fix="Annotate it: results are passed on by their type.",
            )
    if not parameters or hints[parameters[0].name] is StepContext:
        raise SagaDefinitionError(
            "it does not take the saga's input.",
            where=where,
            fix="Make the input its first parameter, for example `order: Order`.",
        )
    return Signature(
        input=hints[parameters[0].name],
        parameters=tuple(_parameter(each, hints) for each in parameters[1:]),
        returns=hints["return"],
    )


def without(union: object, member: type) -> object:
    """Return what is left of `union` without `member` (Never: nothing); `union` if it is not in."""
    members = get_args(union) if get_origin(union) in {Union, types.UnionType} else (union,)
    left = tuple(each for each in members if each is not member)
    if len(left) == len(members):
        return union
    rest: Any = Union[left] if left else Never  # noqa: UP007  the members are not known here
    return rest


def type_name(annotation: object) -> str:
    """Return a type as it is written, without its module: a moved class is the same class."""
    if annotation is None or annotation is type(None):
        return "None"
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in {Union, types.UnionType}:
        return " | ".join(sorted(map(type_name, args)))
    if origin is Annotated:
        return type_name(args[0])
    if origin is not None and args:
        return f"{type_name(origin)}[{', '.join(map(type_name, args))}]"
    return getattr(annotation, "__name__", None) or str(annotation)


def _parameter(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Parameter:
    annotation, producer = hints[parameter.name], None
    if get_origin(annotation) is Annotated:
        bare, *extras = get_args(annotation)
        producer = next((extra for extra in extras if isinstance(extra, StepPath)), None)
        if producer is not None:
            annotation = bare
    keyword = parameter.kind is inspect.Parameter.KEYWORD_ONLY
    return Parameter(parameter.name, annotation, producer, keyword)


def hints_of(function: Callable[..., object]) -> dict[str, Any]:
    """Return the resolved annotations of a function that is being defined by the caller."""
    return get_type_hints(function, localns=_locals(function), include_extras=True)


def _locals(function: Callable[..., object]) -> dict[str, object]:
    """Return the local names around a definition, so that a saga can be defined in a function."""
    namespace: Mapping[str, object] = getattr(function, "__globals__", {})
    frame = inspect.currentframe()
    found: dict[str, object] = {}
    while frame is not None:
        if frame.f_globals is namespace and frame.f_code.co_name != "<module>":
            found = {**frame.f_locals, **found}
        frame = frame.f_back
    return found
