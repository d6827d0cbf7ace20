"""`switchgear services` and `switchgear edges`: what a system's modules declare."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from switchgear.app.directory import served_by
from switchgear.app.report import one_line
from switchgear.app.service import Service
from switchgear.app.target import add_to_path, import_path, load_target
from switchgear.cli.databases import chosen, some_service
from switchgear.config import Config
from switchgear.errors import SwitchgearError
from switchgear.model.edge import Edge
from switchgear.policy.policy import PARTS

__all__ = ["screen", "services", "show_edges", "show_services", "table", "visible"]

_NEW: Final = "begin with: switchgear new NAME"
_PIPE: Final = 400
"""Columns where nobody looks at a screen."""


def table(
    titles: Sequence[str], rows: Sequence[Sequence[str]], console: Console | None = None
) -> None:
    """Print rows under their titles. Long values are folded, and in a pipe they are kept whole."""
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for title in titles:
        shown.add_column(title, overflow="fold")
    for row in rows:
        # a text, not markup: values are other people's words
        shown.add_row(*(Text(visible(value)) for value in row))
    (console or screen()).print(shown)


def visible(value: str) -> str:
    """Return `value` with what a terminal would obey, or hide, written as an escape.

    Keys, payloads and error texts come from other systems. Control characters could move the cursor
    or set a title, and marks of direction could make one key look like another.
    """
    if value.isprintable():
        return value
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in value
    )


def screen() -> Console:
    """Return where commands print: as wide as the terminal, or very wide in a pipe."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPE)


def services(config: Config, service: str | None = None) -> Iterator[tuple[Service, str]]:
    """Return each service that is a module, or the named one alone, and its name in the system.

    Raises `OperationError` where there is none at all.
    """
    some_service(config, otherwise=_NEW)
    add_to_path(import_path(config))
    for settings in chosen(config, service) if service else config.services.values():
        app = load_target(settings.app) if settings.app else None
        if isinstance(app, Service):
            yield app, settings.name


def show_services(config: Config, *, as_json: bool) -> None:
    """Print each service, its addresses, and the contracts that it serves."""
    some_service(config, otherwise=_NEW)
    add_to_path(import_path(config))
    failed: dict[str, SwitchgearError] = {}
    found: list[dict[str, Any]] = [  # rows for JSON and for the table alike
        {
            "service": service.name,
            "runs": service.app or service.asgi or "",
            "http": str(service.http or ""),
            "grpc": str(service.grpc or ""),
            "database": str(service.database) if service.app else "",
            "serves": sorted(served_by(service, failed)),
        }
        for service in config.services.values()
    ]
    if as_json:
        for service in found:
            print(json.dumps(service))
    else:
        table(
            ("service", "runs", "http", "grpc", "serves"),
            [
                [one["service"], one["runs"], one["http"], one["grpc"], ", ".join(one["serves"])]
                for one in found
            ],
        )
    for name, error in failed.items():
        print(f"What {name} serves is not known: {one_line(error)}", file=sys.stderr)


def show_edges(config: Config, *, as_json: bool) -> None:
    """Print each edge that the services declare."""
    some_service(config, otherwise=_NEW)
    add_to_path(import_path(config))
    found = list(_edges(config))
    if as_json:
        for edge in found:
            told = {
                "caller": edge.caller,
                "callee": edge.callee,
                "operation": edge.operation,
                "pattern": edge.pattern,
                "keyed": edge.keyed,
                "policy": edge.policy,
            }
            print(json.dumps(told, default=str))
        return
    rows = [
        [
            edge.caller,
            edge.operation,
            edge.pattern + (" (keyed)" if edge.keyed else ""),
            _brief(edge.policy),
        ]
        for edge in found
    ]
    table(("caller", "operation", "pattern", "policy"), rows)


def _edges(config: Config) -> Iterator[Edge]:
    for service in config.services.values():
        if service.app is None:
            continue
        app = load_target(service.app)
        if isinstance(app, Service):
            yield from app.edges(config.policies)


def _brief(policy: Mapping[str, object]) -> str:
    """Say in a few words what a policy has."""
    if not policy:
        return ""
    if policy.get("unguarded"):
        return f"none: {policy['unguarded']}"
    deadline = policy.get("deadline")
    first = f"deadline {deadline:g} s" if isinstance(deadline, int | float) else "no deadline"
    parts = [name for name in PARTS if isinstance(policy.get(name), Mapping)]
    return ", ".join([first, *parts])
