"""The one tree of errors.

Every error a user can meet derives from `SwitchgearError`. It has a stable `code`, says what
happened and where, and says what to do about it. Codes never change their meaning; they are
listed in `docs/reference/errors.md`, and a test keeps the list and the tree equal.

Failed calls are errors too: see `switchgear.model.outcome`, where `Refused`, `Unavailable` and
`Unknown` derive from `CallError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

__all__ = [
    "BrokerError",
    "CallError",
    "ConfigError",
    "ContractError",
    "DatabaseError",
    "DeclarationError",
    "Diagnostic",
    "EventDeclarationError",
    "InvalidMessage",
    "MissingExtra",
    "OperationError",
    "PolicyError",
    "SagaDefinitionError",
    "SagaError",
    "SwitchgearError",
    "UnreadableContract",
    "UsageError",
]


class SwitchgearError(Exception):
    """Base of every error raised on purpose.

    `what` happened, in one sentence; `where` it happened (a file and line, a class and field, a
    service and operation); `fix` is what to do about it, in one sentence.
    """

    code: ClassVar[str] = "SG000"

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        fix = f" {self.fix}" if self.fix else ""
        return f"[{self.code}] {where}{self.what}{fix}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Python's own way calls the constructor with the sentence alone, which is never enough
        return _restored, (type(self), self.args, self.__dict__)


def _restored(
    kind: type[SwitchgearError], args: tuple[Any, ...], state: dict[str, Any]
) -> SwitchgearError:
    """Return an error as it was pickled; its cause stays behind, as with every exception."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class DeclarationError(SwitchgearError):
    """A declaration breaks a rule; raised while the declaring module is imported."""

    code = "SG100"


class ContractError(DeclarationError):
    """A message, refusal, service or operation is declared wrongly."""

    code = "SG110"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """What is wrong at one place of a file; lines and columns begin at 1."""

    path: str
    line: int
    column: int
    what: str


class UnreadableContract(DeclarationError):
    """A contract in a file (`.proto`, OpenAPI, AsyncAPI) or a git ref cannot be read.

    `diagnostics` are all complaints of the reader, of which this error tells the first.
    """

    code = "SG160"

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        fix: str | None = None,
        diagnostics: tuple[Diagnostic, ...] = (),
    ) -> None:
        super().__init__(what, where=where, fix=fix)
        self.diagnostics = diagnostics


class EventDeclarationError(DeclarationError):
    """An event or a subscription is declared wrongly."""

    code = "SG120"


class PolicyError(DeclarationError):
    """A policy setting is out of range, or two settings contradict each other."""

    code = "SG130"


class SagaDefinitionError(DeclarationError):
    """A saga definition breaks a rule of sagas."""

    code = "SG140"


class ConfigError(SwitchgearError):
    """`switchgear.toml` or an environment override is wrong; `where` is file, line and key."""

    code = "SG200"


class MissingExtra(SwitchgearError, ImportError):
    """A part was used whose optional dependency is not installed."""

    code = "SG210"

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed.",
            fix=f"Install it with: pip install 'switchgear[{extra}]'",
        )
        self.extra = extra


class OperationError(SwitchgearError):
    """A command cannot be carried out: a port in use, a missing module, an unwritable folder."""

    code = "SG220"


class UsageError(OperationError):
    """A command was asked for what there is not, or with a name that cannot be one."""

    code = "SG224"


class InvalidMessage(SwitchgearError):
    """Bytes are not a valid message of the expected type.

    `pointer` is an RFC 6901 JSON pointer to the offending field ("" is the whole message).
    """

    code = "SG300"

    def __init__(self, what: str, *, pointer: str = "", where: str | None = None) -> None:
        super().__init__(what, where=where)
        self.pointer = pointer


class CallError(SwitchgearError):
    """A call did not succeed. Its subclasses say what is certain about its effect."""

    code = "SG400"


class DatabaseError(SwitchgearError):
    """The service's own database cannot be used as asked."""

    code = "SG500"


class BrokerError(SwitchgearError):
    """The broker cannot be used as asked."""

    code = "SG600"


class SagaError(SwitchgearError):
    """A saga cannot be started or operated as asked."""

    code = "SG700"
