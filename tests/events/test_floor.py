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


@pytest.mark.parametrize("seed", range(60))
def test_no_commit_is_passed_over_however_late(seed):
    draw = random.Random(seed)
    table, floor, published, now = Table(draw), Floor(), [], 1.0
    floor.begin(now)  # from the front; within this test no other read is

    def turn():
        rows = table.read(floor.begin(now), draw.randint(1, 6))
        for _ in range(draw.randint(0, 2)):  # what happens while they are published
            draw.choice([table.write, table.end])()
        if rows and draw.random() < 0.9:  # else the broker was away
            table.visible.difference_update(rows)
            published.extend(rows)
            floor.done(rows[-1])
            if draw.random() < 0.7:
                floor.held_by(set(table.open), now)

    for _ in range(400):
        draw.choice([table.write, table.end, turn, turn])()
        low = [serial for rows in table.open.values() for serial in rows] + list(table.visible)
        assert floor.serial <= min(low, default=table.serial + 1)
    while table.open:
        table.end()
    while table.visible:
        turn()
    assert sorted(published) == sorted(table.committed)
    assert floor.serial > 0


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
