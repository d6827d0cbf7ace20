"""Declarations read together: files, merging, what does not add up, ways and pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from switchgear.errors import UsageError
from switchgear.saga.choreography.chain import Chain, merged
from switchgear.saga.choreography.declared import (
    Declared,
    EventDeclared,
    HandlerDeclared,
    SubscriptionDeclared,
    UndoneDeclared,
    read,
    write,
)
from switchgear.saga.choreography.draw import drawn, follows
from switchgear.saga.choreography.explain import Turning, explain, explain_all
from switchgear.saga.choreography.findings import findings
from switchgear.saga.choreography.reach import MOST, cycles, reach, routes
from tests.saga.choreography.shop import Shop


def handler(event: str, *emits: str, name: str = "", **more: Any) -> HandlerDeclared:
    return HandlerDeclared(name or f"on_{event}", event, emits, **more)


def service(name: str, *handlers: HandlerDeclared, **more: Any) -> Declared:
    """A service in which each handler has a subscription of its own."""
    subscriptions = tuple(
        SubscriptionDeclared(one.handler, "park_key", 8, 0.1, 16, (one,)) for one in handlers
    )
    return Declared(service=name, subscriptions=subscriptions, **{"publishes": (), **more})


def found(chain: Chain) -> list[tuple[str, str]]:
    return [(one.kind, one.about) for one in findings(chain)]


def test_a_file_is_read_back(tmp_path: Path) -> None:
    for one in Shop().chain.services:
        file = tmp_path / "one.json"
        file.write_bytes(write(one))
        assert read(file) == one
    (later := json.loads(file.read_text()))["colour"] = "red"
    file.write_text(json.dumps(later))
    assert read(file) == one  # what is not known is passed over


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"format": "switchgear.declarations/2", "service": "a"}', "its form is switchgear.decl"),
        ("{}", "its form is not given"),
        ("[", "no file of declarations"),
        ('{"format": "switchgear.declarations/1"}', "required field `service`"),
    ],
)
def test_a_file_that_is_none(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(text)
    with pytest.raises(UsageError, match=says):
        read(tmp_path / "one.json")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read(tmp_path / "one.json")


def test_one_service_twice() -> None:
    one = service("a", handler("x"))
    assert merged([one, one]).services == (one,)
    with pytest.raises(UsageError, match="a is declared twice, in two different ways"):
        merged([one, service("a")])


def test_nothing_is_wrong_with_the_shop() -> None:
    assert found(Shop().chain) == []


def test_what_is_not_declared() -> None:
    chain = merged(
        [
            service("a", HandlerDeclared("h", "x"), publishes=("y",)),
            service("b", publishes=None),
        ]
    )
    assert found(chain) == [
        ("undeclared", "a.h"),
        ("undeclared", "b"),
        ("unheard", "y"),
        ("unknown-event", "a.h"),
    ]
    (unknown,) = (one for one in findings(chain) if one.kind == "unknown-event")
    assert "unless one that does not say does: b, a.h" in unknown.what
    assert "does not say what it emits" in follows(chain, "x")


def test_what_was_refused_is_not_undone() -> None:
    """`do` says no: what was done before it is taken back, and nothing of its own is there."""
    take = handler("no", name="take", undoes=(UndoneDeclared("x", "first"),))
    clear = handler("no", name="clear", undoes=(UndoneDeclared("y", "do"),))
    do = handler("y", "ok", "no", name="do")
    chain = merged([service("s", handler("x", "y", name="first"), do, take, clear)])
    (told,) = explain(chain, "x", chain.step("s.do", chain.steps), "no")
    assert [each.undone for each in told.undone] == ["s.first"]
    (told,) = explain(chain, "x", chain.step("s.take", chain.steps))
    assert told.beside == ("s.clear",)
    assert told.undone == ()
    assert [each.name for each in told.stays] == ["s.first"]


def test_what_is_not_declared_is_not_made_up() -> None:
    silent = HandlerDeclared("h", "x")
    chain = merged([service("a", silent, publishes=("x",)), service("b", handler("x"))])
    told = explain(chain, "x", chain.step("b.on_x", chain.steps))[0]
    assert told.unsaid == ("a.h",)
    assert "What follows from a.h is not declared." in told.text()
    assert explain(chain, "x", chain.step("a.h", chain.steps))[0].unsaid == ()


def test_one_event_described_in_two_ways() -> None:
    chain = merged(
        [
            service("a", handler("x"), events=(EventDeclared("x", "t", "id"),), publishes=("x",)),
            service("b", events=(EventDeclared("x", "t"),)),
        ]
    )
    assert found(chain) == [("mismatch", "x")]
    assert "b has x on t by no key, another service on t by id" in findings(chain)[0].what


def undoing(do: HandlerDeclared, undo: HandlerDeclared, *others: HandlerDeclared) -> Chain:
    return merged([service("s", do, undo), service("o", *others, publishes=("x",))])


def test_an_undo_that_may_come_first() -> None:
    undone = UndoneDeclared("x", "do")
    do, undo = handler("x", "y", name="do"), handler("z", name="undo", undoes=(undone,))
    in_chain = undoing(do, undo, handler("y", "z"))
    assert found(in_chain) == []
    beside = undoing(do, undo, handler("y"), handler("x", "z", name="other"))
    assert found(beside) == [("may-arrive-first", "s.undo")]
    assert "z can come without s.do" in findings(beside)[0].what
    copes = handler("z", name="undo", undoes=(undone,), unordered=True)
    assert found(undoing(do, copes, handler("y"), handler("x", "z", name="other"))) == []


def test_an_undo_of_what_there_is_not() -> None:
    undo = handler("x", name="undo", undoes=(UndoneDeclared("x", "gone"),))
    assert found(merged([service("s", undo, publishes=("x",))])) == [("undoes-nothing", "s.undo")]


def test_events_that_lead_back() -> None:
    chain = merged(
        [service("a", handler("x", "y"), publishes=("x",)), service("b", handler("y", "x", "z"))]
    )
    assert cycles(chain) == [("x", "y")]
    assert ("cycle", "x") in found(chain)
    assert list(reach(chain, ["x"])) == list(chain.steps)
    assert "x, published by a (as above)" in follows(chain, "x")
    assert len(explain_all(chain, "x")) == 2
    ET.fromstring(drawn(chain, "x").svg())  # noqa: S314  our own text


def test_very_many_ways() -> None:
    """A grid of handlers has more ways than anybody reads: they are bounded."""
    layers = [
        service(f"s{i}{j}", handler(f"e{i}", f"e{i + 1}")) for i in range(12) for j in range(3)
    ]
    chain = merged([*layers, service("end", handler("e12"))])
    last = chain.step("end.on_e12", chain.steps)
    assert len(routes(chain, "e0", last)) == MOST


def test_which_way() -> None:
    chain = Shop().chain
    event = "shop.orders.OrderPlaced"
    cancel = chain.step("orders.cancel", chain.steps)
    assert len(explain(chain, event, cancel)) == 2
    ship = chain.step("shipping.ship", chain.steps)
    (told,) = explain(chain, event, cancel, after=[ship])
    assert told.text().startswith("OrderPlaced: orders.cancel keeps failing, after shipping.ship ")
    turning = Turning(chain, event)
    assert turning(ship) == ("shop.shipping.Undeliverable",)
    assert turning(cancel) == ()
    with pytest.raises(UsageError, match="OrderPlaced does not lead to orders.cancel by orders.cl"):
        explain(chain, event, cancel, after=[chain.step("orders.close", chain.steps)])
    with pytest.raises(UsageError, match="does not say that it publishes x"):
        explain(chain, event, ship, "x")


def test_drawn() -> None:
    chain = Shop().chain
    event = "shop.orders.OrderPlaced"
    for told in (None, *explain_all(chain, event)):
        picture = drawn(chain, event, told)
        root = ET.fromstring(picture.svg())  # noqa: S314  our own text
        boxes = root.findall("{http://www.w3.org/2000/svg}rect")[1:]
        assert len(boxes) == 1 + len(chain.steps)
        lines = picture.mermaid().splitlines()
        assert lines[0] == "flowchart LR"
        assert sum("-->" in line for line in lines) == len(picture.arrows) == 11
        if told:
            assert sum(box.name == told.fails for box in picture.boxes.values()) == 1
            assert picture.boxes[next(k for k, b in picture.boxes.items() if b.name == told.fails)]
