"""Who reads what, what is accepted for a time, and a history that is kept in a file."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from switchgear.cli.main import main
from switchgear.contract.check.consumers import Consumer, concerning, read_consumers
from switchgear.contract.check.finding import Finding, Severity
from switchgear.contract.check.waivers import Waiver, read_waivers, waived
from switchgear.errors import UnreadableContract

TODAY = date(2026, 11, 25)


def finding(rule: str = "FIELD_RENAMED", subject: str = "shop.v1.Order.price") -> Finding:
    return Finding(
        path="a.proto",
        line=1,
        column=1,
        rule=rule,
        message="It changed.",
        edit="Put it back.",
        severity=Severity.ERROR,
        breaks="somebody",
        subject=subject,
    )


class TestConsumers:
    @pytest.mark.parametrize(
        ("consumes", "hit"),
        [
            ("shop.v1.Order.price", True),
            ("shop.v1.Order", True),
            ("shop.v1", True),
            ("shop.v1.Order.price.units", True),
            ("shop.v1.Order.prices", False),
            ("shop.v1.Order.id", False),
            ("shop.v1.Ord", False),
        ],
    )
    def test_a_finding_says_who_reads_what_changed(self, consumes, hit):
        web = Consumer("web", "2.3", (consumes,))
        (one,) = concerning([finding()], [web])
        assert one.breaks == (
            f"web 2.3 reads {consumes}" if hit else "nobody that is known reads it"
        )
        assert one.severity is (Severity.ERROR if hit else Severity.WARNING)

    def test_without_consumers_nothing_is_known_of_them(self):
        assert concerning([finding()], []) == [finding()]

    def test_what_is_about_a_file_is_left_as_it_is(self):
        one = finding("FILE_NO_DELETE", "a.proto")
        assert concerning([one], [Consumer("web", "1", ("shop.v1",))]) == [one]

    def test_they_are_read_from_a_file_or_a_folder(self, tmp_path):
        text = '[[consumer]]\nname = "{0}"\nversion = "1"\nconsumes = ["a.B"]\n'
        for name in ("app", "web"):
            (tmp_path / f"{name}.toml").write_text(text.format(name))
        assert [one.name for one in read_consumers(tmp_path)] == ["app", "web"]
        assert read_consumers(tmp_path / "web.toml") == [Consumer("web", "1", ("a.B",))]

    @pytest.mark.parametrize(
        "text",
        [
            "[[consumer]]\nconsumes = []\n",
            '[[consumer]]\nname = "web"\n',
            '[[consumer]]\nname = "web"\nconsumes = [1]\n',
            "[consumer]\n",
            "x = [\n",
        ],
    )
    def test_what_does_not_say_who_reads_what_is_refused(self, tmp_path, text):
        (tmp_path / "a.toml").write_text(text)
        with pytest.raises(UnreadableContract, match=r"a\.toml"):
            read_consumers(tmp_path)


class TestWaivers:
    def waiver(self, expires: date = TODAY, **told: str) -> Waiver:
        told = {"rule": "FIELD_RENAMED", "subject": "shop.v1.Order.price", **told}
        return Waiver(reason="It is new.", expires=expires, path="w.toml", line=3, **told)

    def test_a_finding_does_not_count_up_to_the_day(self):
        assert waived([finding()], [self.waiver()], TODAY) == []

    def test_a_waiver_that_has_expired_is_a_finding_and_so_is_what_it_was_for(self):
        found = waived([finding()], [self.waiver(date(2026, 11, 24))], TODAY)
        assert [(one.rule, one.path, one.line) for one in found] == [
            ("FIELD_RENAMED", "a.proto", 1),
            ("WAIVER_EXPIRED", "w.toml", 3),
        ]

    @pytest.mark.parametrize("other", [{"rule": "FIELD_DELETED"}, {"subject": "shop.v1.Order.tax"}])
    def test_a_waiver_for_nothing_is_a_finding(self, other):
        found = waived([finding()], [self.waiver(**other)], TODAY)
        assert [one.rule for one in found] == ["FIELD_RENAMED", "WAIVER_UNUSED"]

    def test_a_waiver_of_a_shared_schema_is_for_that_of_one_file(self):
        one = replace(finding("X", "GET /a"), shared="Money.amount", message="GET /a changed.")
        other = replace(one, path="b.proto", subject="GET /b", message="GET /b changed.")
        waiver = self.waiver(rule="X", subject="Money.amount")
        assert waived([one, other], [waiver], TODAY) == [other]
        assert waived([one, replace(other, path=one.path)], [waiver], TODAY) == []

    def test_a_waiver_is_for_one_finding(self):
        assert len(waived([finding(), finding("X")], [self.waiver()], TODAY)) == 1

    @pytest.mark.parametrize(
        "text",
        [
            '[[waiver]]\nrule = "A"\nsubject = "b"\nexpires = 2026-12-31\n',
            '[[waiver]]\nrule = "A"\nsubject = "b"\nreason = " "\nexpires = 2026-12-31\n',
            '[[waiver]]\nrule = "A"\nsubject = "b"\nreason = "c"\n',
            '[[waiver]]\nrule = "A"\nsubject = "b"\nreason = "c"\nexpires = "2026"\n',
            '[[waiver]]\nrule = "A"\nsubject = "b"\nreason = "c"\nexpires = 2026-12-31T00:00:00\n',
        ],
    )
    def test_a_waiver_has_a_reason_and_a_day(self, tmp_path, text):
        path = tmp_path / "w.toml"
        path.write_text("# Reviewed.\n" + text)
        with pytest.raises(UnreadableContract, match=r"w\.toml:2"):
            read_waivers(path)


def test_both_on_the_command_line(shop, run, tmp_path):
    shop("message A { int64 price = 3; }", "message A { int64 cost = 3; }")
    arguments = ["new", "--against", "old", "--rules", "switchgear"]
    consumer = '[[consumer]]\nname = "web"\nversion = "2"\nconsumes = ["shop.v1.A.price"]\n'
    (tmp_path / "consumers.toml").write_text(consumer)
    _, (one,), _ = run(*arguments, "--consumers", "consumers.toml")
    assert one["breaks"] == "web 2 reads shop.v1.A.price"
    waiver = (
        '[[waiver]]\nrule = "{0}"\nsubject = "shop.v1.A.price"\nreason = "New."\nexpires = {1}\n'
    )
    path = tmp_path / "waivers.toml"
    path.write_text(waiver.format("FIELD_RENAMED", "9999-12-31"))
    assert run(*arguments, "--waivers", "waivers.toml")[:2] == (0, [])
    path.write_text(waiver.format("FIELD_RENAMED", "2020-01-01"))
    code, found, _ = run(*arguments, "--waivers", "waivers.toml")
    assert (code, [one["rule"] for one in found]) == (1, ["FIELD_RENAMED", "WAIVER_EXPIRED"])


def test_who_sends_a_message_is_hit_by_what_it_has_to_hold(write, run, tmp_path):
    head = 'syntax = "proto2";\npackage shop.v1;\n'
    write("old", shop=head + "message A { optional string a = 1; }")
    write("new", shop=head + "message A { optional string a = 1; required string b = 2; }")
    consumer = '[[consumer]]\nname = "web"\nversion = "2"\nconsumes = ["shop.v1.A.a"]\n'
    (tmp_path / "consumers.toml").write_text(consumer)
    arguments = ["new", "--against", "old", "--rules", "switchgear"]
    _, (one,), _ = run(*arguments, "--consumers", "consumers.toml")
    assert (one["rule"], one["severity"]) == ("REQUIRED_ADDED", "error")
    assert one["breaks"] == "web 2 reads shop.v1.A.a"


class TestHistoryInAFile:
    def record(self, folder: str, release: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(["contract", "record", folder, "--release", release, "--history", "history.jsonl"])
        return ended.value.code

    def test_what_was_recorded_counts(self, write, shop, run):
        head = 'syntax = "proto3";\npackage shop.v1;\n'
        write("first", shop=head + "message A { string a = 1; string note = 2; }")
        assert self.record("first", "1.0") == 0
        gone, back = "message A { string a = 1; }", "message A { string a = 1; int64 size = 2; }"
        shop(gone, back)
        arguments = ["new", "--against", "old", "--rules", "switchgear"]
        assert run(*arguments)[0] == 0
        _, (one,), _ = run(*arguments, "--history", "history.jsonl")
        assert one["rule"] == "NUMBER_REUSED"
        assert "was note (string) in 1.0" in one["message"]
        told = "note='abc' is 12 03 61 62 63 and now is kept as unknown bytes"
        assert one["witness"] == told
        shop(back, back)  # nothing has changed since, and it is still reused
        assert run(*arguments, "--history", "history.jsonl")[0] == 0

    def test_it_is_only_added_to(self, write, tmp_path, capsys):
        write("first", shop='syntax = "proto3";\nmessage A { string a = 1; }')
        assert self.record("first", "1.0") == 0
        assert self.record("first", "1.1") == 0
        assert self.record("first", "1.0") == 2
        assert "in the history already" in capsys.readouterr().err
        assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 2

    def test_what_is_no_history_is_told_with_its_line(self, shop, run, tmp_path):
        shop("message A {}", "message A {}")
        Path("history.jsonl").write_text('{"version": "1.0"}\nnonsense\n')
        code, _, err = run("new", "--against", "old", "--history", "history.jsonl")
        assert code == 2
        assert "history.jsonl:2" in err
