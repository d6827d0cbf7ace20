"""The desk of sagas on Temporal: the service's code need not be installed, nor a worker run."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext

import msgspec

from switchgear.saga.acting import check_decision, meant, taken
from switchgear.saga.carried import Carried
from switchgear.saga.errors import StateMoved, TemporalRefused
from switchgear.saga.evidence import Evidence, WorkItem, steps_of
from switchgear.saga.state import What
from switchgear.saga.story import Decision
from switchgear.saga.temporal.cluster import Cluster, Seen, unknown
from switchgear.saga.temporal.wire import Action, Record, Refutation

__all__ = ["TemporalDesk"]


class TemporalDesk:
    """The desk of the sagas of one service on a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def items(self, *, closed: bool) -> list[WorkItem]:
        """Return the open work items, oldest first. Raises `TemporalRefused` for closed ones."""
        if closed:
            raise TemporalRefused(
                "Temporal has no list of work items that were dealt with.",
                where=f"sagas of {self._cluster.service}",
                fix="Look at one saga: switchgear saga show ID",
            )
        found = [item async for seen in self._cluster.running() for item in seen.items]
        return sorted(found, key=lambda item: item.opened)

    async def show(self, id: str) -> Evidence:  # noqa: A002  it is called that everywhere
        """Return the evidence on a saga, by its id or that of a work item."""
        seen = await self._find(id)
        record = await self._record(seen)
        story = record.story()
        lines = [told.line() for told in record.lines]
        return Evidence(
            id=record.id,
            saga=record.plan.saga,
            version=record.plan.version,
            status=seen.status if seen.closed else record.status,
            began=record.began,
            deadline=record.snapshot.state.deadline,
            ended=record.ended,
            input=bytes(record.input).decode(),
            steps=steps_of(story, lines),
            items=tuple(record.items),
            interruptions=tuple(
                line.entry.at for line in lines if line.entry.what is What.INTERRUPTED
            ),
            correlation=_correlation(record),
        )

    async def act(self, id: str, action: What, decision: Decision) -> WorkItem:  # noqa: A002
        """Take an action on a work item, by its id or that of its saga."""
        check_decision(action, decision)
        seen = await self._find(id)
        if not seen.closed:
            async with self._interpreted(seen):
                return await self._cluster.act(seen.id, Action(id, action, decision))
        record = await self._record(seen)
        item = meant(list(reversed(record.items)), id)
        if item is not None and taken(item, action, decision, seen.status):
            return item
        raise StateMoved(f"saga {seen.id} has no work item; it is {seen.status}.")

    async def refute(self, id: str, step: str, decision: Decision) -> str:  # noqa: A002
        """Say that a step does not hold, also after the end, and return the saga's status."""
        check_decision(What.REFUTE, decision)
        seen = await self._cluster.see(id)
        if seen is None:
            raise unknown(id)
        async with self._cluster.interpreted(seen.queue):
            return await self._cluster.refute(seen, Refutation(step, decision))

    async def _find(self, given: str) -> Seen:
        """Return the saga `given`, or that of the work item `given`."""
        for saga_id in (given, given.rpartition("/")[0]):
            seen = await self._cluster.see(saga_id) if saga_id else None
            if seen is not None:
                return seen
        raise unknown(given)

    async def _record(self, seen: Seen) -> Record:
        async with self._interpreted(seen):
            return await self._cluster.record(seen)

    def _interpreted(self, seen: Seen) -> AbstractAsyncContextManager[None]:
        ended = seen.closed and seen.status in {"done", "undone"}  # its result tells everything
        return nullcontext() if ended else self._cluster.interpreted(seen.queue)


def _correlation(record: Record) -> str | None:
    data = bytes(record.context)
    return msgspec.json.decode(data, type=Carried).correlation if data else None
