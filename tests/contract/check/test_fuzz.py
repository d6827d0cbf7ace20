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
from switchgear.contract.history import read_history
from switchgear.contract.importer import import_proto
from switchgear.errors import UnreadableContract
from tests.contract.check.schemas import tree

ALL = ["file", "package", "wire_json", "wire", "switchgear"]
WAIVER = b'[[waiver]]\nrule = "A"\nsubject = "a.B"\nreason = "c"\nexpires = 2030-01-02\n'
CONSUMER = b'[[consumer]]\nname = "a"\nversion = "1"\nconsumes = ["a.B.c"]\n'
BUF = (
    b"version: v2\nmodules:\n  - path: a\n    excludes: [a/b]\nbreaking:\n  use: [FILE]\n"
    b"  ignore_only:\n    WIRE: [a]\n  ignore_unstable_packages: true\n"
)
HISTORY = (
    b'{"version":"1","messages":{"a.A":{"fields":{"1":["id","string"]},"reserved":[[4,6]],'
    b'"names":["old"]}},"enums":{"a.E":{"fields":{"0":["Z"]}}},'
    b'"files":{"a.proto":"cae66941d9efbd404e4d88758ea67670"},"texts":{"cae66941d9efbd404e4d88758ea67670":""},'
    b'"required":["a.A.id"]}\n'
)
PROTO = (
    b'syntax = "proto2";\npackage a.b;\nimport "google/protobuf/timestamp.proto";\n'
    b'// Unit: cents.\nmessage A { extensions 4 to 9; reserved 2, 3 to 3; reserved "x";\n'
    b"  optional group G = 1 { repeated int32 n = 1 [packed = true]; } oneof o { string s = 10; }\n"
    b"  map<string, A> m = 11; enum E { Z = 0; Y = -1; } optional E e = 12 [default = Y]; }\n"
    b"extend A { optional google.protobuf.Timestamp at = 5; }\n"
    b"service S { rpc Get(A) returns (stream A) { option idempotency_level = IDEMPOTENT; } }\n"
)
MODULE = (
    b"from __future__ import annotations\nfrom typing import Protocol\n"
    b"from switchgear import Message, Refusal, field, query, service\n"
    b"class A(Message, package='a.b', reserved=(3, 'x')):\n    n: int = field(1, unit='cents')\n"
    b"    more: dict[str, A] = field(2, default_factory=dict)\n"
    b"@service('a.b')\nclass S(Protocol):\n    @query('POST /a')\n"
    b"    async def get(self, request: A) -> A: ...\n"
)
few = settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
damage = st.lists(
    st.tuples(st.integers(0, 700), st.integers(0, 12), st.binary(max_size=8)), max_size=3
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


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=damage)
def test_any_history_is_read_or_refused(tmp_path_factory, changes) -> None:
    path = tmp_path_factory.getbasetemp() / "history.jsonl"
    path.write_bytes(damaged(HISTORY, changes))
    with suppress(UnreadableContract):
        assert all(one.version for one in read_history(path))


def test_what_is_damaged_is_good_before(tmp_path) -> None:
    for name, data in (("a.proto", PROTO), ("m.py", MODULE), ("h.jsonl", HISTORY)):
        (tmp_path / name).write_bytes(data)
    assert len(read_history(tmp_path / "h.jsonl")) == 1
    compile(import_proto(tmp_path / "a.proto"), "it", "exec")
    for name in ("a.proto", "m.py"):
        assert check(str(tmp_path / name), [str(tmp_path / name)], rules=ALL) == []


@few
@given(changes=damage)
def test_any_proto_file_is_compared_and_imported_or_refused(tmp_path_factory, changes) -> None:
    root = tmp_path_factory.mktemp("protos")
    for name, data in (("old", PROTO), ("new", damaged(PROTO, changes))):
        (root / name).mkdir()
        (root / name / "a.proto").write_bytes(data)
    with suppress(UnreadableContract):
        check(str(root / "new"), [str(root / "old")], rules=ALL)
    with suppress(UnreadableContract):
        compile(import_proto(root / "new" / "a.proto"), "it", "exec")


@few
@given(changes=damage)
def test_any_module_is_compared_or_refused(tmp_path_factory, changes) -> None:
    root = tmp_path_factory.mktemp("modules")
    for name, data in (("old.py", MODULE), ("new.py", damaged(MODULE, changes))):
        (root / name).write_bytes(data)
    refused = None
    try:
        check(str(root / "new.py"), [str(root / "old.py")], rules=ALL)
    except UnreadableContract as error:
        refused = error
    # what ended the process that imports it was an error of ours, and no traceback
    assert refused is None or refused.diagnostics or str(refused).count("[SG") > 1
