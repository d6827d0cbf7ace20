"""What an organisation sets for all its calls, what the code says, and which of them holds."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from switchgear.errors import PolicyError
from switchgear.model.edge import Pattern
from switchgear.policy.adaptive import Gradient, Vegas
from switchgear.policy.breaker import Breaker
from switchgear.policy.budget import Budget, GrpcThrottling, TokenBucket
from switchgear.policy.defaults import Defaults, Given, Scope, Switch
from switchgear.policy.fallback import Fallback, Stale
from switchgear.policy.limit import Limit
from switchgear.policy.policy import Policy
from switchgear.policy.retry import Retry


def layered(*layers):
    """Defaults of layers for every call; each is a mapping, named by its place."""
    return Defaults(
        tuple(
            (Scope(), {path: Given(value, f"layer {number}") for path, value in layer.items()})
            for number, layer in enumerate(layers)
        )
    )


def test_without_layers_the_code_is_all():
    own = Policy(deadline=3)
    assert Defaults().policy(own) is own
    assert Defaults().policy() == Policy()


def test_settings_are_merged_one_by_one():
    defaults = Defaults.of(
        Policy(deadline=0.5, retry=Retry(attempts=5, cap=3)),
        query=Policy(retry=Retry(attempts=2)),
        callees={"stock": Policy(breaker=Breaker(open=5))},
    )
    policy = defaults.policy(
        Policy(deadline=2, retry=Retry(base=0.2)), callee="stock", pattern=Pattern.QUERY
    )
    assert policy == Policy(
        deadline=2, retry=Retry(attempts=2, cap=3, base=0.2), breaker=Breaker(open=5)
    )
    assert defaults.policy(callee="other", pattern=Pattern.COMMAND) == Policy(
        deadline=0.5, retry=Retry(attempts=5, cap=3)
    )


def test_each_value_says_where_it_comes_from():
    defaults = Defaults.of(Policy(deadline=0.5, retry=Retry(attempts=5)), source="acme")
    told = defaults.policy(Policy(retry=Retry(base=0.2), limit=None)).describe()
    assert told["sources"] == {
        "deadline": "acme",
        "retry": "the code",
        "retry.attempts": "acme",
        "retry.base": "the code",
        "limit": "the code",
    }
    assert json.loads(json.dumps(told)) == told
    assert Policy(deadline=2, retry=Retry(base=0.2)).describe()["sources"] == {
        "deadline": "the code",
        "retry.base": "the code",
    }


def test_a_part_is_switched_off_and_on_again():
    off = layered({"breaker": Switch.OFF, "retry.attempts": 5})
    assert off.policy().breaker is None
    on = layered({"breaker": Switch.OFF}, {"breaker.open": 5})
    assert on.policy().breaker == Breaker(open=5)
    assert layered({"hedge": Switch.ON}).policy().hedge is not None
    assert off.policy(Policy(breaker=Breaker())).breaker == Breaker()
    gone = layered({"retry.attempts": 5}).policy(Policy(retry=None))
    assert gone.retry is None
    assert gone.sources == {"retry": "the code"}


def test_another_kind_forgets_what_the_one_before_was_told():
    defaults = layered(
        {"budget.ratio": 0.2},
        {"budget": Switch.ON, "budget.kind": "grpc", "budget.max_tokens": 20},
    )
    assert defaults.policy().budget == GrpcThrottling(max_tokens=20)
    assert "budget.ratio" not in defaults.policy().sources
    assert defaults.policy(Policy(budget=TokenBucket())).budget == TokenBucket()
    assert defaults.policy(Policy(budget=GrpcThrottling(token_ratio=1))).budget == GrpcThrottling(
        max_tokens=20, token_ratio=1
    )
    assert layered({"budget.ratio": 0.2}).policy().budget == Budget(ratio=0.2)


def test_a_limit_may_be_a_number_or_a_rule():
    rule = {"limit.concurrency.kind": "gradient", "limit.concurrency.initial": 7}
    assert layered(rule).policy().limit == Limit(concurrency=Gradient(initial=7))
    assert layered(rule, {"limit.concurrency": 9}).policy().limit == Limit(concurrency=9)
    assert layered({"limit.concurrency": 9}, rule).policy().limit == Limit(
        concurrency=Gradient(initial=7)
    )
    own = Policy(limit=Limit(concurrency=Vegas(maximum=50)))
    assert layered(rule).policy(own).limit == Limit(concurrency=Vegas(maximum=50))


def test_what_only_code_can_give_stays():
    own = Policy(fallback=Fallback(function=len))
    merged = layered({"fallback.stale.max_age": 5}).policy(own)
    assert merged.fallback == Fallback(stale=Stale(max_age=5), function=len)


def test_going_unguarded_is_stronger_than_any_default():
    own = Policy.none(reason="a health check")
    assert layered({"deadline": 1, "hedge.after": 0.1, "retry.attempts": 9}).policy(own) == own


def test_a_contradiction_between_layers_names_both():
    defaults = layered({"deadline": 0.5}, {"attempt_timeout": 0.8})
    with pytest.raises(PolicyError) as caught:
        defaults.policy()
    assert "attempt_timeout is 0.8 s (layer 1) and deadline is 0.5 s (layer 0)" in str(caught.value)


def test_a_setting_out_of_range_names_its_layer():
    with pytest.raises(PolicyError, match="layer 1: attempts is 0"):
        layered({"deadline": 1}, {"retry.attempts": 0}).policy()


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ({"budget.kind": "grpc", "budget.ratio": 1}, "ratio is no setting of GrpcThrottling"),
        ({"budget.kind": "gold"}, "kind is 'gold'; it has to be one of share, grpc, bucket"),
    ],
)
def test_what_does_not_fit_is_refused(layer, words):
    with pytest.raises(PolicyError, match=words):
        layered(layer).policy()


def test_a_stronger_set_is_laid_over_a_weaker():
    preset = Defaults.of(Policy(deadline=0.5, retry=Retry(attempts=5)))
    assert layered({"deadline": 2.0}).over(preset).policy() == Policy(
        deadline=2, retry=Retry(attempts=5)
    )


@pytest.mark.parametrize("again", [copy.copy, lambda one: pickle.loads(pickle.dumps(one))])  # noqa: S301
def test_a_copy_remembers_what_was_given(again):
    policy = again(Policy(deadline=2, retry=Retry(base=0.2), observe=["limit"]))
    assert policy == Policy(deadline=2, retry=Retry(base=0.2), observe=["limit"])
    assert policy.given == {"deadline", "retry", "observe"}
    assert policy.retry.given == {"base"}
