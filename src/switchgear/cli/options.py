"""Arguments and options that several commands have, and what commands begin with.

This is imported whatever is typed, `--help` too. So what is heavy is imported where it is used.
"""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from switchgear.config import Config as Settings

__all__ = ["Actor", "AsJson", "Config", "ForService", "Reason", "finished", "load", "me"]

T = TypeVar("T")

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="The system's file; default: SWITCHGEAR_CONFIG, ./switchgear.toml."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


ForService = Annotated[
    str | None, typer.Option("--service", "-s", help="One service; default: all of the system.")
]
Reason = Annotated[str, typer.Option(help="Why; it is kept.")]
Elsewhere = Annotated[
    bool,
    typer.Option("--elsewhere", help="Another deployment has the saga's definition, not this one."),
]
Actor = Annotated[str, typer.Option(help="Who; default: the user who runs the command.")]


def load(path: Path | None) -> Settings:
    """Read the system's file; see `switchgear.config.load`."""
    from switchgear.config import load  # noqa: PLC0415  every policy that can be set

    settings = load(path)
    if settings.system.log == "debug":
        from switchgear.app import logs  # noqa: PLC0415  most commands have nothing to log

        # beside the answer, which may go into a pipe
        logs.configure("debug", stream=sys.stderr)
    return settings


def finished(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end, and return what it gives."""
    import asyncio  # noqa: PLC0415  with all of its networking

    return asyncio.run(work)


def me(actor: str) -> str:
    """Return who acts: `actor`, or else the user who runs the command."""
    import getpass  # noqa: PLC0415  as above

    return actor or getpass.getuser()
