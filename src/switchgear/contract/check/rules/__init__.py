"""The rules, each a function that is registered under its name."""

from switchgear.contract.check.rules import (
    enums,
    fields,
    files,
    history,
    intent,
    meaning,
    messages,
    operations,
    presence,
    services,
)
from switchgear.contract.check.rules.registry import RULES, Rule

__all__ = [
    "RULES",
    "Rule",
    "enums",
    "fields",
    "files",
    "history",
    "intent",
    "meaning",
    "messages",
    "operations",
    "presence",
    "services",
]
