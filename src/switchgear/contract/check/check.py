"""The check: two or more versions in, findings out."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from switchgear.contract.check.finding import Finding
from switchgear.contract.check.protofiles import Protos
from switchgear.contract.check.protos import Version, check_protos
from switchgear.contract.check.pythonmodule import read_module
from switchgear.contract.check.sources import Kind, Source, open_sources
from switchgear.errors import UnreadableContract

__all__ = ["check"]


def check(new: str, against: Sequence[str], *, rules: Sequence[str] | None = None) -> list[Finding]:
    """Compare a version of a contract with older ones, the latest of them first.

    `new` and `against` are what `switchgear.contract.check.sources` lists; `rules` are the words
    of `--rules`. Raises `UnreadableContract` for what cannot be read.
    """
    with ExitStack() as stack:
        first, olds = open_sources(new, against, stack)
        versions = [_version(one, stack) for one in (first, *olds)]
        return check_protos(versions[0], versions[1:], rules)


def _version(source: Source, stack: ExitStack) -> Version:
    if source.kind is Kind.PROTO:
        return Version(source.label, Protos.of(source.path))
    if source.kind is Kind.PYTHON:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="switchgear-check-"))
        told = read_module(source.target, source.imports, Path(folder))
        return Version(source.label, Protos.of(Path(folder)), told)
    raise UnreadableContract(f"{source.kind.value} is not read yet.", where=source.label)
