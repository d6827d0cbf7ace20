"""What a handler of events declares: what it emits, what it undoes, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from switchgear import EventDeclarationError, Message, Service, Transaction, event, field
from switchgear.events.outbox import UndeclaredEvent
from switchgear.testing import testing


@event("sea.trips", key="ship")
class Sailed(Message):
    ship: str = field(1)


@event("sea.trips", key="ship", after=Sailed)
class Returned(Message):
    ship: str = field(1)


@event("sea.berths", key="ship")
class Berthed(Message):
    ship: str = field(1)


@event("sea.berths", key="berth")
class Cleared(Message):
    berth: str = field(1)


@event("sea.weather", unordered=True)
class Storm(Message):
    wind: int = field(1)


async def moor(event: Sailed, tx: Transaction) -> None: ...


async def unmoor(event: Message, tx: Transaction) -> None: ...


def on(app: Service, event: type[Message], function: Any, name: str = "moor", **more: Any) -> None:
    app.on(event, name=name, on_failure="park_key", **more)(function)


# --- what may be published --------------------------------------------------------------------


def harbour(**more: Any) -> Service:
    app = Service("harbour")

    @app.on(Sailed, name="moor", on_failure="park_key", attempts=1, **more)
    async def tell(event: Sailed, tx: Transaction) -> None:
        tx.publish(Berthed(ship=event.ship))

    return app


async def test_a_handler_publishes_what_it_declares() -> None:
    for more in ({"emits": [Berthed]}, {}):
        async with testing(harbour(**more)) as t:
            await t.deliver(Sailed(ship="Ulm"))
            assert t.published == [Berthed(ship="Ulm")]


async def test_what_a_handler_does_not_declare_is_refused_at_the_call() -> None:
    for emits, declared in (
        ([], "nothing"),
        ([Returned, Storm], "sea.trips.Returned, sea.weather"),
    ):
        async with testing(harbour(emits=emits)) as t:
            await t.deliver(Sailed(ship="Ulm"))
            (parked,) = await t.runtime.bus.parked.list()
            assert parked.error.startswith(
                "UndeclaredEvent: [SG620] harbour.moor on sea.trips.Sailed"
            )
            assert f"it says that it publishes {declared}" in parked.error.replace(
                "and says", "it says"
            )
            assert "Add Berthed to its emits=[...]" in parked.error
            assert t.published == []


async def test_a_transaction_of_its_own_is_no_way_round_it() -> None:
    app = Service("harbour")

    @app.on(Sailed, name="moor", on_failure="skip", attempts=1, emits=[])
    async def tell(event: Sailed) -> None:
        async with app.transaction() as tx:
            tx.publish(Berthed(ship=event.ship))

    async with testing(app) as t:
        await t.deliver(Sailed(ship="Ulm"))
        assert "SG620" in (await t.runtime.bus.parked.list())[0].error


async def test_a_service_says_what_it_publishes_outside_of_handlers() -> None:
    app = harbour(emits=[Berthed])
    app.publishes(Sailed)
    async with testing(app) as t:
        async with t.transaction() as tx:
            tx.publish(Sailed(ship="Ulm"))
            with pytest.raises(UndeclaredEvent, match=r"app\.publishes\(Berthed\)"):
                tx.publish(Berthed(ship="Ulm"))
        await t.settle()
        assert t.published == [Sailed(ship="Ulm"), Berthed(ship="Ulm")]
    silent = Service("silent")
    silent.publishes()
    async with testing(silent) as t, t.transaction() as tx:
        with pytest.raises(UndeclaredEvent, match="publishes nothing"):
            tx.publish(Storm(wind=12))


# --- pairs of events about one thing ----------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "how", "says"),
    [
        ("sea.log", {"key": "ship"}, "that one goes to sea.trips and this one to sea.log"),
        ("sea.trips", {"key": "berth"}, "that one is ordered by ship and this one by berth"),
        ("sea.trips", {"unordered": True}, "one of the two has no key"),
    ],
)
def test_events_about_one_thing_share_topic_and_key(topic: str, how: Any, says: str) -> None:
    with pytest.raises(EventDeclarationError, match=says) as refused:

        @event(topic, after=Sailed, **how)
        class Wrecked(Message):
            ship: str = field(1)
            berth: str = field(2)

    assert 'Give both one topic and one key: @event("sea.trips", key="ship")' in str(refused.value)


def test_an_undo_in_the_order_of_the_log() -> None:
    app = Service("harbour")
    on(app, Returned, unmoor, undoes=Sailed)
    on(app, Sailed, moor)
    assert app.describe()["subscriptions"][0]["handlers"][0]["undoes"] == [
        {"event": "sea.trips.Sailed", "handler": "moor"}
    ]


@pytest.mark.parametrize(
    ("event", "more", "says"),
    [
        (Returned, {"name": "leave"}, "they are handled under the names 'moor' and 'leave'"),
        (Berthed, {}, "sea.trips.Sailed goes to sea.trips, and sea.berths.Berthed to sea.berths"),
        (Storm, {}, "one of the two events has no key"),
    ],
)
@pytest.mark.parametrize("first", ["undo", "do"])
@pytest.mark.parametrize("undone", [moor, Sailed])
def test_an_undo_that_may_come_first_is_refused(
    event: type[Message], more: Any, says: str, first: str, undone: Any
) -> None:
    app = Service("harbour")

    def declare() -> None:
        if first == "undo" and undone is Sailed:
            on(app, event, unmoor, undoes=undone, **more)
            on(app, Sailed, moor)
        else:
            on(app, Sailed, moor)
            on(app, event, unmoor, undoes=undone, **more)

    with pytest.raises(EventDeclarationError, match=says) as refused:
        declare()
    assert "unmoor may run before moor, which it undoes" in str(refused.value)
    assert "moor does not say what it emits" in str(refused.value)
    assert "unordered=True" in str(refused.value)


def test_ordered_by_different_keys() -> None:
    app = Service("harbour")
    on(app, Berthed, moor, emits=[])
    with pytest.raises(EventDeclarationError, match="by ship, and sea.berths.Cleared by berth"):
        on(app, Cleared, unmoor, undoes=Berthed)


def test_the_ways_out() -> None:
    either = Service("harbour")
    on(either, Sailed, moor, emits=[])
    on(either, Storm, unmoor, undoes=moor, unordered=True)
    caused = Service("harbour")
    on(caused, Sailed, moor, emits=[Berthed])
    on(caused, Storm, unmoor, "leave", undoes=Berthed)  # the handler that emits it
    (leave, _) = caused.describe()["subscriptions"]
    assert leave["handlers"][0]["undoes"] == [{"event": "sea.trips.Sailed", "handler": "moor"}]


def test_what_a_service_did_as_it_published() -> None:
    app = Service("harbour")
    app.publishes(Sailed)
    on(app, Storm, unmoor, undoes=Sailed)
    handlers = app.describe()["subscriptions"][0]["handlers"]
    assert handlers[0]["undoes"] == [{"event": "sea.trips.Sailed"}]


# --- bad input --------------------------------------------------------------------------------


class Plain(Message):
    name: str = field(1)


BAD: list[tuple[Callable[[Service], None], str]] = [
    (lambda app: on(app, Storm, unmoor, undoes=moor), "undoes moor, which handles no event"),
    (lambda app: on(app, Storm, unmoor, undoes=Plain), "not declared as an event"),
    (lambda app: on(app, Storm, unmoor, emits=[Plain]), "not declared as an event"),
    (lambda app: app.publishes(Plain), "not declared as an event"),
    (lambda app: on(app, Storm, unmoor, runbook="none.md"), "its runbook none.md does not exist"),
    (lambda app: on(app, Storm, unmoor, inbox=False), "takes a transaction, and has no inbox"),
]


@pytest.mark.parametrize(("declare", "says"), BAD)
def test_bad_input(declare: Callable[[Service], None], says: str) -> None:
    app = Service("harbour")
    with pytest.raises(EventDeclarationError, match=says):
        declare(app)
    assert app.reactions == []


def test_a_service_describes_itself() -> None:
    app = harbour(emits=[Berthed], runbook="test_reactions.py")
    app.publishes(Sailed)
    told = app.describe()
    assert json.loads(json.dumps(told)) == told
    assert told == {
        "format": "switchgear.declarations/1",
        "service": "harbour",
        "events": [
            {"type": "sea.berths.Berthed", "topic": "sea.berths", "key": "ship"},
            {"type": "sea.trips.Sailed", "topic": "sea.trips", "key": "ship"},
        ],
        "publishes": ["sea.trips.Sailed"],
        "subscriptions": [
            {
                "name": "moor",
                "on_failure": "park_key",
                "attempts": 1,
                "backoff": 0.1,
                "concurrency": 16,
                "handlers": [
                    {
                        "handler": "tell",
                        "event": "sea.trips.Sailed",
                        "emits": ["sea.berths.Berthed"],
                        "runbook": "test_reactions.py",
                    }
                ],
            }
        ],
    }
