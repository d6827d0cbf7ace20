"""Publishing a module of contracts: which version it is, and the wheel that carries it.

The history is a file with a line for each version that was published (see
`switchgear.contract.history`), kept with the contracts. What a new version is, the check of the
module itself says, against all of them: so what no `.proto` file carries counts too.

| what changed since the latest | version |
| --- | --- |
| what the check calls an error, under the rules `file` and `switchgear` | the next major |
| anything else but comments | the next minor |
| comments | the next patch |
| nothing | none |

What a comment declares (see `check.words`) is more than a comment.

Before 1.0.0 a break is the next minor and everything else the next patch, as Cargo has it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from msgspec import structs

from switchgear.contract.check.check import check, release
from switchgear.contract.check.finding import Finding, Severity
from switchgear.contract.check.words import declarations
from switchgear.contract.export import asyncapi, openapi
from switchgear.contract.history import Past, append, read_history
from switchgear.contract.library import Library
from switchgear.contract.publish.wheel import write_wheel
from switchgear.errors import OperationError

__all__ = ["Plan", "Step", "Version", "documents", "plan", "publish"]

Step: TypeAlias = Literal["first", "major", "minor", "patch", "none"]

_RULES: Final = ("file", "switchgear")
_VERSION: Final = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
_PATIENCE: Final = 60


class Version(NamedTuple):
    """A version, as https://semver.org has it, without what comes before or after a release."""

    major: int
    minor: int
    patch: int

    @classmethod
    def of(cls, text: str) -> Version:
        """Read `1.4.0`; raises `OperationError`."""
        found = _VERSION.fullmatch(text)
        if found is None:
            raise OperationError(f"{text!r} is not a version.", fix="Write it as 1.4.0.")
        return cls(*(int(one) for one in found.groups()))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    def after(self, step: Step) -> Version:
        """Return the next version for a step."""
        if step == "major":
            return Version(self.major + 1, 0, 0) if self.major else Version(0, self.minor + 1, 0)
        if step == "minor" and self.major:
            return Version(self.major, self.minor + 1, 0)
        return self if step == "none" else Version(self.major, self.minor, self.patch + 1)


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be published."""

    step: Step
    version: Version
    latest: Version | None
    breaks: tuple[Finding, ...]
    """Why it is a major version."""
    past: Past
    """What the history is to remember of it."""

    @property
    def protos(self) -> Mapping[str, str]:
        """The text of each `.proto` file by its name."""
        return self.past.protos


def plan(library: Library, history: Path, wanted: str | None = None) -> Plan:
    """Compare the contracts with every version in `history` and say which version they are.

    `wanted` is the version that is wanted: a lower one than the comparison asks for is refused,
    with `OperationError`. Raises what the export and the check raise.
    """
    past = read_history(history) if history.exists() else []
    made = release(library.target, "", history)
    asked = Version.of(wanted) if wanted is not None else None
    if not past:
        return _plan("first", asked or Version(1, 0, 0), None, (), made)
    before = max(past, key=lambda one: Version.of(one.version))
    latest = Version.of(before.version)
    breaks: tuple[Finding, ...] = ()
    if (before.protos, before.required) == (made.protos, made.required):
        step: Step = "none"
    else:
        olds = sorted(past, key=lambda one: Version.of(one.version), reverse=True)
        against = [f"{history}:{one.version}" for one in olds]
        findings = check(library.target, against, rules=_RULES)
        breaks = tuple(one for one in findings if one.severity is Severity.ERROR)
        same = _bare(before.protos) == _bare(made.protos) and before.required == made.required
        step = "major" if breaks else "patch" if same else "minor"
    least = latest.after(step)
    if asked is not None and (asked < least or (asked == latest and step != "none")):
        raise OperationError(
            f"{asked} is too low: after {latest} this is at least {least}.",
            where=library.name,
            fix="Take the higher version, or the change back.",
        )
    return _plan(step, asked or least, latest, breaks, made)


def _plan(
    step: Step, version: Version, latest: Version | None, breaks: tuple[Finding, ...], made: Past
) -> Plan:
    return Plan(step, version, latest, breaks, structs.replace(made, version=str(version)))


def publish(library: Library, made: Plan, *, name: str, history: Path, out: Path) -> Path:
    """Write the wheel into `out`, and the version into the history; return the wheel's path.

    The wheel holds the module under its own name, and beside it, in a folder `NAME_contract`, the
    `.proto` files, the OpenAPI and AsyncAPI documents, and the history. A module that cannot be
    imported from the wheel alone is refused with `OperationError`, and nothing is recorded.
    """
    folder = f"{library.name.replace('.', '/')}_contract"
    carried = documents(library, made, history)
    files = {**_module(library), **{f"{folder}/{path}": data for path, data in carried.items()}}
    requires = ["switchgear[grpc]"]
    wheel = write_wheel(out, name, str(made.version), files, requires)
    try:
        _try_import(wheel, library.name)
    except BaseException:
        wheel.unlink()
        raise
    if made.step != "none":
        append(history, made.past)
    return wheel


def documents(library: Library, made: Plan, history: Path) -> dict[str, bytes]:
    """Return what every package carries, by its path in it.

    The `.proto` files, the OpenAPI and AsyncAPI documents, and all earlier versions.
    """
    files = {f"proto/{path}": text.encode() for path, text in made.protos.items()}
    title, version = library.name, str(made.version)
    if library.services:
        files["openapi.json"] = _json(openapi(*library.services, title=title, version=version))
    if library.events:
        files["asyncapi.json"] = _json(asyncapi(*library.events, title=title, version=version))
    if history.exists():
        files["history.jsonl"] = history.read_bytes()
    return files


def _bare(protos: Mapping[str, str]) -> dict[str, list[object]]:
    """Return the files with nothing of their comments but what those declare."""
    return {path: list(_lines(text)) for path, text in protos.items()}


def _lines(text: str) -> Iterator[object]:
    """Yield each line, and for each comment, which stands on lines of its own, what it declares."""
    lines = (line.strip() for line in text.splitlines())
    for is_comment, of in groupby(lines, key=lambda line: line.startswith("//")):
        if is_comment:
            told = declarations("\n".join(line.removeprefix("//").strip() for line in of))
            yield from sorted(told.items())
        else:
            yield from of


def _module(library: Library) -> dict[str, bytes]:
    """Return the source of the module, or of the package that it is, by its path in the wheel."""
    path, source = library.name.replace(".", "/"), Path(str(library.module.__file__))
    top = path.partition("/")[0]
    typed = {f"{top}/py.typed": b""} if "/" in path else {}
    if not hasattr(library.module, "__path__"):
        return {f"{path}.py": source.read_bytes(), **typed}
    inside = {
        f"{path}/{one.relative_to(source.parent).as_posix()}": one.read_bytes()
        for one in sorted(source.parent.rglob("*.py"))
    }
    return {**inside, f"{top}/py.typed": b""}


def _try_import(wheel: Path, module: str) -> None:
    """Import the module as installed, in a process that sees nothing else of this project."""
    with tempfile.TemporaryDirectory(prefix="switchgear-publish-") as folder:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        code = f"import sys; sys.path.insert(0, {folder!r}); import {module}"
        done = subprocess.run(  # noqa: S603 - ourselves
            [sys.executable, "-I", "-c", code],
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE,
            cwd=folder,
        )
    if done.returncode:
        last = done.stderr.strip().splitlines() or ["it ended without a word"]
        raise OperationError(
            f"it cannot be imported from the wheel alone: {last[-1]}.",
            where=module,
            fix="Let it import nothing but switchgear and what is installed.",
        )


def _json(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
