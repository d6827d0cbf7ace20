"""`switchgear contract export|import|publish`: contracts to other languages, and back."""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from switchgear.contract.export import asyncapi, openapi, proto_files
from switchgear.contract.files import write
from switchgear.contract.history import read_history
from switchgear.contract.importer import import_proto
from switchgear.contract.library import Library, load_library
from switchgear.contract.publish.gomodule import write_go
from switchgear.contract.publish.npmpackage import Tools, npm_name, write_npm
from switchgear.contract.publish.publish import Plan, documents, plan
from switchgear.contract.publish.publish import publish as build
from switchgear.errors import OperationError, UnreadableContract

__all__ = ["export", "import_files", "publish"]


def export(
    target: str,
    *,
    proto: Path | None = None,
    openapi_file: Path | None = None,
    asyncapi_file: Path | None = None,
    history: Path | None = None,
    title: str | None = None,
    release: str | None = None,
) -> None:
    """Write what others need of the contracts of a module, and name each file that was written."""
    if proto is None and openapi_file is None and asyncapi_file is None:
        raise OperationError(
            "it does not say what to write.",
            fix="Give --proto DIR, --openapi FILE or --asyncapi FILE.",
        )
    library = load_library(target)
    title, release = title or library.name, release or _release(library)
    if proto is not None:
        past = read_history(history) if history is not None else []
        for name, text in proto_files(*library.roots, past=past).items():
            _write(proto / name, text)
    if openapi_file is not None:
        document = openapi(*library.services, title=title, version=release)
        _write(openapi_file, _json(document))
    if asyncapi_file is not None:
        if not library.events:
            raise OperationError(
                "it declares no events.", where=target, fix="Leave out --asyncapi."
            )
        document = asyncapi(*library.events, title=title, version=release)
        _write(asyncapi_file, _json(document))


def import_files(files: list[Path], *, search: list[Path], out: Path | None) -> None:
    """Write a module with the contracts of `.proto` files, or print it where no file is given."""
    try:
        source = import_proto(*files, search=tuple(search))
    except UnreadableContract as error:
        for one in error.diagnostics:
            print(f"{one.path}:{one.line}:{one.column}: {one.what}", file=sys.stderr)
        raise
    if out is None:
        print(source, end="")
    else:
        _write(out, source)


def publish(
    target: str,
    *,
    name: str | None,
    history: Path,
    out: Path,
    release: str | None,
    go: str | None,
    npm: str | None,
    dry_run: bool,
) -> None:
    """Say which version the contracts of a module are and why, and build its packages."""
    if npm is not None:
        npm_name(npm)
    library = load_library(target)
    made = plan(library, history, release)
    for one in made.breaks:
        print(f"{one.path}:{one.line}: {one.rule}: {one.message}")
    if made.step == "none":
        print(f"nothing has changed since {made.latest}.")
        return
    print(f"{made.version}: {_why(made)}.")
    if dry_run:
        return
    # the wheel last: what is recorded was published
    if npm is not None:
        carried = documents(library, made, history)
        write_npm(out / "npm", npm, str(made.version), carried, Tools())
        print(out / "npm")
    if go is not None:
        folder = out / "go"
        write_go(folder, go, made.version.major, made.protos)
        print(folder)
    distribution = name or library.name.replace(".", "-").replace("_", "-")
    print(build(library, made, name=distribution, history=history, out=out))


def _why(made: Plan) -> str:
    return {
        "first": "the first version",
        "major": f"a major version, because something of {made.latest} breaks",
        "minor": f"a minor version: nothing of {made.latest} breaks",
        "patch": f"a patch: only comments of {made.latest} have changed",
    }[made.step]


def _write(path: Path, text: str) -> None:
    """Write a file and say so; raises `OperationError` where that is not possible."""
    write(path, text.encode())
    print(path)


def _release(library: Library) -> str:
    """Return the version of the distribution that the module belongs to, if it is installed."""
    try:
        return version(library.name.partition(".")[0])
    except PackageNotFoundError:
        return "0"


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
