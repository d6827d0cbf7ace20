"""The check of `.proto` files: the rules that hold for each file, run over what differs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from switchgear.contract.check.bufyaml import Breaking
from switchgear.contract.check.catalogue import BUF_RULES
from switchgear.contract.check.earlier import new_to_them
from switchgear.contract.check.finding import Finding, Found, in_order
from switchgear.contract.check.once import told_once
from switchgear.contract.check.pairs import Pairs
from switchgear.contract.check.past import past_of
from switchgear.contract.check.protofiles import Protos, Schemas, reading
from switchgear.contract.check.pythonmodule import unsaid
from switchgear.contract.check.rules import RULES, Rule
from switchgear.contract.check.rules.history import HISTORY, REUSED
from switchgear.contract.check.schema import Field, Schema
from switchgear.contract.check.selection import DEFAULT, SWITCHGEAR, chosen
from switchgear.contract.check.version import Version
from switchgear.contract.history import Past

if TYPE_CHECKING:
    from switchgear.contract.check.witness import Witness

__all__ = ["check_protos", "release"]


def own_rules() -> Collection[str]:
    """Return the names of the rules that are not buf's."""
    return RULES.keys() - BUF_RULES["v2"].keys()


def check_protos(
    new: Version,
    olds: Sequence[Version],
    schemas: Schemas,
    rules: Sequence[str] | None,
    history: Sequence[Past] = (),
) -> list[Finding]:
    """Compare a new version with the latest old one, `olds[0]`, and with all that came before.

    `schemas` is what `reading` gives for them. `history` is what came before all of `olds`, the
    newest first. `rules` are the words of `--rules`; without them buf.yaml decides, where there is
    one.
    """
    schema, before = schemas()
    new.complete(schema, new)
    for one, of in zip(before, olds, strict=True):
        of.complete(one, new)
    earlier = [past_of(one, of.label) for one, of in zip(before[1:], olds[1:], strict=True)]
    pairs = Pairs(before[0], schema, [*earlier, *history], olds[0].label)
    by_file = _Selections(new.protos, rules)

    def run(pairs: Pairs, names: Iterable[str]) -> list[tuple[str, Found]]:
        found = _each(names, pairs)
        return [(name, one) for name, one in found if not by_file.leave_out(name, one, pairs)]

    told = run(pairs, by_file.rules())
    found = [(rule, one, 0) for rule, one in told_once(told)]
    for index, older in enumerate(before[1:], 1):
        now = run(Pairs(older, schema), (one for one in by_file.rules() if one not in HISTORY))
        was = _each({rule for rule, _ in now}, Pairs(older, before[0]))
        more = [*new_to_them(_not_of_history(now, told), was, told)]
        told += more
        found += [(rule, one, index) for rule, one in told_once(more)]
    if not found:
        return []
    from switchgear.contract.check.witness import Witness  # noqa: PLC0415  findings are rare

    witness = Witness(schema)
    return in_order(
        _finding(RULES[rule], _shown(one, witness, before[index]), new, olds[index].label)
        for rule, one, index in found
    )


def _each(rules: Iterable[str], pairs: Pairs) -> Iterator[tuple[str, Found]]:
    return ((name, one) for name in rules for one in RULES[name].run(pairs))


def _not_of_history(
    found: Iterable[tuple[str, Found]], told: Iterable[tuple[str, Found]]
) -> list[tuple[str, Found]]:
    """Leave out what is about something that is back from an earlier version: that is told."""
    back = {name for rule, one in told if rule in REUSED for name in one.names}
    return [
        (rule, one)
        for rule, one in found
        if not any(f"{name}.".startswith(f"{of}.") for name in one.names for of in back)
    ]


def _shown(one: Found, witness: Witness, before: Schema) -> Found:
    if one.was is not None:
        return replace(one, witness=witness.of_past(one.was))
    if one.witness or not isinstance(one.old, Field):
        return one
    return replace(one, witness=witness.of(one.old, before))


class _Selections:
    """Which rules hold for which file."""

    def __init__(self, new: Protos, told: Sequence[str] | None) -> None:
        self._new = new
        own = own_rules()
        self._of: dict[int, Breaking] = {}
        for module in new.modules:
            breaking = module.breaking
            if told is not None:
                breaking = breaking.using(chosen(told, own))
            elif module.configured:
                breaking = breaking.using({*breaking.rules, *chosen([SWITCHGEAR], own)})
            else:
                breaking = breaking.using(chosen(DEFAULT, own))
            self._of[id(module)] = breaking

    def rules(self) -> list[str]:
        """Return the rules that hold anywhere."""
        names = {name for one in self._of.values() for name in one.rules}
        return [name for name in RULES if name in names]

    def leave_out(self, rule: str, one: Found, pairs: Pairs) -> bool:
        """Whether a finding is of a rule that does not hold where it was found."""
        name = one.place.path
        module = self._new.files.get(name) or self._new.modules[0]
        breaking = self._of[id(module)]
        if rule not in breaking.rules:
            return True
        file = pairs.all_new.files.get(name)
        if file is not None and breaking.ignores(rule, name, file.package):
            return True
        old = one.old.file if one.old is not None else None
        return old is not None and breaking.ignores(rule, old.name, old.package)


def _finding(rule: Rule, one: Found, new: Version, against: str) -> Finding:
    return Finding(
        path=new.path(one.place.path),
        line=one.place.line,
        column=one.place.column,
        rule=rule.name,
        message=one.message,
        edit=one.edit,
        severity=one.severity,
        breaks=one.breaks or rule.breaks,
        subject=one.subject,
        against=against,
        witness=one.witness,
        also=one.also,
    )


def release(version: Version, name: str) -> Past:
    """Return what a history remembers of a version, by its name."""
    with reading(version.protos, [], whole=True) as schemas:
        schema, _ = schemas()
    last = "" if version.required is None else unsaid(version.required)
    texts = {
        file: text.decode(errors="replace").removesuffix(last)
        for file, text in version.protos.texts.items()
    }
    past = past_of(schema, name)
    return Past(name, past.messages, past.enums, texts, version.required)
