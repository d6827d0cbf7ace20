"""A guard: one policy around calls that are made with somebody else's client, or by any function.

    guard = Guard("inventory", Policy(deadline=0.3))

    @guard(repeatable=True)
    async def stock(sku: str) -> int: ...

All that one guard is put around shares one breaker, budget and limit: it stands for one callee.

What a guarded function raises says how the attempt ended (`classify`):

| raised                                                 | outcome                |
| ------------------------------------------------------ | ---------------------- |
| `Refused`, `Unavailable`, `Unknown`                    | itself                 |
| what httpx, aiohttp, requests and grpc raise           | as their adapters say  |
| `ConnectionRefusedError`, `socket.gaierror`,           | `Unavailable(CONNECT)` |
| `ssl.SSLCertVerificationError`                         |                        |
| `TimeoutError`                                         | `Unknown(TIMEOUT)`     |
| any other `ConnectionError` or `ssl.SSLError`,         | `Unknown(RESET)`       |
| `OSError` of an unreachable or lost network            |                        |
| anything else                                          | none: raised as it is  |

"Anything else" feeds neither breaker nor budget and is not retried. It may be a bug of ours, or a
"no" of the callee in the words of its client: to count it as a failure would let a wrong argument
open the breaker for everybody, to count it as a success would let it hide a broken callee. Who
knows better says so with `classify=`.

The failure that a call ends with is `Unavailable` or `Unknown`, and its `__cause__` is what the
function raised last.
"""

from __future__ import annotations

import errno
import functools
import importlib
import socket
import ssl
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload
from weakref import WeakValueDictionary

from switchgear.call.answer import (
    Answer,
    Classify,
    Failure,
    Machines,
    Meaning,
    deliver,
    meant,
)
from switchgear.call.exchange import SAFE
from switchgear.call.guarded import Guarded
from switchgear.call.process import OfOneProcess
from switchgear.errors import MissingExtra, PolicyError
from switchgear.model.edge import Pattern
from switchgear.model.outcome import Reason, Refused, Unavailable, Unknown
from switchgear.policy.machine import Machine
from switchgear.policy.policy import Policy

if TYPE_CHECKING:
    from aiohttp import ClientMiddlewareType
    from grpc import Channel
    from grpc.aio import Channel as AioChannel
    from httpx import AsyncBaseTransport, BaseTransport
    from requests.adapters import BaseAdapter, HTTPAdapter

__all__ = ["Classify", "Failure", "Guard", "classify"]

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

Per = Literal["callee", "operation", "host"]

_UNREACHABLE = frozenset(
    {errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET, errno.EHOSTUNREACH, errno.EHOSTDOWN}
)
_MEANINGS: tuple[Meaning, ...] = (
    (
        (ConnectionRefusedError, socket.gaierror, ssl.SSLCertVerificationError),
        Unavailable,
        Reason.CONNECT,
    ),
    ((TimeoutError,), Unknown, Reason.TIMEOUT),
    ((ConnectionError, ssl.SSLError), Unknown, Reason.RESET),
)
_PARTS = 1_000
_ADAPTERS = {
    "httpx": "switchgear.call.httpx",
    "aiohttp": "switchgear.call.aiohttp",
    "requests": "switchgear.call.requests",
    "grpc": "switchgear.call.grpc_status",
}


def classify(error: Exception) -> Failure | None:
    """Return the outcome that an exception stands for; None: it stands for none."""
    if isinstance(error, Refused | Unavailable | Unknown):
        return error
    # an error of a client can only come from a client that was imported
    for client, module in _ADAPTERS.items():
        if client in sys.modules:
            adapter = importlib.import_module(module)
            found: Unavailable | Unknown | None = adapter.classify(error)
            if found is not None:
                return found
    if isinstance(error, OSError) and error.errno in _UNREACHABLE:
        return Unknown(f"{type(error).__name__}: {error}", reason=Reason.RESET, cause=error)
    return meant(error, _MEANINGS)


def _known(per: Per, name: str) -> Per:
    """Return `per`, or refuse it."""
    if per not in ("callee", "operation", "host"):
        raise PolicyError(
            f"per is {per!r}; it has to be one of callee, operation, host.",
            where=f"Guard({name!r})",
        )
    return per


class Guard(OfOneProcess):
    """One policy around calls to one callee, from tasks, event loops and threads alike.

    `name` is the callee's, as reports show it. `policy` is the default one if None. `pattern` says
    how everything behind this guard is used: with `Pattern.QUERY` all of it may be repeated.
    `classify` is asked first what an exception means; where it returns None, the table above
    decides. `caller` is the name of this service, which the adapters send along.

    `per` says what has a breaker, a limit and kept answers of its own: the whole callee, each
    operation (guarded functions and gRPC methods), or each host (HTTP and gRPC adapters). The
    budget is one in any case. At most 1,000 are kept, those used last; and those in use.

    In a forked process a guard begins anew; pickling or copying it raises PolicyError: see
    `process.py`.
    """

    def __init__(
        self,
        name: str,
        policy: Policy | None = None,
        *,
        pattern: Pattern | None = None,
        classify: Classify | None = None,
        caller: str | None = None,
        per: Per = "callee",
    ) -> None:
        if pattern not in (None, Pattern.QUERY, Pattern.COMMAND):
            raise PolicyError(
                f"a call cannot have the pattern {pattern!r}.",
                where=f"Guard({name!r})",
                fix="Give Pattern.QUERY or Pattern.COMMAND, or leave it out.",
            )
        given: object = name  # a policy alone is what is given by mistake
        if not isinstance(given, str) or not given:
            raise PolicyError(
                f"{name!r} is no name of a callee.",
                where="Guard",
                fix='Give the name first: Guard("inventory", Policy(...)).',
            )
        self.name = name
        self.policy = Policy.checked(policy, where=f"Guard({name!r})") or Policy()
        self.pattern = pattern
        self.caller = caller
        self.per = _known(per, name)
        self._machines = Machines()
        self.machine = self._machines.new(name, self.policy)
        """What everything behind this guard shares, unless `per` says otherwise."""
        self._known: WeakValueDictionary[str, Machine] = WeakValueDictionary()
        """The machines of parts, for as long as somebody has them."""
        self._kept: OrderedDict[str, Machine] = OrderedDict()
        """Those used last: they are had by us."""
        self._lock = threading.Lock()
        self._classify = classify

    def _forked(self) -> None:
        self._lock = threading.Lock()
        self._machines.forget(self._all())

    def describe(self) -> dict[str, object]:
        """Return the guard's name, pattern and policy as plain values."""
        return {
            "name": self.name,
            "pattern": self.pattern,
            "per": self.per,
            "policy": self.policy.describe(),
        }

    def machine_at(self, *, operation: str | None = None, host: str | None = None) -> Machine:
        """Return the machine for calls of an operation at a host, as `per` says.

        Raises PolicyError where what `per` asks for is not known.
        """
        if self.per == "callee":
            return self.machine
        part = operation if self.per == "operation" else host
        if part is None:
            raise PolicyError(
                f"per is {self.per!r}, and these calls name no {self.per}.",
                where=f"Guard({self.name!r})",
                fix="Use per='operation' for functions and gRPC, per='host' for HTTP and gRPC.",
            )
        with self._lock:
            machine = self._known.get(part)
            if machine is None:
                machine = self._machines.new(f"{self.name} {part}", self.policy)
                self._known[part] = machine
            self._kept[part] = machine
            self._kept.move_to_end(part)
            if len(self._kept) > _PARTS:
                self._kept.popitem(last=False)
            return machine

    def reload(self, policy: Policy) -> None:
        """Go on under another policy, with the state that there is; calls under way are not cut."""
        Policy.checked(policy, where=f"Guard({self.name!r})")
        with self._lock:
            self.policy = policy
            machines = self._all()
            self._machines.reload((machine, policy) for machine in machines)
        for machine in machines:
            deliver(machine)

    @overload
    def __call__(self, function: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def __call__(
        self, /, *, repeatable: bool | None = None, keyed: str | None = None
    ) -> Callable[[F], F]: ...
    def __call__(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        repeatable: bool | None = None,
        keyed: str | None = None,
    ) -> Callable[..., Any]:
        """Guard a function, sync or async: `@guard`, or `@guard(repeatable=True)`.

        repeatable: it may be carried out twice without harm. Default: as the pattern says; no.
        keyed: the name of the parameter that holds an idempotency key; with a key it may be
        repeated.

        With a stale fallback, answers are kept by the arguments, where those can be hashed.

        Raises PolicyError for what is not a plain function or method: a generator would run after
        its guard has gone.
        """
        if function is None:
            return functools.partial(self._guarded, repeatable=repeatable, keyed=keyed)
        return self._guarded(function, repeatable=repeatable, keyed=keyed)

    @overload
    def ask(  # type: ignore[overload-overlap]  # a coroutine function also returns some R
        self, function: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, Answer[R]]: ...
    @overload
    def ask(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Answer[R]: ...
    def ask(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a function that this guard guards, and return the whole `Answer`.

        So a caller sees whether the value is degraded, and how old it is.
        """
        plan: Guarded | None = getattr(function, "__switchgear_plan__", None)
        if plan is None or plan.guard is not self:
            raise PolicyError(
                f"{function!r} is not guarded by this guard.",
                where=f"Guard({self.name!r})",
                fix="Decorate it with the guard, and pass the decorated function.",
            )
        owner = getattr(function, "__self__", None)
        drive = plan.drive_async if plan.is_async else plan.drive_sync
        return drive(args if owner is None else (owner, *args), kwargs)

    def httpx(
        self,
        wrapped: AsyncBaseTransport | None = None,
        *,
        repeatable: frozenset[str] = SAFE,
        stream: bool = False,
    ) -> AsyncBaseTransport:
        """Return a transport: `httpx.AsyncClient(transport=guard.httpx())`.

        wrapped: what it sends by; a plain `httpx.AsyncHTTPTransport()` if None.
        repeatable: the methods that may be repeated whatever happened. A request with an
        Idempotency-Key may be too.
        stream: leave the body unread, except that of a failure; the deadline then ends with the
        headers. Default: the body is read within the attempt.

        Raises MissingExtra without httpx.
        """
        try:
            from switchgear.call.httpx import AsyncTransport  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise MissingExtra("httpx", "httpx") from error
        return AsyncTransport(self, wrapped, repeatable, stream=stream)

    def httpx_sync(
        self,
        wrapped: BaseTransport | None = None,
        *,
        repeatable: frozenset[str] = SAFE,
        stream: bool = False,
    ) -> BaseTransport:
        """Return a transport for threads: `httpx.Client(transport=guard.httpx_sync())`."""
        try:
            from switchgear.call.httpx import SyncTransport  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise MissingExtra("httpx", "httpx") from error
        return SyncTransport(self, wrapped, repeatable, stream=stream)

    def aiohttp(
        self, *, repeatable: frozenset[str] = SAFE, stream: bool = False
    ) -> ClientMiddlewareType:
        """Return a client middleware: `aiohttp.ClientSession(middlewares=[guard.aiohttp()])`.

        The settings are those of `httpx`. Raises MissingExtra without aiohttp 3.12 or later.
        """
        try:
            from aiohttp import ClientMiddlewareType  # noqa: F401, PLC0415

            from switchgear.call.aiohttp import Middleware  # noqa: PLC0415
        except ImportError as error:
            raise MissingExtra("aiohttp 3.12 or later", "http") from error
        return Middleware(self, repeatable, stream=stream)

    def requests(
        self, wrapped: HTTPAdapter | None = None, *, repeatable: frozenset[str] = SAFE
    ) -> BaseAdapter:
        """Return a transport adapter: `session.mount("https://inventory", guard.requests())`.

        wrapped: what it sends by; a plain `HTTPAdapter()` if None. One that retries by itself is
        refused with a PolicyError.
        repeatable: as for `httpx`. A request made with `stream=True` leaves its body unread.

        Raises MissingExtra without requests.
        """
        try:
            from switchgear.call.requests import Adapter  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise MissingExtra("requests", "requests") from error
        return Adapter(self, wrapped, repeatable)

    @overload
    def grpc(
        self, channel: AioChannel, *, repeatable: frozenset[str] | None = None
    ) -> AioChannel: ...
    @overload
    def grpc(self, channel: Channel, *, repeatable: frozenset[str] | None = None) -> Channel: ...
    def grpc(
        self, channel: Channel | AioChannel, *, repeatable: frozenset[str] | None = None
    ) -> Channel | AioChannel:
        """Return a channel that generated stubs take, around one of `grpc` or of `grpc.aio`.

        repeatable: full names of the methods that may be repeated whatever happened, such as
        `"/shop.inventory.v1.Inventory/Stock"`. Default: as the guard's pattern says; none. A call
        whose metadata has an idempotency-key may be too.

        For a call that streams its reply the policy ends with the first message. A call that
        streams its request is passed on as it is: it can be sent only once, and when its first
        reply is due the application alone knows.

        Raises MissingExtra without grpcio.
        """
        try:
            import grpc.aio  # noqa: PLC0415

            from switchgear.call.grpc_aio import GuardedAioChannel  # noqa: PLC0415
            from switchgear.call.grpc_sync import GuardedChannel  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise MissingExtra("grpcio", "grpc") from error
        if isinstance(channel, grpc.aio.Channel):
            return GuardedAioChannel(self, channel, repeatable)
        return GuardedChannel(self, channel, repeatable)

    def _all(self) -> list[Machine]:
        return [self.machine, *self._known.values()]

    def outcome(self, error: Exception) -> Failure | None:
        """Return the outcome that an exception stands for behind this guard."""
        found = self._classify(error) if self._classify is not None else None
        found = found or classify(error)
        if found is not None and found is not error and found.__cause__ is None:
            found.__cause__ = error
        return found

    def _guarded(
        self, function: Callable[..., Any], *, repeatable: bool | None, keyed: str | None
    ) -> Callable[..., Any]:
        plan = Guarded(self, function, repeatable=repeatable, keyed=keyed)
        guarded = plan.wrapped_async() if plan.is_async else plan.wrapped_sync()
        guarded.__switchgear_plan__ = plan  # type: ignore[attr-defined]
        return guarded
