"""A history, replayed by the interpreter as it is now: it must come to the same decisions."""

from __future__ import annotations

from temporalio.client import WorkflowHistory
from temporalio.converter import DataConverter
from temporalio.worker import Replayer

from switchgear.saga.temporal.wire import Converter
from switchgear.saga.temporal.workflow import SagaWorkflow


async def replay(history: WorkflowHistory) -> None:
    """Raise if the interpreter decides otherwise than the history says."""
    converter = DataConverter(payload_converter_class=Converter)
    await Replayer(workflows=[SagaWorkflow], data_converter=converter).replay_workflow(history)
