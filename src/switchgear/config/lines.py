"""Where in a TOML text each key stands, which `tomllib` does not tell.

The text has already been read by `tomllib`, so it is valid: the scanner only has to know what can
hold a key, a bracket or a quote without meaning it (strings and comments), and follow the nesting.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Path", "lines_of"]

Path = tuple[str, ...]

_BARE_END: Final = frozenset(" \t\r\n,]}#=.")
_ESCAPES: Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}


def lines_of(text: str) -> dict[Path, int]:
    """Return the line, from 1, on which each key path of a valid TOML text first appears.

    An element of an array of tables has its index in the path: `("workers", "0", "name")`.
    """
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self._arrays: dict[Path, int] = {}

    def document(self) -> None:
        table: Path = ()
        while self._skip(newlines=True):
            if self._peek() == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Path:
        array = self.text.startswith("[[", self.at)
        start = self.at
        self.at += 2 if array else 1
        path = self._resolved(self._key())
        self.at = self.text.index("]", self.at) + (2 if array else 1)
        self._record(path, start)
        if array:
            index = self._arrays.get(path, -1) + 1
            self._arrays[path] = index
            path = (*path, str(index))
            self._record(path, start)
        return path

    def _resolved(self, path: Path) -> Path:
        """Point a header that goes through an array of tables at the array's last element."""
        whole: Path = ()
        for number, part in enumerate(path, 1):
            whole = (*whole, part)
            if number < len(path) and whole in self._arrays:
                whole = (*whole, str(self._arrays[whole]))
        return whole

    def _pair(self, table: Path) -> None:
        start = self.at
        path = (*table, *self._key())
        self._record(path, start)
        self._skip()
        self.at += 1  # the equals sign
        self._skip()
        self._value(path)

    def _key(self) -> Path:
        parts = []
        while True:
            self._skip()
            parts.append(self._string() if self._peek() in "\"'" else self._bare())
            self._skip()
            if self._peek() != ".":
                return tuple(parts)
            self.at += 1

    def _value(self, path: Path) -> None:
        char = self._peek()
        if char in "\"'":
            self._string()
        elif char == "[":
            self._list(path)
        elif char == "{":
            self._list(path, keys=True)
        else:
            # a date may hold a space and a number a dot: neither matters for keys
            while self.at < len(self.text) and self._peek() not in ",]}#\n":
                self.at += 1

    def _list(self, path: Path, *, keys: bool = False) -> None:
        """Skip an array, or the pairs of an inline table, recording the keys inside."""
        self.at += 1
        index = 0
        while self._skip(newlines=True) and self._peek() not in "]}":
            if self._peek() == ",":
                self.at += 1
            elif keys:
                self._pair(path)
            else:
                self._record((*path, str(index)), self.at)
                self._value((*path, str(index)))
                index += 1
        self.at += 1

    def _string(self) -> str:
        quote = self._peek()
        if self.text.startswith(quote * 3, self.at):
            return self._long(quote * 3)
        self.at += 1
        out = []
        while (char := self._peek()) != quote:
            if char == "\\" and quote == '"':
                out.append(self._escape())
            else:
                out.append(char)
                self.at += 1
        self.at += 1
        return "".join(out)

    def _long(self, quotes: str) -> str:
        """Skip a string of several lines; it is never a key, so its content does not matter."""
        self.at += 3
        while not self.text.startswith(quotes, self.at):
            self.at += 2 if self._peek() == "\\" and quotes[0] == '"' else 1
        while self.text.startswith(quotes[0], self.at):  # up to two quotes may end the content
            self.at += 1
        return ""

    def _escape(self) -> str:
        kind = self.text[self.at + 1]
        self.at += 2
        width = {"x": 2, "u": 4, "U": 8}.get(kind)
        if width is None:
            return _ESCAPES.get(kind, kind)
        code = self.text[self.at : self.at + width]
        self.at += width
        return chr(int(code, 16))

    def _bare(self) -> str:
        start = self.at
        while self.at < len(self.text) and self._peek() not in _BARE_END:
            self.at += 1
        return self.text[start : self.at]

    def _skip(self, *, newlines: bool = False) -> bool:
        """Pass spaces (and with `newlines`, line ends and comments); tell whether text is left."""
        while self.at < len(self.text):
            char = self.text[self.at]
            if char in " \t" or (newlines and char in "\r\n"):
                self.at += 1
            elif newlines and char == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            else:
                return True
        return False

    def _peek(self) -> str:
        return self.text[self.at] if self.at < len(self.text) else "\0"

    def _record(self, path: Path, at: int) -> None:
        line = self.text.count("\n", 0, at) + 1
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], line)
