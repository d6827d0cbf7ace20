"""The rules that no other checker has: each is shown to speak, and to be silent."""

from __future__ import annotations

import pytest

RULES = ("--rules", "switchgear")


@pytest.fixture
def says(shop, found):
    """Return a function that gives rule and subject for two versions of shop.v1."""

    def says(old: str, new: str, **kwargs) -> list[tuple[str, str]]:
        shop(old, new, **kwargs)
        return found(*RULES)

    return says


@pytest.fixture
def told(shop, run):
    """Return a function that gives the one finding for two versions of shop.v1."""

    def told(old: str, new: str, *arguments: str, **kwargs) -> dict:
        shop(old, new, **kwargs)
        code, findings, err = run("new", "--against", "old", *(arguments or RULES))
        assert (code, err, len(findings)) == (1, "", 1), findings
        return findings[0]

    return told


class TestSafeChangesYieldNothing:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (
                "message A { int64 price = 3; }",
                "message A { int64 price = 3 [deprecated = true]; int64 discount = 8; }",
            ),
            (
                "message A { int64 price = 3; string b = 4; }",
                'message A { reserved 3; reserved "price"; string b = 4; }',
            ),
            ("message A { string a = 1; }", "message A { string a = 1; } message B { A a = 1; }"),
            (
                "message A { string a = 1; string b = 2; }",
                "message A { string b = 2; string a = 1; }",
            ),
            ("enum E { Z = 0; }", "enum E { Z = 0; P = 1; }"),
            ("enum E { Z = 0; P = 1; }", "enum E { Z = 0; reserved 1; reserved 'P'; }"),
            (
                "enum E { Z = 0; P = 1; }",
                "enum E { option allow_alias = true; Z = 0; P = 1; PAID = 1; }",
            ),
            ("message A {}", "// An A.\nmessage A { // A name.\n string a = 1; }"),
            ("message A {} service S { }", "message A {} service S { rpc Do(A) returns (A); }"),
        ],
    )
    def test_in_one_file(self, says, found, old, new):
        assert says(old, new) == []
        assert found() == []  # nor do the rules that run by default say anything

    def test_a_message_moved_unchanged_to_another_file(self, write, found):
        head = 'syntax = "proto3";\npackage shop.v1;\n'
        money = "// An amount.\nmessage Money { int64 units = 1; }\n"
        order = "message Order { Money total = 1; }\n"
        write("old", shop=head + money + order)
        write("new", shop=head + 'import "money.proto";\n' + order, money=head + money)
        assert found() == []
        assert found("--rules", "package") == []


class TestIntent:
    def test_a_rename(self, told):
        one = told("message A { int64 price = 3; }", "message A { int64 unit_price = 3; }")
        assert (one["rule"], one["subject"]) == ("FIELD_RENAMED", "shop.v1.A.price")
        assert '`int64 unit_price = 3 [json_name = "price"];`' in one["edit"]
        assert one["witness"] == "price=500 is 18 f4 03 and now reads unit_price=500"

    @pytest.mark.parametrize(
        ("old", "new", "reason"),
        [
            ("int64 price = 3;", "int64 discount = 3; int64 price = 8;", "price is 8 now"),
            ("int64 price = 3; int64 discount = 5;", "int64 discount = 3;", "was 5 before"),
            (
                "// What one costs.\nint64 price = 3;",
                "int64 rebate = 3;\n// What one costs.\nint64 cost = 4;",
                "is said of cost = 4 now",
            ),
            ("int64 price = 3;", "string note = 3;", "its type changed from int64 to string too"),
            (
                "// Unit: cents.\nint64 price = 3;",
                "// Unit: percent.\nint64 rebate = 3;",
                "its unit changed too",
            ),
            (
                "// What one costs.\nint64 price = 3;",
                "// Taken off at the till.\nint64 rebate = 3;",
                "have a word in common",
            ),
        ],
    )
    def test_another_use_of_the_number(self, told, old, new, reason):
        one = told(f"message A {{\n{old}\n}}", f"message A {{\n{new}\n}}")
        assert one["rule"] == "FIELD_REPURPOSED"
        assert reason in one["message"]
        assert "Put back `int64 price = 3 [deprecated = true];`" in one["edit"]

    def test_another_use_is_told_with_bytes_and_the_edit_that_was_meant(self, told):
        one = told(
            "message A { int64 price = 3; string b = 7; }",
            "message A { int64 discount = 3; int64 price = 4; string b = 7; }",
        )
        assert one["witness"] == "price=500 is 18 f4 03 and now reads discount=500"
        assert "`int64 discount = 8;`" in one["edit"]

    def test_an_exchange_is_one_finding(self, told):
        one = told(
            "message A { int64 price = 3; int64 tax = 4; }",
            "message A { int64 tax = 3; int64 price = 4; }",
        )
        assert one["rule"] == "FIELDS_SWAPPED"
        assert "`int64 price = 3;` and `int64 tax = 4;`" in one["edit"]
        assert one["witness"] == "price=500 is 18 f4 03 and now reads tax=500"

    def test_a_value_renamed(self, told):
        one = told("enum E { Z = 0; PAID = 1; }", "enum E { Z = 0; SETTLED = 1; }")
        assert (one["rule"], one["subject"]) == ("ENUM_VALUE_RENAMED", "shop.v1.E.PAID")
        assert one["witness"] == "1 was written as PAID and reads SETTLED"

    @pytest.mark.parametrize(
        "new", ["Z = 0; LOST = 1; PAID = 2;", "Z = 0; SENT = 1;"], ids=["moved", "taken"]
    )
    def test_a_value_repurposed(self, says, new):
        old = "enum E { Z = 0; PAID = 1; SENT = 4; }"
        new = new if "SENT" in new else new + " SENT = 4;"
        assert says(old, f"enum E {{ {new} }}") == [("ENUM_VALUE_REPURPOSED", "E.PAID")]


class TestHistory:
    @pytest.fixture
    def over_time(self, write, run):
        def over_time(*versions: str) -> list[tuple[str, str]]:
            head = 'syntax = "proto3";\npackage shop.v1;\n'
            for index, text in enumerate(versions):
                write(f"v{index + 1}", shop=head + text)
            new, *older = reversed([f"v{index + 1}" for index in range(len(versions))])
            arguments = [word for one in older for word in ("--against", one)]
            _, findings, err = run(new, *arguments, *RULES)
            assert err == ""
            self.findings = findings
            return [(one["rule"], one["subject"].removeprefix("shop.v1.")) for one in findings]

        return over_time

    def test_a_number_deleted_in_v2_and_reused_in_v3(self, over_time):
        assert over_time(
            "message A { string a = 1; string note = 2; }",
            "message A { string a = 1; }",
            "message A { string a = 1; int64 size = 2; }",
        ) == [("NUMBER_REUSED", "A.size")]
        assert "was note (string) in v1" in self.findings[0]["message"]
        assert "`int64 size = 3;`" in self.findings[0]["edit"]

    def test_a_reserved_number_used(self, over_time):
        found = over_time(
            "message A { string a = 1; reserved 2; }", "message A { string a = 1; int64 b = 2; }"
        )
        assert found == [("NUMBER_REUSED", "A.b")]

    def test_a_name_deleted_in_v2_and_reused_in_v3(self, over_time):
        assert over_time(
            "message A { string a = 1; string note = 2; }",
            "message A { string a = 1; reserved 2; }",
            "message A { string a = 1; reserved 2; string note = 3; }",
        ) == [("NAME_REUSED", "A.note")]
        assert self.findings[0]["witness"] == (
            '{"note": "abc"} of number 2 now reads note=\'abc\', which is number 3'
        )
        over_time(
            "message A { string a = 1; string note = 2; }",
            "message A { string a = 1; reserved 2; }",
            "message A { string a = 1; reserved 2; int64 note = 3; }",
        )
        assert self.findings[0]["witness"] == '{"note": "abc"} is refused now'

    def test_what_comes_back_as_it_was_is_no_finding(self, over_time):
        a = "message A { string a = 1; string note = 2; }"
        assert over_time(a, "message A { string a = 1; }", a) == []
        gone = 'message A { string a = 1; reserved 2; reserved "note"; }'
        assert over_time(a, gone, a) == []

    def test_a_reservation_dropped_three_versions_ago(self, over_time):
        a = "message A { string a = 1; }"
        assert over_time(
            'message A { string a = 1; reserved 4 to 6, 9; reserved "x"; }', a, a, a
        ) == [("RESERVATION_DROPPED", "A")]
        assert 'Add `reserved 4 to 6, 9;` and `reserved "x";`.' in self.findings[0]["edit"]

    def test_a_reservation_that_is_still_there_under_other_ranges(self, over_time):
        assert (
            over_time("message A { reserved 4 to 6, 7; }", "message A { reserved 2 to 9; }") == []
        )

    def test_a_message_deleted_and_recreated_with_other_types(self, over_time):
        b = "message B {}"
        assert over_time(
            "message A { string a = 1; }" + b, b, "message A { int64 a = 1; }" + b
        ) == [("MESSAGE_RECREATED", "A")]
        assert self.findings[0]["witness"] == (
            "a='abc' is 0a 03 61 62 63 and now is kept as unknown bytes"
        )
        assert (
            over_time("message A { string a = 1; }" + b, b, "message A { string a = 1; }" + b) == []
        )

    def test_a_value_of_an_enumeration_reused(self, over_time):
        assert over_time(
            "enum E { Z = 0; PAID = 1; }", "enum E { Z = 0; }", "enum E { Z = 0; LOST = 1; }"
        ) == [("NUMBER_REUSED", "E.LOST")]


class TestMeaning:
    def field(self, comment, name="price"):
        return f"message A {{\n  // {comment}\n  int64 {name} = 3;\n}}"

    @pytest.mark.parametrize(
        ("old", "new", "rule"),
        [
            ("Unit: cents.", "Unit: euros.", "UNIT_CHANGED"),
            (
                "Paid. Unit: cents. Currency: EUR.",
                "Paid. Unit: cents. Currency: USD.",
                "CURRENCY_CHANGED",
            ),
            ("Scale: 2.", "Scale: 3.", "SCALE_CHANGED"),
            ("Semantics: gross.", "Semantics: net.", "SEMANTICS_CHANGED"),
        ],
    )
    def test_what_a_value_means_changed(self, told, old, new, rule):
        one = told(self.field(old), self.field(new))
        assert (one["rule"], one["severity"]) == (rule, "error")

    def test_the_safe_edit_is_a_field_beside_it(self, told):
        one = told(self.field("Unit: cents."), self.field("Unit: euros."))
        assert "`int64 price_euros = 4;` with `Unit: euros.`" in one["edit"]

    def test_a_unit_that_is_not_declared_any_more_is_a_warning(self, told):
        one = told(self.field("Unit: cents."), "message A {\n  int64 price = 3;\n}")
        assert (one["rule"], one["severity"]) == ("UNIT_CHANGED", "warning")

    def test_a_changed_comment_on_an_unchanged_field_is_a_warning(self, told):
        one = told(self.field("Before tax."), self.field("After tax."))
        assert (one["rule"], one["severity"]) == ("COMMENT_CHANGED", "warning")
        assert "“Before tax.”" in one["message"]

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("Before tax.", "Before   tax."),
            ("Before tax.", "Before tax. Unit: cents."),
            ("Unit: cents. Before tax.", "Before tax.\n  // Unit: cents."),
        ],
    )
    def test_a_comment_that_says_the_same(self, says, old, new):
        assert says(self.field(old), self.field(new)) == []


HTTP = (
    'syntax = "proto3";\npackage shop.v1;\nimport "google/api/annotations.proto";\n'
    "message R { string id = 1; string from = 2; string to = 3; R book = 4; R tome = 5; }\n"
)


class TestOperations:
    def rpc(self, options, comment="Do it.", name="R"):
        return (
            f"service S {{\n  // {comment}\n  rpc Do({name}) returns ({name}) {{ {options} }}\n}}"
        )

    def route(self, *rules):
        first, *more = rules
        told = f"get: '{first}'" + "".join(
            f" additional_bindings {{ get: '{one}' }}" for one in more
        )
        return self.rpc(f"option (google.api.http) = {{ {told} }};")

    def test_a_route_changed(self, told):
        one = told(self.route("/v1/a/{id}"), self.route("/v2/a/{id}"), head=HTTP)
        assert (one["rule"], one["subject"]) == ("ROUTE_CHANGED", "shop.v1.S.Do")
        assert "Serve GET /v1/a/{id} again" in one["edit"]

    def test_a_route_beside_the_old_one(self, says):
        assert says(self.route("/a/{id}"), self.route("/b/{id}", "/a/{id}"), head=HTTP) == []

    @pytest.mark.parametrize(
        ("old", "new", "safe"),
        [
            ("get: '/a/{q.a}/{b}'", "get: '/a/{q.x}/{y}'", True),
            ("get: '/a/{b=c/*}'", "get: '/a/{y=c/**}'", True),
            ("get: '/a/{b}'", "get: '/a/{x}'", False),
            ("get: '/a/{q.a}/{b}'", "get: '/a/{q.y}/{y}'", False),
            ("put: '/a/{b}' body: 'q'", "put: '/a/{y}' body: 'q'", True),
            ("put: '/a/{a}' body: 'b'", "put: '/a/{x}' body: 'y'", True),
            ("put: '/a/{a}' body: 'b'", "put: '/a/{x}' body: 'q'", False),
            ("get: '/a' response_body: 'b'", "get: '/a' response_body: 'y'", True),
            ("get: '/a/*/{a}'", "get: '/a/*/{x}'", True),
            ("get: '/a/*/{a}/{b}'", "get: '/a/*/{y}/{x}'", False),
        ],
    )
    def test_a_field_in_a_route_may_be_renamed_and_not_be_another(self, says, old, new, safe):
        before, after = (
            f"message Q {{ string {a} = 1; string {b} = 2; Q q = 3; }}"
            + self.rpc(f"option (google.api.http) = {{ {route} }};", name="Q")
            for route, a, b in ((old, "a", "b"), (new, "x", "y"))
        )
        found = [one for one in says(before, after, head=HTTP) if one[0] == "ROUTE_CHANGED"]
        assert found == ([] if safe else [("ROUTE_CHANGED", "S.Do")])

    @pytest.mark.parametrize(
        ("old", "new", "safe"),
        [
            ("get: '/v1/{id=a/*}'", "get: '/v1/{id=a/**}'", True),
            ("get: '/v1/{id=a/**}'", "get: '/v1/{id=a/*}'", False),
            ("get: '/v1/{id=a/*}'", "get: '/v1/{id=*/*}'", True),
            ("get: '/v1/{id=a/*}'", "get: '/v1/a/{id}'", False),
            ("get: '/v1/a/{id}'", "get: '/v1/{id=a/*}'", False),
            ("get: '/v1/{id=a/*}/b'", "get: '/v1/{id=a/**}'", False),
            ("get: '/v1/{id}'", "get: '/v1/{id=**}'", False),
            ("get: '/v1/{id}/{to}'", "get: '/v1/{id=**}'", False),
            ("get: '/v1/{from}/{to}'", "get: '/v1/{to}/{from}'", False),
            ("get: '/v1/{id}'", "get: '/v1/{from}'", False),
            ("get: '/v1/{book.id}'", "get: '/v1/{book.from}'", False),
            ("get: '/v1/{book.id}'", "get: '/v1/{tome.id}'", False),
            ("get: '/v1/a/{id}'", "get: '/v1/{to}/{id}'", False),
            ("get: '/v1/{id=a/*}'", "get: '/v1/{id=b/*}'", False),
            ("post: '/v1/{id}:go'", "post: '/v1/{id}:run'", False),
            ("post: '/v1/a' body: '*'", "post: '/v1/a' body: 'book'", False),
            ("post: '/v1/a' body: '*'", "post: '/v1/a'", False),
            ("get: '/v1/a'", "get: '/v1/a' response_body: 'book'", False),
            ("custom { kind: 'HEAD' path: '/a' }", "custom { kind: 'HEAD' path: '/b' }", False),
            ("get: '/v1/*/a'", "get: '/v1/*/a'", True),
        ],
    )
    def test_every_part_of_a_binding_counts(self, says, old, new, safe):
        before, after = (self.rpc(f"option (google.api.http) = {{ {one} }};") for one in (old, new))
        assert says(before, after, head=HTTP) == ([] if safe else [("ROUTE_CHANGED", "S.Do")])

    def test_a_refusal_that_callers_do_not_know(self, told):
        one = told(
            self.rpc("", "Do it.\n  // Refuses with: shop.v1.Sold."),
            self.rpc("", "Do it.\n  // Refuses with: shop.v1.Sold, shop.v1.Lost."),
            head=HTTP,
        )
        assert (one["rule"], one["severity"]) == ("REFUSAL_CHANGED", "error")
        assert "shop.v1.Lost" in one["message"]

    def test_a_refusal_that_is_gone_is_a_warning(self, told):
        one = told(self.rpc("", "Refuses with: shop.v1.Sold."), self.rpc("", ""), head=HTTP)
        assert (one["rule"], one["severity"]) == ("REFUSAL_CHANGED", "warning")

    @pytest.mark.parametrize(
        ("old", "new"),
        [("NO_SIDE_EFFECTS", ""), ("IDEMPOTENT", ""), ("", "NO_SIDE_EFFECTS")],
    )
    def test_a_pattern_changed(self, told, old, new):
        level = [f"option idempotency_level = {one};" if one else "" for one in (old, new)]
        one = told(self.rpc(level[0]), self.rpc(level[1]), head=HTTP)
        assert one["rule"] == "PATTERN_CHANGED"
        assert "side by side" in one["edit"]

    def test_a_command_may_become_keyed(self, says):
        keyed = self.rpc("option idempotency_level = IDEMPOTENT;")
        assert says(self.rpc(""), keyed, head=HTTP) == []

    @pytest.mark.parametrize(
        ("comment", "rule"),
        [
            ("Topic: shop.orders. Key: customer.", "EVENT_KEY_CHANGED"),
            ("Topic: shop.orders.", "EVENT_KEY_CHANGED"),
            ("Topic: shop.sales. Key: order_id.", "EVENT_TOPIC_CHANGED"),
        ],
    )
    def test_topic_and_key_of_an_event(self, told, comment, rule):
        old = (
            "// Placed. Topic: shop.orders. Key: order_id.\nmessage Placed { string order_id = 1; }"
        )
        new = f"// Placed. {comment}\nmessage Placed {{ string order_id = 1; }}"
        assert told(old, new)["rule"] == rule


class TestPresence:
    PROTO2 = 'syntax = "proto2";\npackage shop.v1;\n'
    BEHAVIOR = (
        'syntax = "proto3";\npackage shop.v1;\nimport "google/api/field_behavior.proto";\n'
        "message R {}\n"
    )

    def test_a_required_field_added(self, told):
        one = told("message A {}", "message A { required string a = 1; }", head=self.PROTO2)
        assert (one["rule"], one["subject"]) == ("REQUIRED_ADDED", "shop.v1.A.a")

    def test_an_optional_field_made_required(self, told):
        one = told(
            "message A { optional string a = 1; }",
            "message A { required string a = 1; }",
            head=self.PROTO2,
        )
        assert one["rule"] == "OPTIONAL_TO_REQUIRED"

    def test_what_a_request_is_expected_to_hold(self, says):
        expected = "message A { string a = 1 [(google.api.field_behavior) = REQUIRED]; }"
        asks = "service S { rpc Do(A) returns (R); }"
        answers = "service S { rpc Do(R) returns (A); }"
        old = "message A { string a = 1; }"
        assert says(old + asks, expected + asks, head=self.BEHAVIOR) == [
            ("OPTIONAL_TO_REQUIRED", "A.a")
        ]
        assert says(old + answers, expected + answers, head=self.BEHAVIOR) == []
        assert says("message A {}" + asks, expected + asks, head=self.BEHAVIOR) == [
            ("REQUIRED_ADDED", "A.a")
        ]

    @pytest.mark.parametrize(("old", "new"), [("", "optional "), ("optional ", "")])
    def test_presence_changed(self, told, old, new):
        one = told(f"message A {{ {old}int64 a = 1; }}", f"message A {{ {new}int64 a = 1; }}")
        assert one["rule"] == "PRESENCE_CHANGED"


class TestExtensions:
    HEAD = (
        'syntax = "proto2";\npackage shop.v1;\n'
        'message A { extensions 100 to 199; }\nimport "google/protobuf/descriptor.proto";\n'
    )

    def test_a_number_that_changes_is_told(self, told):
        one = told(
            "extend A { optional int32 soon = 100; }",
            "extend A {\n  optional int32 soon = 101;\n}",
            head=self.HEAD,
        )
        assert (one["rule"], one["subject"]) == ("EXTENSION_RENUMBERED", "shop.v1.soon")
        assert one["line"] == 6
        assert "was 100 and is 101 now" in one["message"]
        assert "number 100 again" in one["edit"]

    def test_so_it_is_of_an_option_of_somebodys_own(self, says):
        before = "extend google.protobuf.FieldOptions { optional bool secret = 50001; }"
        after = before.replace("50001", "50002")
        assert says(before, after, head=self.HEAD) == [("EXTENSION_RENUMBERED", "secret")]

    def test_another_extension_of_another_message_is_another(self, says):
        before = "message B { extensions 1; } extend A { optional int32 soon = 100; }"
        after = before.replace(
            "extend A { optional int32 soon = 100", "extend B { optional int32 soon = 1"
        )
        assert says(before, after, head=self.HEAD) == []
