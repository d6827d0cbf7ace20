"""Whatever is given, it is checked or refused: no crash, nothing swallowed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from switchgear.contract.check.bufyaml import read_modules
from switchgear.contract.check.check import check, record
from switchgear.contract.check.consumers import concerning, read_consumers
from switchgear.contract.check.waivers import read_waivers
from switchgear.errors import UnreadableContract
from tests.contract.check.schemas import tree

ALL = ["file", "package", "wire_json", "wire", "switchgear"]
WAIVER = b'[[waiver]]\nrule = "A"\nsubject = "a.B"\nreason = "c"\nexpires = 2030-01-02\n'
CONSUMER = b'[[consumer]]\nname = "a"\nversion = "1"\nconsumes = ["a.B.c"]\n'
BUF = (
    b"version: v2\nmodules:\n  - path: a\n    excludes: [a/b]\nbreaking:\n  use: [FILE]\n"
    b"  ignore_only:\n    WIRE: [a]\n  ignore_unstable_packages: true\n"
)
damage = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 12), st.binary(max_size=8)), max_size=3
)


def damaged(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for at, size, put in changes:
        begin = at % (len(data) + 1)
        data = data[:begin] + put + data[begin + size :]
    return data


@settings(
    max_examples=2,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a list of seeds does not shrink
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(first=st.integers(0, 2**32))
def test_any_versions_are_compared_by_every_rule(tmp_path_factory, first) -> None:
    root: Path = tmp_path_factory.mktemp("versions")
    for version in range(4):
        for index in range(4):
            for name, text in tree(first + 4 * index + version, f"p{index}").items():
                path = root / f"v{version}" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
    new, *olds = (str(root / f"v{version}") for version in (3, 2, 1, 0))
    history = root / "history.jsonl"
    for name, old in (("1", olds[2]), ("2", olds[1])):
        record(old, name, history)
    for found in (
        check(new, olds, rules=ALL),
        check(new, olds[:1], rules=ALL, history=history),
        check(new, [str(history)], rules=ALL),
    ):
        assert found
        assert all(one.message and one.edit and one.breaks and one.subject for one in found)
        assert all(one.line >= 1 and one.column >= 1 for one in found)
    # What was done before is lived with, but for a reservation that is still missing.
    assert {one.rule for one in check(new, [new, *olds], rules=ALL)} <= {"RESERVATION_DROPPED"}


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=damage)
def test_any_tables_are_read_or_refused(tmp_path_factory, changes) -> None:
    path = tmp_path_factory.getbasetemp() / "tables.toml"
    for data, read in ((WAIVER, read_waivers), (CONSUMER, read_consumers)):
        path.write_bytes(damaged(data, changes))
        with suppress(UnreadableContract):
            found = read(path)
            assert isinstance(found, list)
            if read is read_consumers:
                concerning([], found)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=damage)
def test_any_buf_yaml_is_read_or_refused(tmp_path_factory, changes) -> None:
    folder = tmp_path_factory.getbasetemp() / "buf"
    folder.mkdir(exist_ok=True)
    (folder / "buf.yaml").write_bytes(damaged(BUF, changes))
    with suppress(UnreadableContract):
        assert read_modules(folder)
