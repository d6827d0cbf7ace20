"""The shop keeps its books in whole cents, and speaks of money on the wire."""

from switchgear import Money


def euros(cents: int) -> Money:
    """Return an amount of euros."""
    return Money(currency_code="EUR", units=cents // 100, nanos=cents % 100 * 10_000_000)


def cents_of(amount: Money) -> int:
    """Return an amount in cents. Raises `ValueError` for another currency or part of a cent."""
    cents = amount.amount * 100
    if amount.currency_code != "EUR" or cents != int(cents):
        raise ValueError(f"{amount.amount} {amount.currency_code} is not an amount in euro cents")
    return int(cents)
