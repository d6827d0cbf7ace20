"""The last of five services fails, and four layers in front of it retry.

Three attempts a layer are 3 * 3 * 3 * 3 = 81 requests to a leaf that is down already. With guards a
layer does not repeat what another layer repeats, and a budget bounds what it repeats itself: that
alone keeps the load near one. The breaker takes most of that one away as well.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from switchgear.drills.load import Answer, Sample, Visitors, evenly, offer
from switchgear.drills.report import Report
from switchgear.drills.stand import Stand, System
from switchgear.drills.statistics import quantile

__all__ = ["drill"]

LAYERS: Final = 4
ATTEMPTS: Final = 3
WORST: Final = ATTEMPTS**LAYERS
ALLOWED: Final = 1.1
"""Requests at the leaf per original request, with guards."""
LEAF: Final = f"link{LAYERS + 1}"
RETRYING: Final = [f"link{number}" for number in range(1, LAYERS + 1)]

NAIVE: Final = "naive"
NO_BREAKER: Final = "guarded, no breaker"
GUARDED: Final = "guarded"


@dataclass(frozen=True, slots=True)
class _Seen:
    """What became of the requests, and how many of theirs reached the leaf."""

    samples: list[Sample]
    at_leaf: int

    @property
    def each(self) -> float:
        return self.at_leaf / len(self.samples)


async def drill(stand: Stand) -> Report:
    """Break the leaf of a naive and of a guarded chain."""
    report = Report("leaf-down", f"the last service of a chain of {LAYERS + 1} fails every request")
    (naive,), (no_breaker, guarded) = await asyncio.gather(
        _naive_chain(stand), _guarded_chain(stand)
    )
    for variant, seen in ((NAIVE, naive), (NO_BREAKER, no_breaker), (GUARDED, guarded)):
        took = [sample.took for sample in seen.samples]
        report.figure("original requests", len(seen.samples), variant=variant)
        report.figure("requests that reach the leaf", seen.at_leaf, variant=variant)
        report.figure("of these per original request", seen.each, variant=variant)
        report.figure("until the caller knows, p50", quantile(took, 0.5), "s", variant=variant)
        report.figure("until the caller knows, p99", quantile(took, 0.99), "s", variant=variant)
    report.check(
        f"without guards every request becomes {ATTEMPTS}^{LAYERS} = {WORST}",
        naive.each == WORST,
        f"{naive.each:.2f} at the leaf per original request",
    )
    for what, seen in (("with guards", guarded), ("even without the breaker", no_breaker)):
        report.check(
            f"{what} the leaf gets at most {ALLOWED:g} requests for each original one",
            seen.each <= ALLOWED,
            f"{seen.each:.2f} at the leaf per original request",
        )
    slowest = max(sample.took for sample in guarded.samples)
    report.check(
        "with guards every caller knows within the deadline of 1 s",
        slowest <= 1.25,  # noqa: PLR2004  the deadline, and what two wires and a loaded machine add
        f"the slowest took {slowest:.2f} s",
    )
    report.shows = (
        "Retries multiply from layer to layer and hold a service down that is down; one retrying "
        "layer with a budget keeps the load near what it was, and a breaker takes it away."
    )
    return report


async def _naive_chain(stand: Stand) -> list[_Seen]:
    env = {link: {"CHAIN_GUARDS": "off"} for link in RETRYING} | {LEAF: {"CHAIN_FAILS": "1"}}
    async with (
        stand.system("chain", name="naive chain", env=env) as chain,
        Visitors(patience=60.0) as visitors,
    ):
        stand.say("asking the naive chain, whose last service fails")
        return [await _ask(chain, visitors, 4.0, 5.0)]


async def _guarded_chain(stand: Stand) -> list[_Seen]:
    env = {link: {"CHAIN_BREAKER": "off"} for link in RETRYING} | {LEAF: {"CHAIN_FAILS": "1"}}
    async with (
        stand.system("chain", name="guarded chain", env=env) as chain,
        Visitors(patience=60.0) as visitors,
    ):
        stand.say("asking the guarded chain without its breakers")
        no_breaker = await _ask(chain, visitors, 40.0, 5.0)
        await asyncio.gather(*(chain[link].restart(CHAIN_BREAKER="on") for link in RETRYING))
        stand.say("asking the guarded chain")
        return [no_breaker, await _ask(chain, visitors, 40.0, 5.0)]


async def _ask(chain: System, visitors: Visitors, rate: float, seconds: float) -> _Seen:
    async def at_leaf() -> int:
        count = await visitors.get(chain.url(LEAF, "/v1/count"))
        return int(count.body["requests"])

    async def ask(number: int) -> Answer:
        return await visitors.get(chain.url("link1", f"/v1/answer/{number}"))

    before = await at_leaf()
    samples = await offer(evenly(rate, seconds), ask)
    return _Seen(samples, await at_leaf() - before)
