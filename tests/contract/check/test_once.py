"""One change is one finding, and every earlier version counts."""

from __future__ import annotations

import pytest

HEAD = 'syntax = "proto3";\npackage shop.v1;\n'
ALL = "file,package,wire_json,wire,switchgear"


class TestOneChangeIsToldOnce:
    @pytest.mark.parametrize(
        ("old", "new", "rule", "also"),
        [
            (
                "message A { int64 price = 3; }",
                "message A { int64 cost = 3; }",
                "FIELD_RENAMED",
                ["FIELD_SAME_JSON_NAME", "FIELD_SAME_NAME"],
            ),
            (
                "message A { int64 a = 3; int64 b = 4; }",
                "message A { int64 b = 3; int64 a = 4; }",
                "FIELDS_SWAPPED",
                ["FIELD_SAME_JSON_NAME", "FIELD_SAME_NAME"],
            ),
            (
                "enum E { Z = 0; PAID = 1; }",
                "enum E { Z = 0; SETTLED = 1; }",
                "ENUM_VALUE_RENAMED",
                ["ENUM_VALUE_SAME_NAME"],
            ),
            (
                "message A { reserved 3; }",
                "message A { }",
                "RESERVATION_DROPPED",
                ["RESERVED_MESSAGE_NO_DELETE"],
            ),
            (
                "message A { int64 a = 3; }",
                "message A { optional int64 a = 3; }",
                "PRESENCE_CHANGED",
                ["FIELD_SAME_CARDINALITY"],
            ),
        ],
    )
    def test_by_the_rule_that_says_most(self, shop, run, old, new, rule, also):
        shop(old, new)
        _, (one,), _ = run("new", "--against", "old", "--rules", ALL)
        assert (one["rule"], one["also"]) == (rule, also)

    def test_rules_of_buf_alone_say_what_buf_says(self, shop, found):
        shop("message A { int64 price = 3; }", "message A { int64 cost = 3; }")
        assert found("--rules", "wire_json") == [
            ("FIELD_SAME_JSON_NAME", "A.cost"),
            ("FIELD_SAME_NAME", "A.price"),
        ]

    def test_a_change_of_the_type_beside_is_another_change(self, shop, found):
        shop(
            "message A { int64 price = 3; int64 note = 4; }",
            "message A { int64 cost = 3; string note = 4; }",
        )
        assert found() == [
            ("FIELD_RENAMED", "A.price"),
            ("FIELD_WIRE_JSON_COMPATIBLE_TYPE", "A.note"),
        ]


class TestEveryEarlierVersionCounts:
    @pytest.fixture
    def over(self, write, run):
        """Return a function that checks the last of some versions against all others."""

        def over(*texts: str, rules: str = "wire_json,switchgear"):
            for index, text in enumerate(texts):
                write(f"v{index}", shop=HEAD + text)
            olds = [f"v{index}" for index in range(len(texts) - 1)][::-1]
            against = [word for old in olds for word in ("--against", old)]
            _, findings, err = run(f"v{len(texts) - 1}", *against, "--rules", rules)
            assert err == ""
            return [
                (one["rule"], one["subject"].removeprefix("shop.v1."), one["against"])
                for one in findings
            ]

        return over

    def field(self, comment: str) -> str:
        return f"message A {{\n  // {comment}\n  int64 price = 3;\n}}"

    def test_what_one_step_stops_to_say_and_the_next_says_otherwise(self, over):
        steps = [self.field(one) for one in ("Unit: cents.", "A price.", "Unit: euros.")]
        assert over(*steps) == [("UNIT_CHANGED", "A.price", "v0")]

    def test_a_reservation_that_is_gone_hides_nothing_else(self, over):
        texts = [self.field(one) for one in ("Unit: cents.", "A price.", "Unit: euros.")]
        first = texts[0].replace("{", "{ reserved 9;", 1)
        assert over(first, *texts[1:]) == [
            ("RESERVATION_DROPPED", "A", "v1"),
            ("UNIT_CHANGED", "A.price", "v0"),
        ]

    def test_what_the_version_before_did_is_not_told_again(self, over):
        steps = [self.field(one) for one in ("Unit: cents.", "Unit: euros.", "Unit: euros.")]
        assert over(*steps) == []
        assert over(*steps, self.field("Unit: pounds.")) == [("UNIT_CHANGED", "A.price", "v2")]

    def test_what_comes_back_as_something_else_is_told_once(self, over):
        assert over(
            "message A { int64 price = 3; }",
            'message A { reserved 3; reserved "price"; }',
            "message A { string note = 3; }",
        ) == [
            ("RESERVATION_DROPPED", "A", "v1"),
            ("NUMBER_REUSED", "A.note", "v1"),
        ]

    def test_a_change_in_each_step_is_told_against_the_version_before(self, over):
        assert over(
            "message A { int64 price = 3; }",
            "message A { int64 cost = 3; }",
            "message A { int64 amount = 3; }",
        ) == [("FIELD_RENAMED", "A.cost", "v1")]

    def test_versions_of_a_history(self, over, write, run, capsys):
        from switchgear.cli.main import main

        for release, text in (("1.0", "Unit: cents."), ("1.1", "A price.")):
            write("step", shop=HEAD + self.field(text))
            with pytest.raises(SystemExit):
                main(["contract", "record", "step", "--release", release, "--history", "h.jsonl"])
        capsys.readouterr()
        write("step", shop=HEAD + self.field("Unit: euros."))
        _, (one,), _ = run("step", "--against", "h.jsonl", "--rules", "switchgear")
        assert (one["rule"], one["against"]) == ("UNIT_CHANGED", "h.jsonl:1.0")
        assert run("step", "--against", "h.jsonl:1.1", "--rules", "switchgear")[:2] == (0, [])
        assert run("h.jsonl:1.1", "--against", "h.jsonl:1.0", "--rules", "file")[:2] == (0, [])
        code, _, err = run("step", "--against", "h.jsonl:9")
        assert code == 2
        assert "It has no version 9" in err


def test_openapi_documents_of_all_versions_count(write, run):
    def document(kinds: str) -> str:
        return (
            "openapi: 3.1.0\ninfo: {title: a, version: '1'}\npaths:\n  /a:\n    get:\n"
            "      parameters:\n      - {name: q, in: query, schema: {type: " + kinds + "}}\n"
            "      responses: {'200': {description: ok}}\n"
        )

    for name, kinds in (("v0", "[string, integer]"), ("v1", "[string]"), ("v2", "[string]")):
        write("docs", **{f"{name}.yaml": document(kinds)})
    arguments = ["docs/v2.yaml", "--against", "docs/v1.yaml", "--against", "docs/v0.yaml"]
    assert run(*arguments)[:2] == (0, [])
    write("docs", **{"v2.yaml": document("[integer]")})
    _, findings, _ = run(*arguments)
    assert [(one["rule"], one["against"]) for one in findings] == [
        ("REQUEST_SAME_TYPE", "docs/v1.yaml")
    ]
