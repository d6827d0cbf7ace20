"""The floor of a relay's reads, against a model of serials that are committed out of order."""

import random

import pytest

from switchgear.events.floor import FRONT, LOOK, Floor


class Table:
    """An outbox: serials are drawn under a lock, and rows are visible from the commit on."""

    def __init__(self, draw):
        self.draw = draw
        self.serial = self.begun = 0
        self.open = {}
        self.visible = set()
        self.committed = set()

    def write(self):
        """Draw some serials, in a transaction that is new or open."""
        if not self.open or self.draw.random() < 0.5:
            self.begun += 1
            self.open[f"3/{self.begun}"] = []
        rows = self.open[self.draw.choice(list(self.open))]
        for _ in range(self.draw.randint(1, 3)):
            self.serial += 1
            rows.append(self.serial)

    def end(self):
        """Commit a transaction, or roll it back."""
        if self.open:
            rows = self.open.pop(self.draw.choice(list(self.open)))
            if self.draw.random() < 0.8:
                self.visible.update(rows)
                self.committed.update(rows)

    def read(self, start, limit):
        return sorted(row for row in self.visible if row >= start)[:limit]


@pytest.mark.parametrize("share", [1, 3])
@pytest.mark.parametrize("seed", range(60))
def test_no_commit_is_passed_over_however_late(seed, share):
    """Every third serial is of this relay's parts, or each is; the others are another relay's."""
    draw = random.Random(seed)
    table, floor, published, now = Table(draw), Floor(), [], 1.0
    floor.begin(now)  # from the front; within this test no other read is

    def its(rows):
        return [row for row in rows if row % share == 0]

    def happen():
        for _ in range(draw.randint(0, 2)):
            draw.choice([table.write, table.end])()

    def turn():
        limit = draw.randint(1, 6)
        rows = its(table.read(floor.begin(now), table.serial))[:limit]
        happen()  # while they are published
        if draw.random() < 0.1:
            return  # the broker was away
        table.visible.difference_update(rows)
        published.extend(rows)
        floor.done(rows[-1] if len(rows) == limit else None)
        if draw.random() < 0.7:
            last = max(table.visible, default=0) if floor.wants_last else 0
            happen()
            floor.held_by(set(table.open), now, last=last)

    for _ in range(400):
        draw.choice([table.write, table.end, turn, turn])()
        low = its([serial for rows in table.open.values() for serial in rows] + list(table.visible))
        assert floor.serial <= min(low, default=table.serial + 1)
    while table.open:
        table.end()
    while its(table.visible):
        turn()
    assert sorted(published) == sorted(its(table.committed))
    assert floor.serial > 0


def test_a_relay_without_rows_passes_over_anothers_backlog():
    table, floor = Table(random.Random(1)), Floor()
    floor.begin(1.0)
    for now in (1.0, 2.0, 3.0):
        for _ in range(20):
            table.write()
            table.end()
        floor.begin(now)
        floor.done(None)
        assert floor.wants_last
        floor.held_by(set(), now, last=max(table.visible))
    floor.begin(4.0)
    floor.done(None)
    assert floor.serial > max(table.visible) - 60
    assert floor.begin(5.0) > max(table.visible) / 2


def test_what_a_full_read_left_is_not_passed_over():
    floor = Floor()
    floor.begin(1.0)
    floor.done(7)
    assert not floor.wants_last
    floor.held_by(set(), 1.0, last=900)
    floor.held_by(set(), 2.0, last=900)
    floor.begin(2.0)
    floor.done(9)
    assert floor.serial == 8


def test_reads_from_the_front_that_take_long_are_rare():
    floor = Floor()
    assert floor.begin(1.0) == 0
    floor.took(0, 2.0, 3.0)
    floor.done(None)
    assert floor.begin(3.0 + 49 * 2.0) == 1
    assert floor.begin(3.0 + 50 * 2.0) == 0
    floor.took(0, 0.001, 104.0)
    floor.done(None)
    assert floor.begin(103.0 + FRONT) == 0, "and not for ever"


def raised(*holders):
    """Return a floor that has passed 7, as long as nobody else holds the lock."""
    floor = Floor()
    floor.begin(1.0)
    floor.done(7)
    floor.held_by({"3/1"}, 1.0)
    floor.held_by(set(holders), 2.0)
    floor.begin(2.0)
    floor.done(9)
    return floor


def test_it_rises_when_the_holders_have_ended_and_a_later_read_is_done():
    assert raised("3/2").serial == 8
    assert raised("3/1", "3/2").serial == 1


def test_a_transaction_prepared_for_two_phases_keeps_it():
    assert raised("-1/900").serial == 1


def test_another_part_of_the_keys_and_now_and_then_begin_at_the_front():
    floor = raised()
    assert floor.begin(3.0) == 8
    assert floor.begin(1.0 + FRONT) == 0
    assert floor.begin(1.1 + FRONT) == 8
    floor.front()
    assert floor.begin(1.2 + FRONT) == 0
    assert not floor.wants_holders(2.0 + LOOK / 2)
    assert floor.wants_holders(2.0 + LOOK)
