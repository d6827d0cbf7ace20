"""Texts that show what a changed pattern refuses: each does, and none takes long to look for."""

from __future__ import annotations

import json
import re
import subprocess
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switchgear.contract.check.documents import Document
from switchgear.contract.check.jsonschema import Direction, SchemaDiff
from switchgear.contract.check.patterns import between, having, matches
from switchgear.contract.check.refs import Node
from tests.contract import nodejs

atoms = st.sampled_from(
    ["a", "b", "7", "-", r"\.", ".", r"\d", r"\w", r"\s", "[a-f]", "[^a-f]", "[0-9_]", r"[\w.]"]
)
patterns = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda of: f"({'|'.join(of)})"),
        st.tuples(inner, st.sampled_from(["?", "*", "+", "{2}", "{1,3}", "{2,}", "*?"])).map(
            lambda of: f"(?:{of[0]}){of[1]}"
        ),
    ),
    max_leaves=6,
).flatmap(lambda one: st.sampled_from([one, f"^{one}$", f"^{one}", f"{one}$"]))


@settings(max_examples=300, deadline=None)
@given(patterns, patterns, st.text(st.characters(codec="ascii"), max_size=8))
def test_what_is_found_is_so(one: str, other: str, text: str) -> None:
    for found in between(one, other):
        assert re.search(one, found)
        assert not re.search(other, found)
    for found in having(one):
        assert re.search(one, found)
    assert matches(one, text) in {None, re.search(one, text, re.ASCII) is not None}
    assert list(between(one, one)) == []


@pytest.mark.parametrize(
    ("written", "read", "text"),
    [
        (None, "^a", ""),
        ("^[a-z]+$", "^[a-y]+$", "z"),
        ("^[a-z]{3}$", "^[a-z]{4}$", "aaa"),
        ("^[0-9]{1,10}$", "^[0-9]{1,9}$", "0000000000"),
        ("abc", "^abc$", "abca"),
        ("^(card|cash)$", "^(card)$", "cash"),
        ("^a.*$", "^a.+$", "a"),
        ("^[^x]+$", "^[^xy]+$", "y"),
        ("^#[0-9a-fA-F]{6}$", "^#[0-9a-f]{6}$", "#AAAAAA"),
        ("^[a-z0-9]+(-[a-z0-9]+)*$", "^[a-z0-9]+$", "a-a"),
        (r"^[A-Z]{2}-\d{4}$", r"^[A-Z]{2}-\d{4}-x$", "AA-0000"),
    ],
)
def test_the_plainest_text_is_found(written: str | None, read: str, text: str) -> None:
    assert next(between(written, read)) == text


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r"^\d+$", "^[0-9]+$"),  # the same
        ("^a$", None),  # nothing is refused
        ("^b$", r"^\B"),  # in nothing, Python finds none
        (r"^\a$", "^b$"),
        ("^[a-z]{4000000000}$", "^[a-z]{4000000001}$"),  # longer than what is shown
        (r"^\p{L}$", "^a$"),  # of ECMAScript alone
        ("^(?P<x>a)$", "^b$"),  # of Python alone
        (r"^a\Z", "^b$"),
        ("^é$", "^b$"),
        (r"^(a)\1$", "^b$"),
        ("a" * 300, "b"),
        ("(", "b"),
    ],
)
def test_nothing_is_claimed_where_nothing_is_known(written: str, read: str | None) -> None:
    assert list(between(written, read)) == []


@pytest.mark.parametrize(
    "evil",
    [
        *("^(a+)+$", "^(a|aa)+$", "^(a*)*b$", "^((a{0,9}){0,9}){0,9}$", "a*" * 30 + "b", "(.*)*x"),
        *("^" + "(a|a)" * 37 + "(?=c)b$", "^" + "a?" * 60 + "a" * 60 + "$"),
        *("^" + "(?:a|b|ab)" * 18 + "c$", "^(a|a|a|a|a|a|a|a)*b$", "^(a{0,2}){40}b$"),
        "(?:){4000000000}b",
    ],
)
def test_nothing_takes_for_ever(evil: str) -> None:
    assert matches(evil, "a" * 40 + "!") is None  # it is not asked
    for pair in ((evil, "^b"), (None, evil), (evil, evil[:-1] + "c")):
        list(islice(between(*pair), 50))


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"^\d{3}-\d{4}$", "123-4567"),
        (r"^[a-z0-9]+(-[a-z0-9]+)*$", "a-b-c"),
        (r"^[\w.]+@\w+\.[a-z]{2,5}$", "a.b@c.org"),
        (r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
        (r"^(\d+)\.(\d+)\.(\d+)$", "1.20.3"),
        (r"^(mon|tue|wed|thu|fri|sat|sun)$", "wed"),
        (r"^(0|-?[1-9]\d{0,8})$", "-17"),
        (r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$", "2024-02-29"),
    ],
)
def test_what_people_write_is_known(pattern: str, text: str) -> None:
    assert matches(pattern, text) is True
    assert matches(pattern, "#") is False


def test_javascript_says_the_same() -> None:
    """The patterns of the table above, and the texts, as ECMAScript reads them."""
    nodejs.need("node", "no pattern is read by ECMAScript")
    pairs = [
        *(("^[a-z]+$", "^[a-y]+$"), ("abc", "^abc$"), (r"^\d+(\.\d+)?$", r"^\d+$")),
        *(
            (r"^\w+@\w+\.com$", r"^[a-z]+@\w+\.com$"),
            (r"^\S+$", r"^[^\s-]+$"),
            ("^.{2,5}$", "^.{3}$"),
        ),
    ]
    told = [[one, other, text] for one, other in pairs for text in between(one, other)]
    assert len({one for one, *_ in told}) == len(pairs)
    script = (
        "for (const [a, b, t] of JSON.parse(require('fs').readFileSync(0)))"
        " if (!new RegExp(a).test(t) || new RegExp(b).test(t)) throw new Error(a + b + t)"
    )
    subprocess.run(["node", "-e", script], input=json.dumps(told).encode(), check=True, timeout=60)


def test_without_nodejs_ci_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"Node\.js is not installed"):
        test_javascript_says_the_same()
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match=r"Node\.js is not installed"):
        test_javascript_says_the_same()


def found(old: Any, new: Any) -> Any:
    nodes = [Node.root(Document("it", one, "")) for one in (old, new)]
    (told,) = [one for _, one in SchemaDiff(Direction.TAKEN, "X").compare(*nodes, "it")]
    return told


def test_a_body_shows_it_or_the_message_says_that_none_does() -> None:
    def text(pattern: str, **more: Any) -> Any:
        code = {"type": "string", "pattern": pattern, **more}
        return {"type": "object", "required": ["code"], "properties": {"code": code}}

    told = found(text("^[A-Z]{2,4}$"), text("^[A-Z]{2,3}$"))
    assert told.witness == '{"code": "AAAA"} was valid and is refused now'
    told = found(text("^[A-Z]{2,4}$"), text("^[A-Z]{2,4}$", maxLength=3))
    assert told.witness == "" or '"code"' in told.witness
    told = found(text(r"^\d+$"), text("^[0-9]+$"))
    assert told.message.endswith("No text was found that shows it.")
    told = found({"type": "string", "format": "date"}, {"type": "string", "format": "uuid"})
    assert told.message.endswith("A validator need not judge formats, so none is shown.")
    # the plainest text of a pattern stands where another property is shown
    code = {"code": {"type": "string", "pattern": "^x-[0-9]$"}}
    one = {"type": "object", "required": ["code"], "properties": {**code, "n": {"type": "integer"}}}
    two = {**one, "properties": {**code, "n": {"type": "integer", "maximum": 9}}}
    assert found(one, two).witness.startswith('{"code": "x-0", "n": 10}')
