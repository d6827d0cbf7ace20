"""The lanes against an independent model: a log, an inbox, a store, and a person.

The model does what a driver does, goes wrong at random, and looks only at what a user would see:
what took effect, how often, in which order, and what a new owner would read again.
"""

import itertools
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switchgear.events.lanes import Kind, Lanes, Settings, State

KEYS = st.sampled_from("aaabbc")
ENDS = st.sampled_from(["succeed", "succeed", "fail", "fail", "postpone", "leave"])
SMALL = st.integers(0, 5)

PUBLISH = st.tuples(st.just("publish"), st.lists(KEYS, min_size=1, max_size=6), st.integers(0, 15))
WORK = st.tuples(st.just("work"), st.integers(1, 6), st.lists(ENDS, max_size=8), SMALL)
STEPS = st.one_of(
    PUBLISH,
    WORK,
    WORK,
    st.tuples(st.just("wait"), st.sampled_from([0.3, 1.0, 3.0, 10.0])),
    st.tuples(st.sampled_from(["redrive", "discard"]), SMALL),
    st.tuples(st.just("commit")),
    st.tuples(st.just("move_to_another_owner")),
)


class Driver:
    def __init__(self, on_failure, attempts, spill, capacity):
        self.settings = Settings(
            on_failure,
            attempts=attempts,
            backoff=1.0,
            capacity=capacity,
            window=1_000,
            spill_events=spill,
            spill_seconds=5.0,
        )
        self.now = 0.0
        self.log = []  # (key, poison), the offset is the index
        self.read = 0
        self.handled = []  # the inbox, in the order of the effects
        self.queues = {}  # the store: lane -> offsets
        self.held = set()  # lanes of the store that wait for a person
        self.running = []
        self.committed = 0
        self.discarded = set()
        self.lanes = Lanes(self.settings)
        self.lanes.assign(0, 0, {}, 0.0)

    # the world

    def publish(self, keys, poison):
        """Append events; the one at the index `poison` cannot be read."""
        self.log += [(key, index == poison) for index, key in enumerate(keys)]
        self.poll(len(keys))

    def poll(self, many):
        for _ in range(min(many, self.lanes.room(), len(self.log) - self.read)):
            key, _ = self.log[self.read]
            if key == "c":
                self.lanes.pass_over(0, self.read)
                self.discarded.add(self.read)
            else:
                self.lanes.add(0, self.read, key, self.read, self.now)
            self.read += 1

    def wait(self, seconds):
        self.now += seconds

    def work(self, limit, ends, at):
        """Take some work; then end some of what runs, in any order and in any way."""
        self.poll(5)
        self.take(limit)
        for index, end in enumerate(ends[: len(self.running)]):
            work = self.running.pop((at + index) % len(self.running))
            if end == "leave":
                self.running.append(work)
            elif end == "postpone":
                self.lanes.postponed(work, self.now, float(at % 3))
            elif end == "fail":
                self.fail(work, at)
            else:
                self.carry_out(work)

    def take(self, limit):
        works = self.lanes.take(self.now, limit)
        busy = [work.name for work in self.running + works]
        assert len(busy) == len(set(busy)), "two pieces of work of one lane"
        for work in works:
            if work.kind is Kind.RUN:
                assert not self.queues.get(work.name), "it overtakes what is in the store"
        self.running += works

    def commit(self):
        positions = self.lanes.positions()
        self.lanes.committed(positions)
        position = positions.get(0, self.committed)
        assert position >= self.committed
        self.committed = position

    # how work ends

    def fail(self, work, at):
        if work.kind is Kind.RUN:
            self.run(work, fail_at=at % len(work.entries))
        elif work.kind is Kind.DRAIN and self.queues.get(work.name) and work.name not in self.held:
            poison = self.log[self.queues[work.name][0]][1]
            self.lanes.failed(work, self.now, 0.0, poison=poison)
        else:
            self.lanes.postponed(work, self.now, 1.0)

    def carry_out(self, work):
        if work.kind is Kind.RUN:
            self.run(work)
        elif work.kind is Kind.HOLD:
            if self.queues.get(work.name):
                self.held.add(work.name)
            self.lanes.done(work, self.now)
        elif work.kind is Kind.DRAIN:
            self.drain(work)
        else:
            self.store(work)

    def run(self, work, fail_at=None):
        for index, (_, offset) in enumerate(work.entries):
            poison = self.log[offset][1]
            if index == fail_at or poison:
                # what is in the inbox is not handled again, so it cannot fail either
                if offset not in self.handled:
                    self.lanes.failed(work, self.now, 0.0, handled=index, poison=poison)
                    return
            elif offset not in self.handled:
                self.handled.append(offset)
        self.lanes.done(work, self.now)

    def drain(self, work):
        queue = self.queues.get(work.name)
        if not queue:
            self.lanes.empty(work, self.now)
        elif work.name in self.held:
            self.lanes.held_back(work, self.now)
        elif self.log[queue[0]][1]:
            self.lanes.failed(work, self.now, 0.0, poison=True)
        else:
            offset = queue.pop(0)
            if offset not in self.handled:
                self.handled.append(offset)
            self.lanes.done(work, self.now)

    def store(self, work):
        alone = work.kind is Kind.STORE_ALONE
        parked = set(itertools.chain(*self.queues.values())) | self.discarded
        for _, offset in work.entries:
            name = f"e:{offset}" if alone else work.name
            if offset not in self.handled and offset not in parked:
                self.queues.setdefault(name, []).append(offset)
            if work.hold and self.queues.get(name):
                self.held.add(name)
        self.lanes.done(work, self.now)

    # people and rebalances

    def redrive(self, which):
        if not self.held:
            return
        name = sorted(self.held)[which % len(self.held)]
        self.held.discard(name)
        self.lanes.redrive(0, name, self.now)

    def discard(self, which):
        if not self.held:
            return
        name = sorted(self.held)[which % len(self.held)]
        self.discarded.add(self.queues[name].pop(0))
        if not self.queues[name]:
            self.held.discard(name)
            self.lanes.redrive(0, name, self.now)

    def move_to_another_owner(self):
        """The old owner's work is cut off; the new one reads again from what was committed."""
        self.lanes.revoke(0)
        for work in self.running:
            self.lanes.done(work, self.now)
        self.running = []
        self.lanes = Lanes(self.settings)
        stored = {
            name: State.HELD if name in self.held else State.DRAINING
            for name, queue in self.queues.items()
            if queue
        }
        self.lanes.assign(0, self.committed, stored, self.now)
        self.read = self.committed

    # what must always hold

    def everything_below_the_watermark_is_handled_or_stored(self):
        position = self.lanes.positions().get(0, self.committed)
        settled = set(self.handled) | set(itertools.chain(*self.queues.values())) | self.discarded
        assert set(range(position)) <= settled

    def each_takes_effect_once_and_in_the_order_of_its_key(self):
        assert len(self.handled) == len(set(self.handled))
        if self.settings.on_failure == "skip":
            return
        for key in "ab":
            of_key = [offset for offset in self.handled if self.log[offset][0] == key]
            assert of_key == sorted(of_key)

    def memory_is_bounded(self):
        assert self.lanes.held() <= self.settings.capacity

    def finish(self):
        """When everything works again, everything that can be handled is."""
        while self.committed < len(self.log) or self.running or any(self.queues.values()):
            self.commit()
            while self.running:
                self.carry_out(self.running.pop())
            self.poll_all()
            for name in sorted(self.held):
                while self.queues[name] and self.log[self.queues[name][0]][1]:
                    self.discarded.add(self.queues[name].pop(0))
                self.held.discard(name)
                self.lanes.redrive(0, name, self.now)
            self.now += 10.0
            assert self.now < 100_000, "it does not end"
            self.take(10)
        everything = set(range(len(self.log)))
        assert set(self.handled) | self.discarded == everything
        self.commit()
        assert self.committed == len(self.log)
        assert self.lanes.held() == 0
        assert self.lanes.running() == 0
        self.each_takes_effect_once_and_in_the_order_of_its_key()

    def poll_all(self):
        while self.read < len(self.log) and self.lanes.room():
            self.poll(1)

    def check(self):
        self.everything_below_the_watermark_is_handled_or_stored()
        self.each_takes_effect_once_and_in_the_order_of_its_key()
        self.memory_is_bounded()


@settings(max_examples=60, deadline=None)
@given(
    on_failure=st.sampled_from(["block_key", "park_key", "skip"]),
    attempts=st.integers(1, 2),
    spill=st.integers(0, 4),
    capacity=st.integers(2, 12),
    steps=st.lists(STEPS, min_size=10, max_size=60),
)
def test_nothing_is_lost_or_doubled_and_keys_keep_their_order(
    on_failure, attempts, spill, capacity, steps
):
    driver = Driver(on_failure, attempts, spill, capacity)
    for name, *arguments in steps:
        getattr(driver, name)(*arguments)
        driver.check()
    driver.finish()


def long_run(random):
    """Return a long history: Hypothesis finds small ones, and rarely gets far into a big one."""
    for _ in range(random.choice([50, 300])):
        kind = random.choices(
            ["publish", "work", "wait", "redrive", "discard", "commit", "move_to_another_owner"],
            [4, 10, 3, 1, 0.5, 2, 0.3],
        )[0]
        if kind == "publish":
            keys = random.choices("aaabbc", k=random.randint(1, 6))
            yield kind, keys, random.choice([0, 99, 99, 99, 99, 99])
        elif kind == "work":
            ends = random.choices(
                ["succeed", "fail", "postpone", "leave"], [4, 3, 1, 1], k=random.randint(0, 8)
            )
            yield kind, random.randint(1, 6), ends, random.randint(0, 5)
        elif kind == "wait":
            yield kind, random.choice([0.3, 1.0, 3.0, 10.0])
        elif kind in {"redrive", "discard"}:
            yield kind, random.randint(0, 5)
        else:
            yield (kind,)


@pytest.mark.parametrize("on_failure", ["block_key", "park_key", "skip"])
@pytest.mark.parametrize("seed", range(25))
def test_the_same_over_long_histories(seed, on_failure):
    random = Random(seed)
    driver = Driver(
        on_failure, random.randint(1, 2), random.randint(0, 4), random.choice([2, 5, 12, 40])
    )
    for name, *arguments in long_run(random):
        getattr(driver, name)(*arguments)
        driver.check()
    driver.finish()
