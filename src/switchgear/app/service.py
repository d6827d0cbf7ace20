"""A service: what it serves, calls, reacts to and keeps, declared; then started as one thing.

Declaring connects to nothing and starts nothing, so that tools can import a service and read its
edges. What runs is in `runtime.py`; every part works without `Service` as well.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast, overload

from switchgear import telemetry
from switchgear.app.callee import Call, Callee, ServiceNotRunning
from switchgear.app.health import App, Receive, Send
from switchgear.app.health import Scope as AsgiScope
from switchgear.app.reaction import OnFailure, Reaction, Undoable, check_added
from switchgear.app.resources import Scope
from switchgear.app.transaction import Transaction
from switchgear.config import Config
from switchgear.contract.event import event_of
from switchgear.contract.message import Message
from switchgear.contract.service import Operation, contract_of, contracts_of
from switchgear.errors import ContractError, DeclarationError
from switchgear.events.progress import STUCK_AFTER
from switchgear.model.edge import Edge, Pattern
from switchgear.policy.admission import Admission
from switchgear.policy.defaults import Defaults
from switchgear.policy.policy import Policy

if TYPE_CHECKING:
    from switchgear.app.runtime import Runtime
    from switchgear.saga.definition import Saga, Step
    from switchgear.saga.notify import Hook
    from switchgear.saga.port import Sagas
from switchgear.saga.plan import Kind

__all__ = ["OnFailure", "Reaction", "Service"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
E = TypeVar("E", bound=Message)
H = TypeVar("H", bound=type[Any])

_NAME: Final = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")


class Service:
    """One service of a system, by its name in `switchgear.toml`.

    `schema` holds the steps that lead to the service's own tables, oldest first; a step that has
    been released never changes. Statements end with `;`. `{blob}`, `{serial}` and `{real}` stand
    for the database's types.

    `admission` bounds the requests that are carried out at once, and says whom to turn away beyond
    that; without one there is no bound. `[services.NAME.admission]` overrides its values.

    `event_format` is how the events are encoded that it publishes; both are read. Protobuf keeps
    what a reader does not know, fields and members of enumerations alike, when he passes it on.
    """

    def __init__(
        self,
        name: str,
        *,
        schema: Sequence[str] = (),
        version: str = "",
        admission: Admission | None = None,
        event_format: Literal["json", "protobuf"] = "json",
    ) -> None:
        if not _NAME.fullmatch(name):
            raise DeclarationError(
                f"{name!r} is not a name for a service.",
                where=f"Service({name!r})",
                fix="Use small letters, digits, and single - or _ between them.",
            )
        if isinstance(schema, str):
            raise DeclarationError(
                "schema is one text, and not a list of steps.",
                where=f"Service({name!r})",
                fix="Write schema=[...], with one text for each step.",
            )
        self.name = name
        self.version = version
        self.schema = tuple(schema)
        self.admission = admission
        self.event_format: Literal["json", "protobuf"] = event_format
        """How what it publishes is encoded; both are read."""
        self.admissions: dict[str, Admission] = {}
        """What a contract has instead of `admission`, by its full name."""
        self.declared_calls: list[Call] = []
        self.resources: list[tuple[Callable[..., Any], Scope, bool]] = []
        self.handlers: list[tuple[type[Any], Scope]] = []
        self.reactions: list[Reaction] = []
        self.published: tuple[type[Message], ...] | None = None
        """What `publishes` declares; None: it says nothing."""
        self.hooks: list[tuple[Callable[..., Any], Scope]] = []
        self.declared_sagas: list[Saga] = []
        self.hook: Hook | None = None
        """Who is told that a saga waits for a person."""
        self._runtime: Runtime | None = None

    def __repr__(self) -> str:
        return f"<service {self.name}>"

    # --- declaring ------------------------------------------------------------------------

    def calls(
        self, contract: Callable[..., T], policy: Policy | None = None, *, url: str | None = None
    ) -> T:
        """Return a client of another service, typed as its contract.

        It is connected when the service starts: to `url`, else to what `[services.NAME.calls]`
        says, else to the service of the system that serves the contract. Without a `policy` it
        gets the default one. Raises `ContractError` if `contract` is none, `PolicyError` if
        `policy` is none.
        """
        found = contract_of(contract)
        Policy.checked(policy, where=f"calls({found.full_name})")
        callee = Callee(self.name, found)
        self.declared_calls.append(Call(found, policy, url, callee))
        return cast("T", callee)

    @overload
    def resource(self, function: F) -> F: ...
    @overload
    def resource(self, *, database: bool) -> Callable[[F], F]: ...
    def resource(
        self, function: Callable[..., Any] | None = None, *, database: bool = False
    ) -> Any:
        """Declare something that the service keeps while it runs; see `resources.py`.

        An asyncpg pool, an AsyncEngine or a `Sqlite` becomes the service's database, in place of
        the embedded one; where there are several, `database=True` marks the one.
        """
        scope = Scope.here()

        def declare(found: Callable[..., Any]) -> Callable[..., Any]:
            self.resources.append((found, scope, database))
            return found

        return declare if function is None else declare(function)

    def serves(self, handler: H, *, admission: Admission | None = None) -> H:
        """Serve the contracts that a class implements; it is made at start, with what it needs.

        Usable as a decorator. With `admission` they have places of their own, instead of sharing
        those of the service. Raises `ContractError` if the class implements none, or misses a
        method.
        """
        where = f"{handler.__module__}.{handler.__qualname__}"
        contracts = contracts_of(handler)
        if not contracts:
            raise ContractError(
                "it implements no contract.",
                where=where,
                fix='Derive it from a Protocol that is decorated with @service("package").',
            )
        missing = sorted(getattr(handler, "__abstractmethods__", ()))
        if missing:
            raise ContractError(
                f"it does not implement {', '.join(missing)}.", where=where, fix="Write them."
            )
        for contract in contracts:
            for operation in contract.operations.values():
                _check_async(handler, operation)
        self.handlers.append((handler, Scope.here()))
        if admission is not None:
            self.admissions.update((contract.full_name, admission) for contract in contracts)
        return handler

    def on(
        self,
        event: type[Message],
        *,
        name: str,
        on_failure: OnFailure,
        attempts: int = 8,
        backoff: float = 0.1,
        concurrency: int = 16,
        fresh_within: float | timedelta | None = None,
        stuck_after: float | timedelta = STUCK_AFTER,
        from_start: bool = False,
        inbox: bool = True,
        emits: Sequence[type[Message]] | None = None,
        undoes: Undoable | Sequence[Undoable] = (),
        unordered: bool = False,
        runbook: str | None = None,
    ) -> Callable[[F], F]:
        """React to events: `async def mark_paid(event: PaymentTaken, tx: Transaction) -> None`.

        What it writes in `tx` commits together with the note that the event was handled. Further
        parameters are injected by type. Service and `name` are the identity of the subscription:
        never change them; several kinds of event under one name keep their order.

        `on_failure` says what happens to an event that keeps failing: `block_key` tries it again
        for ever and only its key waits; after `attempts`, `park_key` parks it and what follows of
        its key, `skip` parks it alone. `backoff` is the first pause in seconds, `concurrency` how
        many keys are handled at once. `runbook`, a file beside the module, says what a person does
        about a parked event.

        An event that waits for longer than `fresh_within` is signalled and told at `/readyz`, and
        so is a subscription that has events and makes no progress for `stuck_after` (both seconds).
        `from_start` asks that a new subscription gets what was published before it. What the broker
        cannot do is refused at the start. `inbox=False` is for a handler without `tx` that may run
        several times for an event: that it was handled is then not kept (see `Bus.on`).

        `emits` are all events that it may publish; another one is refused at the call, and `[]` is
        none. `undoes` says that it takes back what an earlier handler, or event, has done, and
        `unordered` that it copes with coming before it; the rule is at the head of `reaction.py`.
        `switchgear explain event` reads the chain from all of it. Raises `EventDeclarationError`.
        """
        contract = event_of(event)
        scope = Scope.here()

        def declare(function: F) -> F:
            reaction = Reaction(
                event=event,
                contract=contract,
                name=name,
                on_failure=on_failure,
                attempts=attempts,
                backoff=backoff,
                concurrency=concurrency,
                fresh_within=fresh_within,
                stuck_after=stuck_after,
                from_start=from_start,
                inbox=inbox,
                emits=None if emits is None else tuple(emits),
                undoes=tuple(undoes) if isinstance(undoes, Sequence) else (undoes,),
                unordered=unordered,
                runbook=runbook,
                function=function,
                scope=scope,
            )
            check_added(reaction, self.reactions)
            self.reactions.append(reaction)
            return function

        return declare

    def publishes(self, *events: type[Message]) -> None:
        """Declare what the service publishes outside of its handlers of events.

        That is in requests and in steps of sagas. Once anything is declared, another event is
        refused at the call. `app.publishes()` alone says: nothing. Raises `EventDeclarationError`.
        """
        for one in events:
            event_of(one)
        self.published = (*(self.published or ()), *events)

    def before(self, hook: F) -> F:
        """Run `hook` before every request: `async def authenticate(arrival: Arrival) -> str`.

        It returns who asks (`current().caller`), a whole `Context`, or None, or raises `Rejected`.
        Further parameters are injected by type. Usable as a decorator.
        """
        self.hooks.append((hook, Scope.here()))
        return hook

    def runs(self, saga: Saga) -> Saga:
        """Declare a saga, so that this service resumes it after a restart.

        Raises `DeclarationError` for what is none.
        """
        from switchgear.saga.definition import Saga  # noqa: PLC0415  not needed without sagas

        if not isinstance(saga, Saga):
            raise DeclarationError(
                f"{saga!r} is no saga.",
                where=repr(self),
                fix="Give the object that Saga(...) returned.",
            )
        self.declared_sagas.append(saga)
        return saga

    def refutes(
        self,
        event: type[E],
        step: Step[..., Any],
        *,
        name: str,
        id: Callable[[E], str],  # noqa: A002  as sagas call it
        evidence: Callable[[E], str] = repr,
    ) -> None:
        """Take an event for the proof that a step which was recorded as done does not hold.

        `app.refutes(PaymentBounced, debit, name="bounced", id=lambda event: event.order_id)` turns
        the saga of that id round, also after its end; see `switchgear.saga.runbook.refute`.
        `evidence` is what the record keeps of the event. `name` is the subscription's, as in `on`.
        An event about a saga that there is not, or whose step does not stand as done, is parked.
        Raises `EventDeclarationError`.
        """
        actor = f"event {event_of(event).type}"

        async def refuted(event: E, tx: Transaction) -> None:
            await tx.refute(step, id(event), actor=actor, evidence=evidence(event))

        # a worker may be at work on the saga: it is asked again until that has ended
        self.on(event, name=name, on_failure="park_key", attempts=20, emits=[])(refuted)

    def notifies(self, hook: Hook) -> Hook:
        """Tell somebody of every saga that waits for a person: `async def page(item: WorkItem)`.

        It is told at least once of each work item that opens, and again if it raises: a webhook
        (`switchgear.saga.notify.webhook`), or a function that publishes an event. Usable as a
        decorator. Raises `DeclarationError` for a second one.
        """
        if self.hook is not None:
            raise DeclarationError(
                "somebody is notified already.",
                where=repr(self),
                fix="Tell several from one function.",
            )
        self.hook = hook
        return hook

    def edges(self, defaults: Defaults | None = None) -> tuple[Edge, ...]:
        """Return what the service depends on: calls, events, and the steps of its sagas.

        Read from the declarations: nothing has to run. The callee of a call is named by the
        contract, of an event by its topic. `defaults` are those of the system, `Config.policies`.
        """
        calls = [
            Edge(
                caller=self.name,
                callee=call.contract.full_name,
                operation=operation.full_name,
                pattern=operation.pattern,
                policy=policy.describe(),
                keyed=operation.keyed,
            )
            for call in self.declared_calls
            for operation, policy in zip(
                call.contract.operations.values(),
                call.policies(defaults or Defaults()).values(),
                strict=True,
            )
        ]
        events = [
            Edge(
                caller=f"{self.name}.{reaction.name}",
                callee=reaction.contract.topic,
                operation=reaction.contract.type,
                pattern=Pattern.EVENT,
            )
            for reaction in self.reactions
        ]
        steps = [
            Edge(self.name, self.name, f"{saga.name}/{step.name}", Pattern.SAGA, keyed=True)
            for saga in self.declared_sagas
            for step in saga.steps.values()
            if step.kind is not Kind.START  # what the saga begins with is no line to anybody
        ]
        return (*calls, *events, *steps)

    def describe(self) -> dict[str, object]:
        """Return all that the service declares, as `switchgear export` writes it."""
        from switchgear.app.declared import declared  # noqa: PLC0415  tools ask, services do not

        return declared(self).as_dict()

    # --- running --------------------------------------------------------------------------

    @property
    def runtime(self) -> Runtime:
        """What runs. Raises `ServiceNotRunning` before the start and after the stop."""
        if self._runtime is None:
            raise ServiceNotRunning(
                f"the service {self.name} is not running.",
                fix="Run it (switchgear run, or its lifespan), or test it with switchgear.testing.",
            )
        return self._runtime

    @runtime.setter
    def runtime(self, runtime: Runtime | None) -> None:
        if runtime is not None and self._runtime is not None:
            raise DeclarationError(
                f"the service {self.name} is already running in this process.",
                fix="Stop the first before starting it again.",
            )
        self._runtime = runtime

    def transaction(
        self, connection: object | None = None
    ) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction of the service's own database, for one block.

        In a keyed request it commits together with the stored reply. With `connection`, a
        transaction that the team opened itself (an AsyncSession, an asyncpg connection), the block
        adds to that one, and the team commits. Raises `DatabaseUnavailable` if nothing was
        committed, `Unknown` if that is not certain.
        """
        return self.runtime.transaction(connection)

    @property
    def sagas(self) -> Sagas:
        """The engine that runs the service's sagas."""
        return self.runtime.engine

    @asynccontextmanager
    async def lifespan(
        self, _: object = None, *, config: Config | None = None
    ) -> AsyncIterator[None]:
        """Start the service for the body of an `async with`, without doors of its own.

        For an application in which `asgi` is mounted: `FastAPI(lifespan=app.lifespan)`.
        """
        from switchgear.app.runtime import Runtime  # noqa: PLC0415  declaring needs none of it

        runtime = Runtime(self, config)
        with telemetry.reported(self.name):
            await runtime.start()
            runtime.ready()
            try:
                yield
            finally:
                await runtime.stop()

    @property
    def asgi(self) -> App:
        """The REST door as an ASGI application: for any ASGI server, which starts and stops it.

        Mounted in another application it is not told of start and stop: give that application
        `lifespan`.
        """
        return _Asgi(self)


def _check_async(handler: type[Any], operation: Operation) -> None:
    """Refuse a plain function that says that it returns the reply itself: it is awaited."""
    method = inspect.unwrap(getattr(handler, operation.name))
    returned = getattr(method, "__annotations__", {}).get("return")
    if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
        return
    # a plain function that returns something to await says so, or says nothing
    if returned in (operation.reply, operation.reply.__name__):
        raise ContractError(
            "it is a plain function, and would be awaited.",
            where=f"{handler.__module__}.{handler.__qualname__}.{operation.name}",
            fix="Write `async def`; what blocks goes into `asyncio.to_thread`.",
        )


class _Asgi:
    """The ASGI application of a service; what answers is the run that is going on."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(self._service.lifespan(), receive, send)
        else:
            await self._service.runtime.rest(scope, receive, send)


async def _live(manager: AbstractAsyncContextManager[None], receive: Receive, send: Send) -> None:
    """Start and stop a service as an ASGI server says."""
    await receive()
    try:
        await manager.__aenter__()
    except Exception as error:
        await send({"type": "lifespan.startup.failed", "message": str(error)})
        raise
    await send({"type": "lifespan.startup.complete"})
    await receive()
    try:
        await manager.__aexit__(None, None, None)
    except Exception as error:
        await send({"type": "lifespan.shutdown.failed", "message": str(error)})
        raise
    await send({"type": "lifespan.shutdown.complete"})
