"""Plans and a small driver for tests of the pure machine: no clock, no waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from switchgear.saga import machine
from switchgear.saga.plan import Backoff, Kind, Plan, Side, StepPlan
from switchgear.saga.state import (
    Answered,
    Entry,
    Happening,
    Next,
    Phase,
    Run,
    State,
    What,
)

FEW = Backoff(attempts=2, first=1.0, factor=1.0, most=1.0)
GIVE_UP = 10.0


def step(
    name: str, kind: Kind = Kind.COMPENSATABLE, after: tuple[str, ...] = (), **more: object
) -> StepPlan:
    undo = f"un{name}" if kind in {Kind.COMPENSATABLE, Kind.START} else None
    give_up = GIVE_UP if kind in {Kind.PIVOT, Kind.RETRIABLE} else None
    return StepPlan(
        name, kind, after, undo=undo, give_up=give_up, retry=FEW, undo_retry=FEW, **more
    )


def row(*steps: StepPlan) -> Plan:
    """Steps one after the other."""
    laid = [
        StepPlan(
            each.name,
            each.kind,
            (steps[index - 1].name,) if index else (),
            undo=each.undo,
            needs=each.needs,
            give_up=each.give_up,
            retry=each.retry,
            undo_retry=each.undo_retry,
        )
        for index, each in enumerate(steps)
    ]
    return Plan("row", 1, tuple(laid))


CHECKOUT = row(
    step("reserve"), step("debit"), step("ship", Kind.PIVOT), step("confirm", Kind.RETRIABLE)
)
# the same, with an undo for the start itself
STARTED = row(step("start", Kind.START), *CHECKOUT.steps)
# two branches that join, and two after the pivot
BRANCHES = Plan(
    "branches",
    1,
    (
        step("a"),
        step("b"),
        step("c", after=("a", "b")),
        step("p", Kind.PIVOT, after=("c",)),
        step("r", Kind.RETRIABLE, after=("p",)),
        step("q", Kind.RETRIABLE, after=("p",)),
    ),
)

Answer = Callable[[Run], What]


@dataclass
class World:
    """Drives one saga by the machine, answering each attempt at once with `answer(run)`."""

    plan: Plan
    answer: Answer
    deadline: float | None = None
    now: float = 0.0
    journal: list[Entry] = field(default_factory=list)
    ran: list[Run] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state: State = machine.begin(self.plan, self.now, self.deadline)

    @property
    def status(self) -> str:
        return machine.status(self.plan, self.state)

    def tell(self, happening: Happening) -> Entry:
        entry = machine.decide(self.plan, self.state, happening, now=self.now, draw=0.0)
        self.add(entry)
        return entry

    def add(self, entry: Entry) -> None:
        self.journal.append(entry)
        self.state = machine.evolve(self.plan, self.state, entry)

    def interrupt(self) -> None:
        self.add(Entry(What.INTERRUPTED, Next.AGAIN, self.now))

    def step(self) -> bool:
        """Do the next thing; False when nothing is left to do without a person."""
        happening = machine.happening(self.plan, self.state, self.now)
        if happening is not None:
            self.tell(happening)
            return True
        todo = machine.runs(self.plan, self.state)
        if not todo:
            return False
        run = min(todo, key=lambda each: each.due)
        if run.due > self.now:
            self.now = run.due
            if machine.expired(self.plan, self.state, self.now):
                return True
        self.ran.append(run)
        self.tell(Answered(run.step, run.side, self.answer(run)))
        return True

    def finish(self, limit: int = 500) -> World:
        for _ in range(limit):
            if not self.step():
                return self
        raise AssertionError(f"no end after {limit} steps: {self.journal[-5:]}")

    @property
    def undone(self) -> list[str]:
        """Steps in the order in which their undos answered ok."""
        return [
            entry.step
            for entry in self.journal
            if entry.side is Side.UNDO and entry.what is What.OK
        ]


def script(**answers: list[What]) -> Answer:
    """Answer by a list for each half step (`debit`, `undo_debit`); its last one repeats."""
    queues = {name: deque(given) for name, given in answers.items()}

    def answer(run: Run) -> What:
        name = run.step if run.side is Side.DO else f"undo_{run.step}"
        queue = queues.get(name)
        if not queue:
            return What.OK
        return queue.popleft() if len(queue) > 1 else queue[0]

    return answer


__all__ = [
    "BRANCHES",
    "CHECKOUT",
    "FEW",
    "GIVE_UP",
    "STARTED",
    "Answer",
    "Kind",
    "Phase",
    "Run",
    "Side",
    "World",
    "row",
    "script",
    "step",
]
