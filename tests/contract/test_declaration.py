"""What a message may declare, and what each mistake says."""

from __future__ import annotations

import enum
import textwrap
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import msgspec
import pytest

from switchgear.contract.codec import from_json, to_json
from switchgear.contract.declaration import declaration_of, fields_of, full_name, reach
from switchgear.contract.enums import Enum
from switchgear.contract.kinds import Int32, Shape, UInt64
from switchgear.contract.message import Message, field, replace
from switchgear.errors import ContractError

T = TypeVar("T")


class Plain(enum.Enum):
    A = 0


class Leaf(Message):
    name: str = field(1)


class Tree(Message):
    """Contains itself, and what is declared below it."""

    kids: list[Tree] = field(1, default_factory=list)
    later: Later | None = field(2)


class Later(Message):
    tree: Tree | None = field(1)


def declare(body: str, keywords: str = "", first_line: str = "") -> None:
    """Declare a message `Bad` with `body` in a module of its own."""
    source = f"{first_line}\nclass Bad(Message{keywords}):\n{textwrap.indent(body, '    ')}"
    names: dict[str, Any] = {**globals(), "__name__": "shop.words"}
    exec(compile(source, "<words>", "exec", dont_inherit=True), names)  # noqa: S102
    fields_of(names["Bad"])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("a: int = field(1)\nb: str = field(1)", "The fields a and b both have the number 1."),
        ("a: int", "The field a has no number."),
        ("a: int = 5", "The field a has no number."),
        ("a = field(3)", "The field a has no type."),
        ("a: int = field(0)", "The field a has the number 0."),
        ("a: int = field(-1)", "The field a has the number -1."),
        ("a: int = field(536870912)", "The field a has the number 536870912."),
        ("a: int = field(19000)", "The field a has the number 19000."),
        ("a: int = field(19999)", "The field a has the number 19999."),
        ("a: int = field('1')", "The field a has the number '1'."),
        ("a: int = field(True)", "The field a has the number True."),
        ("A: int = field(1)", "The field name A is not lower_snake_case."),
        ("_a: int = field(1)", "The field name _a is not lower_snake_case."),
        ("a_b: int = field(1)\na__b: int = field(2)", "a_b and a__b are both aB"),
        ("a: object = field(1)", "object is not a type for the wire."),
        ("a: Any = field(1)", "Any is not a type for the wire."),
        ("a: Message = field(1)", "Message is not a type for the wire."),
        ("a: set[int] = field(1)", "set[int] is not a type for the wire."),
        ("a: list = field(1)", "list is not a type for the wire."),
        ("a: tuple[int, ...] = field(1)", "is not a type for the wire."),
        ("a: Plain = field(1)", "Plain has no numbers for the wire."),
        ("a: list[list[int]] = field(1)", "list[int] cannot be in a list. Wrap it in a message."),
        ("a: list[int | None] = field(1)", "int | None cannot be in a list."),
        ("a: dict[str, list[int]] = field(1)", "list[int] cannot be in a dict."),
        ("a: dict[float, int] = field(1)", "float cannot be the key of a dict."),
        ("a: int | str = field(1)", "a field has one type."),
        ("a: int | str | None = field(1)", "a field has one type."),
        ("a: None = field(1)", "is not a type for the wire."),
        ("a: list[int] | None = field(1)", "cannot tell an empty list or dict from none."),
        ("a: Annotated[int, msgspec.Meta(gt=0)] = field(1)", "do not hold over protobuf"),
        ("a: int = field(1, default='x')", "The default 'x' is not of the type"),
        ("a: Int32 = field(1, default=2**31)", "The default 2147483648 is not of the type"),
        ("a: bool = field(1, default=1)", "The default 1 is not of the type"),
        ("a: int = field(1, default=True)", "The default True is not of the type"),
        ("a: list[int] = field(1, default=[])", "The default of a is a list that all would share"),
        ("a: int = field(1, default=None)", "The default is None, which the type does not allow."),
        ("a: int | None = field(1, default=3)", "The default of an optional field is None"),
        ("a: int | None = field(1, default_factory=int)", "The default of an optional field is"),
        ("a: int | None = field(1, presence=True)", "presence=True is for a scalar"),
        ("a: list[int] = field(1, presence=True)", "presence=True is for a scalar"),
        ("a: Leaf = field(1, presence=True)", "presence=True is for a scalar"),
        ("a: datetime = field(1, presence=True)", "presence=True is for a scalar"),
        ("a: str = field(1, strings=True)", "strings=True is for 64-bit integers."),
        ("a: Int32 = field(1, strings=True)", "strings=True is for 64-bit integers."),
        ("a: 'Missing' = field(1)", "A type is not defined: name 'Missing' is not defined."),
    ],
)
@pytest.mark.parametrize("annotations", ["", "from __future__ import annotations"])
def test_a_mistake_is_told(body: str, says: str, annotations: str) -> None:
    with pytest.raises(ContractError) as raised:
        declare(body, first_line=annotations)
    assert says in str(raised.value)
    assert "shop.words.Bad" in str(raised.value)


@pytest.mark.parametrize(
    ("keywords", "says"),
    [
        ("reserved=[4]", "The field gone = 4 uses 4, which is reserved"),
        ("reserved=[range(3, 6)]", "The field gone = 4 uses range(3, 6), which is reserved"),
        ("reserved=['gone']", "The field gone = 4 uses 'gone', which is reserved"),
        ("reserved=[0]", "0 cannot be reserved."),
        ("reserved=[range(5, 5)]", "range(5, 5) cannot be reserved."),
        ("reserved=[range(1, 9, 2)]", "range(1, 9, 2) cannot be reserved."),
    ],
)
def test_what_is_reserved_is_not_used(keywords: str, says: str) -> None:
    with pytest.raises(ContractError) as raised:
        declare("gone: int = field(4)", f", {keywords}")
    assert says in str(raised.value)


def test_messages_do_not_inherit() -> None:
    with pytest.raises(ContractError, match="derives from Message alone"):

        class Child(Leaf):
            more: int = field(2)

    with pytest.raises(ContractError, match="derives from Message alone"):

        class Mixed(Message, Generic[T]):
            more: int = field(2)


def test_a_message_is_a_message() -> None:
    leaf = Leaf(name="oak")
    assert isinstance(leaf, Message)
    assert issubclass(Leaf, Message)
    assert not isinstance("oak", Message)
    assert not issubclass(str, Message)


def test_a_message_is_frozen_and_compares_by_its_fields() -> None:
    leaf = Leaf(name="oak")
    with pytest.raises(AttributeError):
        leaf.name = "elm"  # type: ignore[misc]
    assert leaf == Leaf(name="oak") != Leaf(name="elm")
    assert hash(leaf) == hash(Leaf(name="oak"))
    assert replace(leaf, name="elm") == Leaf(name="elm")
    with pytest.raises(TypeError):
        Leaf()
    with pytest.raises(TypeError):
        Leaf("oak")  # type: ignore[misc]


def test_a_message_can_have_methods_class_variables_and_checks() -> None:
    class Range(Message):
        largest: ClassVar[int] = 100
        low: int = field(1)
        high: int = field(2)

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError("low is above high")

        @property
        def size(self) -> int:
            return min(self.high - self.low, self.largest)

    assert list(fields_of(Range)) == ["low", "high"]
    assert Range(low=1, high=500).size == 100


def test_a_message_can_contain_itself_and_what_comes_later() -> None:
    tree = Tree(kids=[Tree(later=Later(tree=Tree()))])
    assert from_json(Tree, to_json(tree)) == tree
    assert reach(Tree) == (Tree, Later)


def test_messages_can_be_declared_in_functions() -> None:
    class Inner(Message):
        number: UInt64 = field(1)

    class Outer(Message):
        inner: Inner = field(1)
        many: dict[Int32, Inner] = field(2)

    fields = fields_of(Outer)
    assert fields["inner"].kind.python is Inner
    assert fields["many"].type.shape is Shape.MAP


def test_a_field_may_be_called_like_its_type() -> None:
    names: dict[str, Any] = {"Message": Message, "field": field, "leaf": Leaf, "__name__": "words"}
    source = "from __future__ import annotations\nclass Tree(Message):\n  leaf: leaf = field(1)"
    exec(compile(source, "<words>", "exec", dont_inherit=True), names)  # noqa: S102
    assert fields_of(names["Tree"])["leaf"].kind.python is Leaf


def test_a_nested_message_can_be_named_by_its_full_name() -> None:
    names: dict[str, Any] = {"Message": Message, "field": field, "Tree": Leaf, "__name__": "words"}
    source = """from __future__ import annotations
class Tree(Message):
    class Branch(Message):
        branches: list[Tree.Branch] = field(1)
    branch: Tree.Branch = field(1)
"""
    exec(compile(source, "<words>", "exec", dont_inherit=True), names)  # noqa: S102
    tree = names["Tree"]
    assert fields_of(tree)["branch"].kind.python is tree.Branch
    assert fields_of(tree.Branch)["branches"].kind.python is tree.Branch


def test_names_on_the_wire() -> None:
    class Outer(Message, package="shop.v1"):
        class Inner(Message):
            class Deep(Enum):
                ZERO = 0

            deep: Outer.Inner.Deep = field(1)

        inner: Inner = field(1)

    assert full_name(Leaf) == f"{__name__}.Leaf"
    assert full_name(Outer) == "shop.v1.Outer"
    assert full_name(Outer.Inner) == "shop.v1.Outer.Inner"
    assert full_name(Outer.Inner.Deep) == "shop.v1.Outer.Inner.Deep"
    assert declaration_of(Outer.Inner).package == "shop.v1"


def test_two_classes_of_one_name_are_refused_where_they_meet() -> None:
    class Twin(Message, package="shop.v1"):
        a: int = field(1)

    first = Twin

    class Twin(Message, package="shop.v1"):  # type: ignore[no-redef]
        a: int = field(1)

    class Both(Message):
        one: first = field(1)  # type: ignore[valid-type]
        two: Twin = field(2)

    with pytest.raises(ContractError, match=r"Two classes are called shop\.v1\.Twin"):
        reach(Both)


def test_two_enumerations_with_one_member_are_refused_where_they_meet() -> None:
    class State(Enum, package="shop.v1"):
        NONE = 0

    class Mood(Enum, package="shop.v1"):
        NONE = 0

    class Both(Message):
        state: State = field(1)
        mood: Mood = field(2)

    with pytest.raises(ContractError, match=r"both have a member NONE.*Say prefix=.\w+_"):
        reach(Both)

    class Person(Message, package="shop.v1"):
        class Mood(Enum):
            NONE = 0

        mood: Mood = field(1)

    class Apart(Message):
        state: State = field(1)
        person: Person = field(2)

    assert reach(Apart) == (Apart, State, Person, Person.Mood)


def test_defaults() -> None:
    class Given(Message):
        when: datetime = field(1, default=datetime(2026, 1, 1, tzinfo=UTC))
        names: list[str] = field(2, default_factory=lambda: ["a"])
        note: str | None = field(3)
        count: int = field(4, default=3)

    made = Given()
    assert made == Given(when=made.when, names=["a"], note=None, count=3)
    assert from_json(Given, b"{}") == made
    assert from_json(Given, b'{"count":null}') == made
    assert Given().names is not made.names


_ = Annotated, msgspec


def test_what_a_value_means_goes_into_the_exported_contract() -> None:
    from switchgear.contract.export import proto_files

    class Price(Message, package="shop.v1"):
        amount: int = field(1, unit="cents", scale=2, currency="EUR", semantics="gross", doc="A.")

    text = proto_files(Price)["shop/v1.proto"]
    assert "  // A. Unit: cents. Scale: 2. Currency: EUR. Semantics: gross.\n" in text
