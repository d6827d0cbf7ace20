"""`switchgear simulate` as people type it."""

import json

import pytest

from switchgear.cli.main import main
from switchgear.config.scenario import read_scenario, shipped
from switchgear.topology.simulate.blast import State, blast

SMALL = """
seconds = 30
warm = 2
seeds = 2

[services.shop]
workers = 8
[services.shop.operations.page]
steps = [0.01, "stock.find"]
[services.shop.operations.imprint]
steps = [0.01]

[services.stock.operations.find]
steps = [{ exponential = 0.02 }]

[services.mail.reacts.seen]
steps = [0.01]

[entries.visitors]
calls = "shop.page"
load = { poisson = 40 }
patience = 5

[entries.others]
calls = "shop.imprint"
load = { poisson = 40 }

[[faults]]
kind = "errors"
service = "stock"
at = 10
seconds = 8
"""


@pytest.fixture
def small(tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(SMALL)
    return str(file)


@pytest.fixture
def switchgear(capsys):
    """Run a command; return its exit code, its output and its errors."""

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["simulate", *arguments])
        return end.value.code, *capsys.readouterr()

    return run


def test_without_a_name_it_lists_what_is_shipped(switchgear):
    code, out, _ = switchgear()
    assert code == 0
    for name in ("cascade", "metastable", "morning-ramp", "retry-amplification", "slow-consumer"):
        assert name in out
        assert name in shipped()


def test_a_run_prints_both_variants(switchgear, small):
    code, out, _ = switchgear(small)
    assert code == 0
    for word in ("naive", "guarded", "goodput", "p99.9", "time to recover", "stock.find"):
        assert word in out


def test_a_run_as_json(switchgear, small):
    code, out, _ = switchgear(small, "--json", "--seeds", "3")
    assert code == 0
    naive, guarded = map(json.loads, out.splitlines())
    assert (naive["variant"], guarded["variant"]) == ("naive", "guarded")
    assert naive["runs"] == 3
    visitors = guarded["entries"]["visitors"]
    assert visitors["offered"]["mean"] == pytest.approx(40, rel=0.1)
    assert visitors["good"]["low"] <= visitors["good"]["mean"] <= visitors["good"]["high"]
    assert len(visitors["recovery"]) == 3
    assert guarded["amplification"]["stock.find"]["mean"] < 1
    assert naive["amplification"]["stock.find"]["mean"] > 1.3
    assert guarded["edges"]["shop -> stock.find"]["breaker_opened"]["mean"] >= 1


def test_the_same_seeds_print_the_same(switchgear, small):
    assert switchgear(small, "--json") == switchgear(small, "--json")


@pytest.mark.parametrize(("ending", "begins"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_a_picture(switchgear, small, tmp_path, ending, begins):
    file = tmp_path / f"picture.{ending}"
    code, out, _ = switchgear(small, "--plot", str(file), "--seeds", "1")
    assert code == 0
    assert str(file) in out.replace("\n", "")
    assert file.read_bytes().startswith(begins)


def test_the_blast_radius(switchgear, small):
    code, out, _ = switchgear(small, "--fail", "stock", "--json")
    assert code == 0
    naive, guarded = map(json.loads, out.splitlines())
    for one in (naive, guarded):
        assert one["services"]["stock"] == one["operations"]["stock.find"] == "down"
        assert one["entries"]["visitors"] == "down"
        assert one["edges"][0]["edge"] == "shop -> stock.find"
        assert one["services"]["mail"] == "ok"
    assert guarded["entries"]["others"] == "ok"
    code, out, _ = switchgear(small, "--fail", "stock")
    assert "in the order in which they went bad" in out
    assert "1. shop -> stock.find" in out


def test_a_slow_leaf_takes_a_page_down_that_never_asks_it_and_the_guards_keep_it_up():
    scenario = read_scenario(shipped()["cascade"])
    naive, guarded = (
        blast(scenario, "inventory", [1], naive=naive, kind="silent") for naive in (True, False)
    )
    assert naive.entries == {"page": State.DOWN, "imprint": State.DOWN}
    assert guarded.entries == {"page": State.DEGRADED, "imprint": State.OK}
    assert [edge.name for edge in naive.edges] == [
        "orders -> inventory.stock",
        "gateway -> orders.order",
        "page -> gateway.page",
        "imprint -> gateway.imprint",
    ]


def test_a_sweep(switchgear, small):
    code, out, _ = switchgear(small, "--sweep", "breaker.threshold=0.3,0.8", "--json")
    assert code == 0
    low, high = map(json.loads, out.splitlines())
    assert (low["value"], high["value"]) == (0.3, 0.8)
    assert low["false_opens"]["mean"] == high["false_opens"]["mean"] == 0
    assert 0 < low["failed_before_opening"]["mean"] < high["failed_before_opening"]["mean"]
    assert low["seconds_to_open"]["mean"] < high["seconds_to_open"]["mean"]
    code, out, _ = switchgear(small, "--sweep", "breaker.confidence=none,0.975")
    assert code == 0
    assert "false opens" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "there is no file nowhere"),
        (["SMALL", "--fail", "stok"], "The services are: shop, stock, mail"),
        (["SMALL", "--sweep", "breaker.threshold"], "breaker.threshold=0.3,0.4,0.5"),
        (["SMALL", "--sweep", "breaker.threshold=2"], "at most 1"),
        (["SMALL", "--sweep", "breaker.treshold=0.3"], "There are: threshold"),
        (["SMALL", "--plot", "picture.gif"], ".svg, .png"),
        (["SMALL", "--plot", "a.svg", "--fail", "stock"], "Choose one"),
    ],
)
def test_what_cannot_be_done_is_one_line(switchgear, small, arguments, says):
    code, _, errors = switchgear(*(small if one == "SMALL" else one for one in arguments))
    assert code in (1, 2)
    assert says in errors
    assert errors.count("\n") == 1


def test_a_broken_file_is_one_line_with_file_line_and_key(switchgear, small, tmp_path):
    broken = tmp_path / "broken.toml"
    broken.write_text(SMALL.replace("patience = 5", "patience = -5"))
    code, _, errors = switchgear(str(broken))
    assert code == 2
    assert errors.startswith("error[SG200]: broken.toml:22: entries.visitors.patience: expected")
