"""The retry budget, against a model that keeps every deposit and withdrawal."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from switchgear.policy.budget import Account, Budget


def test_a_caller_with_no_traffic_has_the_reserve():
    account = Account(Budget(ratio=0.1, reserve=3))
    assert [account.withdraw(0.0) for _ in range(5)] == [True, True, True, False, False]
    assert account.empty


def test_ten_successes_buy_one_retry():
    account = Account(Budget(ratio=0.1, reserve=0))
    for _ in range(9):
        account.tally.add_good(0.0)
    assert not account.withdraw(0.0)
    account.tally.add_good(0.0)
    assert account.withdraw(0.0)
    assert not account.withdraw(0.0)


def test_what_was_spent_comes_back_when_it_leaves_the_window():
    account = Account(Budget(ratio=0, reserve=1, window=10))
    assert account.withdraw(0.5)
    assert not account.withdraw(9.9)
    assert account.withdraw(10.0)
    assert account.empty is False


def test_while_nothing_succeeds_no_more_than_the_reserve_is_spent_in_a_window():
    account = Account(Budget(ratio=0.1, reserve=10, window=10))
    assert sum(account.withdraw(step * 0.01) for step in range(900)) == 10


class BudgetAgainstModel(RuleBasedStateMachine):
    @initialize(
        ratio=st.sampled_from([0.0, 0.1, 0.25, 1.0]),
        reserve=st.integers(0, 5),
        window=st.sampled_from([1.0, 10.0]),
        start=st.floats(0, 1e5),
    )
    def begin(self, ratio, reserve, window, start):
        self.account = Account(Budget(ratio=ratio, reserve=reserve, window=window))
        self.ratio, self.reserve, self.slot = ratio, reserve, window / 10
        self.now = start
        self.successes, self.retries = [], []

    def recent(self, times):
        return sum(1 for time in times if time // self.slot > self.now // self.slot - 10)

    def allowed(self):
        return self.reserve + self.ratio * self.recent(self.successes) - self.recent(self.retries)

    @rule(ahead=st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0, 3.0, 12.0]))
    def time_passes(self, ahead):
        self.now += ahead

    @rule(times=st.integers(1, 20))
    def calls_succeed(self, times):
        for _ in range(times):
            self.account.tally.add_good(self.now)
            self.successes.append(self.now)

    @rule(times=st.integers(1, 4))
    def calls_are_retried(self, times):
        for _ in range(times):
            paid = round(self.allowed(), 6) >= 1
            assert self.account.withdraw(self.now) == paid
            assert self.account.empty == (not paid)
            if paid:
                self.retries.append(self.now)

    @invariant()
    def the_balance_is_that_of_the_model(self):
        if hasattr(self, "account"):
            assert abs(self.account.balance(self.now) - self.allowed()) < 1e-6


TestBudgetAgainstModel = BudgetAgainstModel.TestCase
TestBudgetAgainstModel.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
