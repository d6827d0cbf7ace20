"""What a definition refuses, naming the step and the edit, and what it makes of the rest."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest

from switchgear.errors import SagaDefinitionError
from switchgear.model.outcome import Unknown
from switchgear.saga import Context, Engine, Kind, Saga
from tests.saga.shop import Book, Order, Payment, Reservation, Shipment, checkout

HOUR = timedelta(hours=1)


def new(**settings: Any) -> Saga:
    return Saga("order", **{"version": 1, "runbook": "runbooks/release.md", **settings})


def make_reserve(saga: Saga, name: str = "reserve") -> Any:
    async def undo(order: Order, done: Reservation | Unknown, ctx: Context) -> None: ...
    async def do(order: Order, ctx: Context) -> Reservation:
        return Reservation(1)

    undo.__name__, do.__name__ = f"un{name}", name
    return saga.undo()(undo).undoes(do)


def make_ship(saga: Saga, name: str = "ship") -> Any:
    async def do(order: Order, ctx: Context) -> Shipment:
        return Shipment(1)

    do.__name__ = name
    return saga.pivot(give_up=HOUR)(do)


def make_confirm(saga: Saga, name: str = "confirm") -> Any:
    async def do(order: Order, ctx: Context) -> None: ...

    do.__name__ = name
    return saga.retriable(give_up=HOUR)(do)


def make_look(saga: Saga, name: str = "look") -> Any:
    async def do(order: Order, ctx: Context) -> int:
        return 1

    do.__name__ = name
    return saga.read(do)


def test_a_definition_as_data() -> None:
    saga = checkout(Book())
    assert [(step.name, step.kind, step.after, step.undo) for step in saga.plan.steps] == [
        ("reserve", Kind.COMPENSATABLE, (), "release"),
        ("debit", Kind.COMPENSATABLE, ("reserve",), "refund"),
        ("ship", Kind.PIVOT, ("debit",), None),
        ("confirm", Kind.RETRIABLE, ("ship",), None),
    ]
    assert saga.plan.step["ship"].needs == ("debit",)
    assert saga.plan.step["ship"].give_up == 3600.0
    assert saga.plan.step["debit"].undo_runbook == "runbooks/refund.md"
    assert saga.input.declared is Order
    assert repr(saga) == "<saga checkout version 1>"
    assert repr(saga.steps["ship"]) == "<step ship of saga checkout>"
    assert repr(saga.steps["debit"].undo) == "<undo refund of saga checkout>"


def test_the_fingerprint_changes_with_the_structure_alone() -> None:
    same = {checkout(Book()).fingerprint, checkout(Book(), deadline=HOUR, version=2).fingerprint}
    assert len(same) == 1

    def other(kind: str) -> str:
        saga = new()
        reserve, ship = make_reserve(saga), make_ship(saga)
        if kind == "renamed":
            make = make_reserve(saga, "book")
        elif kind == "read":
            make = make_look(saga)
        else:
            make = make_confirm(saga)
        path = reserve >> ship >> make if kind == "after" else (reserve >> make) >> ship
        saga.path(path)
        return saga.fingerprint

    assert len({other("renamed"), other("read"), other("after"), *same}) == 4


def test_steps_and_undos_can_be_called_as_functions() -> None:
    import asyncio

    async def check() -> None:
        saga = checkout(Book())
        ctx: Any = type("Ctx", (), {"key": "k"})()
        assert await saga.steps["reserve"](Order("o-1"), ctx) == Reservation(1)
        undo = saga.steps["reserve"].undo
        assert undo is not None
        assert await undo(Order("o-1"), Reservation(1), ctx) is None

    asyncio.run(check())


def test_paths() -> None:
    saga = new()
    a, b, c, d = (make_reserve(saga, name) for name in "abcd")
    look, ship = make_look(saga), make_ship(saga)
    saga.path(((a >> b) | c) >> d >> look >> ship)
    after = {step.name: step.after for step in saga.plan.steps}
    assert after == {
        "a": (),
        "b": ("a",),
        "c": (),
        "d": ("b", "c"),
        "look": ("d",),
        "ship": ("look",),
    }
    assert saga.plan.later["a"] == {"b", "d", "look", "ship"}
    assert saga.plan.earlier["d"] == {"a", "b", "c"}
    with pytest.raises(TypeError):
        a >> "b"
    with pytest.raises(TypeError):
        a | 3


class TestBinding:
    def test_results_bind_by_type(self) -> None:
        saga = new()
        a, b = make_reserve(saga, "a"), make_reserve(saga, "b")

        @saga.read
        async def choose(
            order: Order, first: Annotated[Reservation, a], *, second: Annotated[Reservation, b]
        ) -> int | None:
            return 1

        @saga.read
        async def check(order: Order, chosen: int | None, ctx: Context) -> list[int]:
            return []

        @saga.read
        async def use(ctx_first: Order, ctx: Context, checked: list[int]) -> None: ...

        saga.path((a | b) >> choose >> check >> use)
        assert [binding.producer for binding in saga.bindings(choose)] == ["a", "b"]
        assert [binding.keyword for binding in saga.bindings(choose)] == [False, True]
        assert [binding.producer for binding in saga.bindings(check)] == ["choose", None]
        assert [binding.producer for binding in saga.bindings(use)] == [None, "check"]


def no_path(saga: Saga) -> None:
    make_reserve(saga)
    _ = saga.plan


def path_twice(saga: Saga) -> None:
    step = make_reserve(saga)
    saga.path(step)
    saga.path(step)


def undo_without_unknown(saga: Saga) -> None:
    @saga.undo()  # type: ignore[arg-type]
    async def release(order: Order, done: Reservation, ctx: Context) -> None: ...


def undo_of_another_result(saga: Saga) -> None:
    @saga.undo()
    async def release(order: Order, done: Payment | Unknown, ctx: Context) -> None: ...

    @release.undoes  # type: ignore[arg-type]
    async def reserve(order: Order, ctx: Context) -> Reservation:
        return Reservation(1)


def undo_of_none(saga: Saga) -> None:
    @saga.undo()
    async def release(order: Order, done: Unknown, ctx: Context) -> None: ...

    @release.undoes
    async def reserve(order: Order, ctx: Context) -> None: ...


def undo_of_another_input(saga: Saga) -> None:
    @saga.undo()
    async def release(order: Payment, done: Reservation | Unknown, ctx: Context) -> None: ...

    @release.undoes  # type: ignore[arg-type]
    async def reserve(order: Order, ctx: Context) -> Reservation:
        return Reservation(1)


def undo_with_more(saga: Saga) -> None:
    @saga.undo()  # type: ignore[arg-type]
    async def release(
        order: Order, done: Reservation | Unknown, paid: Payment, ctx: Context
    ) -> None: ...


def undo_for_two(saga: Saga) -> None:
    @saga.undo()
    async def release(order: Order, done: Reservation | Unknown, ctx: Context) -> None: ...

    @release.undoes
    async def reserve(order: Order, ctx: Context) -> Reservation:
        return Reservation(1)

    @release.undoes
    async def again(order: Order, ctx: Context) -> Reservation:
        return Reservation(1)


def undo_of_nothing(saga: Saga) -> None:
    @saga.undo()
    async def release(order: Order, done: Reservation | Unknown, ctx: Context) -> None: ...

    saga.path(make_look(saga))


def runbook_is_missing(_: Saga) -> None:
    saga = Saga("order", version=1)
    make_reserve(saga)


def runbook_of_the_pivot_is_missing(_: Saga) -> None:
    saga = Saga("order", version=1)
    make_ship(saga)


def runbook_file_is_missing(saga: Saga) -> None:
    @saga.pivot(give_up=HOUR, runbook="runbooks/nowhere.md")
    async def ship(order: Order, ctx: Context) -> None: ...


def runbook_file_of_the_saga_is_missing(_: Saga) -> None:
    make_reserve(Saga("order", version=1, runbook="nowhere.md"))


def give_up_is_missing(saga: Saga) -> None:
    @saga.pivot()  # type: ignore[call-overload, untyped-decorator]
    async def ship(order: Order, ctx: Context) -> None: ...


def give_up_is_missing_from_a_retriable_step(saga: Saga) -> None:
    @saga.retriable(runbook="runbooks/ship.md")  # type: ignore[call-overload, untyped-decorator]
    async def confirm(order: Order, ctx: Context) -> None: ...


def give_up_is_not_positive(saga: Saga) -> None:
    @saga.pivot(give_up=timedelta())
    async def ship(order: Order, ctx: Context) -> None: ...


def two_pivots(saga: Saga) -> None:
    saga.path(make_ship(saga) >> make_ship(saga, "send"))


def pivot_in_a_branch(saga: Saga) -> None:
    saga.path((make_reserve(saga) | make_ship(saga)) >> make_confirm(saga))


def retriable_before_compensatable(saga: Saga) -> None:
    saga.path(make_confirm(saga) >> make_reserve(saga))


def retriable_beside_compensatable(saga: Saga) -> None:
    saga.path(make_confirm(saga) | make_reserve(saga))


def retriable_before_the_pivot(saga: Saga) -> None:
    saga.path(make_confirm(saga) >> make_ship(saga))


def compensatable_after_the_pivot(saga: Saga) -> None:
    saga.path(make_ship(saga) >> make_reserve(saga))


def read_after_the_pivot(saga: Saga) -> None:
    saga.path(make_ship(saga) >> make_look(saga))


def result_of_nobody(saga: Saga) -> None:
    @saga.read
    async def look(order: Order, paid: Payment) -> None: ...

    saga.path(make_reserve(saga) >> look)


def result_of_a_later_step(saga: Saga) -> None:
    @saga.read
    async def look(order: Order, held: Reservation) -> None: ...

    saga.path(look >> make_reserve(saga))


def result_of_a_sibling(saga: Saga) -> None:
    @saga.read
    async def look(order: Order, held: Reservation) -> None: ...

    saga.path(look | make_reserve(saga))


def result_of_two(saga: Saga) -> None:
    @saga.read
    async def look(order: Order, held: Reservation) -> None: ...

    saga.path(make_reserve(saga, "a") >> make_reserve(saga, "b") >> look)


def result_of_the_wrong_one(saga: Saga) -> None:
    a = make_reserve(saga, "a")

    @saga.read
    async def look(order: Order, held: Annotated[Payment, a]) -> None: ...

    saga.path(a >> look)


def duplicate_name(saga: Saga) -> None:
    make_ship(saga)
    make_confirm(saga, "ship")


def duplicate_name_of_an_undo(saga: Saga) -> None:
    make_reserve(saga)
    make_look(saga, "unreserve")


def another_input(saga: Saga) -> None:
    @saga.read
    async def look(order: Payment) -> None: ...

    saga.path(make_reserve(saga) >> look)


def step_of_another_saga(saga: Saga) -> None:
    saga.path(make_reserve(Saga("other", version=1, runbook="runbooks/release.md")))


def step_twice(saga: Saga) -> None:
    step = make_reserve(saga)
    saga.path(step >> step)


def step_left_out(saga: Saga) -> None:
    make_reserve(saga, "forgotten")
    saga.path(make_reserve(saga))


def not_async(saga: Saga) -> None:
    @saga.read  # type: ignore[arg-type]
    def look(order: Order) -> int:
        return 1


def no_result_type(saga: Saga) -> None:
    @saga.read
    async def look(order: Order):  # type: ignore[no-untyped-def]
        pass


def no_parameter_type(saga: Saga) -> None:
    @saga.read
    async def look(order) -> None:  # type: ignore[no-untyped-def]
        pass


def no_input(saga: Saga) -> None:
    @saga.read
    async def look(ctx: Context) -> None: ...


def no_parameters(saga: Saga) -> None:
    @saga.read
    async def look() -> None: ...


def variadic(saga: Saga) -> None:
    @saga.read
    async def look(order: Order, *others: Payment) -> None: ...


def default(saga: Saga) -> None:
    @saga.read
    async def look(order: Order, paid: Payment | None = None) -> None: ...


def unresolved(saga: Saga) -> None:
    @saga.read
    async def look(order: Order, paid: Elsewhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


WRONG: list[tuple[Callable[[Saga], object], list[str]]] = [
    (no_path, ["saga order", "has no path", "order.path("]),
    (path_twice, ["has a path already"]),
    (undo_without_unknown, ["release", "does not take Unknown", "Reservation | Unknown"]),
    (
        undo_of_another_result,
        [
            "step reserve",
            "returns Reservation",
            "done: Payment | Unknown",
            "done: Reservation | Unknown",
        ],
    ),
    (undo_of_none, ["step reserve", "returns None", "done: None | Unknown"]),
    (undo_of_another_input, ["step reserve", "input is Order", "Payment"]),
    (undo_with_more, ["undo release", "exactly the input", "ctx.result(step)"]),
    (undo_for_two, ["step again", "undo release undoes step reserve already"]),
    (undo_of_nothing, ["undo release", "undoes no step", "@release.undoes"]),
    (runbook_is_missing, ["undo unreserve", "has no runbook", "runbook="]),
    (runbook_of_the_pivot_is_missing, ["pivot step ship", "has no runbook"]),
    (runbook_file_is_missing, ["pivot step ship", "runbooks/nowhere.md does not exist", "Write "]),
    (runbook_file_of_the_saga_is_missing, ["nowhere.md does not exist", "test_definition.py"]),
    (give_up_is_missing, ["pivot step ship", "has no give_up", "give_up=timedelta(hours=4)"]),
    (give_up_is_missing_from_a_retriable_step, ["retriable step confirm", "has no give_up"]),
    (give_up_is_not_positive, ["its give_up is 0:00:00"]),
    (two_pivots, ["is a pivot as well", "Keep one"]),
    (pivot_in_a_branch, ["step ship", "parallel branch", "(a | b) >> pivot"]),
    (retriable_before_compensatable, ["step confirm", "does not come after reserve", "Move"]),
    (retriable_beside_compensatable, ["step confirm", "does not come after reserve"]),
    (retriable_before_the_pivot, ["step confirm", "does not come after ship"]),
    (compensatable_after_the_pivot, ["step ship", "reserve, which is compensatable", "Move"]),
    (read_after_the_pivot, ["step ship", "look, which is read", "make it retriable"]),
    (result_of_nobody, ["step look", "paid needs a Payment", "reserve -> Reservation"]),
    (result_of_a_later_step, ["step look", "no step before it returns", "none"]),
    (result_of_a_sibling, ["step look", "no step before it returns"]),
    (result_of_two, ["a and b both return one", "Annotated[Reservation, a]"]),
    (result_of_the_wrong_one, ["step look", "does not return that"]),
    (duplicate_name, ["the same name", "Rename"]),
    (duplicate_name_of_an_undo, ["the same name", "Rename"]),
    (another_input, ["step look", "input is Payment", "reserve is Order"]),
    (step_of_another_saga, ["is not a step of it", "@order.undo"]),
    (step_twice, ["reserve is in the path twice"]),
    (step_left_out, ["step forgotten", "not in the path of saga order", "Add it"]),
    (not_async, ["look", "async def"]),
    (no_result_type, ["its result has no type", "Annotate"]),
    (no_parameter_type, ["parameter order has no type"]),
    (no_input, ["does not take the saga's input"]),
    (no_parameters, ["does not take the saga's input"]),
    (variadic, ["parameter others cannot be bound"]),
    (default, ["parameter paid cannot be bound"]),
    (unresolved, ["Elsewhere", "TYPE_CHECKING"]),
]


@pytest.mark.parametrize(("wrong", "says"), WRONG, ids=lambda each: getattr(each, "__name__", ""))
def test_refused(wrong: Callable[[Saga], object], says: list[str]) -> None:
    with pytest.raises(SagaDefinitionError) as caught:
        wrong(new())
    for part in says:
        assert part in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"name": "no spaces"}, "is not a name"),
        ({"name": "a/b"}, "is not a name"),
        ({"version": 0}, "Count versions from 1"),
        ({"deadline": timedelta()}, "its deadline is"),
        ({"attempt_timeout": timedelta(-1)}, "its attempt_timeout is"),
    ],
)
def test_refused_settings(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(SagaDefinitionError, match=says):
        Saga(**{"name": "order", "version": 1, **settings})


def test_an_engine_refuses_a_saga_without_a_path(tmp_path: Path) -> None:
    from switchgear.database.sqlite import Sqlite

    with pytest.raises(SagaDefinitionError, match="has no path"):
        Engine(Sqlite(tmp_path / "a.db"), [new()])


def test_a_broken_definition_does_not_import(tmp_path: Path) -> None:
    """Names of the file and line, in a module of its own, with runbooks beside it."""
    (tmp_path / "runbooks").mkdir()
    (tmp_path / "runbooks/release.md").write_text("Call someone.")
    code = """
        from datetime import timedelta
        from switchgear.model.outcome import Unknown
        from switchgear.saga import Context, Saga

        checkout = Saga("checkout", version=1)

        @checkout.undo(runbook="runbooks/release.md")
        async def release(order: str, done: int | Unknown, ctx: Context) -> None: ...
        @release.undoes
        async def reserve(order: str, ctx: Context) -> int: return 1
        @checkout.pivot(give_up=timedelta(hours=1), runbook="runbooks/ship.md")
        async def ship(order: str, held: int, ctx: Context) -> None: ...
        checkout.path(reserve >> ship)
    """
    (tmp_path / "orders.py").write_text(textwrap.dedent(code))
    command = [sys.executable, "-c", "import orders"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "SG140" in done.stderr
    assert "orders.py:12" in done.stderr
    assert f"Write {tmp_path / 'runbooks/ship.md'}" in done.stderr
    (tmp_path / "runbooks/ship.md").write_text("Call someone.")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_pinned_definition_may_not_change_under_its_version(book: Book) -> None:
    pinned = checkout(book).fingerprint
    assert checkout(book, fingerprint=pinned).fingerprint == pinned
    with pytest.raises(SagaDefinitionError, match=rf"{pinned}.*version 2") as caught:
        checkout(book, fingerprint="0123456789abcdef")
    assert "0123456789abcdef is pinned" in str(caught.value)


class TestRunbookSizes:
    def saga(self, file: Path) -> Saga:
        saga = Saga("order", version=1, runbook=str(file))
        saga.path(make_reserve(saga))
        return saga

    def test_one_that_is_too_large(self, tmp_path: Path) -> None:
        file = tmp_path / "release.md"
        file.write_bytes(b"x" * 100_001)
        with pytest.raises(SagaDefinitionError) as raised:
            self.saga(file)
        assert raised.value.what == (
            f"its runbook {file} is 100001 bytes, and with a work item there go at most 100000."
        )
        assert raised.value.where is not None
        assert "undo unreserve" in raised.value.where

    def test_one_that_has_grown_since(self, tmp_path: Path) -> None:
        file = tmp_path / "release.md"
        file.write_bytes(b"Ring them.\r\n" + b"x" * 99_988)
        undo = self.saga(file).steps["reserve"].undo
        assert undo is not None
        assert undo.instructions() == "Ring them.\n" + "x" * 99_988
        file.write_text("x" + "\u00e9" * 60_000, encoding="utf-8")
        told = undo.instructions()
        assert told == (
            "x"
            + "\u00e9" * 49_999
            + f"\n\n[Cut after 100000 bytes: the whole text is in {file}.]\n"
        )
