"""Tables in TOML files that people review: `[[waiver]]`, `[[consumer]]`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from switchgear.errors import UnreadableContract

__all__ = ["read_tables"]

_MAX_BYTES: Final = 8 << 20
_DOTTED: Final = re.compile(r"""(?:("[^"\n]*"|'[^'\n]*'|(?<![\w-])[\w-]+)[ \t]*\.[ \t]*)+""")
"""What may be a key of several parts; tomllib goes through all of them for each."""
_MAX_PARTS: Final = 200


def read_tables(path: Path, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield each table of an array of tables, with the line it begins at.

    Raises `UnreadableContract` for a file that is missing or is not of that form.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableContract(f"{error.strerror}.", where=str(path)) from None
    if len(data) > _MAX_BYTES:
        raise UnreadableContract(f"It is larger than {_MAX_BYTES >> 20} MB.", where=str(path))
    try:
        text = data.decode()
        if any(one[0].count(".") > _MAX_PARTS for one in _DOTTED.finditer(text)):
            raise UnreadableContract(
                f"A name in it has more than {_MAX_PARTS} parts.", where=str(path)
            )
        told = tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UnreadableContract(f"It is not TOML: {error}.", where=str(path)) from None
    found = told.get(name)
    if not isinstance(found, list) or set(told) != {name}:
        raise UnreadableContract(
            f"It does not hold [[{name}]] tables alone.",
            where=str(path),
            fix=f"Write one [[{name}]] for each.",
        )
    head = re.compile(rf"\s*\[\[\s*{name}\s*\]\]")
    lines = [number for number, line in enumerate(text.splitlines(), 1) if head.match(line)]
    for index, table in enumerate(found):
        yield (lines[index] if index < len(lines) else 1), table
