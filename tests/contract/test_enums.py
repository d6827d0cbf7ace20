from __future__ import annotations

import copy
import gc
import pickle

import pytest

from switchgear.contract.enums import Enum, numbers_of, open_name
from switchgear.errors import ContractError


class State(Enum):
    NEW = 0
    PAID = 5


def test_members_are_ordinary_members() -> None:
    assert State.PAID.value == 5
    assert State.PAID.name == "PAID"
    assert State(5) is State.PAID
    assert State["PAID"] is State.PAID
    assert list(State) == [State.NEW, State.PAID]
    assert not State.PAID.is_open
    assert repr(State.PAID) == str(State.PAID) == "State.PAID"
    assert dict(numbers_of(State)) == {0: State.NEW, 5: State.PAID}


def test_an_unknown_number_is_an_open_member() -> None:
    member = State(7)
    assert member.is_open
    assert member.value == 7
    assert member is State(7)
    assert member != State.PAID
    assert isinstance(member, State)
    assert repr(member) == "State.7"
    assert list(State) == [State.NEW, State.PAID]


def test_open_members_are_forgotten_with_their_last_holder() -> None:
    member = State(8)
    assert 8 in State._open_
    del member
    gc.collect()
    assert 8 not in State._open_


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1, "PAID?", 1.5, None])
def test_what_is_not_a_number_of_32_bits_is_no_member(number: object) -> None:
    with pytest.raises(ValueError, match="is not a valid State"):
        State(number)


def test_an_unknown_name_is_an_open_member_without_a_number() -> None:
    member = open_name(State, "LOST")
    assert member.is_open
    assert member is open_name(State, "LOST")
    assert member != State.PAID
    assert (repr(member), member.name) == ("State.LOST", "LOST")
    with pytest.raises(ValueError, match="came by its name, and has no number"):
        _ = member.value
    assert "LOST" in State._open_
    del member
    gc.collect()
    assert "LOST" not in State._open_


def test_one_that_is_called_as_a_member_without_its_prefix_is_open_all_the_same() -> None:
    class Mood(Enum, prefix="MOOD_"):
        GOOD = 0

    assert open_name(Mood, "GOOD").is_open
    assert not Mood.GOOD.is_open


@pytest.mark.parametrize("member", [State.PAID, State(7), open_name(State, "SENT")])
def test_copies_are_the_same_member(member: State) -> None:
    assert copy.deepcopy(member) is member
    assert pickle.loads(pickle.dumps(member)) is member  # noqa: S301


def test_mistakes_are_told() -> None:
    with pytest.raises(ContractError, match="A has the number 'x'"):

        class Text(Enum):
            A = "x"

    with pytest.raises(ContractError, match="B has the number 2147483648"):

        class Large(Enum):
            A = 0
            B = 2**31

    with pytest.raises(ContractError, match="A and B both have the number 0"):

        class Twice(Enum):
            A = 0
            B = 0

    with pytest.raises(ContractError, match="No member has the number 0"):

        class NoZero(Enum):
            A = 1
