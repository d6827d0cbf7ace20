"""Publishing a module of contracts: which version it is, and the wheel that carries it.

The history is a folder with one folder for each version that was published, `1.4.0/`, in which its
`.proto` files are. It is kept with the contracts and only grows. What a new version is, the check
says, against all of them:

| what changed since the latest | version |
| --- | --- |
| what the check calls an error, under the rules `file` and `switchgear` | the next major |
| anything else but comments | the next minor |
| comments | the next patch |
| nothing | none |

Before 1.0.0 a break is the next minor and everything else the next patch, as Cargo has it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from switchgear.contract.check.check import check
from switchgear.contract.check.finding import Finding, Severity
from switchgear.contract.export import asyncapi, openapi, proto_files
from switchgear.contract.library import Library
from switchgear.contract.past import past_of
from switchgear.contract.publish.generators import write_protos
from switchgear.contract.publish.wheel import write_wheel
from switchgear.errors import OperationError, UsageError

__all__ = ["Plan", "Step", "Version", "documents", "plan", "publish", "versions_in"]

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
    protos: Mapping[str, str]


def plan(library: Library, history: Path, release: str | None = None) -> Plan:
    """Compare the contracts with every version in `history` and say which version they are.

    `release` is the version that is wanted: a lower one than the comparison asks for is refused,
    with `OperationError`. Raises what the export and the check raise.
    """
    versions = sorted(_published(history), reverse=True)
    past = past_of(versions_in(history))
    protos = proto_files(*library.roots, past=past)
    wanted = Version.of(release) if release is not None else None
    if not versions:
        return Plan("first", wanted or Version(1, 0, 0), None, (), protos)
    latest = versions[0]
    before = _texts(history / str(latest))
    breaks: tuple[Finding, ...] = ()
    if before == protos:
        step: Step = "none"
    else:
        breaks = _breaks(protos, [history / str(one) for one in versions])
        same = _bare(before) == _bare(protos)
        step = "major" if breaks else "patch" if same else "minor"
    least = latest.after(step)
    if wanted is not None and (wanted < least or (wanted == latest and step != "none")):
        raise OperationError(
            f"{wanted} is too low: after {latest} this is at least {least}.",
            where=library.name,
            fix="Take the higher version, or the change back.",
        )
    return Plan(step, wanted or least, latest, breaks, protos)


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
        write_protos(history / str(made.version), made.protos)
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
    for one in sorted(_published(history)):
        for path, text in sorted(_texts(history / str(one)).items()):
            files[f"history/{one}/{path}"] = text.encode()
    return files


def versions_in(history: Path) -> list[Path]:
    """Return the folders of all versions in a history, the oldest first.

    None that is there yet is an empty one. Raises `UsageError` for what is no such history.
    """
    return [history / str(one) for one in sorted(_published(history))]


def _published(history: Path) -> list[Version]:
    if not history.exists():
        return []
    if not history.is_dir():
        raise UsageError(
            "it is a file, and the history of `contract publish` is a folder.",
            where=str(history),
            fix="Give the folder, as contract-history; a file of `contract record` is for "
            "`contract check --history`.",
        )
    names = (one.name for one in history.iterdir() if one.is_dir())
    versions = [Version.of(name) for name in names if _VERSION.fullmatch(name)]
    if not versions and any(history.rglob("*.proto")):
        raise UsageError(
            "it holds .proto files and no versions of `contract publish`.",
            where=str(history),
            fix="Give the folder in which the versions are, as contract-history for "
            "contract-history/1.0.0.",
        )
    return versions


def _texts(folder: Path) -> dict[str, str]:
    return {one.relative_to(folder).as_posix(): one.read_text() for one in folder.rglob("*.proto")}


def _bare(protos: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the files without their comments, which stand on lines of their own."""
    return {
        path: [line for line in text.splitlines() if not line.lstrip().startswith("//")]
        for path, text in protos.items()
    }


def _breaks(protos: Mapping[str, str], olds: list[Path]) -> tuple[Finding, ...]:
    with tempfile.TemporaryDirectory(prefix="switchgear-publish-") as folder:
        write_protos(Path(folder), protos)
        findings = check(folder, [str(one) for one in olds], rules=_RULES)
    return tuple(one for one in findings if one.severity is Severity.ERROR)


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
