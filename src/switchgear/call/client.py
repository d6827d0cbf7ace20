"""A typed client from a contract and a URL: `client(Inventory, "grpc://127.0.0.1:7002")`.

The URL says how to reach the service and nothing else. The client has the methods of the contract;
each call goes through the policy of its operation, over a `Wire`. A client connects when it is
first used, and may be used from several event loops and threads: each loop has its own wire.

What a client raises has `where` set to the operation: that is how a door tells what a handler's own
call was refused from what the handler itself turns away.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, TypeVar, cast

from switchgear.call.core import Asked, AskedWrongly, Core, Replies, Settings, Wire
from switchgear.call.tls import Secret, Tls
from switchgear.call.url import Target, parse
from switchgear.contract.message import Message
from switchgear.contract.service import Operation, ServiceContract, contract_of
from switchgear.errors import ConfigError
from switchgear.model.edge import Edge
from switchgear.model.outcome import Status
from switchgear.model.wire import Verdict
from switchgear.policy.policy import Policy

__all__ = [
    "AskedWrongly",
    "Replies",
    "Settings",
    "Treat",
    "Wire",
    "client",
    "client_over",
    "close",
    "connect",
    "core_of",
    "edges_of",
    "reload",
]

T = TypeVar("T")

_CORE: Final = "_switchgear_core"

Treat: TypeAlias = Mapping[int | Status, Verdict | str]
"""How to understand some statuses of a callee that is known to mean something else."""


def client(
    contract: Callable[..., T],
    url: str,
    policy: Policy | None = None,
    *,
    caller: str | None = None,
    tls: Tls | None = None,
    token: Secret | None = None,
    treat: Treat | None = None,
    operations: Mapping[str, Policy] | None = None,
) -> T:
    """Return a client for the service at `url`, typed as its contract.

    policy: for each operation; without it, the default one. Each operation has a breaker and a
    limit of its own; equal budgets are one, since they protect one callee.
    operations: a policy of its own for some of them, by name of the method.
    caller: the name of the calling service, which goes on the wire.
    tls: for https:// and grpcs://; without it, what the system trusts.
    token: sent as a bearer token; over an unencrypted connection to this machine alone.
    treat: statuses that mean something else than usual: `{503: "unavailable"}`, or gRPC's
    `{Status.UNAVAILABLE: "unavailable"}` for a callee that answers so only before it begins.

    Raises `ConfigError` for a URL that does not work, and `MissingExtra` where what it needs is not
    installed. Nothing is connected before the first call.
    """
    target = parse(url)
    if tls is not None and not target.secure:
        raise ConfigError(
            f"{url!r} is not encrypted, and tls is given.", fix=f"Write {target.scheme}s://."
        )
    if token is not None and not target.secure and not target.loopback:
        raise ConfigError(
            f"a token would go over {url!r} unencrypted.", fix=f"Write {target.scheme}s://."
        )
    meanings = {status: Verdict(verdict) for status, verdict in (treat or {}).items()}
    factory = _factory(target, Settings(caller, tls, token, meanings))
    return _client(contract, factory, policy, caller, operations)


def client_over(
    contract: Callable[..., T],
    wire: Wire | Callable[[], Wire],
    policy: Policy | None = None,
    *,
    caller: str | None = None,
    operations: Mapping[str, Policy] | None = None,
) -> T:
    """Return a client over a wire of your own, or what a function makes for each event loop."""
    found = wire
    factory: Callable[[], Wire] = found if callable(found) else lambda: found
    return _client(contract, factory, policy, caller, operations)


async def close(one: object) -> None:
    """Close a client. Calls in flight are cancelled."""
    await core_of(one).close()


@asynccontextmanager
async def connect(
    contract: Callable[..., T],
    url: str,
    policy: Policy | None = None,
    *,
    caller: str | None = None,
    tls: Tls | None = None,
    token: Secret | None = None,
    treat: Treat | None = None,
    operations: Mapping[str, Policy] | None = None,
) -> AsyncIterator[T]:
    """Return a client for the body of an `async with`, and close it after; see `client`."""
    made = client(
        contract,
        url,
        policy,
        caller=caller,
        tls=tls,
        token=token,
        treat=treat,
        operations=operations,
    )
    try:
        yield made
    finally:
        await close(made)


def reload(
    one: object, policy: Policy | None = None, *, operations: Mapping[str, Policy] | None = None
) -> None:
    """Give a client other policies, from now on; see `client` for the arguments.

    Breakers, budgets, places taken and kept answers go on from where they are, and calls under way
    are not cut: they keep the deadline that they began with.
    """
    core = core_of(one)
    core.reload(_policies(core.contract, policy, operations))


def edges_of(one: object) -> tuple[Edge, ...]:
    """Return the edges that a client stands for: one for each operation, with its policy."""
    return tuple(line.edge for line in core_of(one).lines.values())


def core_of(one: object) -> Core:
    """Return what is behind a client; raises `AskedWrongly` for anything else."""
    core = getattr(one, _CORE, None)
    if not isinstance(core, Core):
        raise AskedWrongly(
            f"{type(one).__name__} is not a client.", fix="Make one with client(Contract, url)."
        )
    return core


def _factory(target: Target, settings: Settings) -> Callable[[], Wire]:
    """Return what makes the wire; imports what it needs now, so that a missing extra is told."""
    if target.scheme.startswith("http"):
        from switchgear.call.http import HttpWire  # noqa: PLC0415  an optional dependency

        return lambda: HttpWire(target, settings)
    from switchgear.call.grpc import GrpcWire  # noqa: PLC0415  an optional dependency

    return lambda: GrpcWire(target, settings)


def _client(
    contract: Callable[..., T],
    wire: Callable[[], Wire],
    policy: Policy | None,
    caller: str | None,
    operations: Mapping[str, Policy] | None,
) -> T:
    declared = contract_of(contract)
    core = Core(declared, wire, _policies(declared, policy, operations), caller)
    methods = {
        name: _stream(name) if operation.streaming else _unary(name)
        for name, operation in declared.operations.items()
    }
    for name, method in methods.items():
        method.__name__ = name
        method.__qualname__ = f"{declared.name}.{name}"
        method.__doc__ = declared.operations[name].doc
    namespace = {
        **methods,
        "__module__": declared.protocol.__module__,
        "__repr__": lambda _: f"<client of {declared.full_name}>",
        "__reduce__": lambda _: core.__reduce__(),
        _CORE: core,
    }
    cls: Any = type(f"{declared.name}Client", (declared.protocol,), namespace)
    return cast("T", cls())


def _policies(
    declared: ServiceContract, policy: Policy | None, operations: Mapping[str, Policy] | None
) -> Callable[[Operation], Policy]:
    """Return which policy each operation has."""
    own = operations or {}
    unknown = sorted(own.keys() - declared.operations.keys())
    if unknown:
        raise ConfigError(
            f"{declared.full_name} has no operation {unknown[0]}.",
            fix=f"Name one of: {', '.join(declared.operations)}.",
        )
    default = Policy.checked(policy, where=declared.full_name) or Policy()
    for name, one in own.items():
        Policy.checked(one, where=f"{declared.full_name}.{name}")
    return lambda operation: own.get(operation.name, default)


def _unary(name: str) -> Any:
    async def method(self: Any, request: Asked) -> Message:
        core: Core = self._switchgear_core
        answer = await core.call(name, request)
        reply: Message = answer.value
        return reply

    return method


def _stream(name: str) -> Any:
    def method(self: Any, request: Asked) -> AsyncIterator[Message]:
        core: Core = self._switchgear_core
        return core.stream(name, request)

    return method
