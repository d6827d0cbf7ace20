"""What declarations say of themselves, for those who read the exported contract.

A field or a member is told by `doc=`, or by the string that stands below it, as in

    price: Money = field(3)
    \"\"\"What one piece costs.\"\"\"

Python forgets such a string, so it is read from the source, and only for an export. Where there is
no source, only `doc=` is known.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from types import ModuleType
from typing import Any, cast

from switchgear.contract.declaration import Field, declaration_of
from switchgear.contract.enums import Enum, labels_of
from switchgear.contract.message import Message

__all__ = ["field_doc", "member_docs", "type_doc"]


def type_doc(cls: type[Message | Enum]) -> str:
    """Return the docstring of a message or enumeration; nothing where it has none of its own."""
    if issubclass(cls, Enum):
        return inspect.cleandoc(vars(cls).get("__doc__") or "")
    return declaration_of(cls).doc


def field_doc(cls: type[Message], field: Field) -> str:
    """Return what is said of a field and what it means, a sentence for each: `Unit: cents.`.

    This is how `switchgear contract check` reads the meaning of a field out of a `.proto` file.
    """
    spec = field.spec
    said = spec.doc or _below(cast("Any", cls)).get(field.name, "")
    meaning = {
        "Unit": spec.unit,
        "Scale": spec.scale,
        "Currency": spec.currency,
        "Semantics": spec.semantics,
    }
    told = [f"{key}: {value}." for key, value in meaning.items() if value is not None]
    joint = "\n" if "\n" in said else " "
    return joint.join([one for one in (said, " ".join(told)) if one])


def member_docs(cls: type[Enum]) -> Mapping[str, str]:
    """Return what is said of each member, by its name on the wires."""
    below = _below(cast("Any", cls))
    names = dict(zip(labels_of(cls), cls.__members__, strict=True))
    return {wire: label.doc or below.get(names[wire], "") for wire, label in labels_of(cls).items()}


@cache
def _below(cls: Any) -> dict[str, str]:
    module = sys.modules.get(cls.__module__)
    found = None if module is None else _classes(module).get(cls.__qualname__)
    return {} if found is None else dict(_documented(found))


@cache
def _classes(module: ModuleType) -> Mapping[str, ast.ClassDef]:
    """Return the classes of a module by their qualified names, parsed once for all of them."""
    try:
        tree = ast.parse(inspect.getsource(module))
    except (OSError, TypeError, SyntaxError):  # made at run time, or shipped without its source
        return {}
    found: dict[str, ast.ClassDef] = {}
    waiting: list[tuple[ast.AST, str]] = [(tree, "")]
    while waiting:
        node, prefix = waiting.pop()
        for one in ast.iter_child_nodes(node):
            inside = prefix
            if isinstance(one, ast.ClassDef):
                found[f"{prefix}{one.name}"] = one
                inside = f"{prefix}{one.name}."
            elif isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
                inside = f"{prefix}{one.name}.<locals>."
            waiting.append((one, inside))
    return found


def _documented(found: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for one, after in zip(found.body, found.body[1:], strict=False):
        targets = one.targets if isinstance(one, ast.Assign) else []
        target = one.target if isinstance(one, ast.AnnAssign) else next(iter(targets), None)
        text = after.value if isinstance(after, ast.Expr) else None
        if (
            isinstance(target, ast.Name)
            and isinstance(text, ast.Constant)
            and isinstance(text.value, str)
        ):
            yield target.id, inspect.cleandoc(text.value)
