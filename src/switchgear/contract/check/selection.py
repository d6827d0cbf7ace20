"""Which rules are run, and where: what `--rules` says, and what buf.yaml says."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from switchgear.contract.check.catalogue import BUF_RULES, DEPRECATED, select
from switchgear.errors import UnreadableContract

__all__ = ["DEFAULT", "SWITCHGEAR", "chosen"]

SWITCHGEAR: Final = "switchgear"
DEFAULT: Final = ("wire_json", SWITCHGEAR)
"""What is run where neither `--rules` nor a buf.yaml says anything."""


def chosen(told: Sequence[str], own: Collection[str]) -> frozenset[str]:
    """Return the rules that words of `--rules` stand for.

    A word is a category of buf's in any case (`wire_json`), `switchgear` for the rules named
    `own`, or the name of a rule. Raises `UnreadableContract` for any other.
    """
    found: set[str] = set()
    for word in told:
        name = word.strip().upper()
        if name == SWITCHGEAR.upper():
            found.update(own)
        elif name in own:
            found.add(name)
        else:
            found.update(_of_buf(name, word, own))
    return frozenset(found)


def _of_buf(name: str, word: str, own: Collection[str]) -> Collection[str]:
    table = BUF_RULES["v2"]
    categories = {one for of in table.values() for one in of}
    if name in table or name in DEPRECATED or name in categories:
        return select([name], where="--rules")
    near = sorted(rule for rule in (*table, *own) if name and (name in rule or rule in name))
    raise UnreadableContract(
        f"{word!r} is neither a set of rules nor a rule.",
        where="--rules",
        fix=f"Did you mean {', '.join(near[:5])}?"
        if near
        else "Use file, package, wire_json, wire, switchgear, or the name of a rule.",
    )
