"""What a contract was at a git ref: its files, without touching the working tree.

The objects are read one by one rather than through `git archive`, which leaves out what
`.gitattributes` marks as `export-ignore`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from switchgear.errors import UnreadableContract

__all__ = ["Repository"]

MAX_SECONDS: Final = 120
MAX_BYTES: Final = 512 << 20


@dataclass(frozen=True, slots=True)
class Repository:
    """A git repository, by the root of its working tree."""

    root: Path

    @classmethod
    def around(cls, folder: Path) -> Repository:
        """Return the repository that holds `folder`; raises `UnreadableContract` for none."""
        done = _git(folder, "rev-parse", "--show-toplevel")
        if done.returncode:
            raise UnreadableContract(
                "It is not inside a git repository.",
                where=str(folder),
                fix="git:REF compares with another version of the same repository.",
            )
        return cls(Path(done.stdout.decode().rstrip("\n")))

    def commit(self, ref: str) -> str:
        """Return the commit that a ref names; raises `UnreadableContract` if there is none."""
        asked = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        done = _git(self.root, *asked)
        if done.returncode:
            raise UnreadableContract(
                f"There is no git ref {ref!r}.",
                where=str(self.root),
                fix="In CI, fetch it first: `git fetch --tags --unshallow`.",
            )
        return done.stdout.decode().strip()

    def tags(self, pattern: str) -> list[str]:
        """Return the tags of a pattern (`v*`), the newest version first."""
        asked = ("tag", "--list", "--sort=-version:refname", "--", pattern)
        return _git(self.root, *asked).stdout.decode().split()

    def extract(self, ref: str, path: str, into: Path, suffixes: Collection[str]) -> Path:
        """Write the files below `path` as they were at `ref` into a folder; return it, or the file.

        Raises `UnreadableContract` for a ref or a path that is not there.
        """
        commit = self.commit(ref)
        wanted = PurePosixPath(path).as_posix()
        asked = ("ls-tree", "-r", "-l", "-z", "--full-tree", commit, "--", wanted)
        entries = list(_entries(_git(self.root, *asked).stdout))
        found = [one for one in entries if one[2].endswith(tuple(suffixes))]
        if not found:
            raise UnreadableContract(
                f"At {ref} there is nothing to read in {path}.",
                where=str(self.root),
                fix="Name the folder from the root of the repository: git:REF:PATH.",
            )
        if sum(size for _, size, _ in found) > MAX_BYTES:
            raise UnreadableContract(
                f"At {ref} there are more than {MAX_BYTES >> 20} MB in {path}.",
                where=str(self.root),
                fix="Name a smaller folder: git:REF:PATH.",
            )
        self._write([(blob, into / name) for blob, _, name in found])
        return into / wanted

    def _write(self, blobs: list[tuple[str, Path]]) -> None:
        command = ["git", "-C", str(self.root), "cat-file", "--batch"]
        asked = "".join(f"{blob}\n" for blob, _ in blobs).encode()
        done = _run(command, asked)
        data, at = memoryview(done.stdout), 0
        for _, path in blobs:
            head = bytes(data[at : at + 200]).partition(b"\n")[0]
            size = int(head.split()[2])
            begin = at + len(head) + 1
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data[begin : begin + size])
            at = begin + size + 1


def _entries(listed: bytes) -> Iterator[tuple[str, int, str]]:
    """Yield blob, size and name of ordinary files: no links, no submodules."""
    for line in filter(None, listed.split(b"\0")):
        told, _, name = line.partition(b"\t")
        mode, _, blob, size = told.split()
        if mode in {b"100644", b"100755"}:
            yield blob.decode(), int(size), name.decode(errors="surrogateescape")


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return _run(["git", "-C", str(folder), *arguments])


def _run(command: list[str], given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(  # noqa: S603 - git, without a shell
            command, input=given, capture_output=True, check=False, timeout=MAX_SECONDS
        )
    except FileNotFoundError:
        raise UnreadableContract("git is not installed.", where="git") from None
    except subprocess.TimeoutExpired:
        raise UnreadableContract(f"git has not answered within {MAX_SECONDS} s.") from None
