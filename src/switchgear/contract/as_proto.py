"""Protobuf: upb parses and serialises; generated functions move values to and from messages.

For each root class, one piece of source holds a `read_n` and a `write_n` for each message class it
is made of, so that nothing is looked up while a message is converted. `keep_n` is `read_n` that
also keeps unknown fields; it is used where the bytes have any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from keyword import iskeyword
from typing import Any, Final, TypeAlias

from switchgear.contract.declaration import Field, declaration_of, fields_of, reach
from switchgear.contract.descriptors import message_class
from switchgear.contract.enums import Enum, numbers_of, open_member
from switchgear.contract.kinds import Kind, Shape
from switchgear.contract.message import Message
from switchgear.contract.reading import escaped, invalid
from switchgear.contract.submessages import READERS, WRITERS
from switchgear.contract.verify import unwritable
from switchgear.errors import InvalidMessage

__all__ = ["ProtoCodec", "proto_codec"]

_UNREADABLE: Final = (TypeError, ValueError, ArithmeticError, RecursionError)
_UNWRITABLE: Final = (*_UNREADABLE, AttributeError)
"""What generated code and upb raise for a value that does not fit."""

_Readers: TypeAlias = Mapping[type[Message], Callable[[Any], Message]]


class _Absent(ValueError):
    """A field that must be there is not."""


@dataclass(frozen=True, slots=True)
class ProtoCodec:
    """The directions for one message class."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def proto_codec(cls: type[Message]) -> ProtoCodec:
    """Compile the directions for `cls`; raises `MissingExtra` without protobuf."""
    made = message_class(cls)
    from google.protobuf.message import DecodeError, EncodeError  # noqa: PLC0415 - an extra

    messages = [one for one in reach(cls) if issubclass(one, Message)]
    code = _generate(messages)
    readers = {one: code[f"read_{index}"] for index, one in enumerate(messages)}
    read: Callable[[Any], Message] = readers[cls]
    keep: Callable[[Any], Message] = code[f"keep_{messages.index(cls)}"]
    write: Callable[[Message, Any], None] = code[f"write_{messages.index(cls)}"]
    parse = made.FromString
    serialize = made.SerializeToString
    if any(_has_map(field) for one in messages for field in fields_of(one).values()):
        serialize = partial(serialize, deterministic=True)  # equal messages give equal bytes
    exact = _exact_size(messages)

    def encode(message: Message) -> bytes:
        proto = made()
        try:
            write(message, proto)
            return serialize(proto)
        except (*_UNWRITABLE, EncodeError) as error:
            raise unwritable(message, error) from None

    def decode(data: bytes) -> Message:
        try:
            proto = parse(data)
            before = len(data) if exact else proto.ByteSize()
            proto.DiscardUnknownFields()
            if proto.ByteSize() == before:
                return read(proto)
            return keep(parse(data))
        except DecodeError as error:
            raise invalid(cls, f"is not protobuf: {error}", "") from None
        except (*_UNREADABLE, EncodeError) as error:  # to write is how upb finds what is required
            raise _explained(cls, parse(data), readers, error) from None

    return ProtoCodec(encode, decode)


def _exact_size(messages: list[type[Message]]) -> bool:
    """Whether bytes without unknown fields are never shorter than upb would write them.

    Then one size tells whether any were discarded. Where numbers can come unpacked, or entries of
    maps without their zeros, an unknown field could hide in the difference.
    """
    return not any(
        _has_map(field) or (field.type.shape is Shape.LIST and field.kind.is_packed)
        for one in messages
        for field in fields_of(one).values()
    )


def _has_map(field: Field) -> bool:
    return field.type.key is not None or field.kind.name in {"struct", "value", "list_value"}


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _is_flat(cls: type[Message]) -> bool:
    return all(field.type.shape is Shape.ONE for field in fields_of(cls).values())


def _member(holder: str, field: Field) -> str:
    """Return the expression for a field of a protobuf message."""
    # some names are no attributes in Python: `from`
    return (
        f"getattr({holder}, {field.wire!r})" if iskeyword(field.wire) else f"{holder}.{field.wire}"
    )


class _Members(dict[int, Enum]):
    """The members of an enumeration by number, open ones included but not kept."""

    def __init__(self, cls: type[Enum]) -> None:
        super().__init__(numbers_of(cls))
        self._cls = cls

    def __missing__(self, number: int) -> Enum:
        return open_member(self._cls, number)


def _keep(message: Message, proto: Any) -> Message:
    """Put what is left of `proto` without its known fields beside `message`."""
    for known, _ in proto.ListFields():
        proto.ClearField(known.name)
    unknown = proto.SerializePartialToString()
    if unknown:
        vars(message)["__unknown__"] = unknown
    return message


def _generate(messages: list[type[Message]]) -> dict[str, Any]:
    generator = _Generator(messages)
    source = "\n".join(generator.lines())
    exec(compile(source, "<switchgear protobuf>", "exec"), generator.namespace)  # noqa: S102
    return generator.namespace


class _Generator:
    """Writes the source. `m` is a message, `p` its protobuf counterpart, `i` an element."""

    def __init__(self, messages: list[type[Message]]) -> None:
        self.messages = messages
        self.enums: list[type[Enum]] = []
        self.namespace: dict[str, Any] = {
            "Decimal": Decimal,
            "absent": _absent,
            "text": _text,
            "keep": _keep,
            **READERS,
            **{f"write_{name}": write for name, write in WRITERS.items()},
        }

    def lines(self) -> list[str]:
        lines: list[str] = []
        for index, cls in enumerate(self.messages):
            self.namespace[f"Class_{index}"] = cls
            lines += self.reader(index, cls, "read")
            lines += self.reader(index, cls, "keep")
            lines += self.writer(index, cls)
        return lines

    def reader(self, index: int, cls: type[Message], verb: str) -> list[str]:
        made = self.construct(index, cls, "p", verb)
        return [
            f"def {verb}_{index}(p):",
            f"    return keep({made}, p)" if verb == "keep" else f"    return {made}",
        ]

    def construct(self, index: int, cls: type[Message], holder: str, verb: str) -> str:
        values = (
            f"{name}={self.read(index, field, holder, verb)}"
            for name, field in fields_of(cls).items()
        )
        return f"Class_{index}({', '.join(values)})"

    def read(self, index: int, field: Field, holder: str, verb: str) -> str:
        name, source = field.name, _member(holder, field)
        loose = declaration_of(self.messages[index]).file.syntax != "proto3"
        if field.type.shape is Shape.ONE:
            value = self.read_one(field.kind, source, verb, loose)
            if not field.has_presence:
                return value
            default = "None"
            if not field.has_default or field.spec.required:
                default = "absent()"
            elif not field.type.optional:
                default = f"Default_{index}_{name}()"
                self.namespace[f"Default_{index}_{name}"] = field.absent
            return f"({value} if {holder}.HasField({field.wire!r}) else {default})"
        item = self.read_one(field.kind, "i", verb, loose)
        if field.kind.name == "message" and verb == "read" and _is_flat(field.kind.python):
            # A call for each element of a list is what costs most: do without.
            inner = self.messages.index(field.kind.python)
            item = self.construct(inner, field.kind.python, "i", verb)
        if field.type.key is not None:
            if item == "i":
                return f"dict({source}.items())"
            return f"{{k: {item} for k, i in {source}.items()}}"
        return f"list({source})" if item == "i" else f"[{item} for i in {source}]"

    def read_one(self, kind: Kind, source: str, verb: str, loose: bool) -> str:  # noqa: FBT001
        """Return the expression for one value; `loose`: protobuf may not have looked at text."""
        if kind.name == "message":
            return f"{verb}_{self.messages.index(kind.python)}({source})"
        if kind.name == "enum":
            return f"{self.enum(kind.python)}[{source}]"
        if kind.name == "decimal":
            return f"Decimal({source} or '0')"
        if kind.name == "string" and loose:
            return f"text({source})"
        return f"{kind.name}({source})" if kind.is_submessage else source

    def enum(self, cls: type[Enum]) -> str:
        if cls not in self.enums:
            self.enums.append(cls)
        name = f"Enum_{self.enums.index(cls)}"
        self.namespace.setdefault(name, _Members(cls))
        return name

    def writer(self, index: int, cls: type[Message]) -> list[str]:
        return [f"def write_{index}(m, p):", *_indented(self.fill(cls, "m", "p"))]

    def fill(self, cls: type[Message], holder: str, target: str) -> list[str]:
        """Return the lines that move every field of `holder` into `target`."""
        lines: list[str] = []
        for field in fields_of(cls).values():
            lines += self.write(field, f"{holder}.{field.name}", _member(target, field))
        unknown = f"{holder}.__unknown__"
        return [*lines, f"if {unknown} is not None:", f"    {target}.MergeFromString({unknown})"]

    def write(self, field: Field, source: str, target: str) -> list[str]:
        if field.type.shape is Shape.ONE:
            lines = self.write_one(field.kind, source, target)
            if not field.type.optional:
                return lines
            return [f"if {source} is not None:", *_indented(lines)]
        scalar = self.scalar(field.kind, "i")
        if field.type.key is not None:
            if scalar == "i":
                return [f"{target}.update({source})"]
            lines = self.write_one(field.kind, "i", f"{target}[k]")
            return [f"for k, i in {source}.items():", *_indented(lines)]
        if scalar is not None:
            values = source if scalar == "i" else f"[{scalar} for i in {source}]"
            return [f"if {source}:", f"    {target}.extend({values})"]
        if field.kind.name == "message" and _is_flat(field.kind.python):
            lines = ["e = add()", *self.fill(field.kind.python, "i", "e")]
        else:
            lines = [f"{self.submessage(field.kind)}(i, add())"]
        return [f"add = {target}.add", f"for i in {source}:", *_indented(lines)]

    def write_one(self, kind: Kind, source: str, target: str) -> list[str]:
        scalar = self.scalar(kind, source)
        if scalar is not None and target.startswith("getattr"):
            return [f"s{target.removeprefix('g').removesuffix(')')}, {scalar})"]
        if scalar is not None:
            return [f"{target} = {scalar}"]
        # A message whose fields are all zero is written too: it is there.
        return [f"q = {target}", "q.SetInParent()", f"{self.submessage(kind)}({source}, q)"]

    def scalar(self, kind: Kind, source: str) -> str | None:
        if kind.is_submessage:
            return None
        if kind.name == "decimal":
            return f"str({source})"
        return f"{source}._number_" if kind.name == "enum" else source

    def submessage(self, kind: Kind) -> str:
        if kind.name == "message":
            return f"write_{self.messages.index(kind.python)}"
        return f"write_{kind.name}"


def _absent() -> Any:
    raise _Absent("is missing")


def _text(value: str | bytes) -> str:
    """Return text; protobuf gives bytes for what is not UTF-8, where a file lets that pass."""
    if isinstance(value, str):
        return value
    raise ValueError("is not UTF-8")


def _explained(
    cls: type[Message], proto: Any, readers: _Readers, error: Exception
) -> InvalidMessage:
    """Return the error that names the first field of `proto` that cannot be read."""
    for pointer, what in _faults(cls, proto, readers, ""):
        return invalid(cls, what, pointer)
    return invalid(cls, f"is refused: {error}", "")


def _faults(
    cls: type[Message], proto: Any, readers: _Readers, pointer: str
) -> Iterator[tuple[str, str]]:
    for field in fields_of(cls).values():
        here = f"{pointer}/{field.json}"
        if field.has_presence and not proto.HasField(field.wire):
            if not field.has_default or field.spec.required:
                yield here, "is missing"
            continue
        for at, item in _items(field, getattr(proto, field.wire), here):
            if field.kind.name == "message":
                yield from _faults(field.kind.python, item, readers, at)
                continue
            try:
                _CONVERSIONS.get(field.kind.name, _as_is)(item)
            except (ValueError, ArithmeticError):
                yield at, f"is not a {field.kind.name} that can be told in Python"
    try:
        readers[cls](proto)
    except _UNREADABLE as error:
        yield pointer, f"is refused: {error}"


def _items(field: Field, value: Any, here: str) -> Iterator[tuple[str, Any]]:
    if field.type.shape is Shape.ONE:
        yield here, value
    elif field.type.key is not None:
        with suppress(UnicodeDecodeError):  # a key, for which there is no pointer
            for key, item in value.items():
                yield f"{here}/{escaped(key)}", item
    else:
        for index, item in enumerate(value):
            yield f"{here}/{index}", item


def _as_is(value: Any) -> Any:
    return value


def _read_decimal(text: str) -> Decimal:
    return Decimal(text or "0")


_CONVERSIONS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "decimal": _read_decimal,
    "string": _text,
    **READERS,
}
