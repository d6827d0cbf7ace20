"""What the simulator predicts of two drills, beside what they measured.

The policies are those of the edges that the running services declare, read with the same
environment (`declared.py`). The times are what was measured while nothing was broken. Everything
else is what the drill itself does: how many visitors, what is broken, how many workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from typing import Final

from switchgear.drills.report import Report
from switchgear.model.edge import Edge
from switchgear.policy.policy import Policy
from switchgear.topology.simulate.book import Bin, total
from switchgear.topology.simulate.chance import Constant
from switchgear.topology.simulate.load import Steady
from switchgear.topology.simulate.predict import wires
from switchgear.topology.simulate.scenario import (
    NAIVE,
    Ask,
    Entry,
    Fault,
    FaultKind,
    Operation,
    Scenario,
    Service,
    Step,
    Work,
)
from switchgear.topology.simulate.world import World

__all__ = ["Compared", "Pages", "chain", "compare", "pages"]

ARTICLES: Final = 3
"""Different questions that the checkout page asks: the same in every page."""
SEEDS: Final = range(1, 4)


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure, as it was and as it was foretold."""

    name: str
    unit: str
    measured: float
    predicted: float

    @property
    def error(self) -> str:
        """How far the prediction is off: a share of what was measured, or points of a share."""
        off = self.predicted - self.measured
        if self.unit == "share":
            return f"{off * 100:+.1f} points"
        return f"{off / self.measured:+.0%}" if self.measured else "-"


def compare(report: Report, variant: str, section: str, figures: Iterable[Compared]) -> None:
    """Add the figures of a variant to a report, with the error of each."""
    section = f"{section}: predicted from the same edges, and the times of the healthy system"
    for one in figures:
        for what, value in (("measured", one.measured), ("predicted", one.predicted)):
            name = f"{one.name}, {what}"
            report.figure(name, value, one.unit, variant=variant, section=section)
        report.figure(f"{one.name}, error", one.error, variant=variant, section=section)


def chain(
    edges: Sequence[Edge],
    links: Sequence[str],
    *,
    hop: float,
    rate: float,
    seconds: float,
    patience: float,
    loop: Policy | None = None,
) -> tuple[float, Bin]:
    """Predict a chain whose last service fails: requests at the leaf for each original one.

    hop: seconds that one link takes for a request. loop: what a link does by hand, knowing nothing
    of the other layers, in place of the policies that the edges declare.
    """
    leaf = links[-1]
    served = {
        edge.name: f"{below}.answer"
        for caller, below in pairwise(links)
        for edge in edges
        if edge.caller == caller and edge.operation.endswith("/answer")
    }
    work = Work(Constant(hop))
    services = {
        link: Service(operations={"answer": Operation(steps=(work, Ask((f"{below}.answer",))))})
        for link, below in pairwise(links)
    } | {leaf: Service(operations={"answer": Operation(steps=(work,))})}
    scenario = Scenario(
        name="leaf-down",
        seconds=seconds,
        services=services,
        wires={} if loop is not None else wires(edges, served),
        naive=loop or NAIVE,
        entries={
            "visitors": Entry(
                calls=f"{links[0]}.answer", load=Steady(rate), evenly=True, patience=patience
            )
        },
        faults=(Fault(kind=FaultKind.ERRORS, service=leaf),),
    )
    pages, reached = Bin(), 0
    for seed in SEEDS:
        world = World(scenario, seed, naive=loop is not None).run()
        pages.merge(_counted(world, "visitors"))
        reached += world.arrived(f"{leaf}.answer")
    return reached / pages.offered, pages


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """The pages of the gateway, and what is wrong behind them."""

    own: float
    """Seconds that the gateway itself takes for a page."""
    question: float
    """Seconds that a question takes, without the wait that the drill adds:"""
    healthy: float
    slow: float
    """Seconds of it, while all is well and after that."""
    workers: int | None = None
    """Of the gateway and of inventory each; None: any number."""
    checkouts: float
    imprints: float = 0.0
    """Visitors a second."""
    well: float
    """Seconds for which all is well first."""
    seconds: float
    """Seconds that count, after those."""
    patience: float


def pages(edges: Sequence[Edge], given: Pages) -> dict[str, Bin]:
    """Predict the checkout page, which asks inventory three times, and the imprint."""
    served = {edge.name: "inventory.stock" for edge in edges if edge.operation.endswith("/stock")}
    own: Step = Work(Constant(given.own))
    ask = Ask(("inventory.stock",))
    services = {
        # the gateway is not ours: it does not notice that a visitor leaves
        "gateway": Service(
            workers=given.workers,
            deadlines=False,
            operations={
                "checkout": Operation(steps=(own, ask, ask, ask)),
                "imprint": Operation(steps=(own,)),
            },
        ),
        "inventory": Service(
            workers=given.workers,
            operations={
                "stock": Operation(steps=(Work(Constant(given.healthy + given.question)),))
            },
        ),
    }
    loads = {"checkout": given.checkouts, "imprint": given.imprints}
    scenario = Scenario(
        name="slow-inventory",
        seconds=given.well + given.seconds,
        warm=given.well,
        services=services,
        wires={
            name: replace(wire, questions=ARTICLES) for name, wire in wires(edges, served).items()
        },
        entries={
            page: Entry(
                calls=f"gateway.{page}", load=Steady(rate), evenly=True, patience=given.patience
            )
            for page, rate in loads.items()
        },
        faults=(
            Fault(
                kind=FaultKind.SLOW,
                service="inventory",
                at=given.well,
                takes=Constant(given.slow + given.question),
            ),
        ),
    )
    found = {page: Bin() for page in loads}
    for seed in SEEDS:
        world = World(scenario, seed).run()
        for page, whole in found.items():
            whole.merge(_counted(world, page))
    return found


def _counted(world: World, entry: str) -> Bin:
    book = world.books[entry]
    return total(book.bins[ceil(world.scenario.warm / book.width - 1e-9) :])
