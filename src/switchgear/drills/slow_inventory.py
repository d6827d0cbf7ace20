"""Inventory becomes slow, under a page that asks it and a page that does not.

Leg 1: the checkout page asks inventory three times in sequence, and inventory takes 0.8 s.
Leg 2: both have a bounded pool of workers, as most servers do, and inventory takes 10 s.

The gateway is started with its guards and with `SHOP_GUARDS=off`; visitors come at a fixed rate.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from switchgear.drills.control import Entry, Faults
from switchgear.drills.declared import declared
from switchgear.drills.faulty import BUSY
from switchgear.drills.load import Sample, Visitors, evenly, offer
from switchgear.drills.predicted import Compared, Pages, compare, pages
from switchgear.drills.report import Report
from switchgear.drills.stand import Stand, System, examples
from switchgear.drills.statistics import quantile
from switchgear.model.edge import Edge
from switchgear.model.signal import SignalKind

__all__ = ["drill"]

HEALTHY: Final = 0.06
SLOW: Final = 0.8
STUCK: Final = 10.0
"""Seconds that inventory takes for one question."""

PAGES: Final = 40.0
"""Checkout pages a second in leg 1, for so many seconds:"""
LASTING: Final = 4.5

WORKERS: Final = 16
"""Workers of the gateway, and of inventory, in leg 2."""
CHECKOUTS: Final = 12.0
IMPRINTS: Final = 25.0
"""Visitors a second of the two pages in leg 2, for so many seconds:"""
WATCHED: Final = 6.0
WARM: Final = 1.5
PATIENCE: Final = 3.0
"""Seconds after which a visitor of leg 2 leaves."""

ONE: Final = f"1. Inventory takes {SLOW:g} s, and the checkout page asks it three times"
TWO: Final = f"2. Inventory takes {STUCK:g} s, and both have {WORKERS} workers"
VARIANTS: Final = ("healthy", "naive", "guarded")
GUARDS: Final = {"naive": "off", "guarded": "on"}
_UNSEEN: Final = "nobody"


async def drill(stand: Stand) -> Report:
    """Slow inventory down, twice, in front of a gateway with guards and one without."""
    report = Report(
        "slow-inventory",
        f"inventory answers in {SLOW:g} s instead of {HEALTHY * 1000:g} ms, then in {STUCK:g} s",
    )
    async with (
        stand.system("shop", faulty=["gateway", "inventory"]) as shop,
        Visitors(patience=30.0) as visitors,
    ):
        await _first_leg(stand, shop, visitors, report)
        await _second_leg(stand, shop, visitors, report)
    report.shows = (
        "A deadline, a breaker and the last good answer turn a slow callee into a page that is a "
        "little old; without them one slow service takes the pages down that never call it."
    )
    return report


# --- leg 1: how long a page takes ---------------------------------------------------------------


async def _first_leg(stand: Stand, shop: System, visitors: Visitors, report: Report) -> None:
    page = shop.url("gateway", "/checkout/ann")

    async def visit(seconds: float = LASTING) -> list[Sample]:
        return await offer(evenly(PAGES, seconds), lambda _: visitors.get(page))

    samples: dict[str, list[Sample]] = {}
    inventory = shop.faults("inventory")
    inventory.set(stock=Faults(sleep=HEALTHY))
    await visitors.get(page)  # the first one opens the connections
    stand.say("the checkout page while inventory is healthy")
    samples["healthy"] = await visit()
    inventory.set(stock=Faults(sleep=SLOW))
    stand.say(f"inventory takes {SLOW:g} s, with guards")
    samples["guarded"] = await visit()
    stand.say(f"inventory takes {SLOW:g} s, without guards")
    await shop["gateway"].restart(SHOP_GUARDS="off")
    samples["naive"] = await visit()
    for variant in VARIANTS:
        _page_figures(report, variant, samples[variant])
    _page_checks(report, samples)
    well = quantile([sample.took for sample in samples["healthy"]], 0.5)
    given = Pages(
        own=0.0,
        question=max(0.0, well / 3 - HEALTHY),
        healthy=HEALTHY,
        slow=SLOW,
        checkouts=PAGES,
        well=LASTING,
        seconds=LASTING,
        patience=visitors.patience,
    )
    for variant, edges in (await _edges()).items():
        found = pages(edges, given)["checkout"]
        took = [sample.took for sample in samples[variant]]
        good = sum(sample.answer.good for sample in samples[variant]) / len(took)
        compare(
            report,
            variant,
            "1",
            (
                Compared("p50", "s", quantile(took, 0.5), found.known.quantile(0.5)),
                Compared("p99", "s", quantile(took, 0.99), found.known.quantile(0.99)),
                Compared("answered", "share", good, found.share),
            ),
        )


async def _edges() -> dict[str, list[Edge]]:
    """Return the edges that the gateway declares, by variant."""
    found = await asyncio.gather(
        *(
            declared(examples(), "shop.gateway:inventory", env={"SHOP_GUARDS": guards})
            for guards in GUARDS.values()
        )
    )
    return dict(zip(GUARDS, found, strict=True))


def _page_figures(report: Report, variant: str, samples: Sequence[Sample]) -> None:
    took = [sample.took for sample in samples]
    good = [sample for sample in samples if sample.answer.good]
    old = [sample for sample in good if sample.answer.body["degraded"]]
    for name, value, unit in (
        ("pages", len(samples), ""),
        ("p50", quantile(took, 0.5), "s"),
        ("p99", quantile(took, 0.99), "s"),
        ("answered", len(good) / len(samples), "share"),
        ("of these with older stock", len(old) / max(1, len(good)), "share"),
    ):
        report.figure(name, value, unit, variant=variant, section=ONE)


def _page_checks(report: Report, samples: dict[str, list[Sample]]) -> None:
    took = {variant: [sample.took for sample in taken] for variant, taken in samples.items()}
    spinner = quantile(took["naive"], 0.5)
    report.check(
        "without guards the page takes the three waits together",
        spinner >= 3 * SLOW,
        f"p50 {spinner:.2f} s, three times {SLOW:g} s is {3 * SLOW:g} s",
    )
    worst = quantile(took["guarded"], 0.99)
    report.check(
        "with guards the page takes no longer than its three deadlines of 0.3 s",
        worst <= 3 * 0.3 + 0.2,
        f"p99 {worst:.2f} s",
    )
    guarded = samples["guarded"]
    answered = sum(sample.answer.good for sample in guarded)
    report.check(
        "with guards every page is answered",
        answered == len(guarded),
        f"{answered} of {len(guarded)}",
    )
    seen = {str(sample.answer.body["stock"]) for sample in samples["healthy"]}
    wrong = sum(
        sample.answer.good and str(sample.answer.body["stock"]) not in seen for sample in guarded
    )
    report.check(
        "what a degraded page shows was true before",
        wrong == 0,
        f"{wrong} of {len(guarded)} pages show a stock that nobody had seen",
    )


# --- leg 2: the blast radius --------------------------------------------------------------------


async def _second_leg(stand: Stand, shop: System, visitors: Visitors, report: Report) -> None:
    watched: dict[str, _Watch] = {}
    most: dict[str, int] = {}
    for variant, guards in (("guarded", "on"), ("naive", "off")):
        shop.faults("inventory").set()
        await asyncio.gather(
            shop["gateway"].restart(SHOP_GUARDS=guards, DRILL_WORKERS=str(WORKERS)),
            shop["inventory"].restart(DRILL_WORKERS=str(WORKERS)),
        )
        warm = await _watch(shop, visitors, WARM)
        watched.setdefault("healthy", warm)
        shop.faults("inventory").set(stock=Faults(sleep=STUCK))
        stand.say(f"inventory takes {STUCK:g} s, {'with' if guards == 'on' else 'without'} guards")
        watch = watched[variant] = await _watch(shop, visitors, WATCHED)
        most[variant] = _busy_figures(report, variant, watch, shop)
        who, when = _first_to_see(watch, shop.signals("gateway"))
        report.figure("first to see it", who, variant=variant, section=TWO)
        report.figure("after", when, "s", variant=variant, section=TWO)
    # what still waits in there would wait for half a minute more
    for service in ("gateway", "inventory"):
        shop[service].kill()
    for variant in VARIANTS:
        _page_figures_of_two(report, variant, watched[variant])
    await _foretell_two(report, watched)
    _radius_checks(report, {name: watch.imprint for name, watch in watched.items()}, most)


async def _foretell_two(report: Report, watched: dict[str, _Watch]) -> None:
    """Put the blast radius that the simulator predicts beside the one that was measured."""
    well = watched["healthy"]
    own, page = (
        quantile([sample.took for sample in samples], 0.5)
        for samples in (well.imprint, well.checkout)
    )
    given = Pages(
        own=own,
        question=max(0.0, (page - own) / 3),
        healthy=0.0,
        slow=STUCK,
        workers=WORKERS,
        checkouts=CHECKOUTS,
        imprints=IMPRINTS,
        well=WARM,
        seconds=WATCHED,
        patience=PATIENCE,
    )
    for variant, edges in (await _edges()).items():
        found = pages(edges, given)
        watch = watched[variant]
        for name, samples in (("checkout", watch.checkout), ("imprint", watch.imprint)):
            good = sum(sample.answer.good for sample in samples) / len(samples)
            slowest = quantile([sample.took for sample in samples], 0.99)
            compare(
                report,
                variant,
                "2",
                (
                    Compared(f"{name} answered", "share", good, found[name].share),
                    Compared(
                        f"{name} p99",
                        "s",
                        min(slowest, PATIENCE),
                        min(found[name].known.quantile(0.99), PATIENCE),
                    ),
                ),
            )


class _Watch:
    """What was seen of both pages from `began` on."""

    def __init__(self, began: float, checkout: list[Sample], imprint: list[Sample]) -> None:
        self.began = began
        self.checkout = checkout
        self.imprint = imprint


async def _watch(shop: System, visitors: Visitors, seconds: float) -> _Watch:
    checkout, imprint = shop.url("gateway", "/checkout/ann"), shop.url("gateway", "/imprint")
    began = time.time()
    seen = await asyncio.gather(
        offer(evenly(CHECKOUTS, seconds), lambda _: visitors.get(checkout, PATIENCE)),
        offer(evenly(IMPRINTS, seconds), lambda _: visitors.get(imprint, PATIENCE)),
    )
    return _Watch(began, *seen)


def _page_figures_of_two(report: Report, variant: str, watch: _Watch) -> None:
    for page, samples in (("checkout", watch.checkout), ("imprint", watch.imprint)):
        slowest = quantile([sample.took for sample in samples], 0.99)
        good = sum(sample.answer.good for sample in samples)
        for name, value, unit in (
            (f"{page} p99", min(slowest, PATIENCE), "s"),
            (f"{page} answered", good / len(samples), "share"),
        ):
            cut = unit == "s" and slowest >= PATIENCE
            report.figure(name, value, unit, variant=variant, section=TWO, at_least=cut)


def _busy_figures(report: Report, variant: str, watch: _Watch, shop: System) -> int:
    """Add the busy workers at each second; return the most that the gateway had."""
    most = 0
    for service in ("gateway", "inventory"):
        entries = [entry for entry in shop.signals(service) if entry.kind == BUSY]
        counts = busy_at(entries, [watch.began + second for second in range(1, int(WATCHED) + 1)])
        report.figure(
            f"{service} busy, by second",
            " ".join(map(str, counts)),
            variant=variant,
            section=TWO,
        )
        if service == "gateway":
            most = max(counts)
    return most


def busy_at(entries: Sequence[Entry], times: Sequence[float]) -> list[int]:
    """Return how many workers were busy at each of the times, given every change."""
    counts = []
    for moment in times:
        before = [entry.detail["busy"] for entry in entries if entry.at <= moment]
        counts.append(before[-1] if before else 0)
    return counts


def _first_to_see(watch: _Watch, gateway: Sequence[Entry]) -> tuple[str, float]:
    """Tell who noticed first that something was wrong, and how many seconds after it began."""
    seen = [
        (sample.due + sample.took, "a visitor")
        for page, samples in (("/checkout", watch.checkout), ("/imprint", watch.imprint))
        for sample in samples
        if not sample.answer.good
    ]
    seen += [
        (entry.at - watch.began, "the guard")
        for entry in gateway
        if entry.at >= watch.began
        and entry.kind in (SignalKind.FALLBACK_USED, SignalKind.BREAKER_OPENED)
    ]
    when, who = min(seen, default=(WATCHED, _UNSEEN))
    return who, when


def _radius_checks(report: Report, imprint: dict[str, list[Sample]], most: dict[str, int]) -> None:
    slowest = {
        variant: quantile([sample.took for sample in samples], 0.99)
        for variant, samples in imprint.items()
    }
    answered = {
        variant: sum(sample.answer.good for sample in samples) / len(samples)
        for variant, samples in imprint.items()
    }
    report.check(
        "without guards, one slow service takes a page down that never calls it",
        answered["naive"] < 0.9 and most["naive"] == WORKERS,  # noqa: PLR2004  a tenth left
        f"{1 - answered['naive']:.0%} of its visitors left; "
        f"{most['naive']} of {WORKERS} workers busy",
    )
    report.check(
        "with guards every visitor of that page gets it, without a wait to speak of",
        slowest["guarded"] < 1.0 and answered["guarded"] == 1.0,
        f"p99 {slowest['guarded'] * 1000:.0f} ms, healthy {slowest['healthy'] * 1000:.0f} ms; "
        f"at most {most['guarded']} of {WORKERS} workers busy",
    )
