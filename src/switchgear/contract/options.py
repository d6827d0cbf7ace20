"""Options in protobuf's text format: `packed: true`, `[acme.sensitive]: true`.

What protobuf and googleapis declare is known to it. Options of anybody's own are extensions of
protobuf's options, declared in some `.proto` file; they can be read and written only with a pool
that holds that file. So texts that name one wait until all files are described (`Texts`), and
options that were compiled are read anew with the pool that they belong to (`Known`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from switchgear.contract.jsonnames import json_name
from switchgear.errors import ContractError

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool

__all__ = ["Known", "Texts", "option_files", "pool_of", "register"]

_GOOGLE_OPTIONS: Final = (
    *("annotations", "client", "field_behavior", "field_info"),
    *("launch_stage", "resource", "routing", "visibility"),
)

_LANGUAGE: Final = re.compile(r"\[pb\.(cpp|go|java)\]")


def register() -> None:
    """Let protobuf know the options of googleapis, before anything that has them is parsed."""
    for name in _GOOGLE_OPTIONS:
        with suppress(ImportError):
            import_module(f"google.api.{name}_pb2")


def pool_of(files: Iterable[FileDescriptorProto]) -> DescriptorPool:
    """Return a pool that holds files, each of which stands after those that it imports.

    Raises `ContractError` where protobuf refuses one.
    """
    from google.protobuf.descriptor_pool import DescriptorPool  # noqa: PLC0415 - an extra

    pool = DescriptorPool()
    for file in files:
        try:
            pool.AddSerializedFile(_tolerant(file).SerializeToString())
        except TypeError as error:
            raise ContractError(
                f"protobuf refuses the file: {' '.join(str(error).split())}", where=file.name
            ) from None
    return pool


def _tolerant(file: FileDescriptorProto) -> FileDescriptorProto:
    """Return a file in which fields may share a name in JSON: protobuf for Python refuses that.

    Where protoc does, it has done so before, or the declaration has.
    """
    if not any(map(_shares_names, _messages(file))):
        return file
    made = type(file)()
    made.CopyFrom(file)
    for one in _messages(made):
        if _shares_names(one):
            one.options.deprecated_legacy_json_field_conflicts = True
    return made


def _shares_names(message: DescriptorProto) -> bool:
    names = [one.json_name or json_name(one.name) for one in message.field]
    return len(set(names)) < len(names)


def _messages(file: FileDescriptorProto) -> Iterator[DescriptorProto]:
    waiting = list(file.message_type)
    while waiting:
        one = waiting.pop()
        yield one
        waiting += one.nested_type


class Known:
    """Reads options with all that a pool knows of."""

    def __init__(self, pool: DescriptorPool) -> None:
        self._pool = pool

    def read(self, options: Any) -> Any:
        """Return the same options, read with the extensions of the pool where it has any."""
        kind = self.kind(options)
        return options if kind is None else kind.FromString(options.SerializeToString())

    def kind(self, options: Any) -> Any:
        """Return the pool's own class for options; None where no file of the pool extends them."""
        from switchgear.contract.classes import class_of  # noqa: PLC0415 - an extra

        try:
            found = self._pool.FindMessageTypeByName(options.DESCRIPTOR.full_name)
        except KeyError:
            return None
        return class_of(found)


class Texts:
    """Options that declarations state, while their files are being described."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Any, str, str, str]] = []

    def fill(self, made: Any, text: str, where: str, file: str) -> None:
        """Read options of `made`, which stands in `file`; those of anybody's own have to wait."""
        if not text:
            return
        from google.protobuf import text_format  # noqa: PLC0415 - an extra

        register()
        options = type(made.options)()
        try:
            try:
                text_format.Parse(text, options)
            except text_format.ParseError:
                # protobuf may refuse a file without its features, and it may declare the option
                options.Clear()
                text_format.Parse(text, options, allow_unknown_extension=True)
                self._waiting.append((made, text, where, file))
                if "features" in options.DESCRIPTOR.fields_by_name and options.HasField("features"):
                    made.options.features.MergeFrom(options.features)
            else:
                made.options.MergeFrom(options)
        except text_format.ParseError as error:
            raise _unreadable(where, error) from None

    def of_languages(self) -> Iterator[tuple[str, str]]:
        """Yield the files that have to be imported for features of one language, and by which."""
        for _, text, _, file in self._waiting:
            for language in _LANGUAGE.findall(text):
                yield file, f"google/protobuf/{language}_features.proto"

    def settle(
        self, files: Callable[[], Iterable[FileDescriptorProto]], *, strict: bool
    ) -> Iterator[tuple[str, str]]:
        """Read what waits, now that all `files()` are described; yield which imports which for it.

        Without `strict`, an option that no file declares is left out: it means nothing to a codec.
        Raises `ContractError` for one otherwise, and for what cannot be read.
        """
        if not self._waiting:
            return
        from google.protobuf import text_format  # noqa: PLC0415 - an extra

        known = Known(pool_of(files()))
        for made, text, where, file in self._waiting:
            options = (known.kind(made.options) or type(made.options))()
            try:
                text_format.Parse(text, options, allow_unknown_extension=not strict)
            except text_format.ParseError as error:
                raise _unreadable(where, error) from None
            made.options.MergeFromString(options.SerializeToString(deterministic=True))
            yield from ((file, one) for one in option_files(options))


def _unreadable(where: str, error: Exception) -> ContractError:
    return ContractError(
        f"Its options cannot be read: {str(error).partition('. ')[0]}.",
        where=where,
        fix='Write them in protobuf\'s text format: `go_package: "acme.com/pay"`; options of your '
        'own are declared by a message with extends="google.protobuf.FieldOptions".',
    )


def option_files(holder: Any) -> Iterator[str]:
    """Yield the files that declare the extensions among the options of a file, or in options."""
    waiting: list[Any] = [holder]
    while waiting:
        one = waiting.pop()
        for field, value in one.ListFields():
            if field.is_extension:
                yield field.file.name
            inner = field.message_type
            if inner is None or inner.GetOptions().map_entry or field.name == "source_code_info":
                continue
            waiting.extend(value if field.is_repeated else [value])
