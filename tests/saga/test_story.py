"""A saga's journal, replayed by whoever takes the saga up."""

from __future__ import annotations

import pytest

from switchgear.saga import machine
from switchgear.saga.plan import Plan, Side
from switchgear.saga.state import Entry, Next, State, What
from switchgear.saga.stores.port import Line, SagaRow
from switchgear.saga.story import Story
from tests.saga.plans import CHECKOUT

ROW = SagaRow("o-1", "checkout/1/x", b"null", b"{}", "running", 0.0, None, None, 1)


def test_a_step_that_was_repeated_for_days_is_looked_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = [Entry(What.OK, Next.GO, 1.0, step, Side.DO, 1) for step in ("reserve", "debit", "ship")]
    again = [
        Entry(What.UNKNOWN, Next.AGAIN, float(n), "confirm", Side.DO, n, n + 1.0, doubt=True)
        for n in range(1, 3_000)
    ]
    lines = [Line(entry, None, None) for entry in (*done, *again)]
    one_by_one = Story(CHECKOUT, machine.begin(CHECKOUT, 0.0, None))
    for line in lines:
        one_by_one.add(line, machine.evolve(CHECKOUT, one_by_one.state, line.entry))
    real, asked = machine.status, []

    def status(plan: Plan, state: State) -> str:
        asked.append(state)
        return real(plan, state)

    monkeypatch.setattr(machine, "status", status)
    assert Story.of(CHECKOUT, ROW, lines) == one_by_one
    assert len(asked) == 1
    assert one_by_one.state.marks["confirm"].do.failures == 2_999
