"""The roll of a group on NATS, without NATS: who is gone, who owns what, who may commit."""

from switchgear.events.brokers.nats_group import Entry, Roll, Watcher, planned, without
from switchgear.events.brokers.port import Partition

TOPICS = {"t": {0: "t.0", 1: "t.1", 2: "t.2", 3: "t.3"}}
MINE = {"u.0": ("x", 7)}
"""A lease on what the others here do not read."""


def entry(beat, lease=5.0):
    return Entry(["t"], lease, beat)


def beat(roll, watcher, me, count, now):
    watcher.look(roll, now)
    return planned(roll, watcher.members(roll), me, entry(count), TOPICS, now=now)


def test_a_member_is_gone_when_its_count_has_not_changed_for_a_lease_of_the_watchers_clock():
    watcher = Watcher()
    for now, count in ((1_000.0, 1), (1_004.0, 2), (1_008.0, 2)):
        watcher.look(Roll(members={"a": entry(count)}), now)
    (member,) = watcher.members(Roll(members={"a": entry(2)}))
    assert member.expires == 1_004.0 + 5.0, "from when the second beat was first seen"


def test_a_count_that_was_refused_never_makes_a_member_older():
    """It tried its third beat, was refused, and has not got through since: alive since it tried."""
    watcher = Watcher()
    watcher.look(Roll(members={"a": entry(2)}), 10.0)
    watcher.look(Roll(members={"a": entry(3)}), 11.0)
    watcher.look(Roll(members={"a": entry(2)}), 12.0)
    (member,) = watcher.members(Roll(members={"a": entry(2)}))
    assert member.expires == 12.0 + 5.0


def test_who_was_away_and_comes_back_is_seen_anew():
    watcher = Watcher()
    watcher.look(Roll(members={"a": entry(4)}), 10.0)
    watcher.look(Roll(), 20.0)
    watcher.look(Roll(members={"a": entry(4)}), 30.0)
    assert watcher.members(Roll(members={"a": entry(4)}))[0].expires == 35.0


def test_the_first_member_claims_all_and_leaves_others_topics_alone():
    roll, found = beat(Roll(leases=MINE), Watcher(), "a", 1, 10.0)
    assert roll.leases == MINE | {f"t.{number}": ("a", 1) for number in range(4)}
    assert (roll.epoch, found.settled) == (1, True)
    assert roll.members == {"a": entry(1)}


def test_a_second_member_gets_its_share_when_the_first_gives_it_up():
    mine, theirs = Watcher(), Watcher()
    roll, _ = beat(Roll(), mine, "a", 1, 10.0)
    roll, found = beat(roll, theirs, "b", 1, 500.0)
    assert (len(found.owned), found.settled, roll.epoch) == (0, False, 2)
    roll, found = beat(roll, mine, "a", 2, 11.0)
    assert len(found.excess) == 2
    given_up = [f"t.{one.number}" for one in found.excess]
    roll = without(roll, "a", given_up)
    assert [roll.leases[name] for name in given_up] == [(None, 1)] * 2
    roll, found = beat(roll, theirs, "b", 2, 501.0)
    assert found.owned.keys() == {Partition("t", int(name[2:])) for name in given_up}
    assert {generation for _, generation, _ in found.owned.values()} == {2}
    assert found.settled


def test_the_leases_of_who_is_gone_go_to_another_under_a_new_generation():
    watcher = Watcher()
    roll, _ = beat(Roll(), Watcher(), "a", 1, 10.0)
    roll, found = beat(roll, watcher, "b", 1, 500.0)
    roll, found = beat(roll, watcher, "b", 2, 504.9)
    assert not found.owned, "it has been watched for less than a lease"
    roll, found = beat(roll, watcher, "b", 3, 505.1)
    assert set(roll.members) == {"b"}
    assert {generation for _, generation, _ in found.owned.values()} == {2}
    assert len(found.owned) == 4
    roll, found = beat(roll, Watcher(), "a", 2, 13.0)
    assert not found.owned, "whoever slept through it has lost all"


def test_who_leaves_is_in_the_roll_no_more():
    roll, _ = beat(Roll(leases=MINE), Watcher(), "a", 1, 10.0)
    left = without(roll, "a", None)
    assert left.members == {}
    assert left.leases == MINE | {f"t.{number}": (None, 1) for number in range(4)}
    assert left.epoch == roll.epoch + 1
