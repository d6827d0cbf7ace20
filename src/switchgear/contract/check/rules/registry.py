"""How a rule is written down: its name, what it is asked about, and the function that answers.

    @rule("FIELD_SAME_NAME", Pairs.fields)
    def same_name(pairs: Pairs, old: Field, new: Field) -> Iterator[Found]: ...

A rule of `Pairs.fields` is asked about each pair of fields; one without pairs is asked once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from switchgear.contract.check.finding import Found
from switchgear.contract.check.pairs import Pairs

__all__ = ["RULES", "Rule", "rule", "whole"]

E = TypeVar("E")

Check: TypeAlias = Callable[[Pairs, E, E], Iterator[Found]]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule."""

    name: str
    breaks: str
    """Who notices what it finds, unless a finding knows better."""
    run: Callable[[Pairs], Iterator[Found]]


_RULES: Final[dict[str, Rule]] = {}
RULES: Final[Mapping[str, Rule]] = _RULES
"""Every rule by name, once the modules of rules have been imported."""


def rule(
    name: str, over: Callable[[Pairs], Iterator[tuple[E, E]]], breaks: str
) -> Callable[[Check[E]], Check[E]]:
    """Register a rule that is asked about each pair of `over`."""

    def register(check: Check[E]) -> Check[E]:
        def run(pairs: Pairs) -> Iterator[Found]:
            for old, new in over(pairs):
                yield from check(pairs, old, new)

        _RULES[name] = Rule(name, breaks, run)
        return check

    return register


def whole(
    name: str, breaks: str
) -> Callable[[Callable[[Pairs], Iterator[Found]]], Callable[[Pairs], Iterator[Found]]]:
    """Register a rule that is asked once about the two versions."""

    def register(check: Callable[[Pairs], Iterator[Found]]) -> Any:
        _RULES[name] = Rule(name, breaks, check)
        return check

    return register
