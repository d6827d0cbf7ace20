"""What rides along: binding, keys and their derivation."""

import asyncio
from dataclasses import replace

from switchgear.model.context import Context, bind, current, derived_key, keyed


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
