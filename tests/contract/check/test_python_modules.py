"""Contracts in Python are compared as .proto files are, and told at their own lines."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import pytest

CONTRACTS = '''
from typing import Protocol
from switchgear import Enum, Message, Refusal, command, event, field, query, service
from switchgear.model.outcome import Status

class Sold(Refusal, package="shop.v1"):
    sku: str = field(1)

class Line(Message, package="shop.v1"):
    """One line."""
    sku: str = field(1)
    price: int = field(2, unit="cents")

class Order(Message, package="shop.v1"):
    id: str = field(1)
    lines: list[Line] = field(2, default_factory=list)

class State(Enum, package="shop.v1"):
    """How far an order is."""
    UNKNOWN = 0
    PAID = 1

@event("shop.orders", key="id")
class Placed(Message, package="shop.v1"):
    id: str = field(1)

@service("shop.v1")
class Orders(Protocol):
    @query("GET /v1/orders/{id}")
    async def show(self, request: Placed) -> Order: ...
    @command("POST /v1/orders", keyed=True, refuses=[Sold])
    async def place(self, request: Order) -> Placed: ...
'''


@pytest.fixture
def compare(write, run, tmp_path):
    """Return a function that changes the module and compares it with what it was."""
    write("old", **{"contracts.py": CONTRACTS})

    def compare(*changes: tuple[str, str], new: str = "new/contracts.py", against=None):
        text = CONTRACTS
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        write("new", **{"contracts.py": text})
        _, findings, err = run(new, "--against", against or "old/contracts.py")
        assert err == ""
        return [(one["rule"], one["subject"].removeprefix("shop.v1."), one) for one in findings]

    return compare


def test_a_module_that_did_not_change(compare):
    assert compare() == []


def test_a_finding_is_told_at_the_line_in_python(compare):
    found = compare(("price: int = field(2", "discount: int = field(2"))
    renamed = next(one for rule, _, one in found if rule == "FIELD_RENAMED")
    assert (renamed["path"], renamed["line"], renamed["column"]) == ("new/contracts.py", 12, 5)
    assert renamed["witness"] == "price=500 is 10 f4 03 and now reads discount=500"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (('unit="cents"', 'unit="euros"'), ("UNIT_CHANGED", "Line.price")),
        (('key="id"', "unordered=True"), ("EVENT_KEY_CHANGED", "Placed")),
        (('"shop.orders"', '"shop.sales"'), ("EVENT_TOPIC_CHANGED", "Placed")),
        (('"POST /v1/orders"', '"POST /v2/orders"'), ("ROUTE_CHANGED", "Orders.Place")),
        (("keyed=True, ", ""), ("PATTERN_CHANGED", "Orders.Place")),
        ((", refuses=[Sold]", ""), ("REFUSAL_CHANGED", "Orders.Place")),
        (
            ('Refusal, package="shop.v1"', 'Refusal, package="shop.v1", status=Status.ABORTED'),
            ("REFUSAL_STATUS_CHANGED", "Sold"),
        ),
        (
            ("field(1)\n    lines", "field(1)\n    vip: bool = field(3)\n    lines"),
            ("REQUIRED_ADDED", "Order.vip"),
        ),
        ((", default_factory=list", ""), ("OPTIONAL_TO_REQUIRED", "Order.lines")),
        (
            ("sku: str = field(1)\n    price", "sku: str | None = field(1)\n    price"),
            ("PRESENCE_CHANGED", "Line.sku"),
        ),
    ],
)
def test_what_only_the_declaration_in_python_says(compare, change, expected):
    assert expected in [(rule, subject) for rule, subject, _ in compare(change)]


def test_safe_changes(compare):
    assert (
        compare(
            ("= field(2, unit", "= field(2, deprecated=True, unit"),
            ('"One line."""', '"One line."""\n    net: int = field(3, default=0)'),
        )
        == []
    )
    assert (
        compare(
            ('    price: int = field(2, unit="cents")\n', ""),
            (
                'class Line(Message, package="shop.v1")',
                'class Line(Message, package="shop.v1", reserved=(2, "price"))',
            ),
        )
        == []
    )


def test_a_module_and_a_folder_of_proto_files_can_be_compared(compare, tmp_path, run):
    compare()
    switchgear = Path(sysconfig.get_path("scripts")) / "switchgear"
    subprocess.run(
        [switchgear, "contract", "export", "new/contracts.py", "--proto", "protos"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    assert run("protos", "--against", "old/contracts.py") == (0, [], "")
    # What is required the files do not say, so that cannot have changed; what is new still can.
    assert compare(against="protos") == []
    vip = ("field(1)\n    lines", "field(1)\n    vip: bool = field(3)\n    lines")
    assert [one[:2] for one in compare(vip, against="protos")] == [("REQUIRED_ADDED", "Order.vip")]


def test_a_dotted_name_is_compared_with_a_git_ref(compare, write, tmp_path, run):
    def git(*arguments):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    write("shop", **{"contracts.py": CONTRACTS})
    (tmp_path / "shop" / "__init__.py").touch()
    git("init")
    git("add", "shop")
    git("commit", "-m", "one")
    write("shop", **{"contracts.py": CONTRACTS.replace('unit="cents"', 'unit="euros"')})
    _, findings, err = run("shop.contracts", "--against", "git:HEAD")
    assert err == ""
    assert [(one["rule"], one["path"]) for one in findings] == [
        ("UNIT_CHANGED", "shop/contracts.py")
    ]


def test_a_module_of_another_place_is_not_taken_for_the_one_in_git(
    compare, write, tmp_path, run, monkeypatch
):
    def git(*arguments):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    # a folder without __init__.py, and a package of the same name elsewhere on the path
    write("market", **{"contracts.py": CONTRACTS})
    git("init")
    git("add", "market")
    git("commit", "-m", "one")
    write("elsewhere/market", **{"contracts.py": CONTRACTS})
    (tmp_path / "elsewhere" / "market" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    code, _, err = run("market.contracts", "--against", "git:HEAD")
    assert code == 2
    assert "and not as it was in git. Give its package an __init__.py" in " ".join(err.split())


@pytest.mark.parametrize(
    ("change", "rule", "edit"),
    [
        (
            ("PAID = 1", "SETTLED = 1"),
            "ENUM_VALUE_RENAMED",
            'or, if only code is to see the new name, `SETTLED = member(1, name="PAID")`.',
        ),
        (
            ("    PAID = 1", "    SENT = 1\n    PAID = 2"),
            "ENUM_VALUE_REPURPOSED",
            "Write `PAID = 1` and `SENT = 3`.",
        ),
        (
            ("    PAID = 1\n", ""),
            "ENUM_VALUE_NO_DELETE_UNLESS_NAME_RESERVED",
            'Add `reserved=("PAID",)`.',
        ),
        (
            ('"POST /v1/orders"', '"POST /v2/orders"'),
            "ROUTE_CHANGED",
            'Write `@command("POST /v1/orders", keyed=True, refuses=[Sold])` again, and the new',
        ),
        (
            ("keyed=True, ", ""),
            "PATTERN_CHANGED",
            'leave Place as `@command("POST /v1/orders", keyed=True, refuses=[Sold])`, add',
        ),
        (
            (
                "async def show(self, request: Placed) -> Order",
                "async def show(self, request: Placed) -> Placed",
            ),
            "RPC_SAME_RESPONSE_TYPE",
            "with `async def show(self, request: Placed) -> Order: ...`",
        ),
    ],
)
def test_edits_of_members_and_operations_are_python(compare, change, rule, edit):
    told = {name: one["edit"] for name, _, one in compare(change)}
    assert edit in told[rule]


def test_a_value_that_is_gone_comes_back_as_a_member(write, run):
    write("old", **{"contracts.py": CONTRACTS})
    write("new", **{"contracts.py": CONTRACTS.replace("    PAID = 1\n", "")})
    arguments = ("new/contracts.py", "--against", "old/contracts.py", "--rules", "file")
    told = {one["rule"]: one["edit"] for one in run(*arguments)[1]}
    assert told["ENUM_VALUE_NO_DELETE"] == "Put back `PAID = member(1, deprecated=True)`."


def test_a_file_inside_a_package_has_its_dotted_name(write, run, tmp_path):
    """As long as no package is written down, the module's name is the one of the contracts."""
    text = CONTRACTS.replace(', package="shop.v1"', "")
    write("src", **{"dyes__sub__contracts.py": text})
    for folder in ("dyes", "dyes/sub"):
        (tmp_path / "src" / folder / "__init__.py").touch()
    switchgear = Path(sysconfig.get_path("scripts")) / "switchgear"
    target = "src/dyes/sub/contracts.py"
    for given in (["export", target, "--proto", "protos"], ["publish", target]):
        subprocess.run([switchgear, "contract", *given], cwd=tmp_path, check=True)
    assert (tmp_path / "protos/dyes/sub/contracts.proto").exists()
    for old in ("protos", "contract-history.jsonl", "contract-history.jsonl:1.0.0"):
        assert run(target, "--against", old) == (0, [], "")
    assert [one.name.partition("-")[0] for one in (tmp_path / "dist").iterdir()] == [
        "dyes_sub_contracts"
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1\n", "declares no contracts"),
        ("import nowhere\n", "nowhere"),
        ("raise SystemExit('enough')\n", "enough"),
        ("class A(\n", "SyntaxError"),
        (
            "from switchgear import Message, field\nclass A(Message):\n  a: str = field(0)\n",
            "number 0",
        ),
    ],
)
def test_a_module_that_cannot_be_imported(write, run, text, told):
    write("old", **{"contracts.py": CONTRACTS})
    write("new", **{"contracts.py": text})
    code, _, err = run("new/contracts.py", "--against", "old/contracts.py")
    assert code == 2
    assert told in err
    assert "Traceback" not in err


BEFORE = """
from switchgear import Message, field
class Line(Message, package="shop.v1"):
    sku: str = field(1, doc="Its number.")
class Renamed(Message, package="shop.v1"):
    cost: int = field(2, unit="cents")
class Retyped(Message, package="shop.v1"):
    amount: int = field(2)
class Repurposed(Message, package="shop.v1"):
    price: int = field(2, unit="cents")
class Unit(Message, package="shop.v1"):
    total: int = field(2, unit="cents")
class Unsaid(Message, package="shop.v1"):
    price: int = field(2, scale=2)
class Gone(Message, package="shop.v1"):
    lines: list[Line] = field(2, default_factory=list)
class Kept(Message, package="shop.v1", reserved=(range(4, 7), 9, "old")):
    sku: str = field(1)
class Present(Message, package="shop.v1"):
    sku: str = field(2)
"""
CHANGES = [
    ("cost: int", "unit_cost: int"),
    ("amount: int = field(2)", "amount: str = field(2, deprecated=True)"),
    ('price: int = field(2, unit="cents")', 'euros: int = field(2, unit="euros")'),
    ('total: int = field(2, unit="cents")', 'total: int = field(2, unit="euros")'),
    (", scale=2", ""),
    ("lines: list[Line] = field(2, default_factory=list)", "other: int = field(1, default=0)"),
    (', reserved=(range(4, 7), 9, "old")', ""),
    ("sku: str = field(2)", "sku: str | None = field(2)"),
]
EDITS = {
    ("FIELD_RENAMED", "Renamed.cost"): (
        'Write `cost: int = field(2, unit="cents")` again; or, if only code is to see the new '
        'name, `unit_cost: int = field(2, unit="cents", name="cost")`.'
    ),
    ("FIELD_SAME_TYPE", "Retyped.amount"): (
        "Put back `amount: int = field(2, deprecated=True)`, add `amount_3: str | None = field(3)`"
        ", and move callers over before you delete the old one."
    ),
    ("FIELD_REPURPOSED", "Repurposed.price"): (
        'Put back `price: int = field(2, unit="cents", deprecated=True)` and write '
        '`euros: int | None = field(3, unit="euros")`.'
    ),
    ("UNIT_CHANGED", "Unit.total"): (
        'Keep `unit="cents"`, mark the field as deprecated, and add '
        '`total_euros: int | None = field(3, unit="euros")` with `unit="euros"`.'
    ),
    ("SCALE_CHANGED", "Unsaid.price"): "Write `scale=2` again.",
    ("FIELD_NO_DELETE", "Gone.lines"): (
        "Put back `lines: list[Line] = field(2, default_factory=list, deprecated=True)`."
    ),
    ("FIELD_NO_DELETE_UNLESS_NUMBER_RESERVED", "Gone.lines"): "Add `reserved=(2,)`.",
    ("FIELD_NO_DELETE_UNLESS_NAME_RESERVED", "Gone.lines"): 'Add `reserved=("lines",)`.',
    ("RESERVATION_DROPPED", "Kept"): 'Add `reserved=(range(4, 7), 9)` and `reserved=("old",)`.',
    ("PRESENCE_CHANGED", "Present.sku"): "Take `| None` out again.",
}


def test_the_edit_of_a_module_is_python(write, run, tmp_path):
    after = BEFORE
    for old, new in CHANGES:
        assert old in after
        after = after.replace(old, new, 1)
    write("old", **{"contracts.py": BEFORE})
    write("new", **{"contracts.py": after})
    switchgear = Path(sysconfig.get_path("scripts")) / "switchgear"
    exported = [switchgear, "contract", "export", "old/contracts.py", "--proto", "protos"]
    subprocess.run(exported, cwd=tmp_path, check=True, capture_output=True)
    words = "file,package,wire_json,wire,switchgear"
    for against in ("old/contracts.py", "protos"):
        _, findings, err = run("new/contracts.py", "--against", against, "--rules", words)
        assert err == ""
        edits = {
            (one["rule"], one["subject"].removeprefix("shop.v1.")): one["edit"] for one in findings
        }
        assert {key: edits.get(key) for key in EDITS} == EDITS
    # the other way round: what is told of a folder of files is protobuf
    write("new", **{"contracts.py": BEFORE})
    _, findings, _ = run("protos", "--against", "new/contracts.py")
    assert findings == []


def test_a_word_of_python_is_no_name_of_a_field(write, run):
    head = "from switchgear import Message, field\nclass A(Message, package='a.v1'):\n"
    write("old", a='syntax = "proto3";\npackage a.v1;\nmessage A { int32 class = 1; }\n')
    write("new", **{"contracts.py": f"{head}    grade: int = field(1)\n"})
    _, findings, _ = run("new/contracts.py", "--against", "old")
    assert any('`class_: Int32 = field(1, name="class"' in one["edit"] for one in findings)


EXTENDED = """from __future__ import annotations

from switchgear import Int32, Message, ProtoFile, field

FILE = ProtoFile("acme/c.proto", "acme.c", syntax="proto2")


class Order(Message, package=FILE, extensions=(range(100, 200),)):
    class Inside(Message, package=FILE, extends="Order"):
        inner: int | None = field(110, default=None)


class More(Message, package=FILE, extends=Order):
    seller: str | None = field(101, default=None)
"""


def test_extensions_are_compared_where_they_stand_in_python(write, run):
    write("old", **{"c.py": EXTENDED})
    write(
        "new", **{"c.py": EXTENDED.replace("seller", "vendor").replace("inner: int", "inner: str")}
    )
    _, findings, _ = run("new/c.py", "--against", "old/c.py")
    assert {(one["rule"], one["line"]) for one in findings} == {
        ("FIELD_SAME_NAME", 14),
        ("FIELD_WIRE_JSON_COMPATIBLE_TYPE", 10),
    }
    edits = {one["line"]: one["edit"] for one in findings}
    assert "`seller: str | None = field(101, default=None)`" in edits[14]
    assert "`inner: int | None = field(110, default=None)`" in edits[10]
