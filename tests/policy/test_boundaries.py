"""Each setting at the edges of its range, and one step beyond.

`test_settings.py` says how a refusal reads; this table says where exactly it begins.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta

import pytest

from switchgear.errors import PolicyError
from switchgear.model.context import Priority
from switchgear.policy.adaptive import Aimd, Gradient, Vegas
from switchgear.policy.admission import Admission
from switchgear.policy.breaker import Breaker, Evidence
from switchgear.policy.budget import Budget, GrpcThrottling, TokenBucket
from switchgear.policy.fallback import Fallback, Stale
from switchgear.policy.hedge import Hedge
from switchgear.policy.limit import Limit
from switchgear.policy.policy import PARTS, Policy
from switchgear.policy.retry import Retry
from switchgear.policy.throttle import Throttle

TINY = 1e-9
BEFORE_1 = 1 - TINY

# settings, its name, the edges that are allowed, the values just outside, what else has to be set
RANGES = [
    (Policy, "deadline", [TINY, 1e9], [0, -TINY], {}),
    (Policy, "attempt_timeout", [TINY, 1], [0, 1 + TINY], {}),
    (Retry, "attempts", [1, 100], [0, 101], {}),
    (Retry, "base", [TINY, 10], [0, 10 + TINY], {}),
    (Retry, "cap", [0.1, 1e9], [0.1 - TINY], {}),
    (Budget, "ratio", [0, 10], [-TINY, 10 + TINY], {}),
    (Budget, "reserve", [0, 10**9], [-1], {}),
    (Budget, "window", [TINY, 1e9], [0], {}),
    (GrpcThrottling, "max_tokens", [TINY, 1000], [0, 1000 + TINY], {}),
    (GrpcThrottling, "token_ratio", [TINY, 1000], [0, 1000 + TINY], {}),
    (TokenBucket, "capacity", [1], [0], {"retry_cost": 1, "timeout_cost": 1}),
    (TokenBucket, "retry_cost", [1, 10], [0, 11], {}),
    (TokenBucket, "timeout_cost", [5, 500], [4, 501], {}),
    (TokenBucket, "refund", [0, 10**9], [-1], {}),
    (Hedge, "percentile", [0.5, 0.999], [0.5 - TINY, 0.999 + TINY], {}),
    (Hedge, "after", [TINY, 1e9], [0], {"least": 0}),
    (Hedge, "after", [0.001], [0.001 - TINY], {}),
    (Hedge, "rivals", [1, 5], [0, 6], {}),
    (Hedge, "least", [0, 1e9], [-TINY], {}),
    (Hedge, "samples", [10, 10**9], [9], {}),
    (Hedge, "window", [TINY, 1e9], [0], {}),
    (Throttle, "ratio", [1, 100], [1 - TINY, 100 + TINY], {}),
    (Throttle, "window", [TINY, 1e9], [0], {}),
    (Throttle, "reserve", [0, 10**9], [-1], {}),
    (Throttle, "most", [TINY, 1], [0, 1 + TINY], {}),
    (Breaker, "threshold", [TINY, BEFORE_1], [0, 1], {}),
    (Breaker, "threshold", [1], [1 + TINY], {"confidence": None}),
    (Breaker, "slow_threshold", [TINY, BEFORE_1], [0, 1], {}),
    (Breaker, "slow_threshold", [1], [1 + TINY], {"confidence": None}),
    (Breaker, "confidence", [0.5, 0.9999, None], [0.5 - TINY, 0.9999 + TINY], {}),
    (Breaker, "consecutive", [1, None], [0], {}),
    (Breaker, "slow", [TINY, 1e9, None], [0], {}),
    (Breaker, "open", [TINY, 300], [0, 300 + TINY], {}),
    (Breaker, "longest", [30, 1e9], [30 - TINY], {}),
    (Breaker, "growth", [1, 10], [1 - TINY, 10 + TINY], {}),
    (Breaker, "jitter", [0, 1], [-TINY, 1 + TINY], {}),
    (Breaker, "probes", [1, 10**9], [0], {}),
    (Breaker, "ramp", [0, 1e9], [-TINY], {}),
    (Breaker, "lost_after", [TINY, 1e9], [0], {}),
    (Breaker, "mode", ["auto", "open", "closed"], ["half-open"], {}),
    (Limit, "concurrency", [1, 10**9], [0], {}),
    (Limit, "queue", [0, 10**9], [-1], {}),
    (Limit, "wait", [0, 1e9], [-TINY], {}),
    (Stale, "max_age", [TINY, 1e9], [0], {}),
    (Stale, "size", [1, 10**9], [0], {}),
    (Aimd, "increase", [TINY, 1e9], [0], {}),
    (Aimd, "backoff", [0.1, 0.99], [0.1 - TINY, 0.99 + TINY], {}),
    (Aimd, "slow", [TINY, 1e9, None], [0], {}),
    (Gradient, "queue", [1, 10**9], [0], {}),
    (Gradient, "tolerance", [1, 10], [1 - TINY, 10 + TINY], {}),
    (Gradient, "smoothing", [TINY, 1], [0, 1 + TINY], {}),
    (Gradient, "window", [TINY, 1e9], [0], {}),
    (Gradient, "samples", [1, 10**9], [0], {}),
    (Gradient, "memory", [10, 10**9], [9], {}),
    (Vegas, "window", [TINY, 60], [0, 60 + TINY], {}),
    (Vegas, "samples", [1, 10**9], [0], {}),
    (Vegas, "probe", [1, 1e9], [1 - TINY], {}),
    *(
        (kind, name, edges, outside, more)
        for kind in (Aimd, Gradient, Vegas)
        for name, edges, outside, more in (
            ("minimum", [1, 20], [0, 21], {}),
            ("initial", [5, 50], [4, 51], {"minimum": 5, "maximum": 50}),
            ("initial", [1], [0], {}),
            ("maximum", [20, 10**9], [19], {}),
            ("maximum", [1], [0], {"initial": 1}),
        )
    ),
    (Admission, "concurrency", [1, 10**9], [0], {}),
    (Admission, "queue", [0, 10**9], [-1], {}),
    (Admission, "interval", [0.005, 1e9], [0.005 - TINY], {}),
    (Admission, "target", [TINY, 0.1], [0, 0.1 + TINY], {}),
    (Admission, "reserve", [0, 0.9], [-TINY, 0.9 + TINY], {}),
    (Admission, "retry_after", [TINY, 1e9], [0], {}),
]

DURATIONS = [
    (Policy, "deadline"),
    (Policy, "attempt_timeout"),
    (Retry, "base"),
    (Retry, "cap"),
    (Budget, "window"),
    (Hedge, "after"),
    (Hedge, "least"),
    (Hedge, "window"),
    (Throttle, "window"),
    (Evidence, "seconds"),
    (Breaker, "slow"),
    (Breaker, "open"),
    (Breaker, "longest"),
    (Breaker, "ramp"),
    (Breaker, "lost_after"),
    (Limit, "wait"),
    (Stale, "max_age"),
    (Aimd, "slow"),
    (Gradient, "window"),
    (Vegas, "window"),
    (Vegas, "probe"),
    (Admission, "interval"),
    (Admission, "target"),
    (Admission, "retry_after"),
]
NEEDED = {
    (Policy, "attempt_timeout"): {"deadline": None, "breaker": None},
    (Policy, "deadline"): {"breaker": None},
    (Retry, "base"): {"cap": 90},
    (Hedge, "least"): {"after": None},
    (Evidence, "seconds"): {"calls": 1},
    (Breaker, "open"): {"longest": 100},
    (Breaker, "longest"): {"open": 10},
    (Vegas, "window"): {"probe": 90},
    (Admission, "target"): {"interval": 90},
}


def named(row):
    return f"{row[0].__name__}.{row[1]}"


@pytest.mark.parametrize(
    ("kind", "name", "edges", "outside", "more"), RANGES, ids=map(named, RANGES)
)
def test_a_range_begins_and_ends_where_it_is_said_to(kind, name, edges, outside, more):
    if kind is Policy:
        more = {"breaker": None, **more}
    for value in edges:
        assert getattr(kind(**{name: value, **more}), name) == value
    for value in outside:
        with pytest.raises(PolicyError, match=name):
            kind(**{name: value, **more})


@pytest.mark.parametrize(("kind", "name"), DURATIONS, ids=map(named, DURATIONS))
def test_a_duration_may_be_a_timedelta_and_is_kept_as_seconds(kind, name):
    given = {name: timedelta(seconds=61.5), **NEEDED.get((kind, name), {})}
    kept = getattr(kind(**given), name)
    assert (kept, type(kept)) == (61.5, float)
    with pytest.raises(PolicyError, match=name):
        kind(**{**given, name: "1s"})


def test_every_duration_and_every_number_is_in_the_tables():
    ranges = {(kind, name) for kind, name, *_ in RANGES}
    for kind in {kind for kind, *_ in RANGES}:
        for one in fields(kind):
            if "Seconds" in str(one.type) and one.name != "sources":
                assert (kind, one.name) in DURATIONS, (kind, one.name)
            if str(one.type) in ("int", "float", "float | None", "int | None"):
                assert (kind, one.name) in ranges, (kind, one.name)


REFUSED = [
    *(
        (kind, {**({"breaker": None} if kind is Policy else {}), **more, name: outside[0]})
        for kind, name, _, outside, more in RANGES
    ),
    (Policy, {"deadline": "1s"}),
    (Policy, {"deadline": 0.2, "attempt_timeout": 0.5}),
    (Policy, {"deadline": 0.2, "hedge": Hedge(after=0.5)}),
    (Policy, {"deadline": 0.2, "breaker": Breaker(slow=0.5)}),
    (Policy, {"limit": Limit(concurrency=1), "deadline": 10}),
    (Policy, {"observe": "everything"}),
    (Breaker, {"evidence": ()}),
    (Breaker, {"threshold": 1}),
    (Fallback, {}),
    (Fallback, {"value": 1, "function": str}),
    (Admission, {"priority": "urgent"}),
    (Admission, {"trust": "nobody"}),
    (Admission, {"mode": "off"}),
    (Admission, {"operations": {"pay": "urgent"}}),
    (Admission, {"operations": {"pay": Admission(operations={"x": Priority.CRITICAL})}}),
]


def reads_well(sentence):
    """One that a person wrote: it begins, it ends, and nobody shouts."""
    return sentence[0] != "X" and sentence.endswith(".") and sentence != sentence.upper()


@pytest.mark.parametrize(("kind", "given"), REFUSED)
def test_a_refusal_says_where_in_a_sentence_and_what_to_do_about_it(kind, given):
    with pytest.raises(PolicyError) as refused:
        kind(**given)
    error = refused.value
    assert error.where == kind.__name__
    assert reads_well(error.what)
    # where one of a few words is expected, saying which is saying what to do
    if error.fix is None:
        assert "one of" in error.what
    else:
        assert reads_well(error.fix)
        assert error.fix[0].isupper()


def test_going_unguarded_without_a_reason_is_refused_in_the_same_way():
    with pytest.raises(PolicyError) as refused:
        Policy.none(reason="")
    assert refused.value.where == "Policy"
    assert refused.value.what == "Policy.none() has an empty reason."
    assert refused.value.fix == "Say in a sentence why these calls need no protection."


def test_a_policy_that_does_nothing_describes_every_part_as_left_out():
    plain = Policy.none(reason="a socket of this machine").describe()
    assert {part: plain[part] for part in PARTS} == dict.fromkeys(PARTS)
    assert plain["observe"] == []
    given = ("attempt_timeout", "throttle", "fallback", "hedge", "retry")
    assert all(plain["sources"][name] == "the code" for name in given)
    assert Policy(observe=True).describe()["observe"] == list(PARTS)


def test_a_fallback_describes_its_value_as_it_is_written():
    assert Fallback(value=3).describe()["value"] == "3"
