"""The table of rules is buf's own."""

from __future__ import annotations

import json
import subprocess

import pytest

from switchgear.contract.check.catalogue import BUF_RULES, BUF_VERSIONS, DEPRECATED, select
from switchgear.contract.check.rules import RULES
from switchgear.errors import UnreadableContract
from tests.contract.check.buf import BUF


@pytest.mark.parametrize("version", BUF_VERSIONS)
def test_names_and_categories_are_those_of_buf(version):
    command = [BUF, "config", "ls-breaking-rules", "--include-deprecated", "--format", "json"]
    told = subprocess.run([*command, "--version", version], capture_output=True, check=True).stdout
    listed = [json.loads(line) for line in told.splitlines()]
    assert {one["id"]: set(one["categories"]) for one in listed if not one["deprecated"]} == {
        name: set(categories) for name, categories in BUF_RULES[version].items()
    }
    deprecated = {
        one["id"]: tuple(one["replacements"] or ()) for one in listed if one["deprecated"]
    }
    assert deprecated.items() <= DEPRECATED.items()


def test_every_rule_of_the_table_is_there():
    assert BUF_RULES["v2"].keys() <= RULES.keys()


def test_a_selection_is_of_rules_and_categories():
    assert select(["WIRE"], ["FIELD_SAME_ONEOF"], where="here") == {
        name for name, of in BUF_RULES["v2"].items() if "WIRE" in of
    } - {"FIELD_SAME_ONEOF"}
    assert select(["FIELD_SAME_CTYPE"], where="here") == {"FIELD_SAME_CPP_STRING_TYPE"}


def test_a_name_that_is_neither_is_told():
    with pytest.raises(UnreadableContract, match=r"here: 'WIRED' is neither"):
        select(["WIRED"], where="here")
