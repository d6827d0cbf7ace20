"""The names of buf's rules, the categories they are in, and what a selection of names means.

The table is that of `version: v2` of buf.yaml. The older versions differ where it says so below.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Final

from switchgear.errors import UnreadableContract

__all__ = ["BUF_RULES", "BUF_VERSIONS", "DEPRECATED", "select"]

BUF_VERSIONS: Final = ("v1beta1", "v1", "v2")

_FILE, _PACKAGE, _JSON, _WIRE, _CSR = "FILE", "PACKAGE", "WIRE_JSON", "WIRE", "CSR"

_GROUPS: Final[Mapping[tuple[str, ...], str]] = {
    (_FILE, _PACKAGE, _JSON, _WIRE, _CSR): """
        FIELD_SAME_DEFAULT FIELD_SAME_ONEOF FILE_SAME_PACKAGE MESSAGE_SAME_REQUIRED_FIELDS
        RESERVED_ENUM_NO_DELETE RESERVED_MESSAGE_NO_DELETE RPC_SAME_CLIENT_STREAMING
        RPC_SAME_IDEMPOTENCY_LEVEL RPC_SAME_REQUEST_TYPE RPC_SAME_RESPONSE_TYPE
        RPC_SAME_SERVER_STREAMING""",
    (_FILE, _PACKAGE, _JSON, _CSR): """
        ENUM_SAME_JSON_FORMAT ENUM_VALUE_SAME_NAME FIELD_SAME_JSON_NAME FIELD_SAME_NAME
        MESSAGE_SAME_JSON_FORMAT""",
    (_FILE, _PACKAGE, _CSR): """
        ENUM_VALUE_NO_DELETE EXTENSION_MESSAGE_NO_DELETE FIELD_NO_DELETE FIELD_SAME_TYPE
        FILE_SAME_SYNTAX MESSAGE_NO_REMOVE_STANDARD_DESCRIPTOR_ACCESSOR ONEOF_NO_DELETE""",
    (_FILE, _PACKAGE): """
        ENUM_SAME_TYPE FIELD_SAME_CARDINALITY FIELD_SAME_CPP_STRING_TYPE
        FIELD_SAME_JAVA_UTF8_VALIDATION FIELD_SAME_JSTYPE FIELD_SAME_UTF8_VALIDATION
        FILE_SAME_CC_ENABLE_ARENAS FILE_SAME_CC_GENERIC_SERVICES FILE_SAME_CSHARP_NAMESPACE
        FILE_SAME_GO_PACKAGE FILE_SAME_JAVA_GENERIC_SERVICES FILE_SAME_JAVA_MULTIPLE_FILES
        FILE_SAME_JAVA_OUTER_CLASSNAME FILE_SAME_JAVA_PACKAGE FILE_SAME_OBJC_CLASS_PREFIX
        FILE_SAME_OPTIMIZE_FOR FILE_SAME_PHP_CLASS_PREFIX FILE_SAME_PHP_METADATA_NAMESPACE
        FILE_SAME_PHP_NAMESPACE FILE_SAME_PY_GENERIC_SERVICES FILE_SAME_RUBY_PACKAGE
        FILE_SAME_SWIFT_PREFIX RPC_NO_DELETE""",
    (_FILE, _CSR): "ENUM_NO_DELETE FILE_NO_DELETE MESSAGE_NO_DELETE",
    (_FILE,): "EXTENSION_NO_DELETE SERVICE_NO_DELETE",
    (_PACKAGE,): """
        PACKAGE_ENUM_NO_DELETE PACKAGE_EXTENSION_NO_DELETE PACKAGE_MESSAGE_NO_DELETE
        PACKAGE_NO_DELETE PACKAGE_SERVICE_NO_DELETE""",
    (_JSON, _CSR): """
        ENUM_VALUE_NO_DELETE_UNLESS_NAME_RESERVED FIELD_NO_DELETE_UNLESS_NAME_RESERVED
        FIELD_WIRE_JSON_COMPATIBLE_CARDINALITY FIELD_WIRE_JSON_COMPATIBLE_TYPE""",
    (_JSON, _WIRE, _CSR): """
        ENUM_VALUE_NO_DELETE_UNLESS_NUMBER_RESERVED FIELD_NO_DELETE_UNLESS_NUMBER_RESERVED""",
    (_WIRE,): "FIELD_WIRE_COMPATIBLE_CARDINALITY FIELD_WIRE_COMPATIBLE_TYPE",
}

DEPRECATED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "FIELD_SAME_CTYPE": ("FIELD_SAME_CPP_STRING_TYPE",),
        "FIELD_SAME_LABEL": (
            "FIELD_SAME_CARDINALITY",
            "FIELD_WIRE_COMPATIBLE_CARDINALITY",
            "FIELD_WIRE_JSON_COMPATIBLE_CARDINALITY",
        ),
        "FILE_SAME_JAVA_STRING_CHECK_UTF8": ("FIELD_SAME_JAVA_UTF8_VALIDATION",),
        "FILE_SAME_PHP_GENERIC_SERVICES": (),
        "MESSAGE_SAME_MESSAGE_SET_WIRE_FORMAT": (),
    }
)
"""Names that buf still takes, and the rules they stand for now."""


def _table(version: str) -> Mapping[str, Collection[str]]:
    """Return the categories of each rule in one version of buf.yaml."""
    found = {name: set(of) for of, names in _GROUPS.items() for name in names.split()}
    if version == "v2":
        return MappingProxyType(found)
    for name in ("EXTENSION_NO_DELETE", "FIELD_SAME_DEFAULT", "PACKAGE_EXTENSION_NO_DELETE"):
        del found[name]
    for categories in found.values():
        categories.discard(_CSR)
    if version == "v1beta1":
        del found["FIELD_WIRE_COMPATIBLE_TYPE"]
        del found["FIELD_WIRE_JSON_COMPATIBLE_TYPE"]
        found["FIELD_SAME_TYPE"] |= {_JSON, _WIRE}
        found["FIELD_SAME_CARDINALITY"] |= {_JSON, _WIRE}
        found["FILE_SAME_PACKAGE"] = {_FILE}
    return MappingProxyType(found)


BUF_RULES: Final[Mapping[str, Mapping[str, Collection[str]]]] = MappingProxyType(
    {version: _table(version) for version in BUF_VERSIONS}
)
"""The categories of every rule, by the version of buf.yaml and the name of the rule."""


def select(
    use: Iterable[str], exclude: Iterable[str] = (), *, version: str = "v2", where: str
) -> frozenset[str]:
    """Return the rules that names of rules and categories stand for, less those to exclude.

    Raises `UnreadableContract` for a name that is neither.
    """
    table = BUF_RULES[version]
    chosen = {rule for name in use for rule in named(name, table, where)}
    return frozenset(chosen - {rule for name in exclude for rule in named(name, table, where)})


def named(name: str, table: Mapping[str, Collection[str]], where: str) -> Collection[str]:
    """Return the rules that one name stands for."""
    if name in table:
        return (name,)
    if name in DEPRECATED:
        return [one for one in DEPRECATED[name] if one in table]
    found = [rule for rule, categories in table.items() if name in categories]
    if not found:
        categories = ", ".join(sorted({one for of in table.values() for one in of}))
        raise UnreadableContract(
            f"{name!r} is neither a rule nor a category.",
            where=where,
            fix=f"Use a category ({categories}) or the name of a rule.",
        )
    return found
