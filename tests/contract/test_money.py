from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchgear.contract.money import Money

amounts = st.integers(-(10**25), 10**25).map(lambda nanos: Decimal(nanos).scaleb(-9))


def eur(amount: str | int | Decimal) -> Money:
    return Money.of(amount, "EUR")


def test_it_is_googles_type() -> None:
    assert eur("-12.5") == Money(currency_code="EUR", units=-12, nanos=-500_000_000)
    assert eur("0.000000001") == Money(currency_code="EUR", units=0, nanos=1)
    assert str(eur("12.50")) == "12.5 EUR"
    assert eur(1200).amount == Decimal(1200)
    assert str(eur(1200).amount) == "1200"


@given(amounts)
def test_an_amount_is_exact(amount: Decimal) -> None:
    with localcontext(prec=5):
        assert eur(amount).amount == amount


@given(amounts, amounts)
def test_arithmetic(one: Decimal, other: Decimal) -> None:
    with localcontext(prec=60):
        assert (eur(one) + eur(other)).amount == one + other
        assert (eur(one) - eur(other)).amount == one - other
    assert -eur(one) == eur(-one)
    assert (eur(one) < eur(other)) is (one < other)
    assert (eur(one) >= eur(other)) is (one >= other)
    assert bool(eur(one)) is bool(one)


def test_multiplying() -> None:
    assert 3 * eur("1.10") == eur("3.30")
    assert eur(100) * Decimal("0.19") == eur(19)
    assert eur("0.000000001") * Decimal("0.5") == eur(0)
    assert eur("0.000000003") * Decimal("0.5") == eur("0.000000002")


@pytest.mark.parametrize("amount", ["x", "NaN", "Infinity", "0.0000000001", 2**63, "1e400"])
def test_what_is_no_amount(amount: str | int) -> None:
    with pytest.raises(ValueError, match=r"amount"):
        eur(amount)


@pytest.mark.parametrize("code", ["", "eur", "EURO", "€€€", "E1R"])
def test_what_is_no_currency(code: str) -> None:
    with pytest.raises(ValueError, match="ISO 4217"):
        Money.of(1, code)


def test_currencies_do_not_mix() -> None:
    with pytest.raises(ValueError, match="EUR and USD cannot be mixed"):
        eur(1) + Money.of(1, "USD")
    with pytest.raises(ValueError, match="cannot be mixed"):
        assert eur(1) < Money.of(1, "USD")
    assert eur(1) != Money.of(1, "USD")


@pytest.mark.parametrize(("units", "nanos"), [(1, -1), (-1, 1), (0, 10**9), (0, -(10**9))])
def test_signs_agree(units: int, nanos: int) -> None:
    with pytest.raises(ValueError, match="nanos"):
        Money(currency_code="EUR", units=units, nanos=nanos)
