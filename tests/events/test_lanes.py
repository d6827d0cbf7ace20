"""The rules of the lanes, one by one. `test_lanes_machine.py` mixes them at random."""

import pytest

from switchgear.events.lanes import Cause, Kind, Lanes, Settings, State


def lanes(on_failure="block_key", *, stored=None, position=0, **settings):
    made = Lanes(Settings(on_failure, **settings))
    made.assign("p", position, stored or {}, 0.0)
    return made


def add(some, *keys, start=0, now=0.0):
    for offset, key in enumerate(keys, start):
        some.add("p", offset, key, f"{key}{offset}", now)


def offsets(works):
    return [[offset for offset, _ in work.entries] for work in works]


def fail(some, now=0.0, *, poison=False, handled=0):
    (work,) = some.take(now, 10)
    return some.failed(work, now, 0.0, error="no", poison=poison, handled=handled)


def test_events_of_one_key_are_taken_together_and_in_order():
    some = lanes()
    add(some, "a", "a", "a")
    assert offsets(some.take(0.0, 10)) == [[0, 1, 2]]


def test_a_lane_has_one_piece_of_work_at_a_time():
    some = lanes()
    add(some, "a")
    (work,) = some.take(0.0, 10)
    add(some, "a", start=1)
    assert some.take(0.0, 10) == []
    some.done(work, 0.0)
    assert offsets(some.take(0.0, 10)) == [[1]]


def test_lanes_share_the_limit():
    some = lanes()
    add(some, *"aaaabbbb")
    assert offsets(some.take(0.0, 4)) == [[0, 1], [4, 5]]


def test_the_watermark_waits_for_the_oldest():
    some = lanes()
    add(some, *"abc")
    a, b, c = some.take(0.0, 10)
    some.done(b, 0.0)
    some.done(c, 0.0)
    assert some.positions() == {}
    some.done(a, 0.0)
    assert some.positions() == {"p": 3}
    some.committed({"p": 3})
    assert some.positions() == {}


def test_what_is_passed_over_moves_the_watermark():
    some = lanes(position=5)
    some.pass_over("p", 5)
    assert some.positions() == {"p": 6}
    add(some, "a", start=6)
    some.pass_over("p", 7)
    assert some.positions() == {"p": 6}


def test_offsets_may_have_gaps_and_old_ones_are_ignored():
    some = lanes(position=10)
    add(some, "a", start=17)
    add(some, "a", start=12)
    (work,) = some.take(0.0, 10)
    assert offsets([work]) == [[17]]
    some.done(work, 0.0)
    assert some.positions() == {"p": 18}


def test_a_failure_makes_only_its_key_wait_and_the_pause_doubles():
    some = lanes(backoff=1.0, backoff_most=3.0)
    add(some, *"aab")
    a, b = some.take(0.0, 10)
    some.done(b, 0.0)
    assert some.failed(a, 0.0, 0.0) == 1.0
    assert some.take(0.9, 10) == []
    assert some.due() == 1.0
    (again,) = some.take(1.0, 10)
    assert again.attempts == 1
    assert offsets([again]) == [[0]], "an event that has failed runs by itself"
    assert some.failed(again, 1.0, 0.0) == 2.0
    (again,) = some.take(3.0, 10)
    assert some.failed(again, 3.0, 0.0) == 3.0, "not longer than backoff_most"


def test_jitter_takes_up_to_half_of_the_pause():
    assert Settings("skip", backoff=1.0).pause(1, 0.999) == pytest.approx(0.5, abs=0.001)


def test_a_success_forgets_the_failures():
    some = lanes("park_key", attempts=2, backoff=1.0)
    add(some, "a", "a")
    fail(some)
    (work,) = some.take(1.0, 10)
    some.done(work, 1.0)
    (work,) = some.take(1.0, 10)
    assert work.attempts == 0
    assert some.failed(work, 1.0, 0.0) == 1.0, "its own first failure"


def test_those_before_the_failed_one_are_done():
    some = lanes(backoff=1.0)
    add(some, "a", "a", "a")
    fail(some, handled=2)
    assert some.positions() == {"p": 2}


def test_park_key_stores_the_event_and_those_behind_it_in_order():
    some = lanes("park_key", attempts=2, backoff=1.0)
    add(some, *"aaab")
    a, b = some.take(0.0, 10)
    some.done(b, 0.0)
    some.failed(a, 0.0, 0.0, error="first")
    (a,) = some.take(1.0, 10)
    assert some.failed(a, 1.0, 0.0, error="second") is None
    (store,) = some.take(1.0, 10)
    assert (store.kind, store.hold, store.cause, store.error, store.attempts) == (
        Kind.STORE,
        True,
        Cause.FAILED,
        "second",
        2,
    )
    assert offsets([store]) == [[0, 1, 2]]
    some.done(store, 1.0)
    assert some.positions() == {"p": 4}
    assert some.holding("p") == ["a"]


def test_what_arrives_behind_a_held_key_is_stored_and_other_keys_go_on():
    some = lanes(stored={"a": State.HELD})
    add(some, "a", "b")
    store, run = some.take(0.0, 10)
    assert (store.kind, store.hold, store.cause) == (Kind.STORE, True, Cause.BEHIND)
    assert (run.kind, run.name) == (Kind.RUN, "b")


def test_skip_stores_the_event_alone_and_the_key_goes_on():
    some = lanes("skip", attempts=1)
    add(some, "a", "a")
    fail(some)
    (store,) = some.take(0.0, 10)
    assert store.kind is Kind.STORE_ALONE
    assert offsets([store]) == [[0]]
    some.done(store, 0.0)
    (run,) = some.take(0.0, 10)
    assert (run.kind, offsets([run])) == (Kind.RUN, [[1]])


@pytest.mark.parametrize("on_failure", ["block_key", "park_key"])
def test_poison_holds_its_key_at_once(on_failure):
    some = lanes(on_failure)
    add(some, "a", "a")
    assert fail(some, poison=True) is None
    (store,) = some.take(0.0, 10)
    assert (store.kind, store.hold, store.cause) == (Kind.STORE, True, Cause.POISON)
    assert offsets([store]) == [[0, 1]]


def test_poison_under_skip_is_stored_alone():
    some = lanes("skip")
    add(some, "a", "a")
    fail(some, poison=True)
    (store,) = some.take(0.0, 10)
    assert (store.kind, store.cause) == (Kind.STORE_ALONE, Cause.POISON)


def test_a_key_blocked_by_too_many_events_moves_to_the_store_and_is_tried_from_there():
    some = lanes(spill_events=2, backoff=10.0)
    add(some, "a", "a", "a")
    fail(some)
    assert some.take(1.0, 10) == []
    add(some, "a", start=3, now=1.0)
    (store,) = some.take(1.0, 10)
    assert (store.kind, store.hold, store.cause) == (Kind.STORE, False, Cause.BLOCKED)
    assert offsets([store]) == [[0, 1, 2, 3]]
    some.done(store, 1.0)
    assert some.positions() == {"p": 4}
    assert some.take(9.0, 10) == [], "its pause still counts"
    (drain,) = some.take(10.0, 10)
    assert (drain.kind, drain.attempts) == (Kind.DRAIN, 1)


def test_a_key_blocked_for_too_long_moves_to_the_store():
    some = lanes(spill_seconds=5.0, backoff=60.0, backoff_most=60.0)
    add(some, "a")
    fail(some)
    assert some.due() == 5.0
    (store,) = some.take(5.0, 10)
    assert (store.kind, store.cause) == (Kind.STORE, Cause.BLOCKED)


def test_blocked_keys_that_fill_half_of_memory_move_to_the_store():
    some = lanes(capacity=8, backoff=60.0, backoff_most=60.0)
    add(some, "a", "a", "b", "b", "c")
    a, b, c = some.take(0.0, 10)
    some.failed(a, 0.0, 0.0)
    some.failed(b, 0.0, 0.0)
    assert {work.name for work in some.take(1.0, 10)} == {"a", "b"}
    assert c.kind is Kind.RUN


def test_the_store_is_worked_off_before_what_is_in_memory():
    some = lanes(stored={"a": State.DRAINING})
    add(some, "a")
    for _ in range(3):
        (drain,) = some.take(0.0, 10)
        assert drain.kind is Kind.DRAIN
        some.done(drain, 0.0)
    (drain,) = some.take(0.0, 10)
    some.empty(drain, 0.0)
    assert offsets(some.take(0.0, 10)) == [[0]]


def test_a_released_key_is_worked_off():
    some = lanes(stored={"a": State.HELD})
    assert some.take(0.0, 10) == []
    some.redrive("p", "a", 0.0)
    (drain,) = some.take(0.0, 10)
    assert drain.kind is Kind.DRAIN


def test_a_redriven_event_that_fails_again_is_held_again():
    some = lanes("park_key", attempts=1, stored={"a": State.DRAINING})
    add(some, "a")
    fail(some)
    (hold,) = some.take(0.0, 10)
    assert hold.kind is Kind.HOLD
    some.done(hold, 0.0)
    assert some.holding("p") == ["a"]
    (store,) = some.take(0.0, 10)
    assert (store.kind, store.hold) == (Kind.STORE, True)


def test_a_head_that_turns_out_to_be_held_ends_the_draining():
    some = lanes(stored={"a": State.DRAINING})
    (drain,) = some.take(0.0, 10)
    some.held_back(drain, 0.0)
    assert some.holding("p") == ["a"]
    assert some.take(0.0, 10) == []


def test_a_lane_that_is_alone_leaves_nothing_behind_when_it_is_parked():
    some = lanes("park_key", attempts=1)
    some.add("p", 0, "e:1", "event", 0.0, alone=True)
    fail(some)
    (store,) = some.take(0.0, 10)
    some.done(store, 0.0)
    assert some.holding("p") == []
    some.redrive("p", "e:1", 0.0)
    (drain,) = some.take(0.0, 10)
    assert (drain.kind, drain.name) == (Kind.DRAIN, "e:1")


def test_what_is_postponed_is_not_an_attempt():
    some = lanes("park_key", attempts=1)
    add(some, "a")
    (work,) = some.take(0.0, 10)
    some.postponed(work, 0.0, 2.0)
    assert some.take(1.9, 10) == []
    (work,) = some.take(2.0, 10)
    assert work.attempts == 0


def test_storing_that_is_postponed_waits_too():
    some = lanes(stored={"a": State.HELD})
    add(some, "a")
    (store,) = some.take(0.0, 10)
    some.postponed(store, 0.0, 2.0)
    assert some.take(1.9, 10) == []
    assert some.take(2.0, 10)[0].kind is Kind.STORE


def test_a_revoked_partition_is_gone_and_results_change_nothing():
    some = lanes()
    add(some, "a", "a")
    (work,) = some.take(0.0, 1)
    some.revoke("p")
    assert work.revoked
    assert some.held() == 0
    some.done(work, 0.0)
    assert some.positions() == {}
    some.assign("p", 0, {}, 0.0)
    add(some, "a")
    assert offsets(some.take(0.0, 10)) == [[0]]


def test_what_is_assigned_again_was_lost_in_between():
    some = lanes()
    add(some, "a", "b", "b")
    (work,) = some.take(0.0, 1)
    some.assign("p", 0, {}, 0.0)
    assert work.revoked
    assert some.held() == 0
    some.done(work, 0.0)
    assert some.positions() == {}
    add(some, "a")
    assert offsets(some.take(0.0, 10)) == [[0]]


def test_a_partition_that_stops_begins_nothing_and_tells_when_it_is_idle():
    some = lanes()
    add(some, "a", "b")
    (work,) = some.take(0.0, 1)
    some.stop("p")
    assert some.take(0.0, 10) == []
    assert not some.idle("p")
    some.done(work, 0.0)
    assert some.idle("p")
    assert some.positions() == {"p": 1}


def test_memory_is_bounded_by_the_room():
    some = lanes(capacity=3)
    add(some, *"ab")
    assert some.room() == 1
    (work, *_) = some.take(0.0, 1)
    some.done(work, 0.0)
    assert some.room() == 2


def test_a_partition_pauses_at_its_window_and_resumes_at_half():
    some = lanes(window=4)
    add(some, *"abcd")
    works = some.take(0.0, 10)
    assert some.pauses() == (["p"], [])
    assert some.pauses() == ([], [])
    for work in works[1:]:
        some.done(work, 0.0)
    assert some.pauses() == ([], []), "the first still holds the window open"
    some.done(works[0], 0.0)
    assert some.pauses() == ([], ["p"])


def test_blocked_lanes_are_counted():
    some = lanes()
    add(some, *"ab")
    a, b = some.take(0.0, 10)
    some.failed(a, 0.0, 0.0)
    some.done(b, 0.0)
    assert some.blocked() == 1


# where every key is a partition of its own


def test_an_event_comes_with_the_state_of_its_key_in_the_store():
    some = lanes(join=True)
    some.admit("q", 5)
    some.add("q", 5, "a", "a5", 0.0, state=State.HELD)
    (work,) = some.take(0.0, 10)
    assert (work.kind, work.hold, work.cause) == (Kind.STORE, True, Cause.BEHIND)


def test_what_arrives_behind_the_store_joins_it_at_once():
    some = lanes(join=True)
    some.admit("q", 5)
    some.add("q", 5, "a", "a5", 0.0, state=State.DRAINING)
    (work,) = some.take(0.0, 10)
    assert (work.kind, work.hold) == (Kind.STORE, False)
    some.done(work, 0.0)
    assert some.positions() == {"q": 6}
    (work,) = some.take(0.0, 10)
    assert work.kind is Kind.DRAIN, "if this member is the one that works the store off"


def test_what_another_member_works_off_is_forgotten_here():
    some = lanes(join=True)
    some.adopt("q", "a", 0.0)
    (work,) = some.take(0.0, 10)
    assert work.kind is Kind.DRAIN
    some.elsewhere(work, 0.0)
    assert some.take(0.0, 10) == []
    some.tidy(["q"])
    assert some.partitions() == ["p"]


def test_what_arrived_meanwhile_joins_the_store_and_does_not_overtake_it():
    some = lanes(join=True)
    some.adopt("q", "a", 0.0)
    (work,) = some.take(0.0, 10)
    some.admit("q", 9)
    some.add("q", 9, "a", "a9", 0.0)
    some.elsewhere(work, 0.0)
    (work,) = some.take(0.0, 10)
    assert (work.kind, offsets([work])) == (Kind.STORE, [[9]])


def test_a_partition_is_forgotten_when_nothing_of_it_is_left():
    some = lanes(join=True)
    some.admit("q", 5)
    some.add("q", 5, "a", "a5", 0.0)
    some.tidy(["q"])
    (work,) = some.take(0.0, 10)
    some.tidy(["q"])
    some.done(work, 0.0)
    some.tidy(["q"])
    assert "q" in some.partitions(), "its watermark is yet to be committed"
    some.committed({"q": 6})
    some.tidy(["q"])
    assert some.partitions() == ["p"]


def test_a_known_partition_goes_on_where_it_is_and_a_spent_one_anew():
    some = lanes(join=True)
    some.admit("q", 5)
    some.add("q", 5, "a", "a5", 0.0)
    some.admit("q", 6)
    some.add("q", 6, "a", "a6", 0.0)
    (work,) = some.take(0.0, 10)
    assert offsets([work]) == [[5, 6]]
    some.done(work, 0.0)
    some.committed({"q": 7})
    some.admit("q", 2)
    some.add("q", 2, "a", "a2", 0.0)
    assert offsets(some.take(0.0, 10)) == [[2]]
