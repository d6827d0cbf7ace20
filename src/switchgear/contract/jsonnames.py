"""What fields are called in JSON, and what happens where two would be called the same.

protoc refuses that in proto3 and in editions, and warns in proto2. We do the same:

| both names | proto3, editions | proto2, `json_format: LEGACY_BEST_EFFORT` |
| --- | --- | --- |
| made by protobuf: `foo_bar`, `fooBar` | refused, also if `json=` says another | taken |
| one of them said by `json=` | refused | taken |
| both said by `json=` | refused | refused |

With `deprecated_legacy_json_field_conflicts` in its options a message may do it all. A name that
two fields have is then neither's: in JSON each goes by its own, which every reader of protobuf's
JSON takes as well.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from switchgear.contract.file import ProtoFile
from switchgear.errors import ContractError

if TYPE_CHECKING:
    from switchgear.contract.declaration import Spec

__all__ = ["check_json_names", "json_name", "json_names", "stated_name"]

_LEGACY_FORMAT: Final = re.compile(r"\bjson_format\s*:\s*LEGACY_BEST_EFFORT\b")
_LEGACY_CONFLICTS: Final = re.compile(r"\bdeprecated_legacy_json_field_conflicts\s*:\s*true\b")


def json_name(name: str) -> str:
    """Return the name that protobuf gives a field in JSON unless told otherwise."""
    return re.sub(r"_+([a-zA-Z0-9]?)", lambda found: found[1].upper(), name)


def stated_name(spec: Spec, wire: str, *, camel: bool) -> str:
    """Return the name of a field in JSON as its descriptor states it, whoever else has it."""
    return spec.json or (json_name(wire) if camel else wire)


def json_names(specs: Mapping[str, Spec], *, camel: bool) -> dict[str, str]:
    """Return the name in JSON of each field by its attribute, each another one."""
    wires = {key: spec.name or key for key, spec in specs.items()}
    found = {key: stated_name(spec, wires[key], camel=camel) for key, spec in specs.items()}
    while twice := [key for key in _not_alone(found) if found[key] != wires[key]]:
        found |= {key: wires[key] for key in twice}
    return found


def _not_alone(names: Mapping[str, str]) -> list[str]:
    count = Counter(names.values())
    return [key for key, name in names.items() if count[name] > 1]


def check_json_names(specs: Mapping[str, Spec], file: ProtoFile, options: str, where: str) -> None:
    """Refuse the names that protoc refuses; `options` are those of the message."""
    if _LEGACY_CONFLICTS.search(options):
        return
    wires = {spec.name or key: spec for key, spec in specs.items()}
    made = {wire: json_name(wire) for wire in wires}
    stated = {wire: stated_name(one, wire, camel=file.camel) for wire, one in wires.items()}
    if file.syntax == "proto2" or any(map(_LEGACY_FORMAT.search, (file.options, options))):
        stated = {wire: json for wire, json in stated.items() if json != made[wire]}
    else:
        _refuse(made, where, "Rename one: protoc refuses them, whatever json= says.")
    _refuse(stated, where, "Give one of them another name with json=.")


def _refuse(names: Mapping[str, str], where: str, fix: str) -> None:
    twice = _not_alone(names)
    if twice:
        json = names[twice[0]]
        both = [name for name in twice if names[name] == json][:2]
        raise ContractError(
            f"The fields {' and '.join(both)} are both {json} in protobuf's JSON.",
            where=where,
            fix=fix,
        )
