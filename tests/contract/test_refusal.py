from __future__ import annotations

import copy
import pickle

import pytest

from switchgear.contract.codec import from_json, from_proto, to_json, to_proto
from switchgear.contract.declaration import fields_of, full_name
from switchgear.contract.message import field
from switchgear.contract.refusal import Refusal
from switchgear.errors import CallError, ContractError
from switchgear.model.outcome import Refused, Status


class OutOfStock(Refusal, package="shop.v1", reserved=[9]):
    """There is not enough of it."""

    sku: str = field(1)
    left: int = field(2, default=0)

    @property
    def none_left(self) -> bool:
        return self.left == 0


class NoSuchSku(Refusal, status=Status.NOT_FOUND):
    sku: str | None = field(1)


def test_it_is_an_exception_with_fields() -> None:
    refusal = OutOfStock(sku="a", left=2)
    assert (refusal.sku, refusal.left, refusal.none_left) == ("a", 2, False)
    assert isinstance(refusal, Refused | CallError)
    assert str(refusal) == "[SG412] OutOfStock(sku='a', left=2)"
    with pytest.raises(OutOfStock) as raised:
        raise refusal
    assert raised.value is refusal
    with pytest.raises(TypeError):
        OutOfStock()  # type: ignore[call-arg]


def test_it_has_a_message_of_its_name() -> None:
    assert OutOfStock.full_name == full_name(OutOfStock.__message__) == "shop.v1.OutOfStock"
    assert list(fields_of(OutOfStock.__message__)) == ["sku", "left"]
    assert NoSuchSku.full_name == f"{__name__}.NoSuchSku"
    assert (OutOfStock.status, NoSuchSku.status) == (Status.FAILED_PRECONDITION, Status.NOT_FOUND)


@pytest.mark.parametrize("refusal", [OutOfStock(sku="a", left=2), NoSuchSku(sku=None)])
def test_it_crosses_both_wires(refusal: Refusal) -> None:
    cls, message = type(refusal), refusal.to_message()
    for crossed in (
        from_json(cls.__message__, to_json(message)),
        from_proto(cls.__message__, to_proto(message)),
    ):
        again = cls.from_message(crossed)
        assert str(again) == str(refusal)
        assert again.to_message() == message


def test_it_survives_pickling_and_copying() -> None:
    refusal = OutOfStock(sku="a", left=2)
    for twin in (pickle.loads(pickle.dumps(refusal)), copy.copy(refusal)):  # noqa: S301
        assert type(twin) is OutOfStock
        assert twin.to_message() == refusal.to_message()


def test_mistakes_are_told() -> None:
    with pytest.raises(ContractError, match="The field what has the name of an attribute"):

        class Taken(Refusal):
            what: str = field(1)  # type: ignore[misc]

    with pytest.raises(ContractError, match="The fields a and b both have the number 1"):

        class Twice(Refusal):
            a: int = field(1)
            b: int = field(1)

    with pytest.raises(ContractError, match="The field a has no number"):

        class Bare(Refusal):
            a: int

    with pytest.raises(ContractError, match="not from another refusal"):

        class Child(OutOfStock):
            more: int = field(3)
