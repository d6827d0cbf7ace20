"""What a `$ref` may lead to besides the document that it stands in.

| `$ref` | is read |
| --- | --- |
| `#/components/schemas/Order`, `#anchor` | always |
| a file in the folder of the document, or below | always; of a git version as it was there |
| a file elsewhere | if `--allow-refs` names a folder around it |
| `https://...` | if `--allow-refs` names what it begins with |

Files end with `.json`, `.yaml` or `.yml`, and are found by where they are, with links followed. To
an address nothing is sent but the request, no answer leads on to another address, and one without
encryption is on this machine or refused.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Final
from urllib.error import URLError
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, build_opener

from typing_extensions import override

from switchgear.errors import UnreadableContract

__all__ = ["References"]

MAX_FILES: Final = 200
MAX_BYTES: Final = 32 << 20
MAX_SECONDS: Final = 30.0
_SUFFIXES: Final = (".json", ".yaml", ".yml")
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_CHUNK: Final = 1 << 16


@dataclass(slots=True)
class References:
    """What one version of a document may refer to."""

    home: Path
    """The document."""
    name: str
    """What the user calls it."""
    allowed: Sequence[str] = ()
    """Folders, and beginnings of addresses."""
    fetch: Callable[[Path], None] | None = None
    """Puts a file of a git version where it is looked for."""
    opened: int = field(default=0)

    def resolve(self, base: str, ref: str) -> str:
        """Return the file or address that `ref` means where it stands in `base`."""
        if _is_address(ref):
            parts = urlsplit(ref)  # its path is joined to itself, which takes `..` out of it
            return urljoin(ref, urlunsplit(("", "", parts.path or "/", parts.query, "")))
        if _is_address(base):
            return urljoin(base, ref)
        return str((Path(base).parent / unquote(ref)).resolve())

    def called(self, target: str) -> str:
        """Return what the user calls a file or address: files are seen from the document's name."""
        if _is_address(target):
            return target
        seen = Path(os.path.relpath(target, self.home.resolve().parent)).as_posix()
        return posixpath.normpath(posixpath.join(posixpath.dirname(self.name), seen))

    def read(self, target: str, ref: str, where: str) -> bytes:
        """Return what is in a file or at an address; raises `UnreadableContract` if not allowed."""
        self.opened += 1
        if self.opened > MAX_FILES:
            raise UnreadableContract(
                f"It refers to more than {MAX_FILES} other documents.", where=where
            )
        if _is_address(target):
            return self._of_address(target, ref, where)
        path = Path(target)
        folders = [self.home.parent, *(Path(one) for one in self.allowed if not _is_address(one))]
        if not any(path.is_relative_to(one.resolve()) for one in folders):
            raise _refused(ref, where, str(path.parent))
        if not target.endswith(_SUFFIXES):
            raise UnreadableContract(
                f"The $ref {ref!r} leads to what is neither JSON nor YAML by its name.",
                where=where,
                fix=f"Let it end with {', '.join(_SUFFIXES)}.",
            )
        if self.fetch is not None and not path.exists():
            self.fetch(path)
        try:
            with path.open("rb") as file:
                return file.read(MAX_BYTES + 1)
        except OSError as error:
            raise UnreadableContract(
                f"The $ref {ref!r} cannot be read: {error.strerror}.", where=where
            ) from None

    def _of_address(self, target: str, ref: str, where: str) -> bytes:
        parts = urlsplit(target)
        begins = any(_begins(target, one) for one in self.allowed if _is_address(one))
        if not begins or "%2e" in parts.path.lower():
            raise _refused(ref, where, target.rpartition("/")[0] + "/")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise UnreadableContract(
                f"The $ref {ref!r} would be fetched without encryption.",
                where=where,
                fix="Write https://.",
            )
        begun, found = monotonic(), bytearray()
        try:
            with build_opener(_Stay).open(target, timeout=MAX_SECONDS) as answer:
                while chunk := answer.read(_CHUNK):
                    found += chunk
                    if len(found) > MAX_BYTES or monotonic() - begun > MAX_SECONDS:
                        break
        except (OSError, URLError, ValueError) as error:
            raise UnreadableContract(
                f"The $ref {ref!r} cannot be fetched: {error}.", where=where
            ) from None
        if monotonic() - begun > MAX_SECONDS:
            raise UnreadableContract(
                f"The $ref {ref!r} has not been fetched within {MAX_SECONDS:g} s.", where=where
            )
        return bytes(found)


class _Stay(HTTPRedirectHandler):
    """Goes nowhere else: another address was not allowed."""

    @override
    def redirect_request(self, *_: object) -> None:
        return None


def _is_address(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _begins(target: str, allowed: str) -> bool:
    """Whether an address begins with another one, and not in the middle of a name."""
    rest = target.removeprefix(allowed)
    return target.startswith(allowed) and (allowed.endswith("/") or rest[:1] in {"", "/", "?"})


def _refused(ref: str, where: str, around: str) -> UnreadableContract:
    return UnreadableContract(
        f"The $ref {ref!r} leads out of the document.",
        where=where,
        fix=f"Bundle the document into one file first, or allow it: --allow-refs {around}",
    )
