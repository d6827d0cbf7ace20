"""Services: what one service offers to others, as a Protocol.

The rules, each checked while the declaring module is imported:

- a contract is a `Protocol` whose public members are methods, each declared as `@query` or
  `@command`: there is no default;
- a method takes one request message or an async iterator of them, and returns one reply message or
  an async iterator of them;
- its routes keep the rules of `switchgear.contract.route`, and no two methods share one; without a
  route it is reached over gRPC alone, and so is a method that takes a stream;
- what it refuses are `Refusal` classes with different names;
- `keyed=True` belongs to commands, and `retention` to keyed ones; a keyed command streams neither
  way, because request and reply are stored.

A handler subclasses the Protocol; one that misses a method cannot be instantiated, which Python,
mypy and pyright all notice.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from dataclasses import field as attribute
from datetime import timedelta
from types import FunctionType, MappingProxyType
from typing import (
    Any,
    Final,
    Literal,
    NamedTuple,
    TypedDict,
    TypeVar,
    Unpack,
    get_args,
    get_origin,
)

from switchgear.contract.declaration import Scope, reach
from switchgear.contract.file import Package, ProtoFile, file_of
from switchgear.contract.kinds import is_message
from switchgear.contract.message import Message
from switchgear.contract.refusal import Refusal
from switchgear.contract.route import Binding, Route, parse_routes
from switchgear.errors import ContractError
from switchgear.model.edge import Pattern

__all__ = [
    "Operation",
    "ServiceContract",
    "command",
    "contract_of",
    "contracts_of",
    "query",
    "service",
]

C = TypeVar("C")
F = TypeVar("F", bound=Callable[[Any, Any], Coroutine[Any, Any, Message] | AsyncIterator[Message]])

DEFAULT_RETENTION: Final = timedelta(days=1)
"""How long a server keeps the reply to a keyed command that does not say."""

_PACKAGE: Final = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)*")
_STREAMS: Final = (AsyncIterator, AsyncIterable, AsyncGenerator)


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One method of a contract."""

    name: str
    """The name of the method in Python."""
    full_name: str
    """`shop.inventory.v1.Inventory/reserve`: how edges, logs and keys name it."""
    rpc_name: str
    """The name in protobuf: the method's, in CamelCase."""
    grpc_path: str
    pattern: Pattern
    request: type[Message]
    """The request; where it takes a stream, each of them."""
    reply: type[Message]
    """The reply; of a streaming operation, each of them."""
    streaming: bool
    """Whether it answers with a stream."""
    takes_stream: bool
    """Whether it takes a stream of requests."""
    routes: tuple[Route, ...]
    """How it is reached over REST; empty: over gRPC alone."""
    keyed: bool
    """Whether repeating it under one idempotency key is safe."""
    refuses: tuple[type[Refusal], ...]
    retention: timedelta | None
    """How long a stored reply answers duplicates; None unless keyed."""
    doc: str
    level: str
    """The `idempotency_level` in protobuf; empty: not said."""
    http: str
    """The `google.api.http` rule in protobuf's text format; "route": what the routes say."""
    options: str
    """Further options in protobuf's text format."""

    @property
    def route(self) -> Route | None:
        """The first of its routes; None: it has none."""
        return self.routes[0] if self.routes else None

    @property
    def repeatable(self) -> bool:
        """Whether a call whose outcome is unknown may be sent again."""
        return self.keyed or self.pattern is Pattern.QUERY

    def refusal(self, full_name: str) -> type[Refusal] | None:
        """Return the declared refusal of that name; None if it is not declared."""
        return next((one for one in self.refuses if one.full_name == full_name), None)


@dataclass(frozen=True, slots=True, eq=False)
class ServiceContract:
    """What `@service` declares."""

    name: str
    package: str
    full_name: str
    operations: Mapping[str, Operation]
    """By the name of the method."""
    doc: str
    protocol: type[Any]
    """The class that was declared."""
    file: ProtoFile
    options: str = ""
    """Options in protobuf's text format."""


class Foreign(TypedDict, total=False):
    """What only contracts of others have to say about a method.

    `name`: its name in protobuf. `level`: the `idempotency_level` of its file, where that is not
    what the pattern says. `http`: its `google.api.http` rule in protobuf's text format, where
    routes cannot say all of it: it is reached by its routes, which are bindings of the rule, or
    over gRPC alone. `options`: any others, likewise.
    """

    name: str
    level: Literal["unknown", "no_side_effects", "idempotent"]
    http: str
    options: str


@dataclass(frozen=True, slots=True)
class _Declared:
    """What `@query` or `@command` notes on a method until `@service` reads it."""

    pattern: Pattern
    routes: tuple[str | Binding, ...]
    keyed: bool = False
    refuses: tuple[type[Refusal], ...] = ()
    retention: timedelta | None = None
    foreign: Foreign = attribute(default_factory=Foreign)


def query(
    *routes: str | Binding,
    refuses: Sequence[type[Refusal]] = (),
    **foreign: Unpack[Foreign],
) -> Callable[[F], F]:
    """Declare a method that changes nothing: `@query("GET /v1/stock/{sku}")`.

    It may be repeated, cached and hedged. `refuses` lists its definitive noes. Without a route it
    is reached over gRPC alone; each of several leads to it, and a client takes the first that can
    carry its request. `route` says more of one. `Foreign` tells the rest.
    """
    return _declare(_Declared(Pattern.QUERY, routes, refuses=tuple(refuses), foreign=foreign))


def command(
    *routes: str | Binding,
    keyed: bool = False,
    refuses: Sequence[type[Refusal]] = (),
    retention: timedelta | None = None,
    **foreign: Unpack[Foreign],
) -> Callable[[F], F]:
    """Declare a method that changes something: `@command("POST /v1/reservations")`.

    With `keyed=True` the server stores its reply under the caller's idempotency key for
    `retention` (default: one day), so that it may be repeated. `refuses` lists its definitive noes.
    Without a route it is reached over gRPC alone; with several, as `query` says. `Foreign` tells
    the rest.
    """
    declared = _Declared(Pattern.COMMAND, routes, keyed, tuple(refuses), retention, foreign)
    return _declare(declared)


def service(package: Package, *, name: str | None = None, options: str = "") -> Callable[[C], C]:
    """Declare a Protocol as the contract of a service: `@service("shop.inventory.v1")`.

    `name` is its name on the wires, where the class is called otherwise; `options` are in
    protobuf's text format. Raises `ContractError` if a rule of this module is
    broken.
    """

    def declare(cls: C) -> C:
        if not isinstance(cls, type) or not getattr(cls, "_is_protocol", False):
            raise ContractError(
                "A contract is a Protocol.",
                where=f"{cls!r}",
                fix=f"Write: class {getattr(cls, '__name__', 'Inventory')}(Protocol).",
            )
        if isinstance(package, str) and not _PACKAGE.fullmatch(package):
            raise ContractError(
                f"{package!r} is not a package.",
                where=f"{cls.__module__}.{cls.__qualname__}",
                fix="Use lower-case words joined by dots, as in 'shop.inventory.v1'.",
            )
        scope = Scope.of(inspect.currentframe(), vars(cls))
        contract = _read(cls, name or cls.__name__, file_of(package), scope, options)
        if not contract.operations and isinstance(package, str):  # of others, it may be
            where = f"{cls.__module__}.{cls.__qualname__}"
            raise ContractError("The contract has no methods.", where=where, fix="Declare one.")
        type.__setattr__(cls, "__contract__", contract)
        return cls

    return declare


def contracts_of(cls_or_instance: object) -> tuple[ServiceContract, ...]:
    """Return the contracts that a Protocol, a handler class or a handler stands for."""
    cls = cls_or_instance if isinstance(cls_or_instance, type) else type(cls_or_instance)
    found = (vars(base).get("__contract__") for base in cls.__mro__)
    return tuple(one for one in found if isinstance(one, ServiceContract))


def contract_of(cls_or_instance: object) -> ServiceContract:
    """Return the one contract that a Protocol, a handler class or a handler stands for.

    Raises `ContractError` if there is none, or more than one.
    """
    found = contracts_of(cls_or_instance)
    if len(found) == 1:
        return found[0]
    cls = cls_or_instance if isinstance(cls_or_instance, type) else type(cls_or_instance)
    raise ContractError(
        f"It implements {' and '.join(one.full_name for one in found)}."
        if found
        else "It is not a service.",
        where=f"{cls.__module__}.{cls.__qualname__}",
        fix="Write one handler for each."
        if found
        else 'Derive it from a Protocol that is decorated with @service("package").',
    )


def _declare(declared: _Declared) -> Callable[[F], F]:
    def note(function: F) -> F:
        if hasattr(function, "__declared__"):
            raise ContractError(
                "The method is declared twice.",
                where=getattr(function, "__qualname__", None),
                fix="Choose one of @query and @command.",
            )
        # ABCMeta reads the second mark: a handler that misses the method cannot be instantiated.
        vars(function).update(__declared__=declared, __isabstractmethod__=True)
        return function

    return note


def _read(
    cls: type[Any], own_name: str, file: ProtoFile, scope: Scope, options: str
) -> ServiceContract:
    where = f"{cls.__module__}.{cls.__qualname__}"
    strange = [base.__name__ for base in cls.__bases__ if base.__name__ != "Protocol"]
    if strange:
        raise ContractError(
            f"A contract derives from Protocol alone, not from {strange[0]}.",
            where=where,
            fix="Write its methods here.",
        )
    full_name = f"{file.package}.{own_name}" if file.package else own_name
    operations: dict[str, Operation] = {}
    for name, member in _public(cls).items():
        declared = getattr(member, "__declared__", None)
        if not isinstance(member, FunctionType) or not isinstance(declared, _Declared):
            raise ContractError(
                f"{name} has no declared pattern."
                if isinstance(member, FunctionType)
                else f"{name} is not a method: a contract holds nothing else.",
                where=where,
                fix="Put @query(...) or @command(...) above it, or begin its name with '_'.",
            )
        operation = _operation(member, declared, full_name, scope, where=f"{where}.{name}")
        _check_unique(operation, operations, where)
        operations[name] = operation
    roots = [
        message
        for one in operations.values()
        for message in (one.request, one.reply, *(refusal.__message__ for refusal in one.refuses))
    ]
    reach(*roots)
    doc = inspect.cleandoc(cls.__dict__.get("__doc__") or "")
    return ServiceContract(
        name=own_name,
        package=file.package,
        full_name=full_name,
        operations=MappingProxyType(operations),
        doc=doc,
        protocol=cls,
        file=file,
        options=options,
    )


def _public(cls: type[Any]) -> dict[str, object]:
    annotated = dict.fromkeys(inspect.get_annotations(cls))
    members = {**annotated, **vars(cls)}
    return {name: member for name, member in members.items() if not name.startswith("_")}


def _check_unique(operation: Operation, others: Mapping[str, Operation], where: str) -> None:
    taken: dict[str, str] = {}
    for one in (*others.values(), operation):
        for route in one.routes:
            if route.shape in taken:
                raise ContractError(
                    f"{taken[route.shape]} and {one.name} share the route {route.shape}.",
                    where=where,
                    fix="Give each a route of its own.",
                )
            taken[route.shape] = one.name
    for other in others.values():
        if other.rpc_name == operation.rpc_name:
            raise ContractError(
                f"{other.name} and {operation.name} are both {operation.rpc_name} in protobuf.",
                where=where,
                fix="Rename one.",
            )


def _operation(
    function: FunctionType,
    declared: _Declared,
    service_name: str,
    scope: Scope,
    *,
    where: str,
) -> Operation:
    name = function.__name__
    shape = _signature(function, scope, where)
    foreign = declared.foreign
    if declared.keyed and (shape.streaming or shape.takes_stream):
        raise ContractError(
            "A keyed command cannot stream: its request and reply are stored.",
            where=where,
            fix="Take and return one message, or drop keyed=True.",
        )
    if declared.routes and shape.takes_stream:
        raise ContractError(
            "A method that takes a stream has no route: one HTTP request carries one message.",
            where=where,
            fix="Remove the route; it is then reached over gRPC.",
        )
    if declared.retention is not None and (
        not declared.keyed or declared.retention <= timedelta(0)
    ):
        raise ContractError(
            "retention= is for keyed commands and is longer than nothing.",
            where=where,
            fix="Add keyed=True, or remove it.",
        )
    names: dict[str, type[Refusal]] = {}
    for refusal in declared.refuses:
        if not hasattr(refusal, "full_name"):
            raise ContractError(
                f"{refusal!r} is not a refusal.", where=where, fix="Derive it from Refusal."
            )
        if names.setdefault(refusal.full_name, refusal) is not refusal:
            raise ContractError(
                f"Two refusals are called {refusal.full_name}.", where=where, fix="Rename one."
            )
    rpc_name = foreign.get("name") or "".join(
        part[:1].upper() + part[1:] for part in name.split("_")
    )
    level = foreign.get("level") or (
        "no_side_effects"
        if declared.pattern is Pattern.QUERY
        else "idempotent"
        if declared.keyed
        else "unknown"
    )
    return Operation(
        name=name,
        full_name=f"{service_name}/{name}",
        rpc_name=rpc_name,
        grpc_path=f"/{service_name}/{rpc_name}",
        pattern=declared.pattern,
        request=shape.request,
        reply=shape.reply,
        streaming=shape.streaming,
        takes_stream=shape.takes_stream,
        routes=parse_routes(
            declared.routes,
            declared.pattern,
            shape.request,
            shape.reply,
            where,
            streaming=shape.streaming,
        ),
        keyed=declared.keyed,
        refuses=tuple(names.values()),
        retention=(declared.retention or DEFAULT_RETENTION) if declared.keyed else None,
        doc=inspect.cleandoc(function.__doc__ or ""),
        level="" if level == "unknown" else level.upper(),
        http=foreign.get("http", "route" if declared.routes else ""),
        options=foreign.get("options", ""),
    )


class _Shape(NamedTuple):
    """What a method takes and gives."""

    request: type[Message]
    reply: type[Message]
    takes_stream: bool
    streaming: bool


def _signature(function: FunctionType, scope: Scope, where: str) -> _Shape:
    parameters = list(inspect.signature(function).parameters.values())[1:]
    try:
        taken = [scope.evaluate(one.annotation) for one in parameters]
        given = scope.evaluate(function.__annotations__.get("return"))
    except NameError as error:
        raise ContractError(
            f"A type is not defined: {error}.", where=where, fix="Define it above the contract."
        ) from None
    takes_stream = len(taken) == 1 and get_origin(taken[0]) in _STREAMS
    request: Any = get_args(taken[0])[0] if takes_stream else taken[0] if taken else None
    if len(taken) != 1 or not is_message(request):
        raise ContractError(
            "A method takes one message, or an AsyncIterator of messages.",
            where=where,
            fix="Write: async def name(self, request: Request) -> Reply.",
        )
    streaming = get_origin(given) in _STREAMS
    reply = get_args(given)[0] if streaming else given
    if not is_message(reply):
        raise ContractError(
            "A method returns a message, or an AsyncIterator of messages.",
            where=where,
            fix="Write: async def name(self, request: Request) -> Reply.",
        )
    if not streaming and not inspect.iscoroutinefunction(function):
        raise ContractError("The method is not async.", where=where, fix="Write: async def.")
    return _Shape(request, reply, takes_stream, streaming)
