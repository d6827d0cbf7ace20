"""`[policy]` in `switchgear.toml`: what it means, and what is said when it is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from switchgear import config
from switchgear.config import policies
from switchgear.errors import ConfigError
from switchgear.model.edge import Pattern
from switchgear.policy.adaptive import Gradient
from switchgear.policy.breaker import Breaker, Evidence
from switchgear.policy.budget import GrpcThrottling
from switchgear.policy.defaults import Defaults
from switchgear.policy.hedge import Hedge
from switchgear.policy.limit import Limit
from switchgear.policy.policy import PARTS, Policy
from switchgear.policy.retry import Retry

FILE = """\
[policy]
deadline = 2
observe = ["hedge"]
hedge.after = 0.5

[policy.breaker]
open = 5
evidence = [[1, 30], [20, 15]]

[policy.query]
retry = { attempts = 2, jitter = "equal" }
budget = { kind = "grpc", max_tokens = 20 }

[policy.command]
breaker = false

[policy.callees."shop.inventory.v1.Inventory"]
limit.concurrency = { kind = "gradient", maximum = 50 }

[policy.callees."shop.inventory.v1.Inventory".query]
deadline = 1

[policy.callees."shop.inventory.v1.Inventory".operations.stock]
deadline = 0.8
"""


def load(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Defaults:
    file = folder / "switchgear.toml"
    file.write_text(text, encoding="utf-8")
    return config.load(file, environ or {}).policies


def test_a_whole_file(tmp_path: Path) -> None:
    found = load(tmp_path, FILE)
    breaker = Breaker(open=5, evidence=(Evidence(1, 30), Evidence(20, 15)))
    assert found.policy(pattern=Pattern.QUERY) == Policy(
        deadline=2,
        observe=["hedge"],
        hedge=Hedge(after=0.5),
        breaker=breaker,
        retry=Retry(attempts=2, jitter="equal"),
        budget=GrpcThrottling(max_tokens=20),
    )
    assert found.policy(pattern=Pattern.COMMAND).breaker is None
    stock = found.policy(
        Policy(retry=None),
        callee="shop.inventory.v1.Inventory",
        pattern=Pattern.QUERY,
        operation="stock",
    )
    assert stock.deadline == 0.8
    assert stock.limit == Limit(concurrency=Gradient(maximum=50))
    assert stock.retry is None
    assert stock.sources["deadline"].startswith("switchgear.toml:24: ")
    assert stock.sources["breaker.open"] == "switchgear.toml:7: policy.breaker.open"
    assert stock.sources["budget.max_tokens"].startswith("switchgear.toml:12: ")


def test_without_a_table_nothing_is_set(tmp_path: Path) -> None:
    assert load(tmp_path, "").policy() == Policy()


def test_the_environment_overrides(tmp_path: Path) -> None:
    environ = {
        "SWITCHGEAR_POLICY_DEADLINE": "0.7",
        "SWITCHGEAR_POLICY_QUERY_RETRY_ATTEMPTS": "4",
        "SWITCHGEAR_POLICY_THROTTLE": "true",
        "SWITCHGEAR_POLICY_LIMIT": "false",
        "SWITCHGEAR_POLICY_OBSERVE": "retry,limit",
        "SWITCHGEAR_POLICY_HEDGE_AFTER": "0.3",
    }
    policy = load(tmp_path, FILE, environ).policy(pattern=Pattern.QUERY)
    assert (policy.deadline, policy.limit, policy.observe) == (0.7, None, ("retry", "limit"))
    assert policy.retry == Retry(attempts=4, jitter="equal")
    assert policy.throttle is not None
    assert policy.sources["deadline"] == "environment variable SWITCHGEAR_POLICY_DEADLINE"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[policy]\ndeadlin = 1", "switchgear.toml:2: policy.deadlin: there is no such key. "),
        ("[policy.retry]\natempts = 1", "switchgear.toml:2: policy.retry.atempts: there is no"),
        ("[policy]\ndeadline = 'soon'", "policy.deadline: expected seconds as a number, found"),
        ("[policy]\ndeadline = -1", "switchgear.toml:2: policy.deadline: deadline is -1"),
        ("[policy]\nretry.attempts = 1.5", "policy.retry.attempts: expected a whole number"),
        ("[policy]\nretry = 3", "policy.retry: expected a table of settings, true or false"),
        ("[policy]\nretry.jitter = 'some'", "jitter is 'some'; it has to be one of full, equal"),
        ("[policy]\nbudget.kind = 'gold'", "policy.budget.kind: expected one of share, grpc"),
        ("[policy]\nbudget.max_tokens = 5", "max_tokens is no setting of Budget"),
        ("[policy]\nbreaker.evidence = [1, 20]", "expected pairs of seconds and calls"),
        ("[policy]\nbreaker.evidence = [[0, 20]]", "evidence: seconds is 0"),
        ("[policy]\nobserve = ['all']", f"expected true, or a list of some of {PARTS[0]}"),
        ("[policy]\nfallback.value = 3", "policy.fallback.value: there is no such key"),
        ("[policy.event]\ndeadline = 1", "policy.event: there is no such key"),
        ("[policy]\nquery = 1", "policy.query: expected a table, found 1"),
        (
            "[policy]\ndeadline = 0.5\n[policy.query]\nattempt_timeout = 0.8",
            "attempt_timeout is 0.8 s (switchgear.toml:4: policy.query.attempt_timeout) and",
        ),
        (
            "[policy.callees.stock]\nlimit.concurrency = 1\ndeadline = 5",
            "limit.concurrency is 1 (switchgear.toml:2",
        ),
        ("[policy]\npreset = 'acme'", "policy.preset: no package that is installed provides"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert words in str(caught.value)


def test_a_variable_that_sets_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="SWITCHGEAR_POLICY_DEADLIN: no setting has this name"):
        load(tmp_path, "", {"SWITCHGEAR_POLICY_DEADLIN": "1"})


PRESET = Defaults.of(Policy(deadline=0.5), query=Policy(retry=Retry(attempts=5)), source="acme")
NO_PRESET = 7


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint(name, f"{__name__}:{attribute}", policies.GROUP)
        for name, attribute in (
            ("acme", "PRESET"),
            ("seven", "NO_PRESET"),
            ("gone", "ABSENT"),
        )
    ]
    monkeypatch.setattr(policies, "entry_points", lambda group: EntryPoints(points))


@pytest.mark.usefixtures("packages")
def test_a_package_provides_a_preset_and_the_file_is_stronger(tmp_path: Path) -> None:
    found = load(
        tmp_path, "[policy]\npreset = 'acme'\nattempt_timeout = 0.1\n[policy.command]\ndeadline = 3"
    )
    query, command = found.policy(pattern=Pattern.QUERY), found.policy(pattern=Pattern.COMMAND)
    assert query == Policy(deadline=0.5, attempt_timeout=0.1, retry=Retry(attempts=5))
    assert command.deadline == 3
    assert query.sources["deadline"] == "acme"


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("acne", "provides the preset acne. There are: acme, gone, seven."),
        ("seven", "NO_PRESET is int, not Defaults."),
        ("gone", "ABSENT cannot be loaded"),
    ],
)
def test_a_preset_that_is_none_is_said(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"[policy]\npreset = '{name}'")
    assert words in str(caught.value)
