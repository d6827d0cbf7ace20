"""Small random schemas: few names and numbers, so that two of them collide in every way."""

from __future__ import annotations

from random import Random

__all__ = ["tree"]

SCALARS = [
    *("int32", "int64", "uint32", "uint64", "sint32", "sint64", "bool", "string", "bytes"),
    *("fixed32", "fixed64", "sfixed32", "sfixed64", "double", "float"),
]
KEYS = ["int32", "int64", "string", "bool"]
MAP_VALUES = ["int32", "string", "bytes", "A"]
DEFAULTS = {
    **{one: ["0", "1", "7"] for one in ("int32", "int64", "uint32", "uint64", "sint64")},
    "bool": ["true", "false"],
    "string": ['""', '"x"', '"1"'],
    "bytes": ['"x"', '"\\001"'],
    **{one: ["0.1", "nan", "inf", "1", "7", "1e300"] for one in ("double", "float")},
}
FILE_OPTIONS = {
    "java_package": ['"a"', '"b"'],
    "java_outer_classname": ['"X"', '"Y"'],
    "java_multiple_files": ["true", "false"],
    "go_package": ['"a.b/c"', '"a.b/d"'],
    "cc_generic_services": ["true", "false"],
    "java_generic_services": ["true", "false"],
    "py_generic_services": ["true", "false"],
    "cc_enable_arenas": ["true", "false"],
    "objc_class_prefix": ['"A"', '"B"'],
    "csharp_namespace": ['"A"', '"B"'],
    "swift_prefix": ['"A"', '"B"'],
    "php_class_prefix": ['"A"', '"B"'],
    "php_namespace": ['"A"', '"B"'],
    "php_metadata_namespace": ['"A"', '"B"'],
    "ruby_package": ['"A"', '"B"'],
    "optimize_for": ["SPEED", "CODE_SIZE"],
}


EDITIONS = ("2023", "2024")
GONE = {"java_multiple_files"}
"""Options that edition 2024 has not any more."""


def tree(seed: int, package: str) -> dict[str, str]:
    """Return two files of one package; some parts are there, and stand in either."""
    random = Random(seed)
    syntax = random.choice(["proto3", "proto3", "proto2", "2023", "2024"])
    made = [_File(random, syntax, package, name) for name in ("a", "b")]
    if random.random() < 0.1:
        made = made[:1]
    first, last = made[0], made[-1]
    for name in ("A", "B", "C"):
        if name == "A" or random.random() < 0.8:
            random.choice([first, last] if name != "A" else [first]).messages.append(name)
    first.enums += ["E", "F"] if random.random() < 0.9 else ["E"]
    if random.random() < 0.5:
        first.services.append("S")
    if random.random() < 0.5:
        last.services.append("T")
    if last is not first:
        last.known = ["A", "E"]
    return {f"{package}/{one.name}.proto": one.text() for one in made}


class _File:
    def __init__(self, random: Random, syntax: str, package: str, name: str) -> None:
        self.random, self.syntax, self.package, self.name = random, syntax, package, name
        self.messages: list[str] = []
        self.enums: list[str] = []
        self.services: list[str] = []
        self.known: list[str] = []
        self.lines: list[str] = []
        self.implicit = False

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def text(self) -> str:
        word = "edition" if self.syntax in EDITIONS else "syntax"
        head = f'{word} = "{self.syntax}";'
        moved = ".moved" if self.name == "b" and self.chance(0.05) else ""
        self.lines = [head, f"package {self.package}{moved};"]
        if self.syntax == "2024":  # what it asks of names, and hides, would be in the way
            self.lines.append("option features.enforce_naming_style = STYLE_LEGACY;")
            self.lines.append("option features.default_symbol_visibility = EXPORT_ALL;")
        if self.known:
            self.lines.append(f'import "{self.package}/a.proto";')
            self.known = [f".{self.package}.{one}" for one in self.known] if not moved else []
        self.implicit = self.syntax in EDITIONS and self.chance(0.15)
        if self.implicit:
            self.known = self.known[:1]
            self.lines.append("option features.field_presence = IMPLICIT;")
        if self.syntax in EDITIONS and self.chance(0.3):
            for feature, values in (
                ("json_format", ["ALLOW", "LEGACY_BEST_EFFORT"]),
                ("utf8_validation", ["VERIFY", "NONE"]),
                ("message_encoding", ["LENGTH_PREFIXED", "DELIMITED"]),
            ):
                if self.chance(0.4):
                    self.lines.append(f"option features.{feature} = {self.random.choice(values)};")
        for option, values in FILE_OPTIONS.items():
            if self.chance(0.06) and not (self.syntax == "2024" and option in GONE):
                self.lines.append(f"option {option} = {self.random.choice(values)};")
        if self.syntax not in EDITIONS and self.chance(0.05):
            self.lines.append("option java_string_check_utf8 = true;")
        for one in self.enums:
            self.enum(one)
        for one in self.messages:
            self.message(one, nested=one in {"A", "B"})
        for one in self.services:
            self.service(one)
        if self.syntax != "proto3" and "A" in self.messages and self.chance(0.5):
            self.lines.append("extend A {")
            for number in self.random.sample([100, 101, 102], k=2):
                label = self.random.choice(["", "repeated "])
                label = "optional " if not label and self.syntax == "proto2" else label
                kind = self.random.choice(["int32", "string", "int64"])
                self.lines.append(
                    f"  {label}{kind} {self.random.choice('xy')}_{number} = {number};"
                )
            self.lines.append("}")
        return "\n".join(self.lines) + "\n"

    def enum(self, name: str, indent: str = "") -> None:
        prefix = name.upper()
        self.lines.append(f"{indent}enum {name} {{")
        closed = self.syntax == "proto2" or (self.syntax in EDITIONS and self.chance(0.2))
        if self.implicit:  # an enumeration that is closed cannot be in a field without presence
            closed = False
        if self.syntax in EDITIONS and closed:
            self.lines.append(f"{indent}  option features.enum_type = CLOSED;")
        alias = self.chance(0.3)
        numbers = [1, 2, 3, 4]
        self.random.shuffle(numbers)
        numbers = numbers[: self.random.randint(1, 4)]
        if not closed or self.chance(0.6):
            numbers.insert(0, 0)
        names = self.random.sample([f"{prefix}_{one}" for one in "PQRSTUV"], k=len(numbers))
        if alias:
            self.lines.append(f"{indent}  option allow_alias = true;")
            self.lines.append(f"{indent}  {prefix}_ALIAS = {numbers[-1]};")
            if numbers[-1] != 0 and not closed:
                self.lines[-1], first = f"{indent}  {prefix}_ZERO = 0;", self.lines[-1]
                self.lines.append(first)
        for one, number in zip(names, numbers, strict=True):
            self.lines.append(f"{indent}  {one} = {number};")
        if self.chance(0.4):
            gone = self.random.choice(["5", "5 to 9", "5, 7 to 9", "6 to max", "10, 5 to 6"])
            self.lines.append(f"{indent}  reserved {gone};")
        unused = sorted({f"{prefix}_{one}" for one in "PQRSTUV"} - set(names))
        if self.chance(0.4):
            picked = self.random.sample(unused, k=min(2, len(unused)))
            self.lines.append(f"{indent}  reserved {self.names(picked)};")
        self.lines.append(f"{indent}}}")

    def names(self, names: list[str]) -> str:
        if self.syntax in EDITIONS:
            return ", ".join(names)
        return ", ".join(f'"{one}"' for one in names)

    def message(self, name: str, indent: str = "", *, nested: bool = False) -> None:
        seen = ""
        if self.syntax == "2024" and name in {"B", "C", "N"} and self.chance(0.3):
            seen = self.random.choice(["local ", "export "])  # the other file uses A alone
        self.lines.append(f"{indent}{seen}message {name} {{")
        inner = indent + "  "
        if self.syntax == "proto2" and self.chance(0.1):
            self.lines.append(f"{inner}option no_standard_descriptor_accessor = true;")
        types: list[str] = [*SCALARS, *SCALARS, "A", "A", *self.known, *self.known]
        if self.name == "b" and not self.known:
            types = [*SCALARS]
        if name == "A" and self.enums:
            types += ["E", "E"]
        if nested and self.chance(0.7):
            self.message("N", inner)
            types += [f"{name}.N"]
        if nested and self.chance(0.7):
            self.enum("K", inner)
            types += ["K"]
        numbers = sorted(self.random.sample([1, 2, 3, 4, 5, 6], k=self.random.randint(1, 6)))
        names = self.random.sample(["a", "b", "c", "d", "e_f", "g", "h"], k=len(numbers))
        stable = self.chance(0.7)
        oneof: list[tuple[int, str]] = []
        for number, one in zip(numbers, names, strict=True):
            kept = f"n{number}" if stable or self.chance(0.6) else one
            if self.chance(0.15):
                oneof.append((number, kept))
            else:
                self.field(number, kept, types, inner)
        if oneof:
            self.lines.append(f"{inner}oneof {self.random.choice(['choice', 'pick'])} {{")
            for number, one in oneof:
                self.lines.append(f"{inner}  {self.random.choice(types)} {one} = {number};")
            self.lines.append(f"{inner}}}")
        if self.chance(0.4):
            gone = self.random.choice(["7", "7 to 9", "8, 12 to 15", "20 to max", "7 to 8, 9"])
            if self.syntax != "proto3" and name == "A":
                gone = "7 to 9"
            self.lines.append(f"{inner}reserved {gone};")
        if self.chance(0.4):
            self.lines.append(f"{inner}reserved {self.names(['zz', self.random.choice('xyw')])};")
        if self.syntax != "proto3" and name == "A":
            if self.chance(0.3):
                label = "optional " if self.syntax == "proto2" else ""
                self.lines.append(f"{inner}extend A {{ {label}int32 in_{name} = 103; }}")
            spans = self.random.choice(["100 to 110", "100 to 200", "100 to 105, 120 to max"])
            self.lines.append(f"{inner}extensions {spans};")
        self.lines.append(f"{indent}}}")

    def field(self, number: int, name: str, types: list[str], indent: str) -> None:
        if self.chance(0.12):
            key = self.random.choice(KEYS)
            value = self.random.choice(MAP_VALUES if "A" in types else MAP_VALUES[:-1])
            self.lines.append(f"{indent}map<{key}, {value}> {name} = {number};")
            return
        if self.syntax == "proto2" and self.chance(0.05):
            self.lines.append(f"{indent}optional group G{number} = {number} {{")
            self.lines.append(f"{indent}  optional int32 in = 1;\n{indent}}}")
            return
        kind = self.random.choice(types)
        options = []
        if self.syntax == "proto2":
            label = self.random.choice(["optional ", "optional ", "required ", "repeated "])
        elif self.syntax == "proto3":
            label = self.random.choice(["", "", "optional ", "repeated "])
        else:
            label = self.random.choice(["", "", "repeated "])
            presence = self.random.choice(["", "", "EXPLICIT", "IMPLICIT", "LEGACY_REQUIRED"])
            if presence and not label and kind in SCALARS:
                options.append(f"features.field_presence = {presence}")
            if kind == "string" and self.chance(0.2):
                options.append("features.utf8_validation = NONE")
            if kind in {"A", ".A"} and self.chance(0.3):
                options.append("features.message_encoding = DELIMITED")
        implicit = (
            self.syntax == "proto3" or self.implicit or any("IMPLICIT" in one for one in options)
        )
        if kind in DEFAULTS and label != "repeated " and not implicit and self.chance(0.3):
            options.append(f"default = {self.random.choice(DEFAULTS[kind])}")
        if kind in {"int64", "uint64", "fixed64"} and self.chance(0.3):
            options.append(f"jstype = {self.random.choice(['JS_STRING', 'JS_NUMBER'])}")
        if kind in {"string", "bytes"} and self.chance(0.2) and self.syntax != "2024":
            options.append(f"ctype = {self.random.choice(['CORD', 'STRING_PIECE', 'STRING'])}")
        if self.chance(0.08):
            options.append(f'json_name = "j{number}"')
        told = f" [{', '.join(options)}]" if options else ""
        self.lines.append(f"{indent}{label}{kind} {name} = {number}{told};")

    def service(self, name: str) -> None:
        self.lines.append(f"service {name} {{")
        types = [*self.known[:1], *self.messages]
        for method in ("Get", "Put", "List"):
            if not types or self.chance(0.2):
                continue
            given, got = (
                f"{'stream ' if self.chance(0.2) else ''}{self.random.choice(types)}"
                for _ in range(2)
            )
            level = self.random.choice(["", "", "IDEMPOTENT", "NO_SIDE_EFFECTS"])
            body = f"option idempotency_level = {level};" if level else ""
            self.lines.append(f"  rpc {method}({given}) returns ({got}) {{ {body} }}")
        self.lines.append("}")
