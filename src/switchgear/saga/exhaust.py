"""Runs a saga through every sequence of failures, in memory, and checks what it leaves behind.

    async def test_checkout_always_ends() -> None:
        world = World()
        fakes = {Inventory: Stock(world), Payments: Wallets(world)}
        async with testing(app, fakes=fakes, remember=False):
            print(await exhaust(checkout, world, Order(order_id="o-1")))

At every boundary each of these is tried, up to `faults` of them in one sequence:

- the attempt is carried out; or is *refused* under its key, for good (never after it was carried
  out under that key: a callee that says no to what it has done is beyond help); or is *rejected*,
  for reasons of this request alone; or is *unavailable*: certainly not carried out;
- its *request* or its *reply is lost*: the outcome is unknown;
- it is *late*: unknown now, and carried out at any later time, after its own undo as well;
- it is a *duplicate*: carried out twice under one key;
- the worker *crashes* before it, or after it and before the record of it;
- the *deadline* passes; one of two that run side by side answers first;
- a step of `refute`, recorded as done, is *refuted*: its effect is gone, also after the end.

It is a search through states, not through sequences: what has been seen with as many faults left is
not gone through again. The steps are the real ones, and so are the machine, the journal and its
replay; attempts are fewer and pauses are skipped, since neither changes what may follow.

Before each attempt the saga is taken up from its journal, as a worker does that finds it. In the
end, and at every effect on the way:

1. The saga is done, undone, or in front of a person, and then nothing goes on.
2. What the record says of a step is so: done, and its effect stands once; undone or not done, and
   it does not stand. Done means all; undone means none.
3. No effect is had twice or taken back twice, and none is taken back while one that depends on it
   stands.
4. What was refuted is not undone as well, and after it the saga is not done. What then stands will
   be taken back by nobody but a person, who is asked about it or about what stands on it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import msgspec

from switchgear.errors import SagaError
from switchgear.saga.carried import Carried
from switchgear.saga.definition import Saga
from switchgear.saga.plan import Backoff, Kind, Plan
from switchgear.saga.search import BEGAN, DEADLINE, GIVE_UP, Fault, Search, Violation
from switchgear.saga.stores.port import SagaRow
from switchgear.saga.world import World

__all__ = ["Fault", "Report", "Violation", "World", "exhaust"]

_FEW: Final = Backoff(attempts=2, first=1.0, factor=1.0, most=1.0)


@dataclass(frozen=True, slots=True)
class Report:
    """What was gone through."""

    saga: str
    faults: int
    states: int
    moves: int
    ends: Mapping[str, int]
    """How many different ends there are of each status."""

    def __str__(self) -> str:
        ends = ", ".join(f"{count} {status}" for status, count in sorted(self.ends.items()))
        return (
            f"{self.saga}: {self.moves} moves between {self.states} states with up to "
            f"{self.faults} faults; ends: {ends}."
        )


async def exhaust(
    saga: Saga,
    world: World,
    input: object,  # noqa: A002  it is called that
    *,
    faults: int = 2,
    unseen: Collection[str] = (),
    refute: Collection[str] = (),
) -> Report:
    """Run `saga` through every sequence of up to `faults` faults; see the top of the module.

    `world` is told by the participants what they do; it is put back to what it is now before every
    sequence. `unseen` names the steps whose effect it does not see, and `refute` those that may be
    refuted once they are recorded as done, as by `app.refutes(PaymentBounced, debit)`; that is a
    fault, too.

    Raises `Violation` with the shortest sequence that breaks an invariant, and `SagaError` if the
    saga is not done where nothing fails, the world sees no effect of a step that has one, or a step
    to be refuted is none of the saga's.
    """
    known = [step.name for step in saga.plan.steps if step.kind is not Kind.START]
    if strange := sorted(set(refute) - set(known)):
        raise SagaError(
            f"it has no step {strange[0]} that could be refuted.",
            where=f"exhaust of saga {saga.name}",
            fix=f"Name some of {', '.join(known)}.",
        )
    data, given = saga.input.record(input)
    small = _smaller(saga)
    deadline = None if saga.deadline is None else BEGAN + DEADLINE
    context = msgspec.json.encode(Carried())
    row = SagaRow("o", saga.plan.id, data, context, "running", BEGAN, deadline, None, 1)
    world.watch({step.name: small.plan.later[step.name] for step in small.plan.steps})
    before = world.snapshot()
    search = Search(small, world, given, row, faults, frozenset(refute))
    try:
        await search.straight()
        _check_seen(small.plan, search.expected, unseen)
        world.restore(before)
        await search.search()
    finally:
        world.restore(before)
    ends = MappingProxyType(dict(search.ends))
    return Report(saga.name, faults, len(search.seen), search.moves, ends)


def _smaller(saga: Saga) -> Saga:
    """Return the saga with few attempts and short patience: what may follow is the same."""
    layout = saga.layout
    steps = tuple(
        replace(
            step,
            retry=_FEW,
            undo_retry=_FEW,
            give_up=None if step.give_up is None else GIVE_UP,
        )
        for step in layout.plan.steps
    )
    return saga.with_layout(replace(layout, plan=replace(layout.plan, steps=steps)))


def _check_seen(plan: Plan, seen: Collection[tuple[str, str]], unseen: Collection[str]) -> None:
    known = {step for step, _ in seen} | set(unseen)
    for step in plan.steps:
        if step.kind not in {Kind.START, Kind.READ} and step.name not in known:
            raise SagaError(
                f"the world has seen no effect of {step.name}.",
                where=f"exhaust of saga {plan.saga}",
                fix="Call world.do() in the participant, and world.undo() for its undo; or say "
                f'that it has none to be seen: unseen=["{step.name}"].',
            )
