"""What callers rely on besides messages: routes, refusals, patterns; of events, topic and key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from switchgear.contract.check.annotations import routes
from switchgear.contract.check.finding import Found, Severity
from switchgear.contract.check.pairs import Pairs
from switchgear.contract.check.rules.python import operation_in_python
from switchgear.contract.check.rules.registry import rule
from switchgear.contract.check.schema import METHOD_OPTIONS, Message, Method, Schema
from switchgear.contract.check.words import declarations
from switchgear.contract.template import template_of

if TYPE_CHECKING:  # with all of declarations
    from switchgear.contract.route import Binding

_CALLERS: Final = "callers of the old version"
_CONSUMERS: Final = "consumers of the event"
_HTTP: Final = 72295728


def told_of(one: Binding) -> str:
    """Return a route in words."""
    body = f" with the body {one.given_body}" if one.given_body else ""
    answer = f" answered with {one.response_body}" if one.response_body else ""
    return f"{one.text}{body}{answer}"


class _Side(NamedTuple):
    """A binding, and the messages of its method in one version."""

    binding: Binding
    method: Method
    schema: Schema

    @property
    def body(self) -> str:
        return self.binding.given_body

    def numbers(self, message: str, name: str) -> tuple[int, ...]:
        """Return the numbers of the fields that a name leads through; none if it leads nowhere."""
        found: list[int] = []
        for step in name.split("."):
            owner = self.schema.messages_everywhere.get(message)
            fields = owner.fields.values() if owner is not None else ()
            field = next((one for one in fields if one.name == step), None)
            if field is None:
                return ()
            found.append(field.number)
            message = field.type_name
        return tuple(found)


def _serves(new: _Side, old: _Side) -> bool:
    """Whether all that reached a method by the old route does by the new one, and means the same.

    The fields may have other names, and the path may take more.
    """
    after, before = new.binding, old.binding
    if before.method != after.method or not _same(new, old, new.body, old.body):
        return False
    if not _same(new, old, after.response_body, before.response_body, reply=True):
        return False
    try:
        wide, narrow = template_of(after.path), template_of(before.path)
    except ValueError:  # what REST cannot serve and others may
        return _unnamed(after) == _unnamed(before) and all(
            _same(new, old, *one) for one in zip(_named(after), _named(before), strict=True)
        )
    return (
        wide.covers(narrow)
        and len(wide.variables) == len(narrow.variables)
        and all(
            _same(new, old, one.name, other.name)
            and one.is_long == other.is_long  # who decodes a slash
            and wide.span(one) == narrow.span(other)
            for one, other in zip(wide.variables, narrow.variables, strict=True)
        )
    )


def _same(new: _Side, old: _Side, after: str, before: str, *, reply: bool = False) -> bool:
    """Whether two names mean one field: it may be called otherwise now, under its number."""
    if after == before:
        return True
    messages = (one.method.reply if reply else one.method.request for one in (new, old))
    now, then = (
        side.numbers(message, name)
        for side, message, name in zip((new, old), messages, (after, before), strict=True)
    )
    return now == then != ()


def _unnamed(one: Binding) -> str:
    return re.sub(r"\{[^=}]*", "{", one.path)


def _named(one: Binding) -> list[str]:
    return re.findall(r"\{([^=}]*)", one.path)


@rule("ROUTE_CHANGED", Pairs.methods, _CALLERS)
def route_changed(pairs: Pairs, old: Method, new: Method) -> Iterator[Found]:
    """A route is an address; a new one may stand beside it."""
    before, after = routes(old.proto.options), routes(new.proto.options)
    offered = [_Side(one, new, pairs.all_new) for one in after]
    for one in before:
        asked = _Side(one, old, pairs.all_old)
        if not any(_serves(other, asked) for other in offered):
            now = ", ".join(map(told_of, after)) or "none"
            yield Found(
                f"{new.service.name}.{new.name} is not reached by {told_of(one)} any more, but by "
                f"{now}.",
                _served(old, told_of(one)),
                new.place((METHOD_OPTIONS, _HTTP), (METHOD_OPTIONS,)),
                new.full_name,
                old,
            )


def _served(old: Method, told: str) -> str:
    """Return the edit that brings a route back."""
    written = operation_in_python(old)
    if written is None:
        return f"Serve {told} again, and let the new route be one of `additional_bindings`."
    return f"Write `{written[0]}` again, and the new route after the old one."


def refusals_of(method: Method) -> frozenset[str]:
    """Return the full names of what a method refuses with."""
    told = declarations(method.comment).get("refuses with", "")
    return frozenset(name.strip() for name in told.split(",") if name.strip())


@rule("REFUSAL_CHANGED", Pairs.spoken_methods, _CALLERS)
def refusal_changed(_: Pairs, old: Method, new: Method) -> Iterator[Found]:
    """A caller handles the noes that it knows of."""
    before, after = refusals_of(old), refusals_of(new)
    where = f"{new.service.name}.{new.name}"
    for name in sorted(after - before):
        yield Found(
            f"{where} may refuse with {name} now, which callers of the old version do not know.",
            f"Answer with a refusal that is declared, or add a method that may refuse with {name} "
            "and leave this one until its callers have moved.",
            new.place(),
            new.full_name,
            old,
        )
    for name in sorted(before - after):
        yield Found(
            f"{where} no longer declares that it refuses with {name}.",
            "If it still can, declare it again; if not, leave it.",
            new.place(),
            new.full_name,
            old,
            severity=Severity.WARNING,
        )


@rule("REFUSAL_STATUS_CHANGED", Pairs.spoken_messages, _CALLERS)
def refusal_status_changed(_: Pairs, old: Message, new: Message) -> Iterator[Found]:
    """Callers that do not know the refusal go by its status, and so do gateways and alarms."""
    before, after = (declarations(one.comment).get("refused as") for one in (old, new))
    if before is None or after is None or before == after:
        return
    again = f"`Refused as: {before}.` into its comment"
    if new.file.spelled is not None:
        again = f"`status=Status.{before}`"
    yield Found(
        f"The refusal {new.nested_name} is answered as {after} instead of {before}.",
        f"Write {again} again, or declare a refusal of another name for what is new.",
        new.place(),
        new.full_name,
        old,
    )


_PATTERNS: Final = {0: "a command", 1: "a query", 2: "a keyed command"}


@rule("PATTERN_CHANGED", Pairs.methods, _CALLERS)
def pattern_changed(_: Pairs, old: Method, new: Method) -> Iterator[Found]:
    """Callers repeat, cache and hedge a query, and repeat a keyed command: by its old pattern."""
    before, after = (one.proto.options.idempotency_level for one in (old, new))
    if before == after or (_PATTERNS.get(before), _PATTERNS.get(after)) == (
        "a command",
        "a keyed command",
    ):
        return
    yield Found(
        f"{new.service.name}.{new.name} was {_PATTERNS[before]} and is {_PATTERNS[after]}.",
        f"Serve both side by side: leave {_left(old, _PATTERNS[before])}, add a method of another "
        f"name as {_PATTERNS[after]}, and delete the old one when its last caller has moved.",
        new.place((METHOD_OPTIONS, 34)),
        new.full_name,
        old,
    )


def _left(old: Method, pattern: str) -> str:
    written = operation_in_python(old)
    if written is not None:
        return f"{old.name} as `{written[0]}`"
    return f"{old.name} as {pattern} with [deprecated = true]"


@rule("EVENT_KEY_CHANGED", Pairs.spoken_messages, _CONSUMERS)
def event_key_changed(_: Pairs, old: Message, new: Message) -> Iterator[Found]:
    """Events of one key are handled in order; under another key that order is gone."""
    yield from _event_changed(old, new, "key")


@rule("EVENT_TOPIC_CHANGED", Pairs.spoken_messages, _CONSUMERS)
def event_topic_changed(_: Pairs, old: Message, new: Message) -> Iterator[Found]:
    """A consumer of the old topic hears nothing any more."""
    yield from _event_changed(old, new, "topic")


def _event_changed(old: Message, new: Message, key: str) -> Iterator[Found]:
    before, after = declarations(old.comment), declarations(new.comment)
    if "topic" in before and before.get(key) != after.get(key):
        yield Found(
            f"The event {new.nested_name} changed its {key} from {before.get(key, 'none')} to "
            f"{after.get(key, 'none')}.",
            f"Put the {key} back, declare a new event for what is new, and publish both until the "
            "last consumer has moved.",
            new.place(),
            new.full_name,
            old,
        )
