"""Refusals: a definitive no that the contract declares, typed on both sides.

A refusal is an exception with declared fields. Its companion message, `OutOfStock.__message__`,
is what crosses the wires; the full name of that message tells the client which class to raise.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, dataclass_transform

from typing_extensions import override

from switchgear.contract.declaration import Reserved, Scope, declaration_of, own_specs
from switchgear.contract.message import Message, MessageMeta, field
from switchgear.errors import ContractError, SwitchgearError
from switchgear.model.outcome import Refused, Status

__all__ = ["Refusal"]

_TAKEN: Final = frozenset(dir(Refused)) | {
    *("what", "where", "fix"),
    *("full_name", "status", "from_message", "to_message", "self"),
}
"""Names that a field of a refusal cannot have."""


class RefusalMeta(type):
    """Moves the fields of a refusal into its companion message."""

    def __new__(
        mcls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        status: Status | None = None,
        package: str | None = None,
        reserved: Reserved = (),
    ) -> RefusalMeta:
        """Create a refusal class; see `Refusal` for the keywords."""
        module = namespace["__module__"]
        if module == __name__:
            return super().__new__(mcls, name, bases, namespace)
        where = f"{module}.{namespace['__qualname__']}"
        if any(hasattr(base, "__message__") for base in bases):
            raise ContractError(
                "A refusal derives from Refusal, not from another refusal.",
                where=where,
                fix="Repeat the fields.",
            )
        own = own_specs({"__annotations__": {}, **namespace}, where)
        taken = sorted(_TAKEN & own.keys())
        if taken:
            raise ContractError(
                f"The field {taken[0]} has the name of an attribute of every refusal.",
                where=where,
                fix="Rename it.",
            )
        body = {
            "__module__": module,
            "__qualname__": namespace["__qualname__"],
            "__doc__": namespace.get("__doc__"),
            "__annotations__": {key: namespace["__annotations__"][key] for key in own},
            **own,
        }
        companion = MessageMeta(
            name,
            (Message,),
            body,
            package=package,
            reserved=reserved,
            scope=Scope.of(inspect.currentframe(), namespace),
        )
        # Where pickle finds it: the plain name is the refusal's own.
        companion.__qualname__ = f"{namespace['__qualname__']}.__message__"
        rest = {key: value for key, value in namespace.items() if key not in own}
        cls: Any = super().__new__(mcls, name, bases, rest)
        cls.__message__ = companion
        cls.full_name = declaration_of(cls.__message__).full_name
        if status is not None:
            cls.status = status
        return cls  # type: ignore[no-any-return]


if TYPE_CHECKING:

    class _Refused(Refused):
        # what mypy takes for the constructor of a refusal without fields
        def __init__(self) -> None: ...
        def __init_subclass__(
            cls,
            *,
            status: Status | None = ...,
            package: str | None = ...,
            reserved: Reserved = ...,
        ) -> None: ...

else:

    class _Refused(Refused, metaclass=RefusalMeta):
        def __init__(self, **values: object) -> None:
            self._take(self.__message__(**values))


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
class Refusal(_Refused):
    """The base of refusals: `class OutOfStock(Refusal)` with `sku: str = field(1)`.

    Raise it in a handler of an operation that lists it in `refuses`; the client raises it again,
    equal in every field. Class keywords: those of `Message`, and `status`, the canonical status
    under which it crosses both doors (default FAILED_PRECONDITION: 422 over HTTP).

    Raises `ContractError` while the class is created if a rule is broken.
    """

    code: ClassVar[str] = "SG412"
    full_name: ClassVar[str]
    """The stable name on the wire: package and class name."""
    status: ClassVar[Status] = Status.FAILED_PRECONDITION
    __message__: ClassVar[type[Message]]

    def to_message(self) -> Message:
        """Return the message that stands for this refusal on a wire."""
        message: Message = self._message
        return message

    @classmethod
    def from_message(cls, message: Message) -> Self:
        """Return the refusal that `message` stands for."""
        refusal = cls.__new__(cls)
        refusal._take(message)  # noqa: SLF001 - its own kind
        return refusal

    def _take(self, message: Message) -> None:
        values = {name: getattr(message, name) for name in declaration_of(type(message)).specs}
        told = ", ".join(f"{name}={value!r}" for name, value in values.items())
        SwitchgearError.__init__(self, f"{type(self).__name__}({told})")
        vars(self).update(values)
        self._message = message

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self).from_message, (self._message,))
