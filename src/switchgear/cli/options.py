"""Arguments and options that several commands have."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Actor", "AsJson", "Config", "ForService", "Reason", "me"]

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
Actor = Annotated[str, typer.Option(help="Who; default: the user who runs the command.")]


def me(actor: str) -> str:
    """Return who acts: `actor`, or else the user who runs the command."""
    return actor or getpass.getuser()
