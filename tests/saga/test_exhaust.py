"""Every sequence of failures, and mutants that it must find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from switchgear.errors import SagaError
from switchgear.model.outcome import Refused, Unknown
from switchgear.saga import Context, Saga, machine
from switchgear.saga.exhaust import Report, Violation, World, exhaust
from tests.saga.shop import Order, Payment

RUNBOOK = __file__.replace("test_exhaust.py", "runbooks/ship.md")
Act = Callable[[], object]


class Parts:
    """What the steps do to the world; a mutant does otherwise."""

    def __init__(self, world: Shop) -> None:
        self.world = world
        self.acts: dict[str, Act] = {}

    def act(self, name: str) -> None:
        own = self.acts.get(name)
        if own is not None:
            own()
        elif name.startswith("un"):
            self.world.undo()
        else:
            self.world.do()


def add(saga: Saga, parts: Parts, name: str) -> Any:
    """Add a compensatable step and its undo."""

    async def undo(order: Order, done: Payment | Unknown, ctx: Context) -> None:
        parts.act(f"un{name}")

    async def do(order: Order, ctx: Context) -> Payment:
        parts.act(name)
        return Payment(1)

    undo.__name__, do.__name__ = f"un{name}", name
    return saga.undo()(undo).undoes(do)


def checkout(parts: Parts, **settings: Any) -> Saga:
    saga = Saga("checkout", version=1, runbook=RUNBOOK, **settings)
    reserve, debit = add(saga, parts, "reserve"), add(saga, parts, "debit")

    @saga.pivot(give_up=timedelta(hours=1))
    async def ship(order: Order, ctx: Context) -> None:
        parts.act("ship")

    @saga.retriable(give_up=timedelta(hours=1))
    async def confirm(order: Order, ctx: Context) -> None:
        parts.act("confirm")

    saga.path(reserve >> debit >> ship >> confirm)
    return saga


class Shop(World):
    """A world with something of its own, which is put back too."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: set[str] = set()


@pytest.fixture
def world() -> Shop:
    return Shop()


@pytest.fixture
def parts(world: Shop) -> Parts:
    return Parts(world)


async def run(saga: Saga, world: World, **settings: Any) -> Report:
    return await exhaust(saga, world, Order("o"), **settings)


async def test_a_saga_that_keeps_the_rules(world: World, parts: Parts) -> None:
    saga = checkout(parts, deadline=timedelta(minutes=5))
    report = await run(saga, world)
    assert set(report.ends) == {"done", "undone", "queued"}
    assert report.moves > 1_000
    assert str(report).startswith(f"checkout: {report.moves} moves between")
    assert not world.stands  # it is as it was before
    assert (await run(saga, world, faults=0)).ends == {"done": 1}


async def test_branches_and_an_undo_of_the_start(world: World, parts: Parts) -> None:
    saga = Saga("wide", version=1, runbook=RUNBOOK)
    a, b, c = (add(saga, parts, name) for name in "abc")

    @saga.undone()
    async def cancel(order: Order, why: str, ctx: Context) -> None:
        assert not any(world.stands.values())

    saga.path((a | b) >> c)
    report = await run(saga, world)
    assert {"done", "undone", "queued"} == set(report.ends)


class Mutants:
    """Each breaks one rule; what finds it is named with it."""

    def left_out(self, parts: Parts) -> None:
        parts.acts["undebit"] = lambda: None

    def last_left_out(self, parts: Parts) -> None:
        parts.acts["unreserve"] = lambda: None

    def twice(self, parts: Parts) -> None:
        parts.acts["reserve"] = lambda: parts.world.change(1)

    def undone_twice(self, parts: Parts) -> None:
        parts.acts["undebit"] = lambda: parts.world.change(-1)

    def hanging(self, parts: Parts) -> None:
        """Idempotent by key, and deaf to an undo that came before."""

        def debit() -> None:
            if "debit" not in parts.world.heard:
                parts.world.heard.add("debit")
                parts.world.change(1)

        parts.acts["debit"] = debit


@pytest.mark.parametrize(
    ("mutant", "says", "trail"),
    [
        (
            "left_out",
            "the effect of reserve was taken back while that of debit stands",
            "do: refused",
        ),
        ("last_left_out", "the effect of reserve stands, and the record says undone", "refused"),
        ("twice", "the effect of reserve was had twice", "reserve do: duplicate"),
        ("undone_twice", "the effect of debit was taken back, and it does not stand", None),
        (
            "hanging",
            "the effect of reserve was taken back while that of debit stands",
            "arrives late",
        ),
    ],
)
async def test_a_mutant_participant_is_found(
    world: World, parts: Parts, mutant: str, says: str, trail: str | None
) -> None:
    getattr(Mutants(), mutant)(parts)
    with pytest.raises(Violation, match=says) as found:
        await run(checkout(parts), world)
    if trail is not None:
        assert any(trail in each for each in found.value.trail)
    assert len(found.value.trail) < 10


class TestMutantMachine:
    """The machine itself, with a rule taken out."""

    async def found(self, world: World, parts: Parts, says: str) -> None:
        with pytest.raises(Violation, match=says):
            await run(checkout(parts, deadline=timedelta(minutes=5)), world)

    async def test_the_wrong_order(
        self, world: World, parts: Parts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = machine.evolve

        def all_at_once(plan, state, entry):
            after = real(plan, state, entry)
            marks = {
                name: replace(mark, undo=replace(mark.undo, attempt=max(mark.undo.attempt, 1)))
                if machine._owed(plan.step[name], mark) and after.phase == "undoing"
                else mark
                for name, mark in after.marks.items()
            }
            return replace(after, marks=dict(reversed(marks.items())))

        monkeypatch.setattr(machine, "evolve", all_at_once)
        await self.found(world, parts, "of reserve was taken back while that of debit stands")

    async def test_unknown_taken_for_a_no(
        self, world: World, parts: Parts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(machine, "_MAYBE", frozenset())
        await self.found(world, parts, "stands, and the record says not done")

    async def test_an_undo_left_out(
        self, world: World, parts: Parts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = machine._owed

        def forgets_doubt(step, mark):
            return real(step, mark) and mark.fate != "may have been done"

        monkeypatch.setattr(machine, "_owed", forgets_doubt)
        await self.found(world, parts, "stands, and")

    async def test_a_crash_that_is_not_noted(
        self, world: World, parts: Parts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(machine, "_interrupt", lambda *_: None)
        await self.found(world, parts, "stands, and the record says not done")


async def test_bad_input(world: World, parts: Parts) -> None:
    parts.acts["debit"] = lambda: None
    with pytest.raises(SagaError, match="seen no effect of debit"):
        await run(checkout(parts), world)
    await run(checkout(parts), world, unseen=["debit"], faults=1)

    def never() -> None:
        raise Refused("sold out")

    parts.acts = {"reserve": never}
    with pytest.raises(SagaError, match="without any fault it ends undone: Refused: sold out"):
        await run(checkout(parts), world)
