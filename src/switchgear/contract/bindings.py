"""Rules of `google.api.http` and bindings: what the one says, in the words of the other.

A rule has one binding and perhaps additional ones. What a binding has that no route can say is
found by the rules of routes: a custom method is a method like any other here.
(github.com/googleapis/googleapis/blob/master/google/api/http.proto)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from switchgear.contract.route import Binding

__all__ = ["bindings_of", "fill_rule"]


def bindings_of(rule: Any) -> list[Binding]:
    """Return the bindings of a rule, its own first."""
    return [told for one in (rule, *rule.additional_bindings) for told in _binding(one)]


def _binding(rule: Any) -> Iterator[Binding]:
    verb = rule.WhichOneof("pattern")
    if verb == "custom":
        text = f"{rule.custom.kind} {rule.custom.path}"
    elif verb is not None:
        text = f"{verb.upper()} {getattr(rule, verb)}"
    else:
        return
    yield Binding(text, rule.body, rule.response_body)


def fill_rule(rule: Any, bindings: Sequence[Binding]) -> None:
    """Say bindings in a rule: the first is its own, the others are additional ones."""
    for index, one in enumerate(bindings):
        filled = rule.additional_bindings.add() if index else rule
        setattr(filled, one.method.lower(), one.path)
        filled.body = one.given_body
        filled.response_body = one.response_body
