"""What rides along: binding, keys and their derivation."""

import asyncio
from dataclasses import fields, replace

from switchgear.model.context import (
    Context,
    Emits,
    Priority,
    bind,
    current,
    derived_key,
    keyed,
    trace_of,
    tracing,
)
from switchgear.model.trail import Spent


def test_outside_any_work_the_context_is_empty():
    assert current() == Context()
    assert derived_key("op") is None


def test_bind_is_scoped_and_nests():
    with bind(Context(caller="a")):
        with bind(replace(current(), attempt=2)):
            assert (current().caller, current().attempt) == ("a", 2)
        assert current().attempt == 1
    assert current().caller is None


def test_repeated_work_derives_the_same_keys():
    def work():
        with bind(Context(key="order-7")):
            return [derived_key("pay"), derived_key("ship"), derived_key("pay")]

    assert work() == work() == ["order-7/pay", "order-7/ship", "order-7/pay#2"]


def test_keyed_outside_work_sets_the_key_and_inside_combines_it():
    with keyed("k"):
        assert current().key == "k"
        with keyed("line-3"):
            assert derived_key("pay") == "k/line-3/pay"
        assert derived_key("pay") == "k/pay"


async def test_tasks_inherit_the_context_and_share_the_count():
    async def one():
        return derived_key("pay")

    with bind(Context(key="k")):
        keys = await asyncio.gather(one(), one())
    assert sorted(keys) == ["k/pay", "k/pay#2"]


def test_another_deadline_changes_nothing_else():
    values = {
        "attempt": 2,
        "key": "k",
        "priority": Priority.CRITICAL,
        "traceparent": "t",
        "tracestate": "s",
        "caller": "c",
        "correlation": "1",
        "causation": "2",
        "sequence": {"op": 1},
        "emits": Emits("x", None),
    }
    assert {field.name for field in fields(Context)} == {"deadline", "spent", *values}
    context = Context(deadline=1.0, **values)
    found = context.due(2.0, spent := Spent())
    assert found.spent is spent
    assert (found, found.sequence) == (replace(context, deadline=2.0), context.sequence)
    assert found.sequence is context.sequence


def test_what_leaves_names_the_span_in_progress_or_what_came():
    context = Context(traceparent="came", tracestate="x=1")
    assert trace_of(context) == ("came", "x=1")
    with tracing(lambda: ("mine", None)):
        assert trace_of(context) == ("mine", None)
        with tracing(lambda: None):
            assert trace_of(context) == ("came", "x=1")
        assert trace_of(context) == ("mine", None)
    assert trace_of(context) == ("came", "x=1")
