"""A reaction: the handler of one kind of event, and what it needs to be called."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from switchgear.contract.codec import from_json, from_proto
from switchgear.contract.event import EventContract, event_of
from switchgear.contract.message import Message
from switchgear.errors import EventDeclarationError, InvalidMessage
from switchgear.events.envelope import JSON, PROTOBUF, Envelope
from switchgear.events.incoming import Incoming
from switchgear.model.context import Emits

__all__ = ["Handler", "Reaction", "Reactions", "decoded"]

# (event) or (event, tx); Any: the transaction's type is what the bus's `wrap` returns
Handler = Callable[..., Awaitable[None]]

_JSON_TYPES: Final = frozenset({JSON, "application/cloudevents+json", "text/json"})
_PROTOBUF_TYPES: Final = frozenset({PROTOBUF, "application/x-protobuf"})


@dataclass(frozen=True, slots=True)
class Reaction:
    """A handler with its event."""

    contract: EventContract
    handler: Handler
    transactional: bool
    """It takes the transaction as its second argument."""
    emits: Emits

    @classmethod
    def of(
        cls,
        contract: EventContract,
        handler: Handler,
        consumer: str,
        emits: Sequence[type[Message]] | None = None,
    ) -> Reaction:
        """Look at the handler. Raises `EventDeclarationError` if it cannot be called."""
        name = getattr(handler, "__qualname__", repr(handler))
        call = handler if inspect.isroutine(handler) else getattr(handler, "__call__", handler)  # noqa: B004  its code is meant
        if not inspect.iscoroutinefunction(inspect.unwrap(call)):
            raise EventDeclarationError(
                f"the handler {name} of {contract.type} is not asynchronous.",
                fix="Declare it with `async def`.",
            )
        taken = [
            parameter
            for parameter in inspect.signature(handler).parameters.values()
            if parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}
            and parameter.default is parameter.empty
        ]
        if len(taken) not in {1, 2}:
            raise EventDeclarationError(
                f"the handler {name} of {contract.type} takes {len(taken)} arguments.",
                fix="It is called as handler(event) or handler(event, tx).",
            )
        types = None if emits is None else frozenset(event_of(one).type for one in emits)
        may = Emits(f"{consumer} on {contract.type}", types)
        return cls(contract, handler, len(taken) == 2, may)  # noqa: PLR2004

    def read(self, event: Incoming) -> tuple[Envelope, Message]:
        """Decode an event. Raises `InvalidMessage`."""
        topic = event.partition.topic
        envelope = Envelope.from_headers(event.headers, event.value, topic=topic)
        return envelope, decoded(self.contract, envelope)

    def call(self, message: Message, tx: Any) -> Awaitable[None]:
        """Call the handler."""
        return self.handler(message, tx) if self.transactional else self.handler(message)


def decoded(contract: EventContract, envelope: Envelope) -> Message:
    """Decode the data of an event. Raises `InvalidMessage`."""
    kind = envelope.datacontenttype
    if kind != JSON:
        kind = kind.partition(";")[0].strip().lower()
    if kind in _JSON_TYPES:
        return from_json(contract.message, envelope.data, open_names=True)
    if kind in _PROTOBUF_TYPES:
        return from_proto(contract.message, envelope.data)
    raise InvalidMessage(f"the content type {kind} is not supported.", where=envelope.type)


Reactions = Mapping[str, Reaction]
"""By type of event."""
