"""Files: where a declaration stands in protobuf, for contracts that others own.

Our own contracts give a package, and each package is one proto3 file. A contract that was imported
says more: the path of its file, its syntax or edition, and the options that mean something to other
languages only. A `ProtoFile` stands wherever a package can be given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from switchgear.errors import ContractError

__all__ = ["Package", "ProtoFile", "Syntax", "Visibility", "file_of", "is_shared"]

Syntax: TypeAlias = Literal["proto2", "proto3", "2023", "2024"]
"""What the first line of a `.proto` file says: a syntax, or an edition."""

Visibility: TypeAlias = Literal["export", "local"]
"""Who may see a declaration, in edition 2024: everybody, or its own file alone."""

_SYNTAXES: Final = ("proto2", "proto3", "2023", "2024")


@dataclass(frozen=True, slots=True)
class ProtoFile:
    """One `.proto` file: `package=ProtoFile("acme/pay/v1/pay.proto", "acme.pay.v1")`.

    `options` are the file's own, in protobuf's text format: `go_package: "acme.com/pay"`. With
    `camel=True` fields have protobuf's lowerCamelCase names in JSON, as protobuf's own printers
    write them; both names are read.
    """

    path: str
    package: str = ""
    syntax: Syntax = "proto3"
    options: str = ""
    camel: bool = False

    def __post_init__(self) -> None:
        if self.syntax not in _SYNTAXES:
            raise ContractError(
                f"{self.syntax!r} is no syntax of protobuf.",
                where=self.path,
                fix=f"Write one of {', '.join(_SYNTAXES)}.",
            )

    @property
    def is_edition(self) -> bool:
        """Whether the file names an edition, and features say the rest."""
        return not self.syntax.startswith("proto")

    @property
    def is_shared(self) -> bool:
        """Whether the file comes with protobuf or googleapis, so that every language has it."""
        return is_shared(self.path)


def is_shared(path: str) -> bool:
    """Whether a file comes with protobuf or googleapis, so that every language has it."""
    return path.startswith(("google/protobuf/", "google/type/", "google/rpc/", "google/api/"))


Package: TypeAlias = "str | ProtoFile"
"""Where a declaration stands: the name of a package, which is then one file; or a file."""


def file_of(package: Package) -> ProtoFile:
    """Return the file that a declaration stands in."""
    if isinstance(package, ProtoFile):
        return package
    return ProtoFile(f"{package.replace('.', '/')}.proto", package)
