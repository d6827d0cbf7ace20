"""Who is told what when calls share a commit: the refused one is refused, and nobody overtakes."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchgear.errors import BrokerError
from switchgear.events.brokers.batching import FRAME, Batching, check_size, size_of
from switchgear.events.brokers.port import BrokerUnavailable, Record, RecordTooLarge
from switchgear.events.brokers.postgres import PostgresBroker
from switchgear.model.outcome import Reason, Unknown


class Log:
    """Takes all or nothing, as a transaction does; `ends` says what a record makes of it."""

    def __init__(self, ends):
        self.records, self.ends, self.commits = [], ends, 0

    async def append(self, records):
        await asyncio.sleep(0)
        self.commits += 1
        for record in records:
            if record.value in self.ends:
                raise self.ends[record.value]
        self.records += [record.value for record in records]


def record(value):
    return Record("t", "k", {}, value)


async def published(log, *calls):
    batching = Batching(log.append)
    first = asyncio.create_task(batching.publish([record(b"first")]))
    await asyncio.sleep(0)  # while it is appended, the others wait together
    tasks = [asyncio.create_task(batching.publish(list(map(record, one)))) for one in calls]
    done = await asyncio.gather(*tasks, return_exceptions=True)
    await first
    await batching.close()
    return done


@pytest.mark.parametrize("error", [BrokerError("no."), UnicodeEncodeError("x", "", 0, 1, "no")])
async def test_the_call_that_is_refused_is_told_and_the_others_are_done(error):
    calls = [[b"%d" % number] for number in range(50)]
    calls[17] = [b"17", b"bad", b"18"]
    log = Log({b"bad": error})
    done = await published(log, *calls)
    assert [number for number, one in enumerate(done) if one is not None] == [17]
    assert done[17] is error
    assert log.records == [b"first", *(b"%d" % number for number in range(50) if number != 17)]
    assert log.commits < 20


@pytest.mark.parametrize(
    "error", [BrokerUnavailable("away"), Unknown("perhaps", reason=Reason.TIMEOUT)]
)
async def test_what_may_pass_is_everybodys(error):
    log = Log({b"1": error})
    assert await published(log, [b"0"], [b"1"], [b"2"]) == [error] * 3
    assert log.records == [b"first"]


async def test_nobody_overtakes_whoever_has_to_repeat():
    """The broker goes away while it is found out who was refused."""
    away = BrokerUnavailable("away")
    log = Log({b"bad": BrokerError("no."), b"2": away})
    done = await published(log, [b"0"], [b"bad"], [b"2"], [b"3"])
    assert done[0] is None
    assert isinstance(done[1], BrokerError)
    assert done[2:] == [away, away]
    perhaps = Unknown("perhaps", reason=Reason.TIMEOUT)
    log = Log({b"bad": BrokerError("no."), b"1": perhaps})
    done = await published(log, [b"bad"], [b"1"], [b"2"], [b"3"])
    assert log.records == [b"first"]
    assert done[1] is perhaps
    for one in done[2:]:
        assert isinstance(one, BrokerUnavailable), "certainly not done"
        assert "not tried" in one.what


async def test_on_postgresql_a_key_that_it_does_not_take_is_refused_alone(postgres_url):
    broker = PostgresBroker(postgres_url)
    bad, good = Record("t", "a\0b", {}, b""), record(b"1")
    for calls in ([bad], [good, bad]):
        with pytest.raises(BrokerError, match="a key with the character NUL"):
            await broker.publish(calls)
    # what only the database finds out
    broken = Record("t", "k", {}, "no bytes")
    done = await asyncio.gather(
        *(broker.publish([one]) for one in (good, broken, good)), return_exceptions=True
    )
    assert [one is None for one in done] == [True, False, True]
    subscription = await broker.subscribe("g", ["t"])
    found = []
    async with asyncio.timeout(30):
        while len(found) < 2:
            found += (await subscription.poll(10, 5.0)).deliveries
    assert [one.value for one in found] == [b"1", b"1"]
    await broker.close()


async def test_a_call_that_was_cancelled_leaves_the_others_alone():
    log = Log({b"bad": BrokerError("no.")})
    batching = Batching(log.append)
    tasks = [asyncio.create_task(batching.publish([record(one)])) for one in (b"0", b"bad", b"2")]
    await asyncio.sleep(0)
    tasks[1].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert (done[0], done[2]) == (None, None)
    assert isinstance(done[1], asyncio.CancelledError)


ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SOME = st.builds(
    Record,
    st.sampled_from(["t", "u"]),
    st.none() | ANY,
    st.dictionaries(ANY, ANY, max_size=4),
    st.binary(max_size=60),
)


@given(st.lists(SOME, max_size=6), st.integers(0, 200))
def test_what_is_over_the_limit_is_refused_and_what_one_has_at_most_is_told(records, limit):
    over = [one for one in records if size_of(one) > limit]
    if over:
        with pytest.raises(RecordTooLarge, match=f"has {size_of(over[0])} bytes.*takes {limit}"):
            check_size(records, limit)
        return
    most = check_size(records, limit)
    for one in records:
        assert size_of(one) + len((one.key or "").encode()) + FRAME * len(one.headers) <= most
