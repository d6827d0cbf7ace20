"""Resources, and injection by type.

A resource is a function that makes something the service keeps while it runs: a pool, a client, a
cache. Its return annotation is what it provides, its parameters are what it needs; whoever needs
something names its type. Resources open in the order of their needs and close in reverse.

- `async def pool() -> AsyncIterator[Pool]` with one `yield`: what follows the yield closes it.
- `def table() -> Iterator[Table]` likewise, without awaiting.
- `async def settings() -> Settings` or `def settings() -> Settings`: nothing to close.

A need is met by the one provider of exactly that type, else by the one provider of a subclass.
Where two resources provide one type, the need says which: `Annotated[Pool, reporting]`, with the
resource's function.
"""

from __future__ import annotations

import inspect
import logging
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Annotated, Any, Final

from switchgear.errors import DeclarationError, OperationError, SwitchgearError

__all__ = [
    "InjectionError",
    "Need",
    "Provider",
    "Scope",
    "inject",
    "making",
    "needs_of",
    "open_all",
]

_STREAMS: Final = (AsyncIterator, AsyncGenerator, AsyncIterable, Iterator, Generator, Iterable)

_log = logging.getLogger(__name__)

# What is injected has any type: the type is data here.
Names = Mapping[str, Any]


class InjectionError(DeclarationError):
    """A resource, handler or hook asks for what nobody provides, or does not say what it wants."""

    code = "SG150"


@dataclass(frozen=True, slots=True)
class Need:
    """One parameter that is to be injected."""

    where: str
    name: str
    type: Any
    marks: tuple[object, ...] = ()
    """The rest of an `Annotated[...]`."""
    optional: bool = False
    """It has a default, which is used where nobody provides it."""


@dataclass(frozen=True, slots=True)
class Provider:
    """One thing that can be injected: a resource, or what the service itself has."""

    type: Any
    name: str
    source: object = None
    """The resource's function; None for what the service itself has."""
    value: object = None
    """What it is, where there is nothing to open."""
    needs: tuple[Need, ...] = ()

    @classmethod
    def of(cls, function: Callable[..., Any], scope: Scope) -> Provider:
        """Return the provider that a resource's function stands for."""
        where = _where(function)
        hints = scope.hints(function, where)
        if "return" not in hints:
            raise InjectionError(
                "it does not say what it provides.",
                where=where,
                fix="Annotate what it returns: -> AsyncIterator[Pool], or -> Settings.",
            )
        kind = hints["return"]
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            if typing.get_origin(kind) not in _STREAMS:
                raise InjectionError(
                    f"it yields, and is annotated as {_named(kind)}.",
                    where=where,
                    fix="Annotate it as -> AsyncIterator[Type], or Iterator[Type] without async.",
                )
            kind = typing.get_args(kind)[0]
        return cls(kind, function.__name__, function, needs=needs_of(function, scope))


@dataclass(frozen=True, slots=True)
class Scope:
    """The local names where a function was declared: its annotations may use them."""

    names: Names

    @classmethod
    def here(cls, depth: int = 1) -> Scope:
        """Return the scope of the code `depth` calls above the caller."""
        frame: FrameType | None = inspect.currentframe()
        for _ in range(depth + 1):
            frame = frame.f_back if frame else None
        if frame is None or frame.f_locals is frame.f_globals:
            return cls({})
        return cls(dict(frame.f_locals))

    def hints(self, function: Callable[..., Any], where: str) -> dict[str, Any]:
        """Return the evaluated annotations of a function."""
        try:
            return typing.get_type_hints(function, localns=dict(self.names), include_extras=True)
        except NameError as error:
            raise InjectionError(
                f"the type {error.name} of an annotation is not known at run time.",
                where=where,
                fix="Import it at the top of the module, outside of `if TYPE_CHECKING:`.",
            ) from error


def needs_of(target: Callable[..., Any], scope: Scope, *, skip: int = 0) -> tuple[Need, ...]:
    """Return what a function or class wants injected, leaving out its first `skip` parameters."""
    where = _where(target)
    function = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    parameters = [
        parameter
        for parameter in inspect.signature(target).parameters.values()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ][skip:]
    if not parameters:
        return ()
    hints = scope.hints(function, where)
    needs = []
    for parameter in parameters:
        kind = hints.get(parameter.name)
        optional = parameter.default is not parameter.empty
        if kind is None and not optional:
            raise InjectionError(
                f"the parameter {parameter.name} has no type.",
                where=where,
                fix="Annotate it: what is injected is chosen by its type.",
            )
        marks: tuple[object, ...] = ()
        if typing.get_origin(kind) is Annotated:
            kind, *rest = typing.get_args(kind)
            marks = tuple(rest)
        needs.append(Need(where, parameter.name, kind, marks, optional))
    return tuple(needs)


async def open_all(
    resources: Sequence[Provider], given: Sequence[Provider], stack: AsyncExitStack
) -> list[Provider]:
    """Open `resources` in the order of their needs; return them and `given`, with their values.

    `stack` closes them in reverse.
    """
    ready = list(given)
    for resource in _ordered(resources, given):
        arguments = inject(resource.needs, ready)
        with making(f"the resource {resource.name}", resource.source):
            value = await _opened(resource.source, arguments, stack)
        ready.append(Provider(resource.type, resource.name, resource.source, value))
    return ready


@contextmanager
def making(what: str, target: object) -> Iterator[None]:
    """Say in one line what could not be made, if the body of the `with` fails.

    What the library raises itself says so already, and is passed on.
    """
    try:
        yield
    except SwitchgearError:
        raise
    except Exception as error:
        _log.debug("%s failed", what, exc_info=True)
        said = str(error).partition("\n")[0]
        raise OperationError(
            f"{what} could not be made: {type(error).__name__}: {said}.",
            where=_where(target),
            fix="The whole trace is in the log at level debug.",
        ) from error


async def _opened(function: Any, arguments: Names, stack: AsyncExitStack) -> object:
    if inspect.isasyncgenfunction(function):
        return await stack.enter_async_context(asynccontextmanager(function)(**arguments))
    if inspect.isgeneratorfunction(function):
        return stack.enter_context(contextmanager(function)(**arguments))
    value = function(**arguments)
    return await value if inspect.isawaitable(value) else value


def inject(needs: Sequence[Need], ready: Sequence[Provider]) -> dict[str, object]:
    """Return the arguments that meet `needs`."""
    arguments = {}
    for need in needs:
        provider = _provider(need, ready)
        if provider is not None:
            arguments[need.name] = provider.value
    return arguments


def _provider(need: Need, providers: Sequence[Provider]) -> Provider | None:
    """Return who meets a need; None if nobody does and it has a default."""
    found = [one for one in providers if one.source is not None and one.source in need.marks]
    found = found or [one for one in providers if one.type == need.type]
    found = found or [one for one in providers if _is_kind(one.type, need.type)]
    if len(found) > 1:
        # what a team provides itself comes before what the service has
        own = [one for one in found if one.source is not None]
        found = own or found
    if len(found) == 1:
        return found[0]
    if found:
        raise InjectionError(
            f"{need.name} is a {_named(need.type)}, which "
            f"{' and '.join(one.name for one in found)} provide.",
            where=need.where,
            fix=f"Say which: Annotated[{_named(need.type)}, {found[0].name}].",
        )
    if need.optional:
        return None
    listed = ", ".join(f"{one.name} ({_named(one.type)})" for one in providers) or "nothing"
    raise InjectionError(
        f"{need.name} is a {_named(need.type)}, which nobody provides.",
        where=need.where,
        fix=f"Write an @app.resource that returns one. There are: {listed}.",
    )


def _is_kind(provided: object, wanted: object) -> bool:
    """Tell whether `provided` is a subclass; two protocols are compared by name alone."""
    if not isinstance(provided, type) or not isinstance(wanted, type) or wanted is object:
        return False
    return wanted in provided.__mro__


def _ordered(resources: Sequence[Provider], given: Sequence[Provider]) -> list[Provider]:
    """Return the resources such that each comes after what it needs."""
    everything = [*given, *resources]
    ordered: list[Provider] = []
    path: list[Provider] = []

    def visit(resource: Provider) -> None:
        if resource.source is None or resource in ordered:
            return
        if resource in path:
            names = " -> ".join(one.name for one in [*path[path.index(resource) :], resource])
            raise InjectionError(
                f"resources need each other in a circle: {names}.",
                where=_where(resource.source),
                fix="Let one of them be made without the other.",
            )
        path.append(resource)
        for need in resource.needs:
            provider = _provider(need, everything)
            if provider is not None:
                visit(provider)
        path.pop()
        ordered.append(resource)

    for resource in resources:
        visit(resource)
    return ordered


def _where(target: object) -> str:
    if not hasattr(target, "__qualname__"):
        return str(target).strip("<>")
    name = getattr(target, "__qualname__", repr(target))
    return f"{getattr(target, '__module__', '')}.{name}"


def _named(kind: object) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind).removeprefix("typing.")
