"""What is declared in Python: the words of an edit, where the new version is a module.

The statement of the user is kept as it stands, with the number, name and words that the edit needs;
where there is none (the old version is a `.proto` file), it is made of the field's type.
"""

from __future__ import annotations

import ast
import keyword
from collections.abc import Mapping
from typing import Final

from switchgear.contract.check.schema import Enum, Field, Method
from switchgear.contract.check.words import MEANING, declarations

__all__ = ["argument", "in_python", "member_in_python", "operation_in_python"]

_LISTED: Final = {"repeated": "list", "map": "dict"}


def in_python(
    field: Field, *, name: str, number: int, absent: bool, said: Mapping[str, str | int]
) -> str:
    """Return the statement that declares a field.

    An empty name and the number 0 stand for its own. `absent` is a new one, without which
    messages are valid. `said` are further arguments of `field`; those that the user has written
    give way to them.
    """
    node, call = _statement(field)
    said = dict(said)
    if name:
        safe = f"{name}_" if keyword.iskeyword(name) else name
        node.target = ast.Name(safe)
        call.keywords = [one for one in call.keywords if one.arg not in {"name", "json"}]
        if safe != name:
            said.setdefault("name", name)
    if number:
        call.args[0] = ast.Constant(number)
    given = {one.arg for one in call.keywords}
    left = {"doc", "deprecated", *said} if absent else {"doc", *said}
    kept = [one for one in call.keywords if one.arg not in left]
    if absent and not given & {"default", "default_factory"}:
        if field.cardinality in _LISTED:
            kept.append(ast.keyword("default_factory", ast.Name(_LISTED[field.cardinality])))
        else:
            node.annotation = _or_none(node.annotation)
    call.keywords = [*kept, *(ast.keyword(key, ast.Constant(one)) for key, one in said.items())]
    return _quoted(node)


def member_in_python(enum: Enum, name: str, number: int, said: Mapping[str, str | bool]) -> str:
    """Return the statement that declares a member of an enumeration, under a number.

    `said` are arguments of `member`; those that the user has written are kept beside them.
    """
    written = (enum.file.spelled or {}).get(f"{enum.full_name}.{name}", "")
    target, call = _member(written, name)
    kept = {one.arg: one for one in call.keywords} | {
        key: ast.keyword(key, ast.Constant(one)) for key, one in said.items()
    }
    value: ast.expr = ast.Constant(number)
    if kept:
        value = ast.Call(ast.Name("member"), [value], list(kept.values()))
    return _quoted(ast.Assign([ast.Name(target)], value, lineno=1))


def _member(written: str, name: str) -> tuple[str, ast.Call]:
    """Return what a member is called in Python, and the call that declares it."""
    for node in ast.parse(written).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            told = node.value
            plain = ast.Call(ast.Name("member"), [], [])
            return node.targets[0].id, told if isinstance(told, ast.Call) else plain
    said = [ast.keyword("name", ast.Constant(name))] if keyword.iskeyword(name) else []
    return f"{name}_" if said else name, ast.Call(ast.Name("member"), [], said)


def operation_in_python(method: Method) -> tuple[str, str] | None:
    """Return decorator and head of the function that declare an operation, as the user wrote them.

    None where that is not known: the version is a `.proto` file.
    """
    written = (method.file.spelled or {}).get(method.full_name, "")
    for node in ast.parse(written).body:
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef):
            decorators = [f"@{_quoted(one)}" for one in node.decorator_list]
            node.decorator_list = []
            return " ".join(decorators), " ".join(_quoted(node).split())
    return None


def _quoted(node: ast.AST) -> str:
    text = ast.unparse(ast.fix_missing_locations(node))
    return text if '"' in text else text.replace("'", '"')


def argument(key: str, word: str) -> str | int:
    """Return what `field` takes for a word of the convention (see `words`)."""
    return int(word) if key == "scale" and word.isdecimal() else word


def _statement(field: Field) -> tuple[ast.AnnAssign, ast.Call]:
    """Return what the user has written, if it is a plain declaration; else what says the same."""
    written = (field.file.spelled or {}).get(field.full_name, "")
    for source in (written, _made(field)):
        for node in ast.parse(source).body:
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.value, ast.Call):
                continue
            if node.value.args and isinstance(node.value.args[0], ast.Constant):
                return node, node.value
    raise AssertionError(field.full_name)  # what is made is a plain declaration


def _made(field: Field) -> str:
    label, arguments = _annotation(field), str(field.number)
    if field.cardinality in _LISTED:
        arguments += f", default_factory={_LISTED[field.cardinality]}"
    elif field.has_presence:
        label += " | None"
    for key, word in declarations(field.comment).items():
        if key in MEANING:
            arguments += f", {key}={argument(key, word)!r}"
    name = field.name
    if keyword.iskeyword(name):
        name, arguments = f"{name}_", f'{arguments}, name="{name}"'
    return f"{name}: {label} = field({arguments})"


def _annotation(field: Field) -> str:
    if field.is_map and field.parent is not None:
        entry = next(one for one in field.parent.nested() if one.full_name == field.type_name)
        return f"dict[{_value(entry.fields[1])}, {_value(entry.fields[2])}]"
    return f"list[{_value(field)}]" if field.cardinality == "repeated" else _value(field)


def _value(field: Field) -> str:
    from switchgear.contract.importer.types import (  # noqa: PLC0415  few edits are of Python
        SCALARS,
        WELL_KNOWN,
    )

    if not field.type_name:
        return SCALARS[f"TYPE_{field.kind.upper()}"][0]
    package = f"{field.file.package}." if field.file.package else ""
    inner = field.type_name.removeprefix(package)
    return WELL_KNOWN.get(field.type_name, inner if package else inner.rpartition(".")[2])


def _or_none(annotation: ast.expr) -> ast.expr:
    text = ast.unparse(annotation)
    if "None" in text or "Optional[" in text:
        return annotation
    if isinstance(annotation, ast.Constant) and isinstance(
        annotation.value, str
    ):  # a name that is declared further below
        return ast.Constant(f"{annotation.value} | None")
    return ast.BinOp(annotation, ast.BitOr(), ast.Constant(None))
