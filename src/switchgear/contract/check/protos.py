"""The check of `.proto` files: the rules that hold for each file, run over what differs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from switchgear.contract.check.bufyaml import Breaking
from switchgear.contract.check.catalogue import BUF_RULES
from switchgear.contract.check.finding import Finding, Found, in_order
from switchgear.contract.check.pairs import Pairs
from switchgear.contract.check.past import Past, append, past_of
from switchgear.contract.check.protofiles import Protos, read_schemas
from switchgear.contract.check.pythonmodule import Told
from switchgear.contract.check.rules import RULES, Rule
from switchgear.contract.check.schema import Field, Schema
from switchgear.contract.check.selection import DEFAULT, SWITCHGEAR, chosen

if TYPE_CHECKING:
    from switchgear.contract.check.witness import Witness

__all__ = ["Version", "check_protos", "record"]


@dataclass(frozen=True, slots=True)
class Version:
    """One version that was given, and what the user calls it."""

    label: str
    protos: Protos
    told: Told | None = None
    """What a Python module says besides, if it is one."""

    def path(self, name: str) -> str:
        """Return where a file is, seen from where the user is."""
        if self.told is not None:
            return name if name not in self.protos.files else self.told.seen(Path.cwd())
        if self.label.endswith(".proto"):
            return self.label
        inner = Path(name)
        if name in self.protos.files:
            inner = self.protos.path(name).relative_to(self.protos.root)
        return (PurePosixPath(self.label) / inner.as_posix()).as_posix()

    def complete(self, schema: Schema, new: Version) -> None:
        """Tell the model what `.proto` files cannot carry; `new` is what edits are made in."""
        if new.told is not None:
            for file in schema.files.values():
                file.spelled = self.told.spelled if self.told is not None else {}
        if self.told is not None:
            places = self.told.seen_places(Path.cwd())
            for file in schema.files.values():
                file.places, file.expected = places, self.told.required


def own_rules() -> Collection[str]:
    """Return the names of the rules that are not buf's."""
    return RULES.keys() - BUF_RULES["v2"].keys()


def check_protos(
    new: Version,
    olds: Sequence[Version],
    rules: Sequence[str] | None,
    history: Sequence[Past] = (),
) -> list[Finding]:
    """Compare a new version with the latest old one, `olds[0]`, and with all that came before.

    `history` is what came before all of `olds`, the newest first. `rules` are the words of
    `--rules`; without them buf.yaml decides, where there is one.
    """
    # What history asks about may be in a file that has not changed since the version before.
    sides = [one.protos for one in olds]
    schema, before = read_schemas(new.protos, sides, whole=bool(history))
    new.complete(schema, new)
    olds[0].complete(before[0], new)
    earlier = [past_of(one, of.label) for one, of in zip(before[1:], olds[1:], strict=True)]
    pairs = Pairs(before[0], schema, [*earlier, *history], olds[0].label)
    by_file = _Selections(new.protos, rules)
    found = [
        (rule, one)
        for rule in by_file.rules()
        for one in rule.run(pairs)
        if not by_file.leave_out(rule.name, one, pairs)
    ]
    if not found:
        return []
    from switchgear.contract.check.witness import Witness  # noqa: PLC0415  findings are rare

    witness = Witness(schema)
    return in_order(
        _finding(rule, _shown(one, witness, before[0]), new, olds[0].label) for rule, one in found
    )


def _shown(one: Found, witness: Witness, before: Schema) -> Found:
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

    def rules(self) -> Iterator[Rule]:
        """Yield the rules that hold anywhere."""
        names = {name for one in self._of.values() for name in one.rules}
        return (rule for name, rule in RULES.items() if name in names)

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
    )


def record(version: Version, name: str, history: Path) -> None:
    """Add what a version uses and reserves to a file of history, as the release `name`."""
    schema, _ = read_schemas(version.protos, [], whole=True)
    append(history, past_of(schema, name))
