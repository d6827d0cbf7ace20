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
from switchgear.saga.state import Next
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


class TestRefuted:
    """A step that was done turns out not to hold, at any time."""

    async def test_what_can_be_undone_is_and_the_rest_is_in_front_of_a_person(
        self, world: World, parts: Parts
    ) -> None:
        saga = checkout(parts, deadline=timedelta(minutes=5))
        without = await run(saga, world, faults=1)
        report = await run(saga, world, faults=1, refute=["debit"])
        assert report.moves > without.moves
        assert set(report.ends) == {"done", "undone", "queued"}
        assert report.ends["queued"] > without.ends["queued"], "the parcel has left"
        await run(saga, world, refute=["reserve", "debit", "ship", "confirm"])

    async def test_branches(self, world: World, parts: Parts) -> None:
        saga = Saga("wide", version=1, runbook=RUNBOOK)
        a, b, c = (add(saga, parts, name) for name in "abc")

        @saga.retriable(give_up=timedelta(hours=1))
        async def left(order: Order, ctx: Context) -> None:
            parts.act("left")

        @saga.retriable(give_up=timedelta(hours=1))
        async def right(order: Order, ctx: Context) -> None:
            parts.act("right")

        saga.path((a | b) >> c >> (left | right))
        report = await run(saga, world, faults=1, refute=["a", "left"])
        assert set(report.ends) == {"done", "undone", "queued"}

    async def test_a_participant_that_gives_back_only_what_was_paid(
        self, world: World, parts: Parts
    ) -> None:
        """Its undo looks at the payment, so it is found by the refutation alone."""

        def release() -> None:
            if world.stands.get(("debit", "")) != 0 or "paid back" in parts.world.heard:
                world.undo()

        def refund() -> None:
            parts.world.heard.add("paid back")
            world.undo()

        parts.acts |= {"unreserve": release, "undebit": refund}
        await run(checkout(parts), world, faults=1)
        trail = await self.found(world, parts, "of reserve stands, and the record says undone")
        assert "debit is refuted" in trail

    async def found(self, world: World, parts: Parts, says: str) -> tuple[str, ...]:
        with pytest.raises(Violation, match=says) as found:
            await run(checkout(parts), world, faults=1, refute=["debit"])
        return found.value.trail

    async def test_a_machine_that_asks_nobody(
        self, world: World, parts: Parts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(machine, "_stranded", lambda *_: ())
        trail = await self.found(world, parts, "stands, and nobody is asked about it")
        assert "debit is refuted" in trail

    async def test_a_machine_that_stands_still(
        self, world: World, parts: Parts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = machine.decide

        def goes_on(plan, state, happening, **more):
            entry = real(plan, state, happening, **more)
            refuted = entry.what == "refute" and state.phase == "running"
            return replace(entry, next=Next.GO) if refuted else entry

        monkeypatch.setattr(machine, "decide", goes_on)
        trail = await self.found(world, parts, "nothing goes on, and nobody is asked")
        assert "debit is refuted" in trail

    async def test_a_machine_that_does_not_turn_round_after_the_end(
        self, world: World, parts: Parts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(machine, "_TURNS", frozenset())
        trail = await self.found(world, parts, "it is done, and not all of its steps are")
        assert trail[-1] == "debit is refuted"

    async def test_a_machine_that_pays_back_what_has_bounced(
        self, world: World, parts: Parts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = machine._do_moved

        def forgets(step, mark, entry):
            return mark if entry.what == "refute" else real(step, mark, entry)

        monkeypatch.setattr(machine, "_do_moved", forgets)
        assert await self.found(world, parts, "debit was refuted, and is undone as well") == (
            "reserve do: answered",
            "debit do: answered",
            "debit is refuted",
            "left ship",
            "debit undo: answered",
        )

    async def test_a_machine_that_sells_the_stock_of_a_parcel_on_its_way(
        self, world: World, parts: Parts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(machine, "_stands", lambda *_: False)
        await self.found(
            world, parts, "of reserve was taken back while that of confirm, ship stands"
        )

    async def test_a_step_that_there_is_not(self, world: World, parts: Parts) -> None:
        saga = Saga("started", version=1, runbook=RUNBOOK)

        @saga.undone()
        async def cancel(order: Order, why: str, ctx: Context) -> None: ...

        saga.path(add(saga, parts, "debit"))
        for name in ("pay", "start"):
            with pytest.raises(SagaError, match=rf"no step {name} that.* Name some of debit\."):
                await run(saga, world, refute=[name])
