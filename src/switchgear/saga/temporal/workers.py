"""The workers of one process on Temporal: one for each definition, which has a queue of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from temporalio.worker import Worker

from switchgear.model.outcome import Unavailable
from switchgear.saga.definition import Saga
from switchgear.saga.errors import TemporalRefused
from switchgear.saga.guard import Guards
from switchgear.saga.notify import Hook
from switchgear.saga.temporal.activities import BEATS, Activities
from switchgear.saga.temporal.cluster import Cluster
from switchgear.saga.temporal.reports import Reports
from switchgear.saga.temporal.workflow import SagaWorkflow

__all__ = ["Workers"]

_log = logging.getLogger("switchgear.saga")
_LOOK_FIRST, _LOOK_MOST = 2.0, 60.0
"""Seconds between two looks for sagas that nobody here can drive: Temporal's list comes late."""
_HALT: Final = 5.0


class Workers:
    """Attempts what is due of the sagas `sagas`, until it is stopped, once."""

    def __init__(
        self,
        sagas: Mapping[str, Saga],
        *,
        concurrency: int,
        lease: float,
        notify: Hook | None,
    ) -> None:
        self._sagas = sagas
        self._concurrency = concurrency
        self._lease = lease
        self._notify = notify
        self._guards = Guards(random.random)
        self._activities: list[Activities] = []
        self._workers: list[Worker] = []
        self._stopping = False

    async def run(self, cluster: Cluster) -> None:
        """Work until `stop`. Raises what ended one of the workers."""
        self._activities, self._workers = [], []
        for definition, saga in self._sagas.items():
            activities = Activities(saga, self._guards, self._notify)
            self._activities.append(activities)
            self._workers.append(self._worker(cluster, definition, activities))
        parts = [asyncio.create_task(self._drive(worker)) for worker in self._workers]
        looking = asyncio.create_task(self._look_for_strangers(cluster))
        try:
            await asyncio.gather(*parts)
        finally:
            self._halt()  # a worker that is cancelled waits for what it attempts
            for part in (*parts, looking):
                part.cancel()
            await asyncio.wait([*parts, looking], timeout=_HALT)

    async def stop(self, within: float) -> bool:
        """Begin nothing further, and let what runs end within some seconds; then cut it short.

        False: something will not end even so.
        """
        self._stopping = True
        ending = asyncio.gather(*(each.shutdown() for each in self._workers if each.is_running))
        await asyncio.wait([ending], timeout=within)
        self._halt()
        await asyncio.wait([ending], timeout=_HALT)
        if ending.done():
            return True
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)
        return False

    def _halt(self) -> None:
        for each in self._activities:
            each.halt()

    async def _drive(self, worker: Worker) -> None:
        if not self._stopping:  # one that has not begun could not be told to stop
            await worker.run()

    def _worker(self, cluster: Cluster, definition: str, activities: Activities) -> Worker:
        beat = timedelta(seconds=self._lease / BEATS)
        return Worker(
            cluster.client,
            task_queue=cluster.queue(definition),
            workflows=[SagaWorkflow],
            activities=activities.all(),
            interceptors=[Reports(asyncio.get_running_loop())],
            max_concurrent_activities=self._concurrency,
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=self._lease),
            max_heartbeat_throttle_interval=beat,
            default_heartbeat_throttle_interval=beat,
            # `stop` has a bound of its own
            graceful_shutdown_timeout=timedelta(days=1),
        )

    async def _look_for_strangers(self, cluster: Cluster) -> None:
        """Say what nobody here can drive."""
        told: set[str] = set()
        pause = _LOOK_FIRST
        queues = [cluster.queue(definition) for definition in self._sagas]
        while True:
            with contextlib.suppress(Unavailable, TemporalRefused):
                found = await cluster.strangers(queues)
                for definition in found.keys() - told:
                    name, version, _ = definition.split("/")
                    _log.warning(
                        "%d unfinished saga(s) %s version %s are left alone: this worker does not "
                        "have that definition. Run one that has it until they have ended.",
                        found[definition],
                        name,
                        version,
                    )
                told = set(found)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LOOK_MOST)
