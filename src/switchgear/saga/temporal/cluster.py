"""What is asked of a Temporal cluster about the sagas of one service.

A saga's workflow has the id `<service>/<saga's id>` and the task queue `<service>/<definition>`, so
that services share a namespace, and a worker is only given sagas of definitions that it has.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Any, Final, NoReturn

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryRequest
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from switchgear.errors import SagaError
from switchgear.model.outcome import Reason, Unavailable, Unknown
from switchgear.saga.acting import check_refute
from switchgear.saga.errors import NoSuchSaga, SagaConflict, StateMoved, TemporalRefused
from switchgear.saga.evidence import WorkItem
from switchgear.saga.temporal.place import is_away
from switchgear.saga.temporal.wire import (
    ACT,
    RECORD,
    REFUTE,
    WORKFLOW,
    Action,
    Begin,
    Former,
    Record,
    Refutation,
)
from switchgear.saga.temporal.workflow import SagaWorkflow

__all__ = ["Cluster", "Seen", "check_service", "unknown"]

_WITHIN: Final = timedelta(seconds=15)
_PAUSE: Final = 0.2
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")
_RAISED: Final = {each.__name__: each for each in (NoSuchSaga, SagaError, StateMoved)}


@dataclass(frozen=True, slots=True)
class Seen:
    """What Temporal tells of a saga's workflow without asking a worker."""

    id: str
    status: str
    """running, undoing, queued, done, undone; or what Temporal has made of the workflow."""
    queue: str
    closed: bool
    items: tuple[WorkItem, ...] = ()
    """The open work items, without their runbooks' texts."""


def check_service(service: str) -> None:
    """Refuse a name that cannot stand in front of ids."""
    if not _NAME.fullmatch(service):
        raise TemporalRefused(
            f"{service!r} is not a name for a service.",
            where="the sagas of a service",
            fix="Use letters, digits, '_', '-' and '.'.",
        )


@contextmanager
def _reaching() -> Iterator[None]:
    """Turn what Temporal's client raises into what this library raises."""
    try:
        yield
    except RPCError as error:
        if is_away(error):
            raise Unavailable(
                f"Temporal does not answer: {error.message}", reason=Reason.CONNECT
            ) from error
        if _not_now(error):
            raise Unavailable(
                f"Temporal cannot take it in now: {error.message}", reason=Reason.NOT_EXECUTED
            ) from error
        raise TemporalRefused(f"Temporal refuses it: {error.message}.") from error


class Cluster:
    """The sagas of one service on a cluster."""

    def __init__(self, client: Client, service: str) -> None:
        check_service(service)
        self.client = client
        self.service = service
        self._interpreting = asyncio.Lock()
        self._running = (
            f"WorkflowType = '{WORKFLOW}' AND ExecutionStatus = 'Running' "
            f"AND WorkflowId STARTS_WITH '{service}/'"
        )

    def workflow_id(self, saga_id: str) -> str:
        """Return the id of a saga's workflow."""
        return f"{self.service}/{saga_id}"

    def queue(self, definition: str) -> str:
        """Return the task queue of a definition."""
        return f"{self.service}/{definition}"

    async def start(self, begin: Begin, queue: str) -> bool:
        """Start a saga. False: its workflow was there already, perhaps another saga's."""
        with _reaching():
            try:
                await self.client.start_workflow(
                    WORKFLOW,
                    begin,
                    id=self.workflow_id(begin.id),
                    task_queue=queue,
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    static_summary=f"{begin.plan.saga} {begin.id}",
                )
            except WorkflowAlreadyStartedError:
                return False
        return True

    async def begun(self, saga_id: str, within: float = 15.0) -> Begin | None:
        """Return what the workflow of a saga was started with; None: there is none.

        It waits `within` seconds. Raises `SagaConflict` for the id of a workflow that is no saga.
        """
        request = GetWorkflowExecutionHistoryRequest(
            namespace=self.client.namespace,
            execution=WorkflowExecution(workflow_id=self.workflow_id(saga_id)),
            maximum_page_size=1,
        )
        with _reaching():
            try:
                found = await self.client.workflow_service.get_workflow_execution_history(
                    request, timeout=timedelta(seconds=within)
                )
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    return None
                raise
        first = found.history.events[0].workflow_execution_started_event_attributes
        if first.workflow_type.name != WORKFLOW:
            raise SagaConflict(
                f"{self.workflow_id(saga_id)} is the id of a workflow that is no saga.",
                fix="Start it under another id.",
            )
        begin: Begin
        (begin,) = await self.client.data_converter.decode(first.input.payloads, [Begin])
        return begin

    async def see(self, saga_id: str) -> Seen | None:
        """Return what Temporal tells of a saga; None: it has no workflow."""
        with _reaching():
            try:
                found = await self._handle(saga_id).describe(rpc_timeout=_WITHIN)
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    return None
                raise
            return await self._seen(found)

    async def running(self) -> AsyncIterator[Seen]:
        """Yield every saga of the service that has not ended."""
        with _reaching():
            async for found in self.client.list_workflows(self._running):
                yield await self._seen(found)

    async def strangers(self, queues: list[str]) -> dict[str, int]:
        """Return the definitions, other than of `queues`, of sagas that run, and how many."""
        others = "".join(f" AND TaskQueue != '{queue}'" for queue in queues)
        query = self._running + others
        found: dict[str, int] = {}
        with _reaching():
            async for each in self.client.list_workflows(query, limit=1_000):
                definition = each.task_queue.partition("/")[2]
                found[definition] = found.get(definition, 0) + 1
        return found

    async def ended(self, saga_id: str) -> Record:
        """Wait for the end of a saga's workflow. Raises `WorkflowFailureError` without a record."""
        with _reaching():
            record: Record = await self._handle(saga_id).result()
            return record

    async def record(self, seen: Seen) -> Record:
        """Return everything that is known of a saga; a worker of its definition tells it."""
        if seen.closed:
            try:
                return await self.ended(seen.id)
            except WorkflowFailureError:
                pass  # it was terminated: its history is there all the same
        with _reaching():
            record: Record = await self._handle(seen.id).query(
                RECORD, result_type=Record, rpc_timeout=_WITHIN
            )
            return record

    async def act(self, saga_id: str, action: Action) -> WorkItem:
        """Take a person's action. Raises what `runbook.retry` raises."""
        item: WorkItem = await self._updated(saga_id, ACT, action, WorkItem)
        return item

    async def refute(self, seen: Seen, given: Refutation) -> str:
        """Refute a step, also of a saga that has ended: then it goes on in another run."""
        if not seen.closed:
            try:
                status: str = await self._updated(seen.id, REFUTE, given, str)
                return status
            except StateMoved:
                again = await self.see(seen.id)
                if again is None or not again.closed:
                    raise
        try:
            record = await self.ended(seen.id)
        except WorkflowFailureError:
            raise StateMoved(
                f"the workflow of saga {seen.id} was {seen.status} on Temporal, and cannot go on."
            ) from None
        begin = await self.begun(seen.id)
        if begin is None:
            raise unknown(seen.id)
        # a run of the workflow that ends at once would hide the record of the one that says more
        if check_refute(record.plan, record.snapshot.state, seen.id, given.step):
            return record.status
        former = Former(record.began, record.snapshot, record.lines, record.items)
        operation: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
            WORKFLOW,
            Begin(
                id=begin.id,
                plan=begin.plan,
                input=begin.input,
                context=begin.context,
                lease=begin.lease,
                events=begin.events,
                former=former,
            ),
            id=self.workflow_id(seen.id),
            task_queue=seen.queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            static_summary=f"{begin.plan.saga} {begin.id}, refuted",
        )
        return str(
            await _told(
                self.client.execute_update_with_start_workflow(
                    REFUTE,
                    given,
                    start_workflow_operation=operation,
                    result_type=str,
                    rpc_timeout=_WITHIN,
                ),
                seen.id,
            )
        )

    @asynccontextmanager
    async def interpreted(self, queue: str) -> AsyncIterator[None]:
        """Let workflows of a queue be interpreted here, too, for the body of the `async with`.

        So they can be asked and operated while no worker of the service is there: interpreting
        needs none of its code.
        """
        # a client has one worker of a queue
        async with (
            self._interpreting,
            Worker(
                self.client,
                task_queue=queue,
                workflows=[SagaWorkflow],
                max_cached_workflows=0,
                max_concurrent_workflow_task_polls=1,
            ),
        ):
            yield

    def _handle(self, saga_id: str) -> WorkflowHandle[Any, Any]:
        return self.client.get_workflow_handle(self.workflow_id(saga_id), result_type=Record)

    async def _updated(self, saga_id: str, update: str, given: object, kind: type[Any]) -> Any:
        handle, until = self._handle(saga_id), monotonic() + _WITHIN.total_seconds()
        while True:
            updating = handle.execute_update(update, given, result_type=kind, rpc_timeout=_WITHIN)
            try:
                return await _told(updating, saga_id)
            except Unavailable as error:
                if error.reason is not Reason.NOT_EXECUTED or monotonic() > until:
                    raise
            await asyncio.sleep(_PAUSE)

    async def _seen(self, found: Any) -> Seen:
        status = found.status
        closed = status is not WorkflowExecutionStatus.RUNNING
        memo = await found.memo()
        told = str(memo.get("status", "running"))
        if closed and status is not WorkflowExecutionStatus.COMPLETED:
            told = status.name.lower().replace("_", " ")
        items = memo.get("items", []) if not closed else []
        return Seen(
            id=found.id.partition("/")[2],
            status=told,
            queue=found.task_queue,
            closed=closed,
            items=tuple(await found.memo_value("items", type_hint=list[WorkItem]) if items else ()),
        )


def unknown(given: str) -> NoSuchSaga:
    """Return the error for an id that no workflow has."""
    return NoSuchSaga(
        f"there is no saga and no work item {given} on this cluster.",
        fix="List the open items: switchgear saga list",
    )


def _not_now(error: RPCError) -> bool:
    """Tell whether an update met a workflow between two runs, or a task that failed.

    Nothing was taken in then.
    """
    return (
        error.status is RPCStatusCode.FAILED_PRECONDITION
        and "workflow task failure" in error.message
    )


async def _told(update: Any, saga_id: str) -> Any:
    """Await an update, and raise what the workflow refused it with as what it was."""
    try:
        with _reaching():
            try:
                return await update
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    raise StateMoved(f"saga {saga_id} has ended.") from error
                raise
    except WorkflowUpdateRPCTimeoutOrCancelledError as error:
        raise Unknown(
            f"no worker has said whether it took in what was asked of saga {saga_id}.",
            reason=Reason.TIMEOUT,
            key=saga_id,
        ) from error
    except WorkflowUpdateFailedError as error:
        _raise(error.cause, error)


def _raise(cause: BaseException | None, error: Exception) -> NoReturn:
    if isinstance(cause, ApplicationError) and cause.type in _RAISED:
        where, fix = cause.details if len(cause.details) == 2 else (None, None)  # noqa: PLR2004
        raise _RAISED[cause.type](cause.message, where=where, fix=fix) from None
    raise error
