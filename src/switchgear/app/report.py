"""How an error looks on a command line: one line, with its code, without secrets."""

from __future__ import annotations

from switchgear.config import masked
from switchgear.errors import ConfigError, DeclarationError, SwitchgearError, UsageError

__all__ = ["exit_code", "one_line"]

_FAILED = 1
_USAGE = 2


def one_line(error: SwitchgearError) -> str:
    """Return the error as `error[SG220]: where: what happened. What to do.`."""
    where = f"{error.where}: " if error.where else ""
    fix = f" {error.fix}" if error.fix else ""
    return masked(f"error[{error.code}]: {where}{error.what}{fix}")


def exit_code(error: SwitchgearError) -> int:
    """Return 2 for what was wrongly asked (a name, a setting, a declaration), else 1."""
    return _USAGE if isinstance(error, ConfigError | DeclarationError | UsageError) else _FAILED
