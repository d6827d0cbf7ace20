"""protoc, at arm's length: `.proto` files in, descriptors out, diagnostics as errors.

protoc comes with grpcio-tools. It runs in a process of its own, so that what it reads can cost no
more than the limits below, and two trees (a new one and an old one) can be compiled at the same
time:

    old = start(Tree(Path("old")))
    new = start(Tree(Path("new")))
    files = FileDescriptorSet.FromString(new.result())

What it complains about is raised as `UnreadableContract`, whose `diagnostics` are protoc's own,
with file, line and column.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from switchgear.errors import Diagnostic, MissingExtra, UnreadableContract

__all__ = ["Tree", "compile_trees", "includes"]

MAX_SECONDS: Final = 120
MAX_MEMORY: Final = 4 << 30
MAX_OUTPUT: Final = 1 << 30
MAX_FILE: Final = 16 << 20
"""No `.proto` that people wrote is longer; generated data that happens to end in `.proto` is."""
MAX_DIAGNOSTICS: Final = 100

_CHILD: Final = """
import sys
try:
    import resource
except ImportError:
    pass
else:
    most = dict(RLIMIT_CPU={seconds}, RLIMIT_AS={memory}, RLIMIT_FSIZE={output})
    for name, value in most.items():
        limit = getattr(resource, name)
        hard = resource.getrlimit(limit)[1]
        if hard == resource.RLIM_INFINITY or hard > value:
            resource.setrlimit(limit, (value, hard))
sys.path.insert(0, sys.argv[1])
from grpc_tools import _protoc_compiler
sys.exit(_protoc_compiler.run_main(sys.stdin.buffer.read().split(b"\\0")))
"""
_LINE: Final = re.compile(
    r"(?P<path>.+?):(?:(?P<line>\d+):(?P<column>\d+):)? (?P<warning>warning: )?(?P<what>.*)"
)
_MISSING: Final = re.compile(r"File not found|was not found or had errors")


@dataclass(frozen=True, slots=True)
class Tree:
    """A folder of `.proto` files, the names of those to compile, and where else files may be.

    `names` are relative to `root` or to a folder of `search`, with `/` between their parts.
    """

    root: Path
    names: tuple[str, ...]
    search: tuple[Path, ...] = ()

    @classmethod
    def of(cls, root: Path, *search: Path) -> Tree:
        """Return the tree of every `.proto` file under `root`; hidden folders are left out."""
        names = []
        for folder, folders, files in os.walk(root):
            folders[:] = [one for one in folders if one[0] != "."]
            below = os.path.relpath(folder, root)
            inside = "" if below == "." else f"{below.replace(os.sep, '/')}/"
            found = (one for one in files if one.endswith(".proto") and one[0] != ".")
            names += [f"{inside}{one}" for one in found if os.path.isfile(f"{folder}/{one}")]  # noqa: PTH113
        return cls(root, tuple(sorted(names)), search)


def compile_trees(*trees: Tree, source_info: bool = True) -> tuple[bytes, ...]:
    """Return the serialized `FileDescriptorSet` of each tree, with all that it imports.

    The files that come with protoc (`google/protobuf`) and googleapis (`google/api`,
    `google/type`) need not be in the trees. Each file stands after those that it imports.
    `source_info` keeps positions and comments.

    Raises `UnreadableContract` with protoc's diagnostics, or for a tree without files or with one
    that is too long, and `MissingExtra` without grpcio-tools.
    """
    for tree in trees:
        _check(tree)
    with ExitStack() as running:
        begun = [running.enter_context(_Compilation(one, source_info)) for one in trees]
        return tuple(one.result() for one in begun)


def _size(tree: Tree, name: str) -> int:
    for folder in (*tree.search, tree.root):
        try:
            return (folder / name).stat().st_size
        except OSError as error:
            told = error.strerror
    raise UnreadableContract(f"{told}.", where=name)


class _Compilation:
    """protoc at work on one tree."""

    def __init__(self, tree: Tree, source_info: bool) -> None:  # noqa: FBT001 - one caller
        self._tree = tree
        self._folder = tempfile.TemporaryDirectory(prefix="switchgear-protoc-")
        self._out = Path(self._folder.name) / "descriptors"
        self._told = Path(self._folder.name) / "told"
        self._searched = (tree.root, *tree.search, *includes())
        self._given = tuple(self._plain(one) for one in self._searched)
        arguments = [
            "protoc",
            *(f"--proto_path={one}" for one in self._given),
            f"--descriptor_set_out={self._out}",
            "--include_imports",
            *(["--include_source_info"] if source_info else []),
            *tree.names,
        ]
        child = _CHILD.format(seconds=MAX_SECONDS, memory=MAX_MEMORY, output=MAX_OUTPUT)
        with self._told.open("wb") as told:
            self._process = subprocess.Popen(  # noqa: S603 - ourselves, without a shell
                [sys.executable, "-I", "-S", "-c", child, _tools()],
                stdin=subprocess.PIPE,
                stdout=told,
                stderr=told,
            )
        stdin = self._process.stdin
        if stdin is not None:
            stdin.write("\0".join(arguments).encode())
            stdin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def result(self) -> bytes:
        """Wait for the descriptors."""
        try:
            status = self._process.wait(MAX_SECONDS)
        except subprocess.TimeoutExpired:
            raise UnreadableContract(
                f"protoc has not finished within {MAX_SECONDS} s.",
                where=str(self._tree.root),
                fix="Check fewer files at once.",
            ) from None
        if status == 0:
            return self._out.read_bytes()
        with self._told.open(errors="replace") as told:
            raise self._failure(status, told.read(1 << 20).splitlines())

    def _plain(self, folder: Path) -> Path:
        """Return `folder`, by another name if protoc would read its own as two folders."""
        if not re.search("[:;=]", str(folder)):
            return folder
        link = Path(self._folder.name) / str(len(list(Path(self._folder.name).iterdir())))
        link.symlink_to(folder.absolute(), target_is_directory=True)
        return link

    def _name(self, path: str) -> str:
        """Return the name in the tree of what protoc tells by its path."""
        for folder in self._given:
            path = path.removeprefix(f"{folder}/")
        return path

    def _failure(self, status: int, lines: Sequence[str]) -> UnreadableContract:
        found = [_LINE.fullmatch(line) for line in lines]
        diagnostics = [
            Diagnostic(
                self._name(one["path"]),
                int(one["line"] or 1),
                int(one["column"] or 1),
                one["what"].strip(),
            )
            for one in found
            if one and not one["warning"]
        ][:MAX_DIAGNOSTICS]
        if not diagnostics:
            ended = f"was ended by signal {-status}" if status < 0 else "failed"
            return UnreadableContract(
                f"protoc {ended}: {' '.join(lines)[:500] or 'it said nothing'}.",
                where=str(self._tree.root),
                fix="Check fewer files at once, or compile them with protoc alone.",
            )
        first = diagnostics[0]
        fix = "Compile the files with protoc until it is content."
        if any(_MISSING.search(one.what) for one in diagnostics):
            fix = f"Imports were looked for in: {', '.join(str(one) for one in self._searched)}."
        return UnreadableContract(
            first.what,
            where=f"{first.path}:{first.line}:{first.column}",
            fix=fix,
            diagnostics=tuple(diagnostics),
        )


def _check(tree: Tree) -> None:
    if not tree.names:
        raise UnreadableContract("There are no .proto files.", where=str(tree.root))
    for name in tree.names:
        if name.startswith(("-", "@")) or "\0" in name:
            raise UnreadableContract(
                "protoc would take the name of this file for an option.",
                where=name,
                fix="Rename it.",
            )
        size = _size(tree, name)
        if size > MAX_FILE:
            raise UnreadableContract(
                f"The file has {size >> 20} MB; at most {MAX_FILE >> 20} MB are read.", where=name
            )


def includes() -> tuple[Path, ...]:
    """Return the folders with the files that come with protoc and with googleapis."""
    own = Path(_tools()) / "grpc_tools" / "_proto"
    google = importlib.util.find_spec("google.api")
    places = (google.submodule_search_locations or ()) if google else ()
    return (own, *(Path(place).parents[1] for place in places))


def _tools() -> str:
    """Return the folder that holds grpcio-tools, which need not be imported here."""
    found = importlib.util.find_spec("grpc_tools")
    if found is None or found.origin is None:
        raise MissingExtra("grpcio-tools", "contract")
    return str(Path(found.origin).parents[1])
