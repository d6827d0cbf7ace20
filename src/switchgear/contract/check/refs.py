"""A place in a document, seen through its `$ref`s.

References inside the document are followed, and those that lead out of it as far as they are
allowed (see `references`): what any other would mean is up to whoever answers at that address. What
stands beside a `$ref` counts in a schema of OpenAPI 3.1, as JSON Schema has it, and does not in
OpenAPI 3.0 and AsyncAPI.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from switchgear.contract.check.documents import Document
from switchgear.contract.check.schema import Place
from switchgear.errors import UnreadableContract

__all__ = ["Node"]

_SIBLINGS: Final = frozenset(
    {"type", "enum", "const", "properties", "patternProperties", "additionalProperties", "items"}
    | {"prefixItems", "contains", "propertyNames", "oneOf", "anyOf", "allOf", "not", "format"}
    | {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "pattern"}
    | {"minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "minProperties"}
    | {"maxProperties", "required", "default", "readOnly", "writeOnly", "nullable", "if"}
    | {"unevaluatedProperties", "dependentRequired", "dependentSchemas", "contentEncoding"}
    | {"x-extensible-enum"}
)
"""What makes a reference that of a schema, and says something of its values."""


@dataclass(frozen=True, slots=True)
class Node:
    """A value of a document, with the references to it followed."""

    document: Document
    pointer: tuple[str, ...]
    value: Any
    made: bool = False
    """Whether the value was put together, and is not what stands at the pointer."""

    @classmethod
    def root(cls, document: Document) -> Node:
        """Return the whole document."""
        return cls(document, (), document.value)

    @property
    def place(self) -> Place:
        """Where it stands."""
        return self.document.place(self.pointer)

    def __bool__(self) -> bool:
        return self.value is not None

    def __getitem__(self, key: str) -> Node:
        """Return what is under a key; a node of None where there is nothing."""
        inner = self.value.get(key) if isinstance(self.value, dict) else None
        return Node(self.document, (*self.pointer, key), inner, self.made).followed()

    def __iter__(self) -> Iterator[str]:
        """Yield the keys of an object."""
        return iter(self.value if isinstance(self.value, dict) else ())

    def items(self) -> Iterator[tuple[str, Node]]:
        """Yield what is under each key of an object."""
        if isinstance(self.value, dict):
            for key in self.value:
                yield key, self[key]

    def elements(self) -> Iterator[Node]:
        """Yield the items of an array."""
        if isinstance(self.value, list):
            for index, inner in enumerate(self.value):
                yield Node(self.document, (*self.pointer, str(index)), inner, self.made).followed()

    def text(self, key: str) -> str:
        """Return the text under a key; empty where there is none."""
        inner = self[key].value
        return inner if isinstance(inner, str) else ""

    def followed(self) -> Node:
        """Return what this leads to, if it is a reference."""
        if not isinstance(self.value, dict) or "$ref" not in self.value:
            return self
        node, seen = self, set[int]()
        while id(node.value) not in seen:
            seen.add(id(node.value))
            ref = node.value.get("$ref") if isinstance(node.value, dict) else None
            if not isinstance(ref, str):
                return node
            if node.document.siblings_count and not _SIBLINGS.isdisjoint(node.value):
                return node._beside(ref)
            node = node._target(ref)
        raise UnreadableContract(
            "A $ref leads back to itself.", where=_where(self), fix="Let it lead to a schema."
        )

    def _beside(self, ref: str) -> Node:
        """Return the schema that a reference and what stands beside it are together."""
        beside = {key: one for key, one in self.value.items() if key != "$ref"}
        all_of = beside.get("allOf")
        parts = [*(all_of if isinstance(all_of, list) else ()), {"$ref": ref}]
        return Node(self.document, self.pointer, {**beside, "allOf": parts}, made=True)

    def _target(self, ref: str) -> Node:
        file, _, fragment = ref.partition("#")
        document = self.document.other(file, _where(self)) if file else self.document
        pointer = tuple(
            unquote(part).replace("~1", "/").replace("~0", "~") for part in fragment.split("/")[1:]
        )
        if fragment and not fragment.startswith("/"):
            pointer = document.anchor(fragment) or (f"#{fragment}",)
        value = document.value
        for part in pointer:
            if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            elif isinstance(value, dict) and part in value:
                value = value[part]
            else:
                raise UnreadableContract(
                    f"The $ref {ref!r} leads to nothing.",
                    where=_where(self),
                    fix="Define it, or correct the reference.",
                )
        return Node(document, pointer, value)


def _where(node: Node) -> str:
    place = node.place
    return f"{place.path}:{place.line}:{place.column}"
