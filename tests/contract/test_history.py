"""The file of a history: read as it was written, or refused with the line that is wrong."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from switchgear.contract.history import Past, Used, append, read_history
from switchgear.errors import UnreadableContract

FIRST = Past(
    "1.0",
    {"a.A": Used({1: ("id", "string")}, [(4, 6)], ["old"])},
    {"a.E": Used({0: ("ZERO",)})},
    {"a.proto": "message A {}", "b.proto": "message B {}"},
    frozenset({"a.A.id"}),
)
SECOND = Past("1.1", protos={**FIRST.protos, "b.proto": "message C {}"})


@pytest.fixture
def history(tmp_path: Path) -> Path:
    path = tmp_path / "inner" / "history.jsonl"
    append(path, FIRST)
    append(path, SECOND)
    return path


def test_what_was_written_is_read_the_newest_first(history: Path) -> None:
    assert read_history(history) == [SECOND, FIRST]


def test_a_text_is_written_once(history: Path) -> None:
    assert history.read_text().count("message A {}") == 1


def test_two_branches_are_merged_by_keeping_both_lines(history: Path, tmp_path: Path) -> None:
    first, second = history.read_bytes().splitlines(keepends=True)
    other = tmp_path / "other.jsonl"
    other.write_bytes(first)
    third = Past("1.2", protos={"a.proto": "message D {}"})
    append(other, third)
    merged = first + other.read_bytes().removeprefix(first) + second
    history.write_bytes(merged)
    assert read_history(history) == [SECOND, third, FIRST]


@pytest.mark.parametrize(
    ("change", "line", "told"),
    [
        (lambda text: text.replace("message B", "message X"), 1, "not the one that was recorded"),
        (lambda text: text.partition("\n")[2], 1, "in no line above"),
        (lambda text: text[:-20], 2, "cut short"),
        (lambda text: "[]\n" + text, 1, "Expected `object`"),
        (lambda text: "\n" + text, 1, "truncated"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(history: Path, change, line: int, told: str) -> None:
    history.write_text(change(history.read_text()))
    with pytest.raises(UnreadableContract, match=rf"history.jsonl:{line}") as raised:
        read_history(history)
    assert told in str(raised.value)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_in_the_file_it_is_read_or_refused(history: Path, data) -> None:
    text = history.read_bytes()
    at = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(at, min(len(text), at + 30)))
    broken = history.with_name("broken.jsonl")
    broken.write_bytes(text[:at] + data.draw(st.binary(max_size=20)) + text[end:])
    with suppress(UnreadableContract):
        assert all(isinstance(one, Past) for one in read_history(broken))
