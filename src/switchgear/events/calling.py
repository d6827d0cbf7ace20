"""Calling the handler of one event: decoding, deadline, context, and what counts as a failure."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from switchgear.contract.deprecated import uses_of
from switchgear.contract.message import Message
from switchgear.database.port import DatabaseUnavailable
from switchgear.errors import InvalidMessage
from switchgear.events.envelope import Envelope
from switchgear.events.handling import Duplicate
from switchgear.events.incoming import Incoming, without_nul
from switchgear.events.reaction import Reaction, Reactions
from switchgear.model.context import Context, Emits, bind
from switchgear.model.outcome import Refused, Unavailable, Unknown
from switchgear.model.signal import Signal, SignalKind, began, emit, listening
from switchgear.model.text import encodable, said_by

__all__ = ["Caller", "Failure", "Note", "describe"]

_log = logging.getLogger("switchgear.consumer")
_LONGEST: Final = 2_000
"""Characters of an error that are kept."""
_TOLD_AGAIN: Final = 60.0
"""Seconds for which an error from one place in the code is not logged again with its trace."""
_PLACES: Final = 100


class Failure(NamedTuple):
    """Why an event could not be handled."""

    error: str
    poison: bool = False


class Note(NamedTuple):
    """What is to be told once it is committed."""

    event: Incoming
    outcome: str
    seconds: float


class Caller:
    """Calls the handlers of one consumer."""

    def __init__(self, consumer: str, reactions: Reactions) -> None:
        self._consumer = consumer
        self._reactions = reactions
        self.transactional = any(reaction.transactional for reaction in reactions.values())
        self._aging = {
            type_: uses
            for type_, reaction in reactions.items()
            if (uses := uses_of(reaction.contract.message)) is not None
        }
        """Types of events that have something deprecated in them."""
        self._logged: dict[tuple[str, int], float] = {}
        """By file and line: when an error from there was logged."""

    async def call(self, event: Incoming, tx: Any, notes: list[Note]) -> Failure | None:
        """Decode the event and call its handler, with the context that goes with it.

        Whatever the handler raises is its failure, except that the database is away, and that the
        task is cancelled. What there is to tell is added to `notes`.
        """
        heard = listening()
        since = time.monotonic()
        read = self._read(event)
        if isinstance(read, Failure):
            return read
        reaction, envelope, message = read
        left = None if envelope.deadline is None else envelope.deadline - time.time()
        if left is not None and left <= 0:
            notes.append(Note(event, "expired", 0.0))
            return None
        context = self._context(event, envelope, since, left, reaction.emits)
        outcome = "done"
        span = self._begun(event, context, message) if heard else 0
        try:
            with bind(context):
                await reaction.call(message, tx)
        except Duplicate:
            outcome = "duplicate"
        except asyncio.CancelledError:
            outcome = "cancelled"
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return Failure("the handler was cancelled from within.")
        except Exception as error:
            outcome = "failed"
            if isinstance(error, DatabaseUnavailable) and error.retry_after is not None:
                raise
            self._trace(error, event)
            return Failure(describe(error))
        finally:
            if span:
                emit(Signal(SignalKind.EVENT_ENDED, self._consumer, {"outcome": outcome}, span))
        if heard:
            notes.append(Note(event, outcome, time.monotonic() - since))
        return None

    def _read(self, event: Incoming) -> tuple[Reaction, Envelope, Message] | Failure:
        if event.unfit:
            return Failure("its key, source or id has the character NUL.", poison=True)
        reaction = self._reactions.get(event.type)
        if reaction is None:
            return Failure("this is not a CloudEvent: ce-type is missing.", poison=True)
        try:
            return reaction, *reaction.read(event)
        except InvalidMessage as error:
            at = f" at {error.pointer}" if error.pointer else ""
            return Failure(without_nul(encodable(f"{error.what}{at}")), poison=True)

    def _trace(self, error: Exception, event: Incoming) -> None:
        """Log the trace of what is none of the outcomes, and may be a bug in the handler.

        Once a minute for each place in the code: the same event is tried again, and others follow.
        """
        if isinstance(error, Refused | Unavailable | Unknown):
            return
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        place = ("", 0) if frame is None else (frame.tb_frame.f_code.co_filename, frame.tb_lineno)
        now = time.monotonic()
        if now - self._logged.get(place, -_TOLD_AGAIN) < _TOLD_AGAIN:
            return
        if len(self._logged) >= _PLACES:
            self._logged.clear()
        self._logged[place] = now
        _log.error(
            "%s: the handler of %s failed (event %s):\n%s",
            self._consumer,
            event.type,
            event.identity,
            encodable("".join(traceback.format_exception(error))),
        )

    def _tell_uses(self, event: Incoming, source: str | None, message: Message) -> None:
        """Report what an event uses of what is deprecated, so that a team knows when it can go."""
        uses = self._aging.get(event.type)
        for name in sorted(uses(message)) if uses is not None else ():
            detail = {"field": name, "caller": source, "type": event.type}
            emit(Signal(SignalKind.EVENT_DEPRECATED_USED, self._consumer, detail))

    def _context(
        self, event: Incoming, envelope: Envelope, now: float, left: float | None, emits: Emits
    ) -> Context:
        return Context(
            deadline=None if left is None else now + left,
            key=f"{self._consumer}/{event.identity}",
            traceparent=envelope.traceparent,
            tracestate=envelope.tracestate,
            caller=envelope.source,
            correlation=envelope.correlation or envelope.id,
            causation=envelope.id,
            emits=emits,
        )

    def _begun(self, event: Incoming, context: Context, message: Message) -> int:
        """Signal that a handler begins, and return the id for its end."""
        self._tell_uses(event, context.caller, message)
        return began(
            SignalKind.EVENT_BEGAN,
            self._consumer,
            {
                "event": event.identity,
                "topic": event.partition.topic,
                "type": event.type,
                "key": event.key,
                "traceparent": context.traceparent,
                "tracestate": context.tracestate,
            },
        )

    def tell(self, notes: Sequence[Note]) -> None:
        """Signal what has been committed."""
        if not listening():
            return
        for note in notes:
            event = note.event
            emit(
                Signal(
                    SignalKind.EVENT_HANDLED,
                    self._consumer,
                    {
                        "event": event.identity,
                        "topic": event.partition.topic,
                        "type": event.type,
                        "key": event.key,
                        "outcome": note.outcome,
                        "seconds": note.seconds,
                    },
                )
            )


def describe(error: BaseException) -> str:
    """Return the text under which an error is kept and shown."""
    return without_nul(f"{type(error).__qualname__}: {said_by(error)}"[:_LONGEST])
