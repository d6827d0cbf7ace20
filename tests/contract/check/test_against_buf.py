"""Every rule finds what buf finds, where buf finds it.

Pairs of random trees are given to both. What differs on purpose stands here and in
docs/reference/contract-check.md, line by line.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from switchgear.contract.check.catalogue import BUF_RULES
from switchgear.contract.check.finding import Found
from switchgear.contract.check.pairs import Pairs
from switchgear.contract.check.rules import RULES
from switchgear.contract.check.schema import Schema
from switchgear.contract.protoc import Tree, compile_trees
from tests.contract.check.buf import buf
from tests.contract.check.schemas import tree

EVERYTHING = json.dumps(
    {
        "version": "v2",
        "breaking": {"use": ["FILE", "PACKAGE", "WIRE_JSON", "WIRE"]},
    }
)


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def ours(new: Path, old: Path) -> set[tuple[str, str, int]]:
    trees = Tree.of(old), Tree.of(new)
    sides = [
        Schema.of(data, set(one.names))
        for data, one in zip(compile_trees(*trees), trees, strict=True)
    ]
    pairs = Pairs(*sides)
    return {
        as_buf_tells(pairs, name, one)
        for name in BUF_RULES["v2"]
        for one in RULES[name].run(pairs)
        if not lost_all(pairs, name, one)
    }


def lost_all(pairs: Pairs, rule: str, one: Found) -> bool:
    """Whether a package has lost the last of a kind: buf then says nothing."""
    kind = re.fullmatch(r"PACKAGE_(EXTENSION|ENUM|MESSAGE)_NO_DELETE", rule)
    files = pairs.all_new.packages.get(one.old.file.package, ())
    return kind is not None and not any(getattr(file, f"{kind[1].lower()}s") for file in files)


def as_buf_tells(pairs: Pairs, rule: str, one: Found) -> tuple[str, str, int]:
    place = one.place
    if place.path not in pairs.all_new.files or rule == "PACKAGE_NO_DELETE":
        return "", rule, 1  # buf names no file where the file is gone
    if rule == "RPC_SAME_IDEMPOTENCY_LEVEL":
        return place.path, rule, 0  # buf names the first line where the option is gone
    return place.path, rule, place.line


def theirs(new: Path, old: Path) -> set[tuple[str, str, int]]:
    return {
        (path, rule, 0 if rule == "RPC_SAME_IDEMPOTENCY_LEVEL" else line)
        for path, rule, line in buf(new, old, EVERYTHING)
    }


@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a list of seeds does not shrink
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(first=st.integers(0, 2**32))
def test_random_pairs_are_judged_alike(tmp_path_factory, first):
    root = tmp_path_factory.mktemp("pairs")
    old, new = root / "old", root / "new"
    for index in range(30):
        write(old, tree(first + 2 * index, f"p{index}"))
        write(new, tree(first + 2 * index + 1, f"p{index}"))
    assert ours(new, old) ^ theirs(new, old) == set()
