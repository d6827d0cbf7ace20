"""Switchgear: declare how your services talk, run them, and see what is going on.

Everything public is here. A name is imported when it is first used, so that importing the package
costs next to nothing and needs no optional dependency.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from switchgear.app.service import Service
    from switchgear.app.transaction import Transaction
    from switchgear.call.answer import Answer
    from switchgear.call.ask import ask, ask_sync
    from switchgear.call.client import client, close
    from switchgear.call.guard import Guard
    from switchgear.contract.enums import Enum
    from switchgear.contract.event import event
    from switchgear.contract.kinds import (
        Fixed32,
        Fixed64,
        Float32,
        Int32,
        SFixed32,
        SFixed64,
        SInt32,
        SInt64,
        UInt32,
        UInt64,
    )
    from switchgear.contract.message import Message, field, replace
    from switchgear.contract.money import Money
    from switchgear.contract.refusal import Refusal
    from switchgear.contract.service import command, contract_of, query, service
    from switchgear.database.joined import database_of
    from switchgear.database.port import DatabaseUnavailable
    from switchgear.database.postgres import Postgres
    from switchgear.database.sqlalchemy import SqlAlchemy
    from switchgear.database.sqlite import Sqlite
    from switchgear.errors import (
        BrokerError,
        CallError,
        ConfigError,
        ContractError,
        DatabaseError,
        DeclarationError,
        EventDeclarationError,
        InvalidMessage,
        MissingExtra,
        OperationError,
        PolicyError,
        SagaDefinitionError,
        SagaError,
        SwitchgearError,
    )
    from switchgear.events.bus import Bus
    from switchgear.events.outbox import Outbox
    from switchgear.model.context import Context, Priority, current, keyed
    from switchgear.model.edge import Edge, Pattern
    from switchgear.model.outcome import (
        Ok,
        Outcome,
        Reason,
        Refused,
        Rejected,
        Status,
        Unavailable,
        Unknown,
    )
    from switchgear.model.signal import Signal, SignalKind, subscribe
    from switchgear.model.system import System
    from switchgear.policy.breaker import Breaker
    from switchgear.policy.budget import Budget
    from switchgear.policy.fallback import Fallback
    from switchgear.policy.limit import Limit
    from switchgear.policy.policy import Policy
    from switchgear.policy.retry import Retry
    from switchgear.saga.context import StepContext
    from switchgear.saga.definition import Saga
    from switchgear.saga.engine import Engine
    from switchgear.serve.arrival import Arrival

__version__ = "0.1.0"

_PLACES: Final = {
    "app.service": ("Service",),
    "app.transaction": ("Transaction",),
    "call.answer": ("Answer",),
    "call.ask": ("ask", "ask_sync"),
    "call.client": ("client", "close"),
    "call.guard": ("Guard",),
    "contract.enums": ("Enum",),
    "contract.event": ("event",),
    "contract.kinds": (
        "Fixed32",
        "Fixed64",
        "Float32",
        "Int32",
        "SFixed32",
        "SFixed64",
        "SInt32",
        "SInt64",
        "UInt32",
        "UInt64",
    ),
    "contract.message": ("Message", "field", "replace"),
    "contract.money": ("Money",),
    "contract.refusal": ("Refusal",),
    "contract.service": ("command", "contract_of", "query", "service"),
    "database.joined": ("database_of",),
    "database.port": ("DatabaseUnavailable",),
    "database.postgres": ("Postgres",),
    "database.sqlalchemy": ("SqlAlchemy",),
    "database.sqlite": ("Sqlite",),
    "errors": (
        "BrokerError",
        "CallError",
        "ConfigError",
        "ContractError",
        "DatabaseError",
        "DeclarationError",
        "EventDeclarationError",
        "InvalidMessage",
        "MissingExtra",
        "OperationError",
        "PolicyError",
        "SagaDefinitionError",
        "SagaError",
        "SwitchgearError",
    ),
    "events.bus": ("Bus",),
    "events.outbox": ("Outbox",),
    "model.context": ("Context", "Priority", "current", "keyed"),
    "model.edge": ("Edge", "Pattern"),
    "model.outcome": (
        "Ok",
        "Outcome",
        "Reason",
        "Refused",
        "Rejected",
        "Status",
        "Unavailable",
        "Unknown",
    ),
    "model.signal": ("Signal", "SignalKind", "subscribe"),
    "model.system": ("System",),
    "policy.breaker": ("Breaker",),
    "policy.budget": ("Budget",),
    "policy.fallback": ("Fallback",),
    "policy.limit": ("Limit",),
    "policy.policy": ("Policy",),
    "policy.retry": ("Retry",),
    "saga.context": ("StepContext",),
    "saga.definition": ("Saga",),
    "saga.engine": ("Engine",),
    "serve.arrival": ("Arrival",),
}
_HOME: Final = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [
    "Answer",
    "Arrival",
    "Breaker",
    "BrokerError",
    "Budget",
    "Bus",
    "CallError",
    "ConfigError",
    "Context",
    "ContractError",
    "DatabaseError",
    "DatabaseUnavailable",
    "DeclarationError",
    "Edge",
    "Engine",
    "Enum",
    "EventDeclarationError",
    "Fallback",
    "Fixed32",
    "Fixed64",
    "Float32",
    "Guard",
    "Int32",
    "InvalidMessage",
    "Limit",
    "Message",
    "MissingExtra",
    "Money",
    "Ok",
    "OperationError",
    "Outbox",
    "Outcome",
    "Pattern",
    "Policy",
    "PolicyError",
    "Postgres",
    "Priority",
    "Reason",
    "Refusal",
    "Refused",
    "Rejected",
    "Retry",
    "SFixed32",
    "SFixed64",
    "SInt32",
    "SInt64",
    "Saga",
    "SagaDefinitionError",
    "SagaError",
    "Service",
    "Signal",
    "SignalKind",
    "SqlAlchemy",
    "Sqlite",
    "Status",
    "StepContext",
    "SwitchgearError",
    "System",
    "Transaction",
    "UInt32",
    "UInt64",
    "Unavailable",
    "Unknown",
    "__version__",
    "ask",
    "ask_sync",
    "client",
    "close",
    "command",
    "contract_of",
    "current",
    "database_of",
    "event",
    "field",
    "keyed",
    "query",
    "replace",
    "service",
    "subscribe",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # a type checker sees the imports above, and no other name

    def __getattr__(name: str) -> object:
        """Import a public name when it is first asked for (PEP 562)."""
        place = _HOME.get(name)
        if place is None:
            raise AttributeError(f"module 'switchgear' has no attribute {name!r}")
        found = getattr(import_module(f"switchgear.{place}"), name)
        globals()[name] = found
        return found
