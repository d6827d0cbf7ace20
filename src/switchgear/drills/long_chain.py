"""Five services in a row, each answering 99.9% of what it is asked.

Nothing is broken but the arithmetic that people do in their heads. Availabilities multiply, and
the quantile of a sum is not the sum of quantiles. From what one link sees of the service behind it
the whole chain is predicted, and put beside what a visitor sees. At last the same question goes
out as one event.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from switchgear.drills.chain_events import Publisher
from switchgear.drills.load import Answer, Sample, Visitors, at_random, offer
from switchgear.drills.report import Report
from switchgear.drills.stand import Stand, System, until
from switchgear.drills.statistics import (
    Interval,
    in_a_row,
    quantile,
    quantile_interval,
    share_interval,
    sum_quantiles,
)
from switchgear.model.signal import SignalKind

__all__ = ["drill"]

SERVICES: Final = 5
AVAILABLE: Final = 0.999
WORK: Final = 0.03
"""Mean of each service's own work in seconds."""
SEED: Final = "7"

WARM: Final = 50
REQUESTS: Final = 2000
RATE: Final = 80.0
SHARES_OF_RATE: Final = (1.0, 0.5)
"""The load, and what it is lowered to where the machine cannot keep up with it."""
EVENTS: Final = 300
EVENT_RATE: Final = 60.0
BUSY: Final = 0.05
"""Seconds that one in a hundred requests may be sent too late. More, and the machine is busy with
something else: what is measured then is the machine, and latencies are not judged by it."""
CERTAIN: Final = 0.999
"""The confidence with which a prediction is called wrong."""
NEAR: Final = 0.25
"""How far a predicted quantile may be from the measured one: a share of it."""
WITHIN: Final = 20.0

ONE: Final = "one service"
PREDICTED: Final = "predicted"
ADDED: Final = "added up"
MEASURED: Final = "measured"
EVENT: Final = "one event"

SHARES: Final = {"p50": 0.5, "p99": 0.99}


async def drill(stand: Stand) -> Report:
    """Predict a chain from one of its services, and measure it."""
    report = Report(
        "long-chain",
        f"each of {SERVICES} services fails {1 - AVAILABLE:.1%} of its requests; retries are off",
    )
    report.columns = (ONE, PREDICTED, ADDED, MEASURED, EVENT)
    chance = Random(SEED)  # noqa: S311  no secret
    env = {
        "CHAIN_RETRIES": "off",
        "CHAIN_FAILS": f"{1 - AVAILABLE:g}",
        "CHAIN_WORK": str(WORK),
        "CHAIN_SEED": SEED,
        "DRILL_KINDS": f"{SignalKind.EVENT_HANDLED},{SignalKind.EVENT_RETRIED}",
    }
    links = [f"link{number}" for number in range(1, SERVICES + 1)]
    last = links[-2]  # it has one service behind it, and sees what that one is like
    envs = dict.fromkeys(links, env) | {
        last: env | {"DRILL_KINDS": f"{env['DRILL_KINDS']},{SignalKind.CALL_ENDED}"}
    }
    async with (
        stand.system("chain", env=envs, faulty=links) as chain,
        Visitors() as visitors,
    ):

        async def ask(link: str, number: int) -> Answer:
            return await visitors.get(chain.url(link, f"/v1/answer/{number}"))

        # the first ones open the connections
        await asyncio.gather(*(ask(links[0], number) for number in range(WARM)))
        whole: list[Sample] = []
        before = 0
        for share in SHARES_OF_RATE:
            if whole:
                stand.say("the machine is busy with something else: once more, at a lower rate")
            requests = round(REQUESTS * share)
            stand.say(f"{requests} requests through all {SERVICES}")
            before = len(_calls_of(chain, last))
            due = at_random(RATE * share, requests, chance)
            whole = await offer(due, lambda n: ask(links[0], n))
            if not is_busy(whole):
                break
        one = _calls_of(chain, last)[before:]
        stand.say(f"{EVENTS} times the same as one event")
        events = await _publish(chain, links, chance)
    in_a_row_of(report, one, whole)
    _as_event(report, events)
    report.shows += (
        "Five times 99.9% is 99.5%, and a chain's slow answers are rarer than adding up each "
        "service's says; as an event nobody waits for the others, and a failure is tried again."
    )
    return report


def _calls_of(chain: System, link: str) -> list[float]:
    """Return how long the service behind a link took to answer each question, in seconds."""
    return [
        float(entry.detail["seconds"])
        for entry in chain.signals(link)
        if entry.kind == SignalKind.CALL_ENDED and entry.detail["outcome"] == "ok"
    ]


def is_busy(whole: Sequence[Sample]) -> bool:
    """Tell whether the machine had other things to do while this was measured."""
    return quantile([sample.late for sample in whole], 0.99) > BUSY


def in_a_row_of(report: Report, one: list[float], whole: list[Sample]) -> None:
    """Put the prediction from one service beside what the chain did."""
    busy = is_busy(whole)
    answered = sum(sample.answer.good for sample in whole)
    predicted = in_a_row([AVAILABLE] * SERVICES)
    report.figure("requests", len(one), variant=ONE)
    report.figure("requests", len(whole), variant=MEASURED)
    report.figure("availability", predicted, "share", variant=PREDICTED)
    report.figure(
        "availability",
        answered / len(whole),
        "share",
        variant=MEASURED,
        interval=share_interval(answered, len(whole)),
    )
    certain = share_interval(answered, len(whole), CERTAIN)
    report.check(
        f"availabilities multiply: {AVAILABLE:g}^{SERVICES} = {predicted:.4f}",
        certain.holds(predicted),
        f"measured {answered} of {len(whole)}, {CERTAIN:.1%} interval "
        f"{certain.low:.4f} to {certain.high:.4f}",
    )
    chain = [sample.took for sample in whole if sample.answer.good]
    sums = sum_quantiles([one] * SERVICES, list(SHARES.values()))
    for (name, share), of_sum in zip(SHARES.items(), sums, strict=True):
        single, measured = quantile(one, share), quantile(chain, share)
        interval = quantile_interval(chain, share)
        report.figure(f"latency, {name}", single, "s", variant=ONE)
        report.figure(f"latency, {name}", of_sum, "s", variant=PREDICTED)
        report.figure(f"latency, {name}", SERVICES * single, "s", variant=ADDED)
        report.figure(f"latency, {name}", measured, "s", variant=MEASURED, interval=interval)
        if busy:
            continue
        report.check(
            f"the {name} of the chain is that of the sum of five, within {NEAR:.0%}",
            _near(of_sum, interval),
            f"predicted {of_sum * 1000:.0f} ms, measured {measured * 1000:.0f} ms",
        )
    if busy:
        late = quantile([sample.late for sample in whole], 0.99)
        report.figure("sent too late, p99", late, "s", variant=MEASURED)
        report.shows = (
            "The machine was busy with something else: latencies are shown and not judged. "
        )
        return
    tail = quantile(chain, SHARES["p99"])
    wrong = SERVICES * quantile(one, SHARES["p99"])
    report.check(
        "adding up five p99 is far off",
        wrong > 1.3 * tail,
        f"it says {wrong * 1000:.0f} ms, measured {tail * 1000:.0f} ms",
    )


def _near(predicted: float, measured: Interval) -> bool:
    return measured.low * (1 - NEAR) <= predicted <= measured.high * (1 + NEAR)


@dataclass(frozen=True, slots=True)
class _Events:
    """What became of the events."""

    published: Mapping[str, float]
    """When each was published, by its key."""
    waits: Sequence[float]
    """How long the publisher waited for each."""
    last: Mapping[str, float]
    """When the last of the links had handled it, for those that all have handled."""
    retried: int


async def _publish(chain: System, links: Sequence[str], chance: Random) -> _Events:
    """Publish the question as an event that all links hear, and see when the last has reacted."""
    published: dict[str, float] = {}
    waits: list[float] = []
    async with Publisher(chain) as publisher:

        async def publish(number: int) -> Answer:
            began = published[str(number)] = time.time()
            await publisher.ask(number)
            waits.append(time.time() - began)
            return Answer(202)

        await offer(at_random(EVENT_RATE, EVENTS, chance), publish)

        async def all_handled() -> bool:
            return all(len(_handled(chain, link)) >= EVENTS for link in links)

        await until(all_handled, WITHIN)
    handled = [_handled(chain, link) for link in links]
    last = {
        key: max(found[key] for found in handled)
        for key in published
        if all(key in found for found in handled)
    }
    retried = sum(
        entry.kind == SignalKind.EVENT_RETRIED for link in links for entry in chain.signals(link)
    )
    return _Events(published, waits, last, retried)


def _as_event(report: Report, events: _Events) -> None:
    """Say how the same question goes as one event."""
    variant = EVENT
    took = [at - events.published[key] for key, at in events.last.items()]
    share = len(events.last) / len(events.published)
    report.figure("requests", len(events.published), variant=variant)
    report.figure("availability", share, "share", variant=variant)
    for name, of in SHARES.items():
        report.figure(f"latency, {name}", quantile(took, of), "s", variant=variant)
    for name, of in SHARES.items():
        report.figure(f"caller waits, {name}", quantile(events.waits, of), "s", variant=variant)
    report.figure("tried again", events.retried, variant=variant)
    report.check(
        "as an event, every question is handled by all five in the end",
        len(events.last) == len(events.published),
        f"{len(events.last)} of {len(events.published)}, {events.retried} failures tried again",
    )


def _handled(chain: System, link: str) -> dict[str, float]:
    """Return when a link had handled each event, by its key."""
    return {
        str(entry.detail["key"]): entry.at
        for entry in chain.signals(link)
        if entry.kind == SignalKind.EVENT_HANDLED
    }
