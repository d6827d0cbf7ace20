"""What the simulator predicts of the drills, from what the reference systems declare."""

import pytest

from switchgear.drills.declared import declared
from switchgear.drills.leaf_down import LEAF, LOOP, RETRYING
from switchgear.drills.predicted import Compared, Pages, chain, compare, pages
from switchgear.drills.report import Report
from switchgear.drills.stand import examples
from switchgear.errors import OperationError, PolicyError
from switchgear.policy.adaptive import Vegas
from switchgear.policy.breaker import Breaker, Evidence
from switchgear.policy.budget import TokenBucket
from switchgear.policy.defaults import policy_of
from switchgear.policy.fallback import Fallback, Stale
from switchgear.policy.hedge import Hedge
from switchgear.policy.limit import Limit
from switchgear.policy.policy import Policy


@pytest.mark.parametrize(
    "policy",
    [
        Policy(),
        Policy.none(reason="a test"),
        Policy(
            deadline=0.3,
            retry=None,
            budget=TokenBucket(capacity=90),
            hedge=Hedge(after=0.1),
            breaker=Breaker(threshold=0.4, evidence=(Evidence(2, 12),), confidence=None),
            limit=Limit(concurrency=Vegas(maximum=50)),
            fallback=Fallback(stale=Stale(max_age=9)),
            observe=("hedge",),
        ),
    ],
)
def test_a_policy_is_what_its_description_says(policy):
    assert policy_of(policy.describe()) == policy


def test_a_setting_that_there_is_not_is_refused():
    with pytest.raises(PolicyError, match="colour is no setting of Retry"):
        policy_of({"retry": {"colour": "red"}})
    with pytest.raises(PolicyError, match="kind is 'x'; it has to be one of"):
        policy_of({"budget": {"kind": "x"}})


def test_a_fallback_that_is_code_cannot_be_read():
    with pytest.raises(PolicyError, match="is code"):
        policy_of(Policy(fallback=Fallback(value=3)).describe())


async def test_edges_are_what_a_process_with_that_environment_declares():
    (on, *_), (off, *_) = [
        await declared(examples(), "shop.gateway:inventory", env={"SHOP_GUARDS": guards})
        for guards in ("on", "off")
    ]
    assert on.name == off.name == "gateway -> shop.inventory.v1.Inventory/stock"
    assert policy_of(on.policy).deadline == 0.3
    assert policy_of(off.policy).deadline is None


async def test_what_cannot_be_imported_is_said():
    with pytest.raises(OperationError, match="no module shopp"):
        await declared(examples(), "shopp.gateway:inventory", env={})


async def test_the_leaf_of_a_chain():
    edges = await declared(examples(), *(f"chain.chain:{link}" for link in RETRYING), env={})
    given = {"hop": 0.005, "seconds": 5.0, "patience": 60.0}
    links = [*RETRYING, LEAF]
    assert chain(edges, links, rate=4.0, loop=LOOP, **given)[0] == 81
    each, whole = chain(edges, links, rate=40.0, **given)
    assert each < 0.2
    assert whole.known.quantile(0.99) < 1.0


async def test_the_pages_of_the_shop():
    given = Pages(
        own=0.005,
        question=0.005,
        healthy=0.0,
        slow=10.0,
        workers=16,
        checkouts=12.0,
        imprints=25.0,
        well=1.5,
        seconds=6.0,
        patience=3.0,
    )
    shown = {}
    for guards in ("on", "off"):
        edges = await declared(examples(), "shop.gateway:inventory", env={"SHOP_GUARDS": guards})
        shown[guards] = {page: one.share for page, one in pages(edges, given).items()}
    assert shown["on"] == {"checkout": 1.0, "imprint": 1.0}
    assert shown["off"]["checkout"] == 0
    assert shown["off"]["imprint"] < 0.3


def test_the_error_of_a_prediction_is_shown():
    report = Report("any", "nothing")
    compare(
        report,
        "naive",
        "1",
        [Compared("p50", "s", 2.0, 2.5), Compared("answered", "share", 0.5, 0.45)],
    )
    assert [figure.value for figure in report.figures] == [
        2.0,
        2.5,
        "+25%",
        0.5,
        0.45,
        "-5.0 points",
    ]
