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
    from switchgear.call.client import client, close, connect, edges_of
    from switchgear.call.guard import Guard
    from switchgear.call.tls import Secret, Tls
    from switchgear.contract.empty import Empty
    from switchgear.contract.enums import Enum, member
    from switchgear.contract.event import event
    from switchgear.contract.extension import extended, extensions_of
    from switchgear.contract.file import ProtoFile
    from switchgear.contract.kinds import (
        BoolValue,
        BytesValue,
        DoubleValue,
        Fixed32,
        Fixed64,
        Float32,
        FloatValue,
        Int32,
        Int32Value,
        Int64Value,
        ListValue,
        SFixed32,
        SFixed64,
        SInt32,
        SInt64,
        StringValue,
        Struct,
        UInt32,
        UInt32Value,
        UInt64,
        UInt64Value,
        Value,
    )
    from switchgear.contract.message import Message, field, replace, which_oneof
    from switchgear.contract.money import Money
    from switchgear.contract.refusal import Refusal
    from switchgear.contract.route import route
    from switchgear.contract.service import command, contract_of, query, service
    from switchgear.contract.wellknown import AnyMessage, FieldMask
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
    from switchgear.events.brokers.url import broker_of
    from switchgear.events.bus import Bus
    from switchgear.events.outbox import Outbox
    from switchgear.events.parked import Parked
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
    from switchgear.policy.adaptive import Aimd, Gradient, Vegas
    from switchgear.policy.admission import Admission
    from switchgear.policy.breaker import Breaker, Evidence
    from switchgear.policy.budget import Budget, GrpcThrottling, TokenBucket
    from switchgear.policy.fallback import Fallback, Stale
    from switchgear.policy.hedge import Hedge
    from switchgear.policy.limit import Limit
    from switchgear.policy.policy import Policy
    from switchgear.policy.retry import Retry
    from switchgear.policy.throttle import Throttle
    from switchgear.saga.context import StepContext
    from switchgear.saga.definition import Saga
    from switchgear.saga.engine import Engine
    from switchgear.saga.errors import SagaConflict, SagaUndone, SagaUnfinished
    from switchgear.saga.plan import Backoff
    from switchgear.saga.run import Run
    from switchgear.serve.arrival import Arrival
    from switchgear.serve.cors import Cors
    from switchgear.serve.dispatch import Dispatcher
    from switchgear.serve.idempotency import Idempotency
    from switchgear.serve.rest import Rest
    from switchgear.serve.tls import Certificate

__version__ = "0.1.0"

_PLACES: Final = {
    "app.service": ("Service",),
    "app.transaction": ("Transaction",),
    "call.answer": ("Answer",),
    "call.ask": ("ask", "ask_sync"),
    "call.client": ("client", "close", "connect", "edges_of"),
    "call.guard": ("Guard",),
    "call.tls": ("Secret", "Tls"),
    "contract.empty": ("Empty",),
    "contract.enums": ("Enum", "member"),
    "contract.event": ("event",),
    "contract.extension": ("extended", "extensions_of"),
    "contract.file": ("ProtoFile",),
    "contract.kinds": (
        "BoolValue",
        "BytesValue",
        "DoubleValue",
        "FloatValue",
        "Int32Value",
        "Int64Value",
        "ListValue",
        "StringValue",
        "Struct",
        "UInt32Value",
        "UInt64Value",
        "Value",
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
    "contract.message": ("Message", "field", "replace", "which_oneof"),
    "contract.money": ("Money",),
    "contract.refusal": ("Refusal",),
    "contract.route": ("route",),
    "contract.service": ("command", "contract_of", "query", "service"),
    "contract.wellknown": ("AnyMessage", "FieldMask"),
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
    "events.brokers.url": ("broker_of",),
    "events.parked": ("Parked",),
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
    "policy.adaptive": ("Aimd", "Gradient", "Vegas"),
    "policy.admission": ("Admission",),
    "policy.breaker": ("Breaker", "Evidence"),
    "policy.budget": ("Budget", "GrpcThrottling", "TokenBucket"),
    "policy.fallback": ("Fallback", "Stale"),
    "policy.hedge": ("Hedge",),
    "policy.limit": ("Limit",),
    "policy.policy": ("Policy",),
    "policy.retry": ("Retry",),
    "policy.throttle": ("Throttle",),
    "saga.context": ("StepContext",),
    "saga.plan": ("Backoff",),
    "saga.definition": ("Saga",),
    "saga.engine": ("Engine",),
    "saga.errors": ("SagaConflict", "SagaUndone", "SagaUnfinished"),
    "saga.run": ("Run",),
    "serve.arrival": ("Arrival",),
    "serve.cors": ("Cors",),
    "serve.dispatch": ("Dispatcher",),
    "serve.idempotency": ("Idempotency",),
    "serve.rest": ("Rest",),
    "serve.tls": ("Certificate",),
}
_HOME: Final = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [
    "Admission",
    "Aimd",
    "Answer",
    "AnyMessage",
    "Arrival",
    "Backoff",
    "BoolValue",
    "Breaker",
    "BrokerError",
    "Budget",
    "Bus",
    "BytesValue",
    "CallError",
    "Certificate",
    "ConfigError",
    "Context",
    "ContractError",
    "Cors",
    "DatabaseError",
    "DatabaseUnavailable",
    "DeclarationError",
    "Dispatcher",
    "DoubleValue",
    "Edge",
    "Empty",
    "Engine",
    "Enum",
    "EventDeclarationError",
    "Evidence",
    "Fallback",
    "FieldMask",
    "Fixed32",
    "Fixed64",
    "Float32",
    "FloatValue",
    "Gradient",
    "GrpcThrottling",
    "Guard",
    "Hedge",
    "Idempotency",
    "Int32",
    "Int32Value",
    "Int64Value",
    "InvalidMessage",
    "Limit",
    "ListValue",
    "Message",
    "MissingExtra",
    "Money",
    "Ok",
    "OperationError",
    "Outbox",
    "Outcome",
    "Parked",
    "Pattern",
    "Policy",
    "PolicyError",
    "Postgres",
    "Priority",
    "ProtoFile",
    "Reason",
    "Refusal",
    "Refused",
    "Rejected",
    "Rest",
    "Retry",
    "Run",
    "SFixed32",
    "SFixed64",
    "SInt32",
    "SInt64",
    "Saga",
    "SagaConflict",
    "SagaDefinitionError",
    "SagaError",
    "SagaUndone",
    "SagaUnfinished",
    "Secret",
    "Service",
    "Signal",
    "SignalKind",
    "SqlAlchemy",
    "Sqlite",
    "Stale",
    "Status",
    "StepContext",
    "StringValue",
    "Struct",
    "SwitchgearError",
    "System",
    "Throttle",
    "Tls",
    "TokenBucket",
    "Transaction",
    "UInt32",
    "UInt32Value",
    "UInt64",
    "UInt64Value",
    "Unavailable",
    "Unknown",
    "Value",
    "Vegas",
    "__version__",
    "ask",
    "ask_sync",
    "broker_of",
    "client",
    "close",
    "command",
    "connect",
    "contract_of",
    "current",
    "database_of",
    "edges_of",
    "event",
    "extended",
    "extensions_of",
    "field",
    "keyed",
    "member",
    "query",
    "replace",
    "route",
    "service",
    "subscribe",
    "which_oneof",
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
