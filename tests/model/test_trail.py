"""The trail of a failure: bounded, readable by others, and never an error of its own."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from switchgear.model.trail import Hop, extended, read, told, write

LEAF = Hop("orders -> shop.inventory.v1.Inventory/stock", "unknown", "timeout", 3, 0.3)
EDGE = Hop("gateway -> shop.orders.v1.Orders/place", "unknown", "server-error", 1, 0.312)

# loading Unicode's tables takes its time on a busy machine
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

hops = st.builds(
    Hop,
    edge=st.text(min_size=1, max_size=300),
    outcome=st.sampled_from(["unavailable", "unknown"]),
    reason=st.sampled_from(["timeout", "breaker-open", "not-executed"]),
    attempts=st.integers(0, 10**9),
    seconds=st.floats(0, 1e9),
)


def test_what_is_written_is_read():
    text = write((LEAF, EDGE))
    assert text == (
        '"orders -> shop.inventory.v1.Inventory/stock";o=unknown;r=timeout;n=3;ms=300, '
        '"gateway -> shop.orders.v1.Orders/place";o=unknown;r=server-error;n=1;ms=312'
    )
    assert read(text) == (LEAF, EDGE)
    assert write(()) == ""
    assert read("") == read(None) == ()


def test_it_names_the_first_cause_and_what_followed():
    assert told((LEAF, EDGE)) == (
        "first cause: orders -> shop.inventory.v1.Inventory/stock: unknown (timeout) after 3 "
        "attempts, 300 ms; then gateway -> shop.orders.v1.Orders/place: unknown (server-error), "
        "312 ms"
    )
    assert told(()) == ""


@given(st.lists(hops, max_size=30))
@patient
def test_it_is_bounded_and_keeps_its_ends(trail):
    grown = ()
    for hop in trail:
        grown = extended(grown, hop)
    assert len(grown) <= 8
    assert (grown[:1], grown[-1:]) == (tuple(trail[:1]), tuple(trail[-1:]))
    text = write(grown)
    assert len(text) <= 1024
    assert text.isascii()
    assert "\n" not in text
    found = read(text)
    assert [hop.reason for hop in found[:1]] == [hop.reason for hop in trail[:1]]
    assert [hop.reason for hop in found[-1:]] == [hop.reason for hop in trail[-1:]]
    # what was read is written as it was
    assert write(found) == text


@given(st.text())
@patient
def test_what_a_stranger_sends_is_read_as_far_as_it_goes(text):
    assert len(read(text)) <= 8
    assert read(f"{text}, {write((EDGE,))}"[-2048:])[-1:] in ((EDGE,), ())


def test_what_would_move_a_terminals_cursor_is_not_read():
    assert read('"a\x1b[2Jb";o=unknown;r=timeout;n=1;ms=1') == ()
    assert read('"a\nb";o=unknown;r=timeout;n=1;ms=1') == ()


def test_one_that_is_too_long_is_cut():
    assert len(read(", ".join([write((LEAF,))] * 1000))) <= 8
    assert read('"x";o=unknown;r=timeout;n=1;ms=1 nonsense') == ()
    assert read('nonsense, "x";o=unknown;r=timeout;n=1;ms=1') == (
        Hop("x", "unknown", "timeout", 1, 0.001),
    )
