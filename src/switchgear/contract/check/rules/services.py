"""buf's rules about services and their methods."""

from __future__ import annotations

from collections.abc import Iterator

from switchgear.contract.check.finding import BYTES, CODE, Found
from switchgear.contract.check.pairs import Pairs
from switchgear.contract.check.rules.python import operation_in_python
from switchgear.contract.check.rules.registry import rule
from switchgear.contract.check.schema import (
    METHOD_INPUT,
    METHOD_OPTIONS,
    METHOD_OUTPUT,
    Method,
    Path,
    Service,
)

_IDEMPOTENCY_LEVEL = 34


@rule("RPC_NO_DELETE", Pairs.services, CODE)
def rpc_no_delete(_: Pairs, old: Service, new: Service) -> Iterator[Found]:
    """A caller of a method that is gone gets UNIMPLEMENTED."""
    for name, method in old.methods.items():
        if name not in new.methods:
            yield Found(
                f"The method {name} of {old.name} was deleted.",
                f"Put back {_text(method)}{_retired(method)} until nobody calls it.",
                new.place(),
                method.full_name,
                method,
            )


@rule("RPC_SAME_REQUEST_TYPE", Pairs.methods, BYTES)
def same_request(_: Pairs, old: Method, new: Method) -> Iterator[Found]:
    """Callers send the old message."""
    if old.request != new.request:
        yield _changed(old, new, "request", (old.request, new.request), (METHOD_INPUT,))


@rule("RPC_SAME_RESPONSE_TYPE", Pairs.methods, BYTES)
def same_response(_: Pairs, old: Method, new: Method) -> Iterator[Found]:
    """Callers read the old message."""
    if old.reply != new.reply:
        yield _changed(old, new, "reply", (old.reply, new.reply), (METHOD_OUTPUT,))


@rule("RPC_SAME_CLIENT_STREAMING", Pairs.methods, BYTES)
def same_client_streaming(_: Pairs, old: Method, new: Method) -> Iterator[Found]:
    """One message and a stream of them are asked for differently."""
    before, after = (_streaming(one.proto.client_streaming) for one in (old, new))
    if before != after:
        yield _changed(old, new, "requests", (before, after))


@rule("RPC_SAME_SERVER_STREAMING", Pairs.methods, BYTES)
def same_server_streaming(_: Pairs, old: Method, new: Method) -> Iterator[Found]:
    """One message and a stream of them are read differently."""
    before, after = (_streaming(one.proto.server_streaming) for one in (old, new))
    if before != after:
        yield _changed(old, new, "replies", (before, after))


@rule("RPC_SAME_IDEMPOTENCY_LEVEL", Pairs.methods, BYTES)
def same_idempotency(_: Pairs, old: Method, new: Method) -> Iterator[Found]:
    """Callers repeat, cache or use GET by it."""
    before, after = (one.proto.options.idempotency_level for one in (old, new))
    if before != after:
        name = old.proto.options.IdempotencyLevel.Name
        option = (METHOD_OPTIONS, _IDEMPOTENCY_LEVEL)
        yield _changed(old, new, "idempotency level", (name(before), name(after)), option)


def _streaming(stream: bool) -> str:  # noqa: FBT001 - the value that is told
    return "a stream" if stream else "one message"


def _changed(
    old: Method, new: Method, what: str, values: tuple[str, str], path: Path = ()
) -> Found:
    before, after = values
    option = what == "idempotency level"
    kept = f"`option idempotency_level = {before};`" if option else _text(old)
    if option and old.file.spelled is not None:
        kept = _text(old)
    return Found(
        f"The {what} of {new.service.name}.{new.name} changed from {before} to {after}.",
        f"Put back {kept}, and add a method of another name for what is new.",
        new.place(path),
        new.full_name,
        old,
    )


def _retired(method: Method) -> str:
    return "" if method.file.spelled is not None else " with [deprecated = true]"


def _text(method: Method) -> str:
    """Return the declaration of a method as it is written in the new version."""
    written = operation_in_python(method)
    if written is not None:
        return f"`{written[0]}` with `{written[1]}`"
    given = f"{'stream ' * method.proto.client_streaming}{method.request}"
    got = f"{'stream ' * method.proto.server_streaming}{method.reply}"
    return f"`rpc {method.name}({given}) returns ({got});`"
