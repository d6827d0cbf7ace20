"""How scenarios are written, and what is said about those that are written wrongly."""

import math

import pytest

from switchgear.config.scenario import read_scenario, shipped
from switchgear.errors import ConfigError
from switchgear.policy.breaker import Evidence
from switchgear.topology.simulate.chance import (
    Constant,
    Exponential,
    Hyperexponential,
    Lognormal,
    Quantiles,
    Uniform,
)
from switchgear.topology.simulate.load import Diurnal, Ramp, Steady, Steps
from switchgear.topology.simulate.scenario import Ask, Publish, Work

BASE = """
seconds = 60

[services.shop.operations.page]
steps = [0.01, "stock.find"]

[services.stock.operations.find]
steps = [{ exponential = 0.02 }]

[entries.visitors]
calls = "shop.page"
load = { poisson = 50 }
"""


@pytest.fixture
def read(tmp_path):
    def read(text):
        file = tmp_path / "world.toml"
        file.write_text(text)
        return read_scenario(file)

    return read


@pytest.mark.parametrize("name", sorted(shipped()))
def test_what_is_shipped_can_be_read(name):
    scenario = read_scenario(shipped()[name])
    assert scenario.title
    assert scenario.shows
    assert scenario.faults


def test_the_least_that_a_scenario_needs(read):
    scenario = read(BASE)
    assert scenario.seconds == 60
    assert scenario.services["shop"].operations["page"].steps == (
        Work(Constant(0.01)),
        Ask(("stock.find",)),
    )
    assert scenario.demand("visitors") == {"shop.page": 1, "stock.find": 1}
    (edge,) = scenario.edges()
    assert edge.name == "shop -> stock.find"
    assert edge.policy["deadline"] == 1.0
    assert scenario.system().services == {"shop", "stock"}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("0.05", Constant(0.05)),
        ("{ constant = 0.05 }", Constant(0.05)),
        ("{ exponential = 0.05 }", Exponential(0.05)),
        ("{ uniform = [0.01, 0.09] }", Uniform(0.01, 0.09)),
        ("{ lognormal = { p50 = 0.02, p99 = 0.3 } }", Lognormal(0.02, 0.3)),
        (
            "{ hyperexponential = [[0.9, 0.01], [0.1, 1]] }",
            Hyperexponential(((0.9, 0.01), (0.1, 1.0))),
        ),
        (
            "{ quantiles = [[0, 0.01], [0.5, 0.02], [1, 0.3]] }",
            Quantiles(((0.0, 0.01), (0.5, 0.02), (1.0, 0.3))),
        ),
    ],
)
def test_times(read, written, meant):
    scenario = read(BASE.replace("{ exponential = 0.02 }", written))
    assert scenario.services["stock"].operations["find"].steps == (Work(meant),)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("{ constant = 50 }", Steady(50.0)),
        ("{ steps = [[0, 5], [10, 50]] }", Steps(((0.0, 5.0), (10.0, 50.0)))),
        (
            "{ spike = { base = 5, peak = 50, at = 10, seconds = 5 } }",
            Steps(((0.0, 5.0), (10.0, 50.0), (15.0, 5.0))),
        ),
        (
            "{ ramp = { low = 1, high = 50, begins = 10, ends = 20 } }",
            Ramp(1.0, 50.0, 10.0, 20.0),
        ),
        (
            "{ diurnal = { mean = 50, swing = 0.5, day = 600, peak = 300 } }",
            Diurnal(50.0, 0.5, 600.0, 300.0),
        ),
    ],
)
def test_loads(read, written, meant):
    entry = read(BASE.replace("{ poisson = 50 }", written)).entries["visitors"]
    assert entry.load == meant
    assert entry.evenly == written.startswith("{ constant")


def test_steps_side_by_side_and_events(read):
    scenario = read(
        BASE.replace('[0.01, "stock.find"]', '[["stock.find", "stock.find"], { publish = "seen" }]')
        + "[services.stock.reacts.seen]\nsteps = [0.1]\nlanes = 2\n"
    )
    assert scenario.services["shop"].operations["page"].steps == (
        Ask(("stock.find", "stock.find")),
        Publish("seen"),
    )
    assert scenario.services["stock"].reacts["seen"].lanes == 2
    assert scenario.demand("visitors")["stock.find"] == 2


def test_policies(read):
    scenario = read(
        BASE
        + """
[policy]
deadline = 0.5
limit = false
breaker = { threshold = 0.4, evidence = [[2, 10]], confidence = false }

[edges."shop -> stock.find"]
optional = true
latency = 0.001
policy = { breaker = { open = 3 }, fallback = { stale = { max_age = 9 } } }
"""
    )
    assert scenario.policy.limit is None
    assert scenario.policy.breaker.evidence == (Evidence(2, 10),)
    assert scenario.policy.breaker.confidence is None
    wire = scenario.wire("shop", "stock.find")
    # what an edge does not say is as in [policy]
    assert (wire.policy.deadline, wire.policy.breaker.threshold) == (0.5, 0.4)
    assert wire.policy.breaker.open == 3
    assert wire.policy.fallback.stale.max_age == 9
    assert wire.optional


WRONG = {
    "no TOML": (BASE + "seconds 60", "world.toml:13", "not valid TOML"),
    "nothing but warm": (
        BASE.replace("seconds = 60", "seconds = 60\nwarm = 60"),
        "world.toml:3: warm",
        "nothing is counted",
    ),
    "a dot in a name": (
        BASE + '[services."a.b".operations.work]\nsteps = [1]',
        'world.toml:13: services."a.b"',
        "dots and spaces",
    ),
    "one name for two": (
        BASE.replace("[entries.visitors]", "[entries.shop]"),
        "world.toml:10: entries.shop",
        "another name",
    ),
    "no seconds": (BASE.replace("seconds = 60", ""), "world.toml:1", "seconds is missing"),
    "no services": ("seconds = 1", "world.toml:1", "no services"),
    "an unknown key": (BASE + "paience = 3", "world.toml:13: entries.visitors.paience", "patience"),
    "an unknown service": (
        BASE.replace('"stock.find"]', '"stok.find"]'),
        "world.toml:5: services.shop.operations.page.steps",
        "The services are: shop, stock",
    ),
    "an unknown operation": (
        BASE.replace('"shop.page"', '"shop.pge"'),
        "world.toml:11: entries.visitors.calls",
        "It has: page",
    ),
    "places for an unknown operation": (
        BASE + "[services.shop.admission.operations.find]\nconcurrency = 1",
        "world.toml:13: services.shop.admission",
        "It has: page",
    ),
    "a circle": (
        BASE.replace("[{ exponential = 0.02 }]", '["shop.page"]'),
        "world.toml:",
        "calling itself: shop.page -> stock.find -> shop.page",
    ),
    "a wrong time": (
        BASE.replace("exponential = 0.02", "exponential = -1"),
        "world.toml:8: services.stock.operations.find.steps",
        "above 0",
    ),
    "an unknown time": (
        BASE.replace("exponential = 0.02", "gamma = 1"),
        "world.toml:8: services.stock.operations.find.steps",
        "hyperexponential",
    ),
    "a wrong load": (
        BASE.replace("poisson = 50", "poisson = -50"),
        "world.toml:12: entries.visitors.load",
        "0 or more",
    ),
    "a wrong policy": (
        BASE + "[policy]\nbreaker = { threshold = 2 }",
        "world.toml:14: policy.breaker.threshold",
        "at most 1",
    ),
    "an unknown policy": (
        BASE + "[policy]\nbreakr = {}",
        "world.toml:14: policy.breakr",
        "Did you mean breaker?",
    ),
    "a policy that contradicts itself": (
        BASE + "[policy]\ndeadline = 1\nattempt_timeout = 2",
        "world.toml:15: policy.attempt_timeout",
        "longer than the call",
    ),
    "an edge that is not there": (
        BASE + '[edges."stock -> shop.page"]\noptional = true',
        'world.toml:13: edges."stock -> shop.page"',
        "shop -> stock.find",
    ),
    "a fault of nobody": (
        BASE + '[[faults]]\nkind = "down"\nservice = "stok"',
        "world.toml:15: faults.0.service",
        "no service stok",
    ),
    "an unknown fault": (
        BASE + '[[faults]]\nkind = "dwn"\nservice = "stock"',
        "world.toml:14: faults.0.kind",
        "silent",
    ),
    "a slow fault that is not slow": (
        BASE + '[[faults]]\nkind = "slow"\nservice = "stock"',
        "world.toml:14: faults.0.kind",
        "factor",
    ),
    "a share above 1": (
        BASE + '[[faults]]\nkind = "lost"\nservice = "stock"\nshare = 2',
        "world.toml:16: faults.0.share",
        "from 0 to 1",
    ),
    "a number that is none": (
        BASE.replace("seconds = 60", "seconds = inf"),
        "world.toml:2: seconds",
        "above 0",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_complaint_says_where_and_what_was_expected(read, name):
    text, where, expected = WRONG[name]
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert where in str(caught.value.where)
    assert expected in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_scenario(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("time", "mean"),
    [
        (Constant(2.0), 2.0),
        (Uniform(1.0, 3.0), 2.0),
        (Hyperexponential(((0.5, 1.0), (0.5, 3.0))), 2.0),
        (Quantiles(((0.0, 1.0), (1.0, 3.0))), 2.0),
        (Quantiles.of([1.0, 2.0, 3.0]), 2.0),
        (Lognormal(1.0, 10.0), math.exp((math.log(10) / 2.3263479) ** 2 / 2)),
    ],
)
def test_the_mean_of_a_time_is_that_of_what_is_drawn(time, mean):
    from random import Random

    draw = time.sampler(Random(3))
    drawn = [draw() for _ in range(40_000)]
    assert time.mean == pytest.approx(mean, rel=1e-2)
    assert sum(drawn) / len(drawn) == pytest.approx(mean, rel=0.03)
