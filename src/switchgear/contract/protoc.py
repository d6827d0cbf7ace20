"""protoc, at arm's length: `.proto` files in, descriptors out, diagnostics as errors.

protoc comes with grpcio-tools. It runs in a process of its own, so that what it reads can cost no
more than the limits below, and two trees (a new one and an old one) can be compiled at the same
time, while the caller does something else:

    with compiling(Tree.of(Path("old")), Tree.of(Path("new"))) as compiled:
        ...
        old, new = map(FileDescriptorSet.FromString, compiled())

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
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from switchgear.errors import Diagnostic, MissingExtra, UnreadableContract

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

__all__ = ["Tree", "compile_trees", "compiling", "includes", "language_file", "legible"]

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
with open(sys.argv[2], "rb") as arguments:
    sys.exit(_protoc_compiler.run_main(arguments.read().split(b"\\0")))
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
        return cls(root, tuple(sorted(_proto_files(root))), search)


def _proto_files(root: Path) -> Iterator[str]:
    """Yield the `.proto` files in a folder and in those below it, but not behind links."""
    waiting = [(str(root), "")]
    while waiting:
        folder, inside = waiting.pop()
        try:
            with os.scandir(folder) as found:  # which knows of each what else costs a call
                entries = [one for one in found if not one.name.startswith(".")]
        except OSError as error:
            raise UnreadableContract(f"{error.strerror}.", where=folder) from None
        for one in entries:
            name = f"{inside}{one.name}"
            if one.is_dir(follow_symlinks=False):
                waiting.append((one.path, f"{name}/"))
            elif name.endswith(".proto") and one.is_file():
                yield name


def compile_trees(
    *trees: Tree, source_info: bool = True, retain_options: bool = False
) -> tuple[bytes, ...]:
    """Return the serialized `FileDescriptorSet` of each tree, with all that it imports.

    The files that come with protoc (`google/protobuf`) and googleapis (`google/api`,
    `google/type`) need not be in the trees. Each file stands after those that it imports.
    `source_info` keeps positions and comments, `retain_options` those options too that are for
    who reads the source alone.

    Raises `UnreadableContract` with protoc's diagnostics, or for a tree without files or with one
    that is too long, and `MissingExtra` without grpcio-tools.
    """
    with compiling(*trees, source_info=source_info, retain_options=retain_options) as compiled:
        return compiled()


@contextmanager
def compiling(
    *trees: Tree, source_info: bool = True, retain_options: bool = False
) -> Iterator[Callable[[], tuple[bytes, ...]]]:
    """Let protoc begin; what is yielded waits for it, and returns and raises as `compile_trees`."""
    for tree in trees:
        _check(tree)
    with ExitStack() as running:
        flags = ["--include_source_info"] if source_info else []
        flags += ["--retain_options"] if retain_options else []
        begun = [running.enter_context(_Compilation(one, flags)) for one in trees]
        yield lambda: tuple(one.result() for one in begun)


def _size(tree: Tree, name: str) -> int:
    for folder in (*tree.search, tree.root):
        try:
            return (folder / name).stat().st_size
        except OSError as error:
            told = error.strerror
    raise UnreadableContract(f"{told}.", where=name)


class _Compilation:
    """protoc at work on one tree."""

    def __init__(self, tree: Tree, flags: Sequence[str]) -> None:
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
            *flags,
            *tree.names,
        ]
        child = _CHILD.format(seconds=MAX_SECONDS, memory=MAX_MEMORY, output=MAX_OUTPUT)
        given = Path(self._folder.name) / "arguments"  # there is no limit on how many
        given.write_bytes(os.fsencode("\0".join(arguments)))
        with self._told.open("wb") as told:
            self._process = subprocess.Popen(  # noqa: S603 - ourselves, without a shell
                [sys.executable, "-I", "-S", "-c", child, _tools(), str(given)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,  # says nothing, but closes at the end
                stderr=told,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process.wait()
        self._folder.cleanup()

    def result(self) -> bytes:
        """Wait for the descriptors."""
        try:
            # `wait` alone would look again and again, after sleeping for up to 50 ms
            self._process.communicate(timeout=MAX_SECONDS)
        except subprocess.TimeoutExpired:
            raise UnreadableContract(
                f"protoc has not finished within {MAX_SECONDS} s.",
                where=str(self._tree.root),
                fix="Check fewer files at once.",
            ) from None
        status = self._process.wait()
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
            if one and not one["warning"] and status > 0  # a crash speaks of protoc, not of files
        ][:MAX_DIAGNOSTICS]
        if not diagnostics:
            ended = f"was ended by signal {-status}" if status < 0 else "failed"
            return UnreadableContract(
                f"protoc {ended}: {' '.join(lines)[:500] or 'it said nothing'}.",
                where=str(self._tree.root),
                fix="Check fewer files at once, nest options less deeply, or compile them with "
                "protoc alone.",
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
        if not name.isascii() and legible(os.fsencode(name)) != name:
            raise UnreadableContract(
                "The name of this file is not UTF-8.",
                where=legible(os.fsencode(name)),
                fix="Rename it.",
            )
        size = _size(tree, name)
        if size > MAX_FILE:
            raise UnreadableContract(
                f"The file has {size >> 20} MB; at most {MAX_FILE >> 20} MB are read.", where=name
            )


def language_file(name: str) -> FileDescriptorProto:
    """Return a file that comes with protoc, as `google/protobuf/cpp_features.proto`."""
    from google.protobuf.descriptor_pb2 import FileDescriptorSet  # noqa: PLC0415 - an extra

    (compiled,) = compile_trees(Tree(includes()[0], (name,)), source_info=False)
    return FileDescriptorSet.FromString(compiled).file[-1]


def legible(text: str | bytes) -> str:
    """Return what protobuf calls a string: bytes, where it is not UTF-8, as in an old comment."""
    return text if isinstance(text, str) else text.decode(errors="replace")


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
