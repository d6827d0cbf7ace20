"""Money: google.type.Money on the wire, exact arithmetic in Python."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Final

from typing_extensions import override

from switchgear.contract.file import ProtoFile
from switchgear.contract.kinds import Int32
from switchgear.contract.message import Message, field

__all__ = ["Money"]

_NANO: Final = 1_000_000_000
_CURRENCY: Final = re.compile("[A-Z]{3}")
_MAX_UNITS: Final = 2**63
_EXACT: Final = Context(prec=100, rounding=ROUND_HALF_EVEN)
"""Wide enough for any amount, whatever precision the application has set for its thread."""


class Money(Message, package=ProtoFile("google/type/money.proto", "google.type")):
    """An amount of one currency. `Money.of("12.50", "EUR")` makes one; `amount` is exact.

    Amounts of one currency can be added, subtracted, compared and negated, and multiplied by an
    integer or a `Decimal` (a fraction of a billionth is rounded half to even). Mixing currencies
    raises `ValueError`, and so do units and nanos of different signs.
    """

    currency_code: str = field(1, doc="The three letters of ISO 4217.")
    units: int = field(2, default=0, doc="Whole units.")
    nanos: Int32 = field(3, default=0, doc="Billionths of a unit, with the sign of the units.")

    def __post_init__(self) -> None:
        units, nanos = self.units, self.nanos
        if nanos and (not -_NANO < nanos < _NANO or (units > 0 > nanos) or (units < 0 < nanos)):
            raise ValueError("nanos must be less than one unit and have the sign of the units")

    @classmethod
    def of(cls, amount: Decimal | int | str, currency: str) -> Money:
        """Return `amount` of `currency`.

        Raises `ValueError` where the amount is not a number, is finer than a billionth or does not
        fit, or where the currency is not three capital letters.
        """
        if not _CURRENCY.fullmatch(currency):
            raise ValueError(f"{currency!r} is not a currency code of ISO 4217")
        try:
            exact = Decimal(amount)
            nanos = _EXACT.scaleb(exact, 9)
            whole = _EXACT.to_integral_exact(nanos)
        except (InvalidOperation, TypeError):
            raise ValueError(f"{amount!r} is not an amount") from None
        if not exact.is_finite() or whole != nanos:
            raise ValueError(f"{amount!r} is not an amount in billionths of a unit")
        return _of_nanos(int(whole), currency)

    @property
    def amount(self) -> Decimal:
        """The amount as an exact decimal, without trailing zeros."""
        if not self.nanos:
            return Decimal(self.units)
        return _EXACT.normalize(_EXACT.scaleb(Decimal(self.total_nanos), -9))

    @property
    def total_nanos(self) -> int:
        """The amount in billionths of a unit."""
        return self.units * _NANO + self.nanos

    def __add__(self, other: Money) -> Money:
        return _of_nanos(self.total_nanos + self._same(other), self.currency_code)

    def __sub__(self, other: Money) -> Money:
        return _of_nanos(self.total_nanos - self._same(other), self.currency_code)

    def __neg__(self) -> Money:
        return _of_nanos(-self.total_nanos, self.currency_code)

    def __mul__(self, factor: int | Decimal) -> Money:
        product = _EXACT.multiply(Decimal(self.total_nanos), Decimal(factor))
        return _of_nanos(int(_EXACT.to_integral_value(product)), self.currency_code)

    __rmul__ = __mul__

    def __bool__(self) -> bool:
        return bool(self.units or self.nanos)

    def __lt__(self, other: Money) -> bool:
        return self.total_nanos < self._same(other)

    def __le__(self, other: Money) -> bool:
        return self.total_nanos <= self._same(other)

    def __gt__(self, other: Money) -> bool:
        return self.total_nanos > self._same(other)

    def __ge__(self, other: Money) -> bool:
        return self.total_nanos >= self._same(other)

    @override
    def __str__(self) -> str:
        return f"{self.amount} {self.currency_code}"

    def _same(self, other: Money) -> int:
        if self.currency_code != other.currency_code:
            raise ValueError(f"{self.currency_code} and {other.currency_code} cannot be mixed")
        return other.total_nanos


def _of_nanos(total: int, currency: str) -> Money:
    units, nanos = divmod(abs(total), _NANO)
    if units >= _MAX_UNITS:
        raise ValueError("the amount does not fit in 64 bits of whole units")
    sign = -1 if total < 0 else 1
    return Money(currency_code=currency, units=sign * units, nanos=sign * nanos)
