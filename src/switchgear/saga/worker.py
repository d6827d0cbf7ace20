"""The worker: claims sagas that are due, drives them, extends their leases, and winds down."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context as Variables
from contextvars import copy_context
from pathlib import Path

from switchgear.database.port import Database
from switchgear.database.sqlite import Sqlite
from switchgear.errors import SagaError
from switchgear.model.outcome import Unavailable, Unknown
from switchgear.saga.attempt import Instance
from switchgear.saga.definition import Saga
from switchgear.saga.driver import ENDED, Driver
from switchgear.saga.guard import Guards
from switchgear.saga.identity import identity, is_dead
from switchgear.saga.keeping import Keeper
from switchgear.saga.notify import Hook, Notifier
from switchgear.saga.outage import Outage
from switchgear.saga.stores.port import Claimed, Store
from switchgear.saga.stores.units import Units
from switchgear.saga.story import Story

__all__ = ["Worker"]

_log = logging.getLogger("switchgear.saga")
_PAUSE = 1.0
_HALT = 5.0
_UNREADABLE = 60.0
_ANSWER = 30.0
"""Seconds that the database has for a beat, or for a look for work: it may vanish silently."""


class Worker:
    """Drives up to `concurrency` sagas at once. `ended` is told of each that ends or queues."""

    def __init__(
        self,
        database: Database,
        store: Store,
        units: Units,
        sagas: Mapping[str, Saga],
        *,
        concurrency: int,
        lease: float,
        poll: float,
        clock: Callable[[], float],
        rng: random.Random,
        ended: Callable[[str, Story], None],
        archive: Path | None = None,
        notify: Hook | None = None,
    ) -> None:
        self.owner = identity()
        self.lease = lease
        self._sqlite = database if isinstance(database, Sqlite) else None
        self._store = store
        self._units = units
        self._sagas = sagas
        self._concurrency = concurrency
        self._poll = poll
        self._clock = clock
        self._rng = rng
        self._ended = ended
        self._outage = Outage()
        self._guards = Guards(rng.random)
        self._keeper = Keeper(store, units, sagas, archive)
        self._notifier = Notifier(store, units, notify, clock=clock)
        self._telling: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._active: dict[str, tuple[Driver, asyncio.Task[None]]] = {}
        self._backlog: deque[Instance] = deque()
        self._wake = asyncio.Event()
        self._over = asyncio.Event()
        self._variables: Variables | None = None
        self._running = False
        self._stopping = False
        self._left = False
        self._asking: asyncio.Timeout | None = None
        self._full = False
        self._orphans: frozenset[str] = frozenset()
        self._strangers: frozenset[str] = frozenset()
        self._version = -1
        self._due = 0.0

    def __contains__(self, saga_id: str) -> bool:
        return saga_id in self._active

    @property
    def running(self) -> bool:
        """Whether sagas are taken up."""
        return self._running and not self._stopping

    def has_room(self) -> bool:
        """Tell whether a saga that starts now can be driven here at once."""
        return self.running and len(self._active) + len(self._backlog) < self._concurrency

    def wake(self) -> None:
        """Look for work now."""
        self._due = 0.0
        self._wake.set()

    def take(self, instance: Instance) -> None:
        """Drive a saga that this worker holds; if there is no room just now, next."""
        if instance.row.id in self._active:
            return
        if self._stopping or len(self._active) >= self._concurrency:
            self._backlog.append(instance)
        else:
            self._launch(instance)

    async def run(self) -> None:
        """Work until `stop`. Cancelling it cuts the running attempts short."""
        if self._running:
            raise SagaError("the engine runs already.", fix="Run it once in each process.")
        self._running = True
        self._variables = copy_context()
        self._stopping = self._left = False
        self._over.clear()
        try:
            await self._work()
        finally:
            await self._wind_down(0.0)
            self._running = False
            self._over.set()

    async def stop(self, within: float) -> None:
        """Begin no attempt, let the running ones end within some seconds, release the leases."""
        if not self._running:
            return
        self._stopping = True
        await self._wind_down(within)
        self._left = True  # a step that swallows its cancellation
        self._wake.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HALT):
                await self._over.wait()
        # a database that does not answer
        if self._asking is not None and not self._asking.expired():
            self._asking.reschedule(asyncio.get_running_loop().time())
        await self._over.wait()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        beat = 0.0
        while not self._left and (self._active or not self._stopping):
            self._wake.clear()
            try:
                async with asyncio.timeout(_ANSWER) as self._asking:
                    if loop.time() >= beat:
                        await self._beat()
                        # what only reads may go well where nothing can be written
                        self._outage.ended()
                        beat = loop.time() + self.lease / 3
                    pause = self._poll if self._stopping else await self._claim(loop.time())
                pause = min(pause, max(beat - loop.time(), 0.0))
            except Exception as error:  # noqa: BLE001  told; a worker that ends leaves every saga
                self._outage.began(error)
                pause = _PAUSE
            finally:
                self._asking = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    async def _claim(self, now: float) -> float:
        """Take sagas that are due. Return the seconds until it is worth looking again."""
        room = self._concurrency - len(self._active) - len(self._backlog)
        self._full = room <= 0
        if self._full or not self._sagas:
            return self._poll
        if not self._changed() and now < self._due:
            return min(self._poll, self._due - now)
        definitions = tuple(self._sagas)
        due = await self._store.read(self._units.due(definitions))
        if due is None or due > 0:
            self._due = now + (due if due is not None else self.lease)
            return min(self._poll, self._due - now)
        unit = self._units.claim(definitions, self.owner, self.lease, room, self._clock())
        found = await self._store.write(unit)
        for claimed in found:
            await self._take_up(claimed)
        # what is due and cannot be claimed, another holds just now
        return 0.0 if found else self._poll

    def _changed(self) -> bool:
        """Tell whether the database may have changed since the last call."""
        if self._sqlite is None:
            return True
        former, self._version = self._version, self._sqlite.version()
        return former != self._version

    async def _take_up(self, claimed: Claimed) -> None:
        row = claimed.row
        try:
            instance = Instance.of(self._sagas[row.definition], row, claimed.lines)
        except Exception as error:  # noqa: BLE001  a type's own reading may raise whatever it likes
            _log.error(
                "saga %s cannot be read: %s; leaving it for %g s. Has a type lost a field?",
                row.id,
                error,
                _UNREADABLE,
            )
            await self._store.apart(self._units.release(row.id, row.fence, row.status, _UNREADABLE))
        else:
            self.take(instance)

    async def _beat(self) -> None:
        """Extend our leases, end those of dead workers, and say what nobody here can drive."""
        held = frozenset(await self._store.apart(self._units.extend(self.owner, self.lease)))
        known = self._active.keys() | {instance.row.id for instance in self._backlog}
        # a saga that was just started is held before its transaction's callback tells us of it
        lost = (held - known) & self._orphans
        self._orphans = held - known
        if lost:
            await self._store.apart(self._units.give_back(self.owner, sorted(lost)))
        for owner in await self._store.read(self._units.owners()):
            if owner != self.owner and is_dead(owner):
                await self._store.apart(self._units.expire(owner))
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.create_task(self._sweep(), name="finished sagas")
        self._tell()
        if self._sagas:
            strangers = dict(await self._store.read(self._units.strangers(tuple(self._sagas))))
            for definition in strangers.keys() - self._strangers:
                name, version, _ = definition.split("/")
                _log.warning(
                    "%d unfinished saga(s) %s version %s are left alone: this worker does not "
                    "have that definition. Run one that has it until they have ended.",
                    strangers[definition],
                    name,
                    version,
                )
            self._strangers = frozenset(strangers)

    def _tell(self) -> None:
        """Tell of work items, beside the work: whoever is told may take a while to listen."""
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._told(), name="saga work items")

    async def _told(self) -> None:
        try:
            await self._notifier.tell()
        except (Unavailable, Unknown):
            pass  # the next beat tries again
        except Exception:  # noqa: BLE001  a defect must not end the messages
            _log.exception("nobody could be told what waits for a person; trying again")

    async def _sweep(self) -> None:
        """Put away what has been kept long enough, beside the work: it may be very many."""
        try:
            await self._keeper.sweep(self._clock())
        except (Unavailable, Unknown):
            pass  # the next beat goes on
        except Exception as error:  # noqa: BLE001  told; what cannot be archived must not stop work
            _log.error("finished sagas cannot be archived, and are kept: %s", error)

    def _launch(self, instance: Instance) -> None:
        driver = Driver(
            instance,
            self._store,
            self._units,
            outage=self._outage,
            clock=self._clock,
            rng=self._rng,
            guards=self._guards,
        )
        # not the variables of the request that started it, whose deadline is not the saga's
        variables = None if self._variables is None else self._variables.copy()
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._drive(driver), name=instance.row.id, context=variables)
        self._active[instance.row.id] = driver, task

    async def _drive(self, driver: Driver) -> None:
        instance = driver.instance
        try:
            await driver.run()
        except Exception:  # noqa: BLE001  one saga's driver must not end the others
            _log.exception("saga %s: the worker failed; it will be taken up again", instance.row.id)
        finally:
            del self._active[instance.row.id]
            status = instance.story.status
            if status in ENDED or status == "queued":
                self._ended(instance.row.id, instance.story)
                if status == "queued" and not self._stopping:
                    self._tell()
                if instance.saga.plan.locks:  # another saga's turn may have come
                    self.wake()
            else:
                self.wake()
            if self._backlog and not self._stopping:
                self._launch(self._backlog.popleft())
            elif self._full or self._stopping:
                self._wake.set()

    async def _wind_down(self, within: float) -> None:
        """End every driver: let attempts end, then cut them short, then give up on them."""
        self._stopping = True
        for driver, _ in self._active.values():
            driver.stop()
        await self._give_back_backlog()
        await self._wait(within)
        for driver, _ in self._active.values():
            driver.halt()
        await self._wait(_HALT)
        for _, task in self._active.values():
            task.cancel()
        # what somebody was told just now is to be noted; whoever does not listen is left
        for beside in (self._telling, self._sweeping):
            if beside is not None and not beside.done():
                await asyncio.wait([beside], timeout=_PAUSE)
                beside.cancel()
                await asyncio.wait([beside], timeout=_HALT)

    async def _give_back_backlog(self) -> None:
        try:
            async with asyncio.timeout(_HALT):
                while self._backlog:
                    row = self._backlog.popleft().row
                    unit = self._units.release(row.id, row.fence, row.status, 0.0)
                    await self._store.apart(unit)
        except Exception as error:  # noqa: BLE001  told; their leases run out
            self._outage.began(error)
            self._backlog.clear()

    async def _wait(self, seconds: float) -> None:
        if self._active and seconds > 0:
            await asyncio.wait([task for _, task in self._active.values()], timeout=seconds)
