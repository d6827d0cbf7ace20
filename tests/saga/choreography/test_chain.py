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
    OnFailure,
    SubscriptionDeclared,
    UndoneDeclared,
    read,
    write,
)
from switchgear.saga.choreography.draw import drawn, follows
from switchgear.saga.choreography.explain import Turning, explain, explain_all
from switchgear.saga.choreography.findings import Finding, findings
from switchgear.saga.choreography.reach import MOST, cycles, reach, routes
from switchgear.saga.picture import Arrow, Box, Picture
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
        ('{"format": "switchgear.declarations/1", "service": ""}', "'' is no name: it is empty"),
        (
            '{"format": "switchgear.declarations/1", "service": "a\\u001b[2Jb"}',
            r"'a\\x1b\[2Jb' is no name",
        ),
        (
            '{"format": "switchgear.declarations/1", "service": "\\udcff"}',
            "no file of declarations",
        ),
        ('{"format": "\udcff"}', "no file of declarations: 'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_a_file_that_is_none(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(text, errors="surrogateescape")
    with pytest.raises(UsageError, match=says):
        read(tmp_path / "one.json")


def test_a_file_that_is_hostile(tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    file.write_text('{"format": "", "x": ' + "[" * 200_000)
    with pytest.raises(UsageError, match="no file of declarations"):
        read(file)
    plain = service("a", handler("x")).as_dict()
    plain["subscriptions"][0]["on_failure"] = "c"
    file.write_text(json.dumps(plain))
    with pytest.raises(UsageError, match=r"Invalid enum value 'c' - at `\$.subsc.*on_failure`"):
        read(file)


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
    assert findings(chain)[0].what == "b has x on t by no key, a on t by id"


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
    assert chain.winding == {"x", "y"}
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
    found = routes(chain, "e0", last)
    assert (len(found.ways), found.more) == (MOST, True)
    told = explain(chain, "e0", last)
    assert [one.more for one in told] == [False] * (MOST - 1) + [True]
    assert (
        told[-1]
        .text()
        .endswith("More ways lead to end.on_e12 than are told here, which are the shortest.")
    )
    # a way that is not among the shortest is found all the same
    rare = chain.step("s62.on_e6", chain.steps)
    ways = routes(chain, "e0", last, [rare]).ways
    assert len(ways) == MOST
    assert all(rare in way for way in ways)
    with pytest.raises(UsageError, match="none of the 2,000 shortest ways from e0 leads to end"):
        explain(
            chain, "e0", last, after=[chain.step(f"s{i}2.on_e{i}", chain.steps) for i in range(12)]
        )


def test_a_way_that_leads_back_is_no_way_on() -> None:
    """Of a grid that only leads back, none of its very many ways is tried."""
    grid = [
        service(f"g{i}{j}", handler(f"g{i}", f"g{i + 1}" if i < 29 else "x"))
        for i in range(30)
        for j in range(3)
    ]
    chain = merged([service("a", handler("x", "end", "g0")), service("b", handler("end")), *grid])
    first, last = chain.step("a.on_x", chain.steps), chain.step("b.on_end", chain.steps)
    assert routes(chain, "x", last) == ([(first,)], False)


def test_a_round_on_the_way() -> None:
    """A handler is passed once on a way, and what is only reached by passing it again is not."""
    chain = merged(
        [
            service(
                "s", handler("x", "a"), handler("a", "b", "c"), handler("b", "a"), publishes=("x",)
            ),
            service("end", handler("c")),
        ]
    )
    x, a, b = (chain.step(f"s.on_{one}", chain.steps) for one in "xab")
    assert chain.winding == {"a", "b"}
    assert routes(chain, "x", chain.step("end.on_c", chain.steps)).ways == [(x, a)]
    assert routes(chain, "x", b).ways == [(x, a)]
    assert routes(chain, "b", a).ways == [(b,)]


def test_a_diamond_is_drawn_in_one_direction() -> None:
    """A handler is placed after the longest way to it."""
    chain = merged(
        [
            service(
                "s", handler("a", "b", "d"), handler("b", "c"), handler("c", "d"), handler("d")
            ),
        ]
    )
    boxes = [box.name for box in drawn(chain, "a").boxes.values()]
    assert boxes == ["a", "s.on_a", "s.on_b", "s.on_c", "s.on_d"]
    assert list(reach(chain, ["a"]).values()) == [1, 2, 2, 3]


def test_a_chain_longer_than_the_stack() -> None:
    chain = merged([service("s", *(handler(f"e{i}", f"e{i + 1}") for i in range(1_500)))])
    assert follows(chain, "e0").count("\n") == 3_000


def test_names_are_told_apart() -> None:
    """One function for two events of one class name, and in two subscriptions of one event."""
    one, other = handler("a.Placed", name="do"), handler("b.Placed", name="do")
    again = SubscriptionDeclared("again", "skip", 1, 0.1, 16, (one,))
    s = service("s", one, other)
    chain = merged([Declared(service="s", subscriptions=(*s.subscriptions, again))])
    names = [step.name for step in chain.steps]
    assert names == ["s.do on a.Placed (do)", "s.do on b.Placed", "s.do on a.Placed (again)"]
    for name in names:
        assert chain.step(name, chain.steps).name == name
    with pytest.raises(UsageError, match="several handlers are called s.do"):
        chain.step("s.do", chain.steps)
    with pytest.raises(UsageError, match="several events are called Placed. Say which: a.Pl"):
        chain.event("Placed")


def test_what_runs_beside_it_is_turned_round_too() -> None:
    """Two handlers of one event: the one says no, and what the other did is taken back."""
    undone = UndoneDeclared("x", "reserve")
    release = handler("no", name="release", undoes=(undone,), unordered=True)
    stock = service("stock", handler("x", name="reserve"), release)
    chain = merged(
        [stock, service("pay", handler("x", "yes", "no", name="charge"), publishes=("x",))]
    )
    charge = chain.step("pay.charge", chain.steps)
    assert Turning(chain, "x")(charge) == ("no",)
    (told,) = (one for one in explain_all(chain, "x") if one.how == "no")
    assert [(one.undone, one.undo, one.certain) for one in told.undone] == [
        ("stock.reserve", "stock.release", True)
    ]
    assert told.beside == ("stock.reserve", "stock.release")


def test_nothing_is_undone() -> None:
    """A refusal that nobody acts on."""
    first = handler("x", "y", name="first")
    chain = merged([service("s", first, handler("y", "ok", "no", name="do"), publishes=("x",))])
    (told,) = explain(chain, "x", chain.step("s.do", chain.steps), "no")
    assert (told.ends, told.undone) == ("stays", ())
    assert "Nobody undoes: s (x), s.first." in told.text()


def test_an_undo_of_one_topic_and_key() -> None:
    """In one queue the log keeps the order, unless an event that fails is passed by."""
    events = (EventDeclared("x", "t", "id"), EventDeclared("z", "t", "id"))
    do = handler("x", name="do")
    undo = handler("z", name="undo", undoes=(UndoneDeclared("x", "do"),))

    def of(on_failure: OnFailure, *groups: tuple[HandlerDeclared, ...]) -> list[Finding]:
        subscriptions = tuple(
            SubscriptionDeclared(f"g{number}", on_failure, 8, 0.1, 16, handlers)
            for number, handlers in enumerate(groups)
        )
        one = Declared("s", events=events, publishes=("x", "z"), subscriptions=subscriptions)
        return findings(merged([one]))

    assert of("park_key", (do, undo)) == []
    (apart,) = of("park_key", (do,), (undo,))
    assert apart.what.endswith("z can come without s.do")
    (passed,) = of("skip", (do, undo))
    assert passed.what.endswith("skip parks the event of s.do alone, and z goes on")
    # it follows: apart or passed by, it cannot come first
    follows_from = handler("x", "z", name="do")
    for groups in (((follows_from,), (undo,)), ((follows_from, undo),)):
        subscriptions = tuple(
            SubscriptionDeclared(f"g{number}", "skip", 8, 0.1, 16, handlers)
            for number, handlers in enumerate(groups)
        )
        one = Declared("s", events=events, publishes=("x",), subscriptions=subscriptions)
        assert findings(merged([one])) == []


def test_an_event_that_was_never_published_is_not_undone() -> None:
    undo = handler("x", name="undo", undoes=(UndoneDeclared("y"),))
    chain = merged([service("s", undo), service("o", publishes=("x", "y"))])
    assert ("undoes-nothing", "s.undo") in found(chain)
    silent = merged([service("s", undo, publishes=None), service("o", publishes=("x", "y"))])
    assert ("undoes-nothing", "s.undo") not in found(silent)
    assert "undoes s (y)" in follows(silent, "x")


def test_many_services_are_read_at_once() -> None:
    """Findings are looked for along the ways to each undo, and not from everywhere to all."""
    services = []
    for i in range(300):
        undone = UndoneDeclared(f"e{i}", "do")
        back = (f"no{i - 1}",) if i % 6 else ()
        do = handler(f"e{i}", *((f"e{i + 1}",) if i % 6 < 5 else ()), f"no{i}", name="do")
        undo = handler(f"no{i}", *back, name="undo", undoes=(undone,))
        services.append(service(f"s{i}", do, undo, publishes=() if i % 6 else (f"e{i}",)))
    chain = merged(services)
    asked: list[str] = []
    for name in ("on", "origins", "emitting"):
        ask = getattr(chain, name)
        object.__setattr__(chain, name, lambda event, ask=ask: asked.append(event) or ask(event))
    assert findings(chain) == []
    assert len(asked) < 20_000  # some tens for each handler


def test_names_are_no_code_in_a_picture() -> None:
    """Whatever they hold: Mermaid decodes #35;, begins Markdown at `, and ends at a quote."""
    name = 'a#35;`b`"]\n  click s0 href "https://example.com"\x00<i>'
    picture = Picture(name, {"": Box(name, note=name)}, [Arrow("", "", name)])
    lines = picture.mermaid().splitlines()
    assert len(lines) == 4
    label = (
        "a#35;35;#96;b#96;#quot;]\ufffd  click s0 href #quot;https://example.com#quot;"
        "\ufffd&lt;i&gt;"
    )
    assert lines[1] == f'  s0["{label}<br/>{label}"]:::plain'
    assert lines[2] == f'  s0 -->|"{label}"| s0'
    root = ET.fromstring(picture.svg())  # noqa: S314  our own text
    shown = name.replace("\n", "\ufffd").replace("\x00", "\ufffd")
    assert root.attrib["aria-label"] == shown
    assert [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")][:3] == [shown] * 3
