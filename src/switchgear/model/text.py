"""Texts that others have made, as far as a record can hold them."""

from __future__ import annotations

__all__ = ["encodable", "said_by"]


def encodable(text: str) -> str:
    """Return a text with `?` for what UTF-8 cannot carry.

    Python has such characters in names of files that are no UTF-8; databases and JSON take none.
    """
    return text.encode("utf-8", "replace").decode("utf-8")


def said_by(error: BaseException) -> str:
    """Return what an error says of itself, also if that fails."""
    try:
        return encodable(str(error))
    except Exception as failed:  # noqa: BLE001  the code is anybody's, and its error is told instead
        return f"(no text: {type(failed).__qualname__})"
