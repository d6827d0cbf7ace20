"""What a service keeps while it runs, and who gets it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Annotated, Any

import pytest

from switchgear import OperationError
from switchgear.app.resources import InjectionError, Provider, Scope, inject, needs_of, open_all


class Pool:
    pass


class FastPool(Pool):
    pass


class Cache:
    def __init__(self, pool: Pool) -> None:
        self.pool = pool


async def opened(
    stack: AsyncExitStack, *functions: Callable[..., Any], given: tuple[Provider, ...] = ()
) -> list[Provider]:
    scope = Scope.here()
    return await open_all([Provider.of(one, scope) for one in functions], given, stack)


async def test_resources_open_by_their_needs_and_close_in_reverse() -> None:
    happened: list[str] = []

    async def cache(pool: Pool) -> AsyncIterator[Cache]:
        happened.append("cache opens")
        yield Cache(pool)
        happened.append("cache closes")

    def pool(size: int) -> Iterator[Pool]:
        happened.append(f"pool of {size} opens")
        yield Pool()
        happened.append("pool closes")

    async def size() -> int:
        return 3

    async with AsyncExitStack() as stack:
        ready = await opened(stack, cache, pool, size)
        given = inject(needs_of(Cache, Scope({})), ready)
        assert isinstance(given["pool"], Pool)
        happened.append("works")
    assert happened == [
        "pool of 3 opens",
        "cache opens",
        "works",
        "cache closes",
        "pool closes",
    ]


async def test_what_was_opened_closes_when_a_later_one_fails() -> None:
    happened: list[str] = []

    async def pool() -> AsyncIterator[Pool]:
        try:
            yield Pool()
        finally:
            happened.append("pool closes")

    def cache(pool: Pool) -> Cache:
        raise OSError("no memory")

    with pytest.raises(OperationError, match="resource cache could not be made: OSError: no mem"):
        async with AsyncExitStack() as stack:
            await opened(stack, pool, cache)
    assert happened == ["pool closes"]


async def test_a_subclass_serves_where_its_base_is_wanted() -> None:
    def fast() -> FastPool:
        return FastPool()

    async with AsyncExitStack() as stack:
        ready = await opened(stack, fast)
        assert isinstance(inject(needs_of(Cache, Scope({})), ready)["pool"], FastPool)


async def test_an_exact_type_comes_before_a_subclass_and_a_resource_before_the_service() -> None:
    def fast() -> FastPool:
        return FastPool()

    def plain() -> Pool:
        return Pool()

    service_has = Provider(Pool, "the service", value="not this one")
    async with AsyncExitStack() as stack:
        ready = await opened(stack, fast, plain, given=(service_has,))
        assert type(inject(needs_of(Cache, Scope({})), ready)["pool"]) is Pool


async def test_two_of_one_type_are_told_apart_by_their_function() -> None:
    def reading() -> Pool:
        return Pool()

    def writing() -> Pool:
        return Pool()

    def wants(pool: Annotated[Pool, writing], other: Annotated[Pool, reading]) -> None: ...

    async with AsyncExitStack() as stack:
        ready = await opened(stack, reading, writing)
        found = inject(needs_of(wants, Scope.here(0)), ready)
        assert found == {"pool": ready[1].value, "other": ready[0].value}
        with pytest.raises(InjectionError, match=r"reading and writing provide.*Annotated\[Pool"):
            inject(needs_of(Cache, Scope({})), ready)


async def test_a_default_is_kept_where_nobody_provides() -> None:
    def wants(pool: Pool | None = None, *, number: int = 3) -> None: ...

    assert inject(needs_of(wants, Scope({})), []) == {}


async def test_what_nobody_provides() -> None:
    with pytest.raises(InjectionError, match=r"Cache: pool is a Pool, which nobody provides\."):
        inject(needs_of(Cache, Scope({})), [Provider(int, "size", value=1)])


async def test_a_circle_is_named() -> None:
    def pool(cache: Cache) -> Pool:
        return Pool()

    def cache(pool: Pool) -> Cache:
        return Cache(pool)

    with pytest.raises(InjectionError, match="circle: pool -> cache -> pool"):
        async with AsyncExitStack() as stack:
            await opened(stack, pool, cache)


def untyped():
    return 1


def yields() -> int:
    yield 1


def unknown(pool: Nowhere) -> int: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (untyped, "does not say what it provides"),
        (yields, "it yields, and is annotated as int"),
        (unknown, "type Nowhere of an annotation is not known"),
    ],
)
def test_a_resource_that_does_not_say_what_it_is(function: Callable[..., Any], said: str) -> None:
    with pytest.raises(InjectionError, match=said):
        Provider.of(function, Scope({}))


def test_a_parameter_without_a_type() -> None:
    def wants(pool) -> None: ...

    with pytest.raises(InjectionError, match="the parameter pool has no type"):
        needs_of(wants, Scope({}))
