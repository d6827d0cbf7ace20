"""The search of `exhaust.py`: from where events have led, to everything that can follow."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

import msgspec

from switchgear.errors import SagaError
from switchgear.model.context import Context, bind, current
from switchgear.model.outcome import Reason, Refused, Rejected, Unavailable, Unknown
from switchgear.saga import machine
from switchgear.saga.attempt import Answer, Attempts, Call, Instance
from switchgear.saga.carried import Carried
from switchgear.saga.definition import Saga
from switchgear.saga.plan import Kind, Plan, Side
from switchgear.saga.state import (
    Answered,
    Entry,
    Fate,
    Happening,
    Left,
    Mark,
    Next,
    Operated,
    Phase,
    Run,
    What,
)
from switchgear.saga.stores.port import Line, SagaRow
from switchgear.saga.story import Decision, Story
from switchgear.saga.world import World

__all__ = ["BEGAN", "DEADLINE", "GIVE_UP", "Fault", "Search", "Violation"]

BEGAN: Final = 1_800_000_000.0
DEADLINE: Final = 1_000.0
"""Seconds from the beginning to the deadline, if there is one: more than all pauses together."""
GIVE_UP: Final = 1.5
_MOST: Final = 500_000
_TAKEN_BACK: Final = frozenset({Fate.WAITING, Fate.ABSENT, Fate.UNDONE, Fate.REFUTED})
_EVIDENCE: Final = msgspec.json.encode(Decision("exhaust", "refuted by exhaust"))


class Fault(StrEnum):
    """What becomes of one attempt."""

    NONE = "answered"
    REFUSED = "refused"
    REJECTED = "rejected"
    UNAVAILABLE = "unavailable"
    REQUEST_LOST = "request lost"
    REPLY_LOST = "reply lost"
    LATE = "late"
    DUPLICATE = "duplicate"
    CRASH = "worker crashed before it"
    CRASH_AFTER = "worker crashed before the record"


class Violation(AssertionError):
    """A sequence of events after which an invariant does not hold: the shortest one."""

    def __init__(self, saga: str, what: str, trail: tuple[str, ...]) -> None:
        steps = "\n".join(f"  {number}. {each}" for number, each in enumerate(trail, 1))
        super().__init__(f"saga {saga}: {what} What led there:\n{steps}")
        self.what = what
        self.trail = trail


@dataclass(frozen=True, slots=True)
class _Late:
    """An attempt that is still on its way to the participant."""

    run: Run
    call: Call
    context: Context

    @property
    def name(self) -> str:
        return f"{self.run.step} {self.run.side}"


@dataclass(frozen=True, slots=True)
class _Node:
    """Where one sequence of events has led to."""

    lines: tuple[Line, ...]
    world: dict[str, Any]
    now: float
    faults: int
    late: tuple[_Late, ...]
    refused: frozenset[tuple[str, Side]]
    """Half steps to which the callee has said no, which it keeps to."""
    trail: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Move:
    """One thing that can happen next."""

    run: Run | None = None
    fault: Fault = Fault.NONE
    happening: Happening | None = None
    late: int | None = None
    expire: bool = False
    refute: str = ""


@dataclass(slots=True)
class Search:
    """One search: `straight` first, then `search`."""

    saga: Saga
    world: World
    given: Any
    row: SagaRow
    faults: int
    refute: frozenset[str] = frozenset()
    """The steps that may be refuted."""
    expected: frozenset[tuple[str, str]] = frozenset()
    seen: set[Any] = field(default_factory=set)
    ends: Counter[str] = field(default_factory=Counter)
    moves: int = 0

    @property
    def plan(self) -> Plan:
        """The structure that is gone through."""
        return self.saga.plan

    async def straight(self) -> None:
        """Go through it without a fault, to learn which effects it has."""
        node = self._first(0)
        while True:
            instance = self._instance(node)
            moves = list(self._possible(node, instance))
            if not moves:
                break
            node = await self._move(node, moves[0])
        status = instance.story.status
        if status != "done":
            failure = next(iter(instance.story.failures.values()), None)
            raise SagaError(
                f"without any fault it ends {status}"
                + (f": {failure.kind}: {failure.what}." if failure else "."),
                where=f"exhaust of saga {self.saga.name}",
                fix="Let the participants answer as they do when all is well.",
            )
        self.expected = frozenset(
            effect for effect, count in node.world["stands"].items() if count > 0
        )

    def _first(self, faults: int) -> _Node:
        return _Node((), self.world.snapshot(), BEGAN, faults, (), frozenset(), ())

    def _instance(self, node: _Node) -> Instance:
        """Take the saga up as a worker does, from its journal."""
        story = Story.of(self.plan, self.row, node.lines)
        return Instance(self.saga, self.row, story, Carried(), self.given)

    def _possible(self, node: _Node, instance: Instance) -> Iterator[_Move]:
        """Yield everything that can happen next; nothing at the end."""
        state = instance.story.state
        happening = machine.happening(self.plan, state, node.now)
        if isinstance(happening, Left):
            # it was between two attempts, or it was being attempted and answers now
            yield _Move(happening=happening)
            if node.faults:
                mark = state.marks[happening.step]
                run = Run(happening.step, Side.DO, mark.do.attempt, mark.do.due)
                yield from self._attempts(node, run)
        elif happening is not None:
            yield _Move(happening=happening)
        else:
            for run in machine.runs(self.plan, state):
                yield from self._attempts(node, run)
            early = self.row.deadline is not None and node.now < self.row.deadline
            if node.faults and early and machine.expired(self.plan, state, BEGAN + DEADLINE):
                yield _Move(expire=True)
        for index in range(len(node.late)):
            yield _Move(late=index)

    def _refutable(self, node: _Node, instance: Instance) -> Iterator[_Move]:
        """Yield what can turn out not to hold, also when nothing else happens any more."""
        for step in sorted(self.refute if node.faults else ()):
            if machine.complaint(self.plan, instance.story.state, step, What.REFUTE) is None:
                yield _Move(refute=step)

    def _attempts(self, node: _Node, run: Run) -> Iterator[_Move]:
        yield _Move(run)
        stands = any(step == run.step and n for (step, _), n in node.world["stands"].items())
        done = stands if run.side is Side.DO else not stands
        if node.faults:
            for fault in Fault:
                if fault is not Fault.NONE and not (fault is Fault.REFUSED and done):
                    yield _Move(run, fault)

    async def _move(self, node: _Node, move: _Move) -> _Node:
        """Let one thing happen. Raises `Violation` if it must not."""
        self.moves += 1
        self.world.restore(node.world)
        trail = (*node.trail, self._told(node, move))
        moved = await self._moved(node, move, trail)
        if self.world.broken is not None:
            raise Violation(self.saga.name, self.world.broken, trail)
        return moved

    async def _moved(self, node: _Node, move: _Move, trail: tuple[str, ...]) -> _Node:
        cost = int(move.fault is not Fault.NONE or move.expire or bool(move.refute))
        after = replace(node, faults=node.faults - cost, trail=trail)
        if move.expire:
            return replace(after, now=BEGAN + DEADLINE)
        if move.late is not None:
            late = node.late[move.late]
            if (late.run.step, late.run.side) not in node.refused:
                await _quietly(late.call, late.context)
            rest = node.late[: move.late] + node.late[move.late + 1 :]
            return replace(after, world=self.world.snapshot(), late=rest)
        instance = self._instance(node)
        if move.refute:
            entry = self._decide(instance, Operated(move.refute, What.REFUTE), node.now)
            self.world.lose(move.refute)
            line = Line(entry, None, _EVIDENCE)
            return replace(after, lines=(*node.lines, line), world=self.world.snapshot())
        if move.happening is not None:
            entry = self._decide(instance, move.happening, node.now)
            return replace(after, lines=(*node.lines, Line(entry, None, None)))
        run = move.run
        if run is None:
            raise LookupError("a move without anything that moves")
        if run.side is Side.UNDO and _is_refuted(node, run.step):
            raise Violation(
                self.saga.name, f"{run.step} was refuted, and is undone as well.", trail
            )
        now = max(node.now, run.due)
        sent: list[_Late] = []
        line = await self._attempt(instance, run, move.fault, now, sent)
        no = {(run.step, run.side)} if move.fault is Fault.REFUSED else set()
        return replace(
            after,
            lines=(*node.lines, line),
            world=self.world.snapshot(),
            now=now,
            late=(*node.late, *sent),
            refused=node.refused | no,
        )

    async def _attempt(
        self, instance: Instance, run: Run, fault: Fault, now: float, late: list[_Late]
    ) -> Line:
        """Attempt a half step under a fault, and return what a worker would write down."""

        async def carry(run: Run, call: Call) -> bytes | None:
            context = current()
            try:
                return await _carried(run, call, fault, late)
            finally:
                if fault is Fault.DUPLICATE:
                    await _quietly(call, context)

        answer: Answer | None = None
        if fault is not Fault.CRASH:
            answer = await Attempts(instance, lambda: now, carry).run(run)
        if answer is None or answer.what is None or fault is Fault.CRASH_AFTER:
            return Line(Entry(What.INTERRUPTED, Next.AGAIN, now), None, None)
        answered = Answered(run.step, run.side, answer.what, partial=answer.partial)
        return Line(self._decide(instance, answered, now), answer.began, answer.data)

    def _decide(self, instance: Instance, happening: Happening, now: float) -> Entry:
        state = instance.story.state
        return machine.decide(self.plan, state, happening, now=now, draw=0.0)

    def _told(self, node: _Node, move: _Move) -> str:
        """Say in words what happens."""
        if move.expire:
            return "the deadline passes"
        if move.late is not None:
            return f"{node.late[move.late].name} arrives late"
        if move.refute:
            return f"{move.refute} is refuted"
        if move.happening is not None:
            step = getattr(move.happening, "step", "")
            return f"{type(move.happening).__name__.lower()} {step}".rstrip()
        run = move.run
        return "" if run is None else f"{run.step} {run.side}: {move.fault}"

    async def search(self) -> None:
        """Go through all states, the nearest first, so that a violation's trail is the shortest."""
        waiting = deque([self._first(self.faults)])
        while waiting:
            node = waiting.popleft()
            instance = self._instance(node)
            key = self._key(node, instance)
            if key in self.seen:
                continue
            self.seen.add(key)
            moves = list(self._possible(node, instance))
            if not moves:
                self._check(node, instance)
            moves += self._refutable(node, instance)
            if self.moves > _MOST:
                raise SagaError(
                    f"more than {_MOST} moves with {self.faults} faults.",
                    where=f"exhaust of saga {self.saga.name}",
                    fix=f"Allow fewer faults in one sequence: exhaust(..., faults="
                    f"{self.faults - 1}).",
                )
            for move in moves:
                waiting.append(await self._move(node, move))

    def _key(self, node: _Node, instance: Instance) -> Any:
        """Return what tells apart states from which different things can follow."""
        story = instance.story
        marks = tuple(_told(mark, node.now) for mark in story.state.marks.values())
        late = tuple(sorted(each.name for each in node.late)), node.refused
        overdue = self.row.deadline is not None and node.now >= self.row.deadline
        data = tuple(sorted(story.results.items()))
        told = repr(sorted(node.world.items(), key=lambda item: item[0]))
        return story.state.phase, marks, data, told, node.faults, late, overdue

    def _check(self, node: _Node, instance: Instance) -> None:
        """Check an end. Raises `Violation`."""
        status, marks = instance.story.status, instance.story.state.marks
        undoing = instance.story.state.phase is Phase.UNDOING
        wrong = None
        if status not in {"done", "undone", "queued"}:
            wrong = f"nothing goes on, and it is {status}."
        elif status == "done" and any(mark.fate is not Fate.DONE for mark in marks.values()):
            wrong = "it is done, and not all of its steps are."
        elif status == "queued" and not any(mark.item for mark in marks.values()):
            wrong = "nothing goes on, and nobody is asked."
        for step, effect in sorted(self.expected):
            stands = node.world["stands"].get((step, effect), 0) > 0
            mark = marks.get(step)
            if mark is None or mark.item or self.plan.step[step].kind is Kind.START:
                continue  # what a person is asked about may stand or not
            if stands and (status == "undone" or mark.fate in _TAKEN_BACK):
                wrong = f"{_named(step, effect)} stands, and the record says {mark.fate}."
            elif not stands and mark.fate is Fate.DONE:
                wrong = f"{_named(step, effect)} does not stand, and the record says done."
            elif stands and undoing and not self._asked(step, marks):
                wrong = f"{_named(step, effect)} stands, and nobody is asked about it."
        if wrong:
            raise Violation(self.saga.name, wrong, node.trail)
        self.ends[status] += 1

    def _asked(self, step: str, marks: Mapping[str, Mark]) -> bool:
        """Tell whether a person is asked about what keeps a step: itself, or something after it."""
        return any(marks[name].item for name in (step, *self.plan.later[step]))


async def _carried(run: Run, call: Call, fault: Fault, late: list[_Late]) -> bytes | None:
    """Carry an attempt to the participant and back, or not."""
    if fault is Fault.REFUSED:
        raise Refused("refused by exhaust")
    if fault is Fault.REJECTED:
        raise Rejected("rejected by exhaust")
    if fault is Fault.UNAVAILABLE:
        raise Unavailable("unavailable by exhaust", reason=Reason.CONNECT)
    if fault is Fault.LATE:
        late.append(_Late(run, call, current()))
    if fault in {Fault.LATE, Fault.REQUEST_LOST}:
        raise Unknown("lost by exhaust", reason=Reason.TIMEOUT)
    result = await call()
    if fault is Fault.REPLY_LOST:
        raise Unknown("lost by exhaust", reason=Reason.TIMEOUT)
    return result


def _is_refuted(node: _Node, step: str) -> bool:
    return any(line.entry.what is What.REFUTE and line.entry.step == step for line in node.lines)


async def _quietly(call: Call, context: Context) -> None:
    """Let a request arrive whose answer nobody hears, under the keys that it was sent with."""
    with bind(replace(context, sequence={})), suppress(Exception):  # nobody hears that either
        await call()


def _named(step: str, effect: str) -> str:
    return f"the effect {effect} of {step}" if effect else f"the effect of {step}"


def _told(mark: Mark, now: float) -> tuple[Any, ...]:
    tried, undo = mark.do, mark.undo
    late = mark.fate is Fate.BEGUN and now - tried.since >= GIVE_UP
    patience = (tried.failures, min(tried.attempt, 3), undo.failures, min(undo.attempt, 3))
    return mark.fate, mark.doubt, mark.item, late, *patience
