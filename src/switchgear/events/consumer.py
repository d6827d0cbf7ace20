"""The consumer: drives one subscription, its lanes and its handlers.

It polls, hands events to the lanes, carries out what they ask for (`runner.py`), and commits their
watermarks, a few times a second at most. The lanes decide; this module waits.

- Quick handlers share a transaction, and on SQLite one transaction runs at a time. Handlers that
  are not quick run beside each other, each in its own, up to `concurrency`.
- When partitions are to be given up, nothing of them is begun any more; what runs may finish within
  `handover` seconds, is then cancelled, and the watermark is committed before the release.
- When partitions are lost, what runs for them is cancelled, and the runner commits nothing of it.
- A poll moves the subscription on. Where what it brought cannot be taken in, the consumer leaves
  and joins anew, at the committed positions: else the next commit would pass over it.
- Where every key is a partition of its own, the store is asked about the keys of all that arrives,
  since another member may have put earlier events there. The member with the *keeper's* lease, in
  the consumer's database, works the store off.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from switchgear.database.port import Database, DatabaseUnavailable
from switchgear.database.sqlite import Sqlite
from switchgear.events.brokers.port import (
    Broker,
    BrokerUnavailable,
    Delivery,
    LeaseLost,
    Partition,
    Polled,
    Subscription,
)
from switchgear.events.handling import HandlerTransaction, shares
from switchgear.events.inbox import Inbox
from switchgear.events.incoming import Incoming
from switchgear.events.keeper import Keeper
from switchgear.events.lanes import Kind, Lanes, Settings, State
from switchgear.events.outbox import Outbox
from switchgear.events.pace import Pace
from switchgear.events.progress import STUCK_AFTER
from switchgear.events.reaction import Reactions
from switchgear.events.runner import (
    Elsewhere,
    Empty,
    Failed,
    Handled,
    HeldBack,
    Job,
    Result,
    Runner,
)
from switchgear.events.troubles import PAUSE, Troubles
from switchgear.events.waiting import wait_until
from switchgear.model.outcome import Unknown
from switchgear.model.signal import Signal, SignalKind, emit, listening

__all__ = ["Consumer", "Subscribed"]

_Stored = dict[Partition, dict[str, State]]
_POLL: Final = 500
_WAIT: Final = 5.0
_COMMIT_EVERY: Final = 0.1
_STORE_EVERY: Final = 1.0
_STORE_IN_FULL: Final = 60.0
_COMMIT_SHARE: Final = 10
"""Then a commit takes a tenth of the time at most: on Kafka nothing is read meanwhile."""
_COMMIT_MOST: Final = 0.5
_COMMIT_KEYS_EVERY: Final = 0.02
"""Where a commit is what lets a key go on."""
_ADOPTED: Final = 1_000
"""Queues of the store that the keeper takes up at once."""
_LONG: Final = 0.25
"""Seconds after which a transaction that was to be quick no longer keeps others from beginning."""
_MEMORY: Final = 64_000_000
"""Bytes of events that are held at once, going by the size of recent ones."""
_USUAL_SIZE: Final = 1_000.0


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The settings of one subscription. Times are in seconds."""

    consumer: str
    """Service and name: the group on the broker and the owner of the inbox rows."""
    topics: Sequence[str]
    lanes: Settings
    concurrency: int = 16
    lease: float = 5.0
    handover: float = 5.0
    fresh_within: float | None = None
    """How old the oldest event that waits may be."""
    stuck_after: float = STUCK_AFTER
    """For how long there may be events and no progress."""
    from_start: bool = False
    """A new group is to get what was published before it."""
    inbox: bool = True
    """Whether it is kept which events were handled."""


class Consumer:
    """One member of a group, with the handlers of the group's events.

    `wrap` makes what handlers are given out of a `HandlerTransaction`. `draw` gives numbers in
    [0, 1) for the jitter of pauses.
    """

    def __init__(
        self,
        settings: Subscribed,
        broker: Broker,
        database: Database,
        reactions: Reactions,
        *,
        outbox: Outbox,
        wrap: Callable[[HandlerTransaction], Any] | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.settings = settings
        self._broker = broker
        self._database = database
        self._reactions = reactions
        self._draw = draw
        self._keeper: Keeper | None = None
        lanes, self._commit_every = settings.lanes, _COMMIT_EVERY
        if not broker.capabilities.partitions:
            self._keeper = Keeper(database, settings.consumer, settings.lease)
            lanes, self._commit_every = replace(lanes, join=True), _COMMIT_KEYS_EVERY
        self._lanes: Lanes[Partition, Incoming] = Lanes(lanes)
        self._pace = Pace(512 if shares(database) or not settings.inbox else 1)
        self._runner = Runner(
            database,
            Inbox(settings.consumer),
            outbox,
            reactions,
            pace=self._pace,
            fence=self._ours,
            keeper=self._keeper,
            once=settings.inbox,
            wrap=wrap,
        )
        self._serial = isinstance(database, Sqlite) and settings.inbox
        self._subscription: Subscription | None = None
        self._tasks: dict[asyncio.Task[None], tuple[float, frozenset[Partition]]] = {}
        self._background: list[asyncio.Task[None]] = []
        self._progress = asyncio.Event()
        self._moved = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._leaving: dict[Partition, float] = {}
        self._stopping = False
        self._troubles = Troubles(settings.consumer, draw)
        self._size = _USUAL_SIZE
        self._version = -1
        self._acts = -1
        self._full_at = 0.0
        self.concluded = 0
        """Events that were handled, or put aside, since the start."""

    @property
    def error(self) -> str | None:
        """What keeps the consumer from working at present; None while all is well."""
        return self._troubles.error

    @property
    def broken(self) -> str | None:
        """What fails in a way that nobody expected, while it does; it is tried again."""
        return self._troubles.broken

    async def start(self) -> None:
        """Join the group and begin. A broker that cannot be reached is tried again for ever.

        Raises `BrokerError` if the broker refuses the subscription itself.
        """
        with suppress(BrokerUnavailable):
            await self._join()
        for work, doing in (
            (self._pump, "polling"),
            (self._commit_watermarks, "committing"),
            (self._watch_store, "watching the store"),
        ):
            task = asyncio.create_task(
                self._troubles.for_ever(doing, work), name=f"{doing} {self.settings.consumer}"
            )
            self._background.append(task)

    async def stop(self, within: float = 10.0) -> None:
        """Finish what runs, at most for `within` seconds, commit, and leave the group."""
        self._stopping = True
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        self._background.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=within)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        steps = [self._commit, self._close]
        if self._keeper is not None:
            steps.append(self._keeper.give_back)
        for step in steps:
            try:
                await step()
            except (BrokerUnavailable, LeaseLost):
                pass  # it is done again, by who goes on
            except Exception as error:  # noqa: BLE001  reported; the next step is done all the same
                self._troubles.report("stopping", error)

    def blocked(self) -> int:
        """Return how many keys wait for their first event to be tried again."""
        return self._lanes.blocked()

    def running(self) -> float | None:
        """Return for how many seconds the longest-running work has been running; None: nothing."""
        if not self._tasks:
            return None
        return asyncio.get_running_loop().time() - min(began for began, _ in self._tasks.values())

    # polling

    async def _join(self) -> Subscription:
        if self._subscription is None:
            self._subscription = await self._broker.subscribe(
                self.settings.consumer, self.settings.topics, lease=self.settings.lease
            )
            self._troubles.over("leaving")
        return self._subscription

    async def _close(self) -> None:
        """Leave the group; where that cannot be said, the leases end by themselves."""
        if self._subscription is None:
            return
        try:
            await self._subscription.close()
        except BrokerUnavailable:
            pass
        except Exception as error:  # noqa: BLE001  reported; it is given up all the same
            self._troubles.report("leaving", error)
        self._subscription = None

    async def _begin_anew(self) -> None:
        """Give up all that is owned: whoever gets it next reads from what was committed."""
        owned = frozenset(self._lanes.partitions())
        for partition in owned:
            self._lanes.revoke(partition)
        self._leaving.clear()
        self._abandon(owned)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self.settings.handover)
        await self._close()

    async def _pump(self) -> None:
        while True:
            try:
                subscription = await self._join()
                most = self._most()
                room = most - self._lanes.held()
                if room <= most // 4:
                    self._progress.clear()
                    polled = await subscription.poll(0, 0.0)
                    await self._take(polled)
                    await wait_until(self._progress, _COMMIT_EVERY)
                else:
                    polled = await subscription.poll(min(room, _POLL), _WAIT)
                    await self._take(polled)
                self._troubles.over("polling")
            except (BrokerUnavailable, DatabaseUnavailable) as error:
                await asyncio.sleep(self._troubles.met("polling", str(error)))

    def _most(self) -> int:
        """Return how many events to hold in memory, going by the size of recent ones."""
        return max(1, min(self.settings.lanes.capacity, int(_MEMORY / self._size)))

    async def _take(self, polled: Polled) -> None:
        try:
            await self._apply(polled)
        except Exception as error:  # noqa: BLE001  reported, and what the poll brought comes again
            pause = self._troubles.report("taking events in", error)
            await self._begin_anew()
            await asyncio.sleep(pause)
        else:
            if polled.deliveries or not polled.assigned:  # else what failed is still to come
                self._troubles.over("taking events in")

    async def _apply(self, polled: Polled) -> None:
        lanes, now = self._lanes, asyncio.get_running_loop().time()
        # what is assigned though it is here was lost in between, and that may not be told
        again = polled.assigned.keys() & lanes.partitions() if self._keeper is None else set()
        lost = polled.lost | again
        for partition in lost:
            lanes.revoke(partition)
            self._leaving.pop(partition, None)
        if lost:
            self._abandon(lost)
        if again:
            # a handler that is cancelled may not have ended, and the lane of its key begins anew
            running = [task for task, (_, busy) in self._tasks.items() if busy & again]
            if running:
                await asyncio.wait(running, timeout=self.settings.handover)
        for partition in polled.revoking:
            lanes.stop(partition)
            self._leaving[partition] = now + self.settings.handover
            self._moved.set()
        if polled.assigned and self._keeper is None:
            await self._assign(polled)
        if polled.deliveries:
            await self._arrive(polled.deliveries)
        self._dispatch()

    async def _arrive(self, deliveries: Sequence[Delivery]) -> None:
        lanes = self._lanes
        # all of them are read before the first is taken in
        events = [Incoming.of(arrived) for arrived in deliveries]
        stored: _Stored = {}
        if self._keeper is not None:
            stored = await self._recalled({one.partition.number for one in deliveries})
        now = asyncio.get_running_loop().time()
        for arrived, event in zip(deliveries, events, strict=True):
            if self._keeper is not None:
                lanes.admit(arrived.partition, arrived.offset)
            if event.type and event.type not in self._reactions:
                lanes.pass_over(event.partition, arrived.offset)
                continue
            state = State.OPEN
            if stored:
                state = stored.get(event.partition, {}).get(event.lane, state)
            lanes.add(
                event.partition,
                arrived.offset,
                event.lane,
                event,
                now,
                alone=event.key is None,
                state=state,
            )
        size = sum(len(delivery.value) for delivery in deliveries)
        self._size = max(_USUAL_SIZE, size / len(deliveries))
        self._moved.set()
        self._pause_and_resume()

    async def _assign(self, polled: Polled) -> None:
        """Learn which keys are in the store before any event of the partitions is handled."""
        stored = await self._recalled()
        now = asyncio.get_running_loop().time()
        for partition, position in polled.assigned.items():
            self._lanes.assign(partition, position, stored.get(partition, {}), now)

    async def _recalled(
        self, parts: AbstractSet[int] | None = None
    ) -> dict[Partition, dict[str, State]]:
        """Return the lanes that are in the store, once the database answers.

        An event that was parked alone holds nothing back, and so is no lane until it is released.
        """
        while True:
            try:
                stored = await self._stored(parts)
                break
            except (DatabaseUnavailable, Unknown) as error:
                pause = self._troubles.met("polling", str(error))
            except Exception as error:  # noqa: BLE001  reported, and asked again as if it was away
                pause = self._troubles.report("polling", error)
            await asyncio.sleep(pause)
        return {
            partition: {
                name: state
                for name, state in lanes.items()
                if state is State.DRAINING or name.startswith("k:")
            }
            for partition, lanes in stored.items()
        }

    async def _stored(
        self, parts: AbstractSet[int] | None = None
    ) -> dict[Partition, dict[str, State]]:
        numbers = None if parts is None else sorted(parts)
        async with self._database.reading() as reader:
            return await self._runner.store.lanes(reader, self.settings.topics, numbers)

    def _pause_and_resume(self) -> None:
        if self._subscription is not None:
            pause, resume = self._lanes.pauses()
            if pause:
                self._subscription.pause(pause)
            if resume:
                self._subscription.resume(resume)

    # working

    def _dispatch(self) -> None:
        """Begin what may begin now, and arrange to be called when more may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._stopping:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        limit = self._pace.limit()
        while len(self._tasks) < self._allowed(limit, now):
            jobs = self._lanes.take(now, limit)
            if not jobs:
                break
            lazy = self._serial and limit == 1
            task = asyncio.create_task(self._perform(jobs, lazy=lazy))
            self._tasks[task] = (now, frozenset(job.partition for job in jobs))
            task.add_done_callback(self._performed)
        due = self._lanes.due()
        if due is None:
            return
        if len(self._tasks) < self._allowed(limit, now):
            self._timer = loop.call_at(max(due, now), self._dispatch)
        elif len(self._tasks) < self.settings.concurrency:
            self._timer = loop.call_at(max(due, now + _LONG), self._dispatch)

    def _allowed(self, limit: int, now: float) -> int:
        if not self._serial or limit == 1:
            return self.settings.concurrency
        long = any(now - began > _LONG for began, _ in self._tasks.values())
        return self.settings.concurrency if long else 1

    def _performed(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        self._progress.set()
        self._moved.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._troubles.report("working", error)
        self._dispatch()

    async def _perform(self, jobs: Sequence[Job], *, lazy: bool) -> None:
        results: list[Result] = []
        try:
            ours = [job for job in jobs if self._begins(job)]
            results += [Elsewhere(job) for job in jobs if self._elsewhere(job)]
            moves = [job for job in ours if job.kind not in {Kind.RUN, Kind.DRAIN}]
            fresh = [job for job in ours if job.kind is Kind.RUN and not job.attempts]
            again = [job for job in ours if job.kind is Kind.RUN and job.attempts]
            if moves:
                results += await self._runner.move(moves)
            if fresh:
                results += await self._runner.run(fresh, lazy=lazy)
            for job in again:
                results += await self._runner.run([job], lazy=lazy)
            for job in ours:
                if job.kind is Kind.DRAIN:
                    results.append(await self._runner.drain(job))
            self._troubles.over("working")
        except asyncio.CancelledError:
            # a lost partition, or the end: what was not committed is handled again, by its owner
            if self._stopping:
                raise
        except Exception as error:  # noqa: BLE001  reported, and tried again after a pause
            self._troubles.report("working", error)
        finally:
            self._conclude(jobs, results)

    def _conclude(self, jobs: Sequence[Job], results: Sequence[Result]) -> None:
        """Tell the lanes what came of every job."""
        now = asyncio.get_running_loop().time()
        answered = set()
        pause = None
        for result in results:
            answered.add(result.job)
            if isinstance(result, Handled | Failed):
                self.concluded += result.events
            if isinstance(result, Handled):
                self._lanes.done(result.job, now, result.events)
            elif isinstance(result, Failed):
                self._failed(result, now)
            elif isinstance(result, Empty | HeldBack | Elsewhere):
                self._of_the_store(result, now)
            else:
                if pause is None:
                    pause = self._troubles.met("working", result.why)
                self._lanes.postponed(result.job, now, pause)
        for job in jobs:
            if job not in answered:
                self._lanes.postponed(job, now, PAUSE)

    def _of_the_store(self, result: Empty | HeldBack | Elsewhere, now: float) -> None:
        if isinstance(result, Empty):
            self._lanes.empty(result.job, now)
        elif isinstance(result, HeldBack):
            self._lanes.held_back(result.job, now)
        else:
            self._lanes.elsewhere(result.job, now)

    def _failed(self, result: Failed, now: float) -> None:
        job = result.job
        pause = self._lanes.failed(
            job,
            now,
            self._draw(),
            error=result.error,
            handled=result.events,
            poison=result.poison,
        )
        if pause is not None and listening():
            emit(
                Signal(
                    SignalKind.EVENT_RETRIED,
                    self.settings.consumer,
                    {"lane": job.name, "error": result.error, "pause": pause},
                )
            )

    def _ours(self, job: Job) -> bool:
        """Tell whether the work may be committed by this member."""
        if self._keeper is not None and job.kind in {Kind.DRAIN, Kind.HOLD}:
            return self._keeper.held
        return self._subscription is not None and self._subscription.owns(job.partition)

    def _begins(self, job: Job) -> bool:
        """Tell whether the work may begin; the keeper's lease is asked for on the way."""
        return (self._keeper is not None and job.kind is Kind.DRAIN) or self._ours(job)

    def _elsewhere(self, job: Job) -> bool:
        return self._keeper is not None and job.kind is Kind.HOLD and not self._keeper.held

    def _abandon(self, partitions: frozenset[Partition]) -> None:
        for task, (_, busy) in self._tasks.items():
            if busy & partitions:
                task.cancel()

    # committing

    async def _commit_watermarks(self) -> None:
        loop = asyncio.get_running_loop()
        self._moved.set()  # after an error, what was not committed is committed now
        while True:
            await self._moved.wait()
            self._moved.clear()
            began = loop.time()
            try:
                await self._commit()
                await self._hand_over()
                self._troubles.over("committing")
            except LeaseLost:
                pass  # the next poll tells which
            except BrokerUnavailable as error:
                await asyncio.sleep(self._troubles.met("committing", str(error)))
                self._moved.set()
            pause = self._commit_every
            if self._keeper is None:
                pause = max(pause, min(_COMMIT_SHARE * (loop.time() - began), _COMMIT_MOST))
            await asyncio.sleep(pause)
            if self._leaving:
                self._moved.set()

    async def _commit(self) -> None:
        positions = self._lanes.positions()
        if not positions or self._subscription is None:
            return
        try:
            await self._subscription.commit(positions)
        except LeaseLost as error:
            # what ended with an earlier commit whose answer was an error is lost, and done
            lost = error.partitions if self._keeper is None else frozenset()
            self._committed({one: positions[one] for one in positions.keys() - lost})
            raise
        self._committed(positions)
        self._pause_and_resume()

    def _committed(self, positions: Mapping[Partition, int]) -> None:
        self._lanes.committed(positions)
        if self._keeper is not None:
            self._lanes.tidy(positions)

    async def _hand_over(self) -> None:
        """Release the partitions that others wait for, once nothing of them runs."""
        now = asyncio.get_running_loop().time()
        late = frozenset(one for one, until in self._leaving.items() if now >= until)
        if late:
            self._abandon(late)
        ready = [one for one in self._leaving if self._lanes.idle(one)]
        subscription = self._subscription
        if not ready or subscription is None:
            return
        await self._commit()
        ready = [one for one in ready if one in self._leaving]  # else it was lost meanwhile
        for partition in ready:
            self._lanes.revoke(partition)
            del self._leaving[partition]
        await subscription.release(ready)

    # the store

    async def _watch_store(self) -> None:
        """Notice what people release or discard; each of their acts adds to the audit."""
        self._acts = self._version = -1  # after an error, what was noticed is looked at again
        while True:
            await asyncio.sleep(_STORE_EVERY)
            if self._keeper is not None:
                await self._adopt(self._keeper)
                continue
            try:
                acted = await self._acted()
                self._troubles.over("watching the store")
                if not acted:
                    continue
                stored = await self._stored()
            except (DatabaseUnavailable, Unknown):
                self._acts = self._version = -1
                continue
            now = asyncio.get_running_loop().time()
            for partition in self._lanes.partitions():
                lanes = stored.get(partition, {})
                released = [name for name, state in lanes.items() if state is State.DRAINING]
                emptied = [name for name in self._lanes.holding(partition) if name not in lanes]
                for name in released + emptied:
                    self._lanes.redrive(partition, name, now)
            self._dispatch()

    async def _adopt(self, keeper: Keeper) -> None:
        """Work off what is ready in the store, whoever put it there, if that is ours to do."""
        self._lanes.tidy(self._lanes.partitions())
        try:
            async with self._database.reading() as reader:
                ready = await self._runner.store.ready(reader, self.settings.topics, _ADOPTED)
            mine = bool(ready) and await keeper.take()
            self._troubles.over("watching the store")
        except (DatabaseUnavailable, Unknown):
            return
        now = asyncio.get_running_loop().time()
        for partition, name in ready if mine else ():
            self._lanes.adopt(partition, name, now)
        self._dispatch()

    async def _acted(self) -> bool:
        """Tell whether the store is to be looked at: somebody acted, or it is a minute ago."""
        if isinstance(self._database, Sqlite):
            version = self._database.version()
            if version == self._version:
                return False
            self._version = version
        async with self._database.reading() as reader:
            acts = await self._runner.store.acts(reader)
        now = asyncio.get_running_loop().time()
        if acts == self._acts and now < self._full_at:
            return False
        self._acts, self._full_at = acts, now + _STORE_IN_FULL
        return True
