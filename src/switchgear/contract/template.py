"""Path templates, as the comments of `google/api/http.proto` define them. Pure: text in, text out.

    Template = "/" Segments [ ":" Verb ]
    Segment  = Literal | Variable
    Variable = "{" field path [ "=" segments ] "}"

| in a template          | stands for                                                          |
| ---------------------- | ------------------------------------------------------------------- |
| `{id}`, `{id=*}`       | one segment; percent-encoded but for `-_.~0-9a-zA-Z`, and decoded whole |
| `{name=shelves/*}`     | several segments; `/` stays as it is, and `%2F` is not decoded      |
| `{name=shelves/**}`    | the rest of the path: zero or more segments; nothing but a verb follows |
| `{book.name=shelves/*}` | a field of a field                                                 |
| `/v1/{id}:archive`     | a verb of its own, after the last segment                           |

A segment that a variable takes is never empty, so a trailing slash is part of the path. Neither is
it `.` or `..`, however they are encoded: whatever stands between reads those otherwise, and a
handler that opens files would leave its folder. No client sends them, and no server takes them.

A wildcard outside of a variable is refused: nobody could call it, nor does the handler see it. So
are `.` and `..`, and a `%2F` in a variable, which would be a slash in what the client has.
(github.com/googleapis/googleapis/blob/master/google/api/http.proto)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as attribute
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote

__all__ = ["Template", "Unfit", "Variable", "normal", "template_of"]

_LITERAL: Final = re.compile(r"([A-Za-z0-9._~!$&'()+,;@-]|%[0-9A-Fa-f]{2})+")
_IDENT: Final = r"[A-Za-z_][A-Za-z0-9_]*"
_VARIABLE: Final = re.compile(rf"\{{(?P<path>{_IDENT}(\.{_IDENT})*)(=(?P<inner>[^{{}}]*))?\}}")
_PARTS: Final = re.compile(r"/((?:\{[^{}]*\}|[^/{}])*)")
_ENCODED: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_SLASH: Final = re.compile(r"(%2[Ff])")
_DOTS: Final = frozenset({".", ".."})
_PLAIN: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()+,;=@"
)
ONE: Final = "*"
REST: Final = "**"


class Unfit(ValueError):
    """A value that a path cannot carry: `name` is the variable's, the text says why."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(why)
        self.name = name


@dataclass(frozen=True, slots=True)
class Variable:
    """A part of a path that is the value of a field."""

    name: str
    """The field path: `name`, `book.name`."""
    start: int
    """The index of its first segment."""
    inner: tuple[str, ...] = (ONE,)
    """Its segments: literals, `*` and, as the last, `**`."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields that lead to the value, as protobuf calls them."""
        return tuple(self.name.split("."))

    @property
    def is_long(self) -> bool:
        """Whether it may take other than exactly one segment of any text."""
        return self.inner != (ONE,)

    @property
    def pattern(self) -> str:
        """The regular expression of its values."""
        made = ""
        for index, one in enumerate(self.inner):
            slash = "/" if index else ""
            if one != REST:
                made += slash + ("[^/]+" if one == ONE else re.escape(unquote(one)))
            else:
                made += "(/[^/]+)*" if index else "([^/]+(/[^/]+)*)?"
        return f"^{made}$"

    def read(self, raw: Sequence[str]) -> str:
        """Return the value that segments of a URL tell; raises `UnicodeDecodeError`."""
        if not self.is_long:
            return unquote(raw[0], errors="strict") if "%" in raw[0] else raw[0]
        text = "/".join(raw)
        if "%" not in text:
            return text
        parts = _SLASH.split(text)
        return "".join(
            one if index % 2 else unquote(one, errors="strict") for index, one in enumerate(parts)
        )

    def write(self, value: str) -> str:
        """Return the part of a path that tells `value`; raises `Unfit`."""
        parts = value.split("/") if self.is_long else [value]
        if self.is_long and not value:
            parts = []
        fixed = self.inner[:-1] if self.inner[-1] == REST else self.inner
        fits = len(parts) == len(fixed) or (self.inner[-1] == REST and len(parts) > len(fixed))
        if not fits or any(
            wanted not in {ONE, one} and unquote(wanted) != one
            for wanted, one in zip(fixed, parts, strict=False)
        ):
            raise Unfit(self.name, f"is {value!r}, which is not {'/'.join(self.inner)}")
        if "" in parts or not _DOTS.isdisjoint(parts):
            raise Unfit(self.name, f"is {value!r}, which cannot be part of a path")
        return "/".join(quote(one, safe="") for one in parts)


@dataclass(frozen=True, slots=True)
class Template:
    """A path with its variables taken apart."""

    text: str = attribute(compare=False)
    """As it is written: `{id}` and `{id=*}` are the same template."""
    segments: tuple[str, ...]
    """Literals, `*` and, as the last, `**`; those of variables stand where they are."""
    variables: tuple[Variable, ...] = ()
    verb: str = ""

    @property
    def shape(self) -> str:
        """The path without the names of variables: equal where two are the same addresses."""
        return f"/{'/'.join(self.segments)}{f':{self.verb}' if self.verb else ''}"

    @property
    def is_open(self) -> bool:
        """Whether the number of segments is not fixed."""
        return self.segments[-1] == REST

    @property
    def rank(self) -> tuple[bool, tuple[int, ...]]:
        """What puts the more literal of two templates first, the one with a verb before others."""
        order = {ONE: 1, REST: 2}
        return not self.verb, tuple(order.get(one, 0) for one in self.segments)

    def match(self, segments: Sequence[str]) -> Sequence[str] | None:
        """Return the segments of a URL without the verb if they fit; None: they do not."""
        if self.verb:
            last, colon, verb = segments[-1].rpartition(":")
            if not colon or verb != self.verb:
                return None
            # `shelves:list` is `shelves` and no more segments, where the rest may be empty
            segments = [*segments[:-1], last]
        if len(segments) == 1 and not segments[0]:
            segments = ()  # the path is `/`
        fixed = self.segments[:-1] if self.is_open else self.segments
        if len(segments) < len(fixed) or (len(segments) > len(fixed) and not self.is_open):
            return None
        for wanted, one in zip(fixed, segments, strict=False):
            if not one if wanted == ONE else wanted != one:
                return None
        return segments if all(segments[len(fixed) :]) else None

    def read(self, segments: Sequence[str]) -> dict[str, str]:
        """Return the values of the variables in segments that `match` returned.

        Raises `Unfit` for what is not UTF-8, and for `.` and `..`.
        """
        found: dict[str, str] = {}
        for one in self.variables:
            is_rest = one.inner[-1] == REST
            end = None if is_rest else one.start + len(one.inner)
            raw = segments[one.start : end]
            if not _DOTS.isdisjoint(raw):
                raise Unfit(one.name, "has the segment . or .., which others read otherwise")
            try:
                found[one.name] = one.read(raw)
            except UnicodeDecodeError:
                raise Unfit(one.name, "is not UTF-8") from None
        return found

    def write(self, values: Mapping[str, str]) -> str:
        """Return the path for the values of the variables, percent-encoded; raises `Unfit`."""
        made: list[str] = []
        at = 0
        for one in self.variables:
            made += self.segments[at : one.start]
            written = one.write(values[one.name])
            made += [written] if written else []
            at = one.start + len(one.inner)
        made += self.segments[at:]
        return f"/{'/'.join(made)}{f':{self.verb}' if self.verb else ''}"

    def span(self, variable: Variable) -> tuple[int, int | None]:
        """Return where the segments of a variable begin and end; None: where the path does."""
        end = variable.start + len(variable.inner)
        return variable.start, None if end == len(self.segments) else end

    def covers(self, other: Template) -> bool:
        """Whether each address of `other` is one of this template too."""
        if self.verb != other.verb:
            return False
        for index, one in enumerate(self.segments):
            if one == REST:
                return True
            theirs = other.segments[index] if index < len(other.segments) else None
            if theirs is None or theirs == REST or one not in {ONE, theirs}:
                return False
        return len(self.segments) == len(other.segments)


def normal(path: str) -> str:
    """Return a path in which nothing is percent-encoded that need not be (RFC 3986, 6.2.2)."""

    def plain(found: re.Match[str]) -> str:
        letter = chr(int(found[1], 16))
        return letter if letter in _PLAIN else found[0].upper()

    return _ENCODED.sub(plain, path)


@lru_cache(maxsize=4096)
def template_of(text: str) -> Template:
    """Take a path template apart; raises `ValueError` that says what is wrong with it."""
    head, colon, verb = text.rpartition(":")
    if not colon or "/" in verb or "}" in verb:
        head, verb = text, ""
    elif not _LITERAL.fullmatch(verb):
        raise ValueError(f"{verb!r} is not a verb")
    written = [found[1] for found in _PARTS.finditer(head)]
    if not written or "".join(f"/{one}" for one in written) != head or head == "/":
        raise ValueError("it does not contain a path such as /v1/stock/{sku}")
    segments: list[str] = []
    variables: list[Variable] = []
    for one in written:
        name, inner = _part(one)
        if name:
            variables.append(Variable(name, len(segments), inner))
        segments += inner
    if REST in segments[:-1]:
        raise ValueError("** is not the last segment of the path")
    names = [one.name for one in variables]
    if len(set(names)) != len(names):
        raise ValueError("it names a parameter twice")
    return Template(text, tuple(segments), tuple(variables), normal(verb))


def _part(written: str) -> tuple[str, tuple[str, ...]]:
    """Return the name of the variable that stands between two slashes, if any, and its segments."""
    found = _VARIABLE.fullmatch(written)
    if found is None and written in {ONE, REST}:
        raise ValueError(f"{written} stands outside of a {{parameter}}, so nobody gets its value")
    told = written if found is None else ONE if found["inner"] is None else found["inner"]
    inner = tuple(told.split("/"))
    for one in inner:
        if one not in {ONE, REST} and not _LITERAL.fullmatch(one):
            raise ValueError(
                "it does not contain a path such as /v1/stock/{sku}: "
                f"{one!r} is neither plain text nor a {{parameter}}"
            )
    made = tuple(normal(one) for one in inner)
    if not _DOTS.isdisjoint(made):
        raise ValueError("no client sends the segment . or .., nor may they")
    if found is not None and any("%2F" in one for one in made):
        raise ValueError(f"the %2F in {written} would be a slash in the value")
    return found["path"] if found is not None else "", made
