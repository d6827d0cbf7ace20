"""The check: two or more versions in, findings out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from switchgear.contract.check.finding import Finding
from switchgear.contract.check.protofiles import Protos
from switchgear.contract.check.protos import Version, check_protos
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
        return check_protos(_version(first), [_version(one) for one in olds], rules)


def _version(source: Source) -> Version:
    if source.kind is not Kind.PROTO:
        raise UnreadableContract(f"{source.kind.value} is not read yet.", where=source.label)
    return Version(source.label, Protos.of(source.path))
