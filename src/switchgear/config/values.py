"""The kinds of value that a setting can have, and how each is read and complained about."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NoReturn, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from switchgear.call.tls import Secret
from switchgear.errors import ConfigError

__all__ = [
    "Address",
    "Unset",
    "Url",
    "Value",
    "address",
    "at_least",
    "boolean",
    "count",
    "fraction",
    "masked",
    "number",
    "one_of",
    "path",
    "reference",
    "seconds",
    "secret",
    "share",
    "text",
    "texts",
    "url",
]

# too much rather than too little: a password that nobody encoded may hold any of / : @ ? and quotes
_PASSWORD: Final = re.compile(r"(?P<before>//[^:\s]*:)\S*(?=@)")
_ANY_PASSWORD: Final = re.compile(r"(?P<before>//[^:]*:).*(?=@)", re.DOTALL)
_PARAMETER: Final = re.compile(
    r"(?P<before>[?&][^=&\s]*(?:password|passwd|secret|token|key)[^=&\s]*=)[^&\s]*", re.IGNORECASE
)
_HOST: Final = re.compile(r"(\[[^]\s]*\]|[^:\s]*)(:\d*)?", re.ASCII)
_REFERENCE: Final = re.compile(r"\$\{(?P<kind>[^:}]*):(?P<name>[^}]*)\}")
_IMPORT: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_LOOPBACK: Final = "127.0.0.1"
_ANYWHERE: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104  it is recognised here, not bound
_PORTS: Final = 65_536

T = TypeVar("T")


def masked(text: str) -> str:
    """Return `text` with the passwords of URLs and their secret parameters replaced by `***`.

    A password ends at the last `@` before a space, so that one which is not encoded is hidden too.
    """
    return _PARAMETER.sub(r"\g<before>***", _PASSWORD.sub(r"\g<before>***", text))


class Unset(ConfigError):
    """A value refers to a variable or a file that is not there: wrong only for who needs it.

    The settings of a system name the secrets of every service, and each service has its own alone.
    """


@dataclass(frozen=True, slots=True)
class Url:
    """How to reach something. Printing it masks the password; `reveal()` has it."""

    scheme: str
    host: str
    port: int | None
    _text: str = field(repr=False)

    @classmethod
    def of(cls, text: str) -> Url:
        """Read a URL. Raises `ValueError` if its port is not a number or it has no scheme."""
        try:
            parts = urlsplit(text)
        except ValueError:
            # what it says repeats a part of the URL, which may be the password's
            raise ValueError("its host is not the name of one") from None
        if not parts.scheme or "://" not in text:
            raise ValueError("a URL begins with scheme://")
        hosts = parts.netloc.rpartition("@")[2].split(",")
        # a password of digits up to its first slash looks like a port
        torn = ":" in parts.netloc and "@" in parts.path and "@" not in parts.netloc
        if torn or re.search(r"\s", parts.netloc) or not all(map(_HOST.fullmatch, hosts)):
            raise ValueError(
                "what follows the host's colon is no port, or a password is not encoded: "
                "special characters are, / as %2F and @ as %40"
            )
        # a list of hosts has no one port
        port = None if "," in parts.netloc else parts.port
        return cls(parts.scheme, parts.hostname or "", port, text)

    def reveal(self) -> str:
        """Return the whole URL, password included, for the driver that connects."""
        return self._text

    def path(self, folder: Path) -> Path:
        """Return the file that a `sqlite:///` URL names; a relative one starts from `folder`."""
        named = self._text.removeprefix(f"{self.scheme}:///").partition("?")[0]
        return folder / unquote(named)

    def absolute(self, folder: Path) -> str:
        """Return the whole URL for the driver that connects, with an absolute path if a file."""
        if self.scheme != "sqlite":
            return self._text
        _, mark, options = self._text.partition("?")
        return f"sqlite:///{quote(str(self.path(folder)))}{mark}{options}"

    @property
    def options(self) -> dict[str, str]:
        """The parameters after the question mark."""
        return dict(parse_qsl(urlsplit(self._text).query))

    def __str__(self) -> str:
        return masked(self._text)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens."""

    host: str
    port: int

    @classmethod
    def of(cls, text: str) -> Address:
        """Read `host:port`, `:port` or `port`; without a host it is the loopback interface.

        Port 0 means any free port. Raises `ValueError` for anything else.
        """
        host, _, port = text.rpartition(":")
        if host.count(":") and not (host.startswith("[") and host.endswith("]")):
            raise ValueError("an IPv6 address stands in brackets")
        number = int(port) if port.isdecimal() and port.isascii() else -1
        if not 0 <= number < _PORTS:
            raise ValueError("a port is a number from 0 to 65535")
        return cls(host.strip("[]") or _LOOPBACK, number)

    def reachable(self) -> Address:
        """Return the address under which this machine reaches it."""
        return Address(_LOOPBACK, self.port) if self.host in _ANYWHERE else self

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Value:
    """One value as it was written, with where, so that a complaint can say so."""

    raw: object = field(repr=False)
    where: str
    folder: Path
    environ: Mapping[str, str] = field(repr=False)
    written: bool = True
    """False for the text of an environment variable, where numbers and lists are text too."""

    def fail(self, expected: str, *, fix: str | None = None) -> NoReturn:
        """Raise a `ConfigError` that says what was expected and what was found."""
        found = repr(self.raw)
        if isinstance(self.raw, str):
            found = masked(_ANY_PASSWORD.sub(r"\g<before>***", found))
        raise ConfigError(f"expected {expected}, found {found}.", where=self.where, fix=fix)

    def of(self, raw: object) -> Value:
        """Return a part of this value: complaints about it are in the same place."""
        return replace(self, raw=raw)

    def text(self, expected: str) -> str:
        """Return the text with its `${env:NAME}` and `${file:PATH}` replaced."""
        if not isinstance(self.raw, str):
            self.fail(expected)
        return _REFERENCE.sub(self._replaced, self.raw)

    def url(self, expected: str) -> str:
        """Return the text as `text` does; what is put into a URL's login is percent-encoded.

        Only there: `${env:URL}` may be a whole URL. A reference that is all of the login may be
        `user:password`.
        """
        raw = self.raw if isinstance(self.raw, str) else self.fail(expected)
        first, last = _login(raw)

        def replaced(match: re.Match[str]) -> str:
            found = self._replaced(match)
            if not first <= match.start() < match.end() <= last:
                return found
            parts = found.split(":", 1) if match.span() == (first, last) else [found]
            return ":".join(quote(part, safe="") for part in parts)

        return _REFERENCE.sub(replaced, raw)

    def _replaced(self, match: re.Match[str]) -> str:
        kind, name = match["kind"], match["name"]
        if kind == "env":
            if name not in self.environ:
                raise Unset(
                    f"the environment variable {name} is not set.",
                    where=self.where,
                    fix=f"Set {name}, or write the value in another way.",
                )
            return self.environ[name]
        if kind == "file":
            try:
                return (self.folder / name).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
                raise Unset(
                    f"the file {name} cannot be read: {reason}.",
                    where=self.where,
                    fix="Check its path (relative to switchgear.toml) and its permissions.",
                ) from error
        return self.fail("${env:NAME} or ${file:PATH}")


def _login(raw: str) -> tuple[int, int]:
    """Return where `user:password` is in a URL whose references are not replaced yet."""
    # of the same length, without the slashes of a file's path
    plain = _REFERENCE.sub(lambda match: "x" * len(match[0]), raw)
    authority = re.search(r"//(?P<login>[^/?#]*)@", plain)
    return authority.span("login") if authority else (0, 0)


def text(value: Value) -> str:
    """Read a text that is not empty."""
    expected = "a text in quotes"
    return value.text(expected) or value.fail(expected)


def option(value: Value) -> str | int | float | bool:
    """Read one option of somebody else's: a text, a number, or true or false."""
    if isinstance(value.raw, bool | int | float):
        return value.raw
    return value.text("a text, a number, true or false")


def texts(value: Value) -> tuple[str, ...]:
    """Read a list of texts; from the environment, separated by commas."""
    if not value.written and isinstance(value.raw, str):
        return tuple(part.strip() for part in value.raw.split(",") if part.strip())
    if not isinstance(value.raw, list) or not all(isinstance(part, str) for part in value.raw):
        value.fail('a list of texts, such as ["a", "b"]')
    return tuple(value.raw)


def secret(value: Value) -> Secret:
    """Read where a secret is: in the environment or in a file."""
    raw = value.raw if isinstance(value.raw, str) else ""
    match = _REFERENCE.fullmatch(raw)
    if match is None or match["kind"] not in ("env", "file"):
        raise ConfigError(
            "expected ${env:NAME} or ${file:PATH}: a secret is not written down here.",
            where=value.where,
        )
    value.text("a secret")  # it is there
    kind, name = match["kind"], match["name"]
    return Secret.env(name) if kind == "env" else Secret.file(value.folder / name)


def seconds(value: Value) -> float:
    """Read a duration in seconds, above zero."""
    expected = "seconds as a number above 0, such as 2.5"
    found = number(value, expected)
    return found if found > 0 else value.fail(expected)


def fraction(value: Value) -> float:
    """Read a number between 0 and 1, both excluded."""
    expected = "a number between 0 and 1, such as 0.999"
    found = number(value, expected)
    return found if 0 < found < 1 else value.fail(expected)


def share(value: Value) -> float:
    """Read a number from 0 up to, but not including, 1."""
    expected = "a number from 0, below 1, such as 0.1"
    found = number(value, expected)
    return found if 0 <= found < 1 else value.fail(expected)


def count(least: int, more: str = "") -> Callable[[Value], int]:
    """Read a whole number, at least `least`; `more` is what else is expected in its place."""

    def parse(value: Value) -> int:
        expected = f"a whole number, at least {least}{more}"
        found = number(value, expected)
        return int(found) if found.is_integer() and found >= least else value.fail(expected)

    return parse


def at_least(
    low: float, high: float = math.inf, *, expected: str | None = None
) -> Callable[[Value], float]:
    """Read a number in a range, both ends included."""
    upper = "" if high == math.inf else f" and at most {high:g}"
    wanted = expected or f"a number, at least {low:g}{upper}"

    def parse(value: Value) -> float:
        found = number(value, wanted)
        return found if low <= found <= high else value.fail(wanted)

    return parse


def boolean(value: Value) -> bool:
    """Read true or false."""
    raw = value.raw
    if isinstance(raw, str) and not value.written and raw.lower() in ("true", "false"):
        return raw.lower() == "true"
    return raw if isinstance(raw, bool) else value.fail("true or false")


def number(value: Value, expected: str) -> float:
    """Read a finite number; a complaint says that `expected` was."""
    raw = value.raw
    if isinstance(raw, str) and not value.written:
        try:
            raw = float(raw)
        except ValueError:
            value.fail(expected)
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        value.fail(expected)
    return float(raw) if math.isfinite(raw) else value.fail(expected)


def path(value: Value) -> Path:
    """Read a path; a relative one starts from the folder of switchgear.toml."""
    expected = "a path in quotes"
    found = value.text(expected) or value.fail(expected)
    return (value.folder / Path(found).expanduser()).absolute()


def address(value: Value) -> Address:
    """Read where a server listens."""
    expected = 'an address "host:port", such as "127.0.0.1:8001"'
    try:
        return Address.of(value.text(expected))
    except ValueError as error:
        return value.fail(f"{expected} ({error})")


def reference(value: Value) -> str:
    """Read `module:name`."""
    expected = 'a module and a name in it, such as "shop.orders:app"'
    found = value.text(expected)
    return found if _IMPORT.fullmatch(found) else value.fail(expected)


def one_of(*choices: str) -> Callable[[Value], str]:
    """Read one of a few words."""

    def parse(value: Value) -> str:
        expected = f"one of {', '.join(choices)}"
        found = value.text(expected)
        return found if found in choices else value.fail(expected)

    return parse


def url(*schemes: str, example: str) -> Callable[[Value], Url]:
    """Read a URL with one of `schemes`."""

    def parse(value: Value) -> Url:
        expected = f'a URL such as "{example}"'
        try:
            found = Url.of(value.url(expected))
        except ValueError as error:
            return value.fail(f"{expected} ({error})")
        if found.scheme not in schemes:
            listed = ", ".join(f"{scheme}://" for scheme in schemes)
            value.fail(f"a URL that begins with {listed}")
        if found.scheme == "sqlite":
            if not found.reveal().startswith("sqlite:///") or found.reveal() == "sqlite:///":
                value.fail("sqlite:///path, with three slashes (four for an absolute path)")
        elif not found.host:
            value.fail(f"a URL with a host, such as {found.scheme}://127.0.0.1:1234")
        return found

    return parse
