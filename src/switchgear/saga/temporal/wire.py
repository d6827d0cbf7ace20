"""What travels between a saga's workflow, its activities and whoever asks: JSON, by msgspec.

Inputs and results stay the JSON that `codec.py` made of them, so Temporal's own tools show them as
they are. The workflow never reads them: it needs no type of the service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    BinaryNullPayloadConverter,
    CompositePayloadConverter,
    EncodingPayloadConverter,
    JSONProtoPayloadConverter,
)

from switchgear.saga.codec import Failure, failure_of
from switchgear.saga.errors import UnrecordableResult
from switchgear.saga.evidence import WorkItem
from switchgear.saga.plan import Plan, Side
from switchgear.saga.state import Entry, Run, State, What
from switchgear.saga.stores.port import Line
from switchgear.saga.story import Decision, Story

__all__ = [
    "ACT",
    "MOST",
    "NOTIFY",
    "RECORD",
    "REFUTE",
    "REPORT",
    "RUNBOOK",
    "UNREADABLE",
    "WORKFLOW",
    "Action",
    "Asked",
    "Attempt",
    "Begin",
    "Converter",
    "Former",
    "Outcome",
    "Record",
    "Refutation",
    "Snapshot",
    "activity_name",
    "beyond",
    "raw",
    "too_large",
]

WORKFLOW: Final = "switchgear.saga"
ACT: Final = "act"
REFUTE: Final = "refute"
RECORD: Final = "record"
REPORT: Final = "switchgear_report"
"""The function that a worker lends its workflows for what they report; elsewhere there is none."""
RUNBOOK: Final = "switchgear/runbook"
NOTIFY: Final = "switchgear/notify"
UNREADABLE: Final = "Unreadable"
"""The type of the failure of an activity that could not read what it was given, and did nothing."""
MOST: Final = 1_000_000
"""Bytes of a saga's input and results together; Temporal refuses payloads of 2 MiB."""
MOST_SAID: Final = 10_000
"""Bytes of who acts and why."""
SMALL: Final = 1_000
"""Bytes of a result that is taken in any case: that little is not worth an effect in doubt."""


def activity_name(saga: str, step: str, side: Side) -> str:
    """Return the type of the activity that attempts a half step: `checkout/reserve/do`."""
    return f"{saga}/{step}/{side}"


NOTHING: Final = msgspec.Raw()
"""No JSON at all, where there may be some; it is left out."""


def raw(data: bytes | None) -> msgspec.Raw:
    """Return JSON as it travels."""
    return NOTHING if data is None else msgspec.Raw(data)


def beyond(
    given: msgspec.Raw, results: Mapping[str, bytes | msgspec.Raw], step: str, data: bytes
) -> int | None:
    """Return how large a saga would become by a result of `step`; None: it may have it."""
    if len(data) <= SMALL:
        return None
    others = [each for name, each in results.items() if name != step]
    size = len(data) + sum(len(bytes(each)) for each in (given, *others))
    return size if size > MOST else None


def too_large(step: str, size: int) -> bytes:
    """Return the failure of a step whose result would make the saga `size` bytes."""
    error = UnrecordableResult(
        f"with the result of {step}, the saga's input and results are {size} bytes, and "
        f"on Temporal they are at most {MOST}. Return a reference to what is large."
    )
    return msgspec.json.encode(failure_of(error))


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the journal."""

    entry: Entry
    began: float | None = None
    data: msgspec.Raw = NOTHING

    @classmethod
    def of(cls, line: Line) -> Told:
        """Return `line` as it travels."""
        return cls(line.entry, line.began, raw(line.data))

    def line(self) -> Line:
        """Return the line."""
        return Line(self.entry, self.began, bytes(self.data) or None)


class Failed(msgspec.Struct, frozen=True):
    """The last failure of a half step."""

    step: str
    side: Side
    failure: Failure


class Snapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a saga's journal adds up to; its size is bounded by the number of its steps."""

    state: State
    results: dict[str, msgspec.Raw] = {}
    failures: tuple[Failed, ...] = ()
    turned: Told | None = None

    @classmethod
    def of(cls, story: Story) -> Snapshot:
        """Return what `story` adds up to; of failures, what an undo is told of them."""
        return cls(
            story.state,
            {step: msgspec.Raw(data) for step, data in story.results.items()},
            tuple(
                Failed(step, side, msgspec.structs.replace(each, fields=None, trace=None))
                for (step, side), each in story.failures.items()
            ),
            None if story.turned is None else Told.of(story.turned),
        )

    def story(self, plan: Plan) -> Story:
        """Return the story, from which it can go on."""
        story = Story(plan, self.state)
        story.results = {step: bytes(data) for step, data in self.results.items()}
        story.failures = {(each.step, each.side): each.failure for each in self.failures}
        story.turned = None if self.turned is None else self.turned.line()
        story.settle()
        return story


class Former(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a saga stood when a run of its workflow ended and another goes on."""

    began: float
    snapshot: Snapshot
    lines: list[Told] = []
    items: list[WorkItem] = []
    cancelled: bool = False


class Begin(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a workflow is started with. All that it decides by is in here, and so in its history."""

    id: str
    plan: Plan
    input: msgspec.Raw
    context: msgspec.Raw
    """The part of the starter's context that goes along."""
    deadline: float | None = None
    """Seconds from the start."""
    lease: float = 10.0
    """Seconds after which a worker that no longer answers is given up."""
    events: int = 4_000
    """Events of a history after which the workflow goes on in a new one."""
    former: Former | None = None


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an activity needs in order to attempt a half step."""

    id: str
    run: Run
    input: msgspec.Raw
    context: msgspec.Raw
    began: float
    snapshot: Snapshot
    lease: float


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """How an attempt ended; `what` None: it was cut short because its worker stops."""

    what: What | None
    began: float
    data: msgspec.Raw = NOTHING
    partial: bool = False
    retry_after: float | None = None


class Asked(msgspec.Struct, frozen=True):
    """The half step whose runbook is wanted."""

    step: str
    side: Side


class Action(msgspec.Struct, frozen=True):
    """What a person does about a work item, or about the only one of a saga."""

    item: str
    action: What
    decision: Decision


class Refutation(msgspec.Struct, frozen=True):
    """Somebody shows that a step which is recorded as done does not hold."""

    step: str
    decision: Decision


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything that is known of a saga. The results are in the snapshot, not in the lines."""

    id: str
    plan: Plan
    input: msgspec.Raw
    began: float
    status: str
    snapshot: Snapshot
    lines: list[Told] = []
    items: list[WorkItem] = []
    ended: float | None = None
    context: msgspec.Raw = NOTHING
    """As in `Begin`; nothing in what an earlier release has told."""

    def story(self) -> Story:
        """Return the story."""
        return self.snapshot.story(self.plan)


class _Json(EncodingPayloadConverter):
    """Values of msgspec's types as plain JSON."""

    @property
    def encoding(self) -> str:
        return "json/plain"

    def to_payload(self, value: Any) -> Payload | None:
        return Payload(
            metadata={"encoding": self.encoding.encode()}, data=msgspec.json.encode(value)
        )

    def from_payload(self, payload: Payload, type_hint: Any = None) -> Any:
        return msgspec.json.decode(payload.data, type=Any if type_hint is None else type_hint)


class Converter(CompositePayloadConverter):
    """How the values of sagas become payloads."""

    def __init__(self) -> None:
        super().__init__(BinaryNullPayloadConverter(), JSONProtoPayloadConverter(), _Json())
