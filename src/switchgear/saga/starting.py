"""What is checked and written down when a saga starts, wherever it is kept."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterable

import msgspec

from switchgear.errors import SagaDefinitionError, SagaError
from switchgear.model.context import current, trace_of
from switchgear.saga.carried import Carried
from switchgear.saga.definition import Saga
from switchgear.saga.errors import SagaConflict, UnrecordableResult
from switchgear.saga.rules import MOST_ID
from switchgear.saga.stores.port import NewSaga

__all__ = ["by_definition", "check_ready", "check_same", "new_saga"]


def by_definition(sagas: Iterable[Saga]) -> dict[str, Saga]:
    """Return sagas by the id of their definition. Raises `SagaDefinitionError` for two of one."""
    known: dict[tuple[str, int], Saga] = {}
    for saga in sagas:
        other = known.setdefault((saga.name, saga.version), saga)
        if other is not saga:
            raise SagaDefinitionError(
                f"there are two definitions of saga {saga.name} version {saga.version}.",
                where="Engine",
                fix="List each version once; give a changed definition the next version.",
            )
    return {saga.plan.id: saga for saga in known.values()}


def check_ready(saga: Saga, sagas: Container[str], *, prepared: bool, engine: str) -> None:
    """Refuse a start on an engine that is not prepared, or of what is not one of its sagas."""
    if not prepared:
        raise SagaError(
            "the engine's tables have not been prepared.",
            where=f"start of saga {saga.name}",
            fix="Call `await engine.prepare()` when the service starts.",
        )
    if saga.plan.id not in sagas:
        raise SagaError(
            f"version {saga.version} of saga {saga.name} is not one of this engine's.",
            fix=f"List it in {engine}(..., sagas=[...]).",
        )


def new_saga(saga: Saga, given: object, saga_id: str, now: float) -> NewSaga:
    """Return what is written down of a saga that starts `now`, in the current context.

    Raises `SagaError` for an id, an input or a lock that cannot be used.
    """
    where = f"start of saga {saga.name}"
    if not saga_id or len(saga_id) > MOST_ID or not saga_id.isprintable():
        raise SagaError(
            f"{saga_id!r} is not an id.",
            where=where,
            fix=f"Use 1 to {MOST_ID} printable characters, such as the order's id.",
        )
    declared = saga.input.declared
    if isinstance(declared, type) and not isinstance(given, declared):
        raise SagaError(
            f"its input is a {type(given).__qualname__}.",
            where=where,
            fix=f"Give it a {declared.__qualname__}.",
        )
    try:
        data, _ = saga.input.record(given)
    except UnrecordableResult as error:
        raise SagaError(f"its input cannot be recorded: {error.what}", where=where) from error
    deadline = None if saga.deadline is None else now + saga.deadline.total_seconds()
    context = current()
    traceparent, tracestate = trace_of(context)
    carried = Carried(
        correlation=context.correlation or saga_id,
        priority=context.priority,
        traceparent=traceparent,
        tracestate=tracestate,
    )
    told = msgspec.json.encode(carried)
    return NewSaga(saga_id, saga.plan.id, data, told, now, deadline, saga.wishes(given))


def check_same(
    saga: Saga, saga_id: str, given: bytes, *, name: str, existing: bytes, ids: str
) -> None:
    """Refuse an id that stands for another saga (`name`) or input (`existing`).

    `ids` says where ids are unique.
    """
    if name != saga.name:
        raise SagaConflict(
            f"the id {saga_id} is that of a saga {name}.",
            where=f"start of saga {saga.name}",
            fix=f"Ids are unique in {ids}: use one like {saga.name}-{saga_id}.",
        )
    same = existing == given
    if not same:  # an older version may have written the same input otherwise
        with contextlib.suppress(msgspec.MsgspecError):
            same = saga.input.record(saga.input.decode(existing))[0] == given
    if not same:
        raise SagaConflict(
            f"the saga {saga_id} was started with another input.",
            where=f"start of saga {saga.name}",
            fix="Start it with the same input, or under another id.",
        )
