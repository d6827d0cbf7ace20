"""A history, replayed by the interpreter as it is now: it must come to the same decisions."""

from __future__ import annotations

from temporalio.client import WorkflowHistory
from temporalio.converter import DataConverter
from temporalio.worker import Replayer

from switchgear.saga.temporal.cluster import Cluster
from switchgear.saga.temporal.wire import Converter
from switchgear.saga.temporal.workflow import SagaWorkflow


async def replay(history: WorkflowHistory) -> None:
    """Raise if the interpreter decides otherwise than the history says."""
    converter = DataConverter(payload_converter_class=Converter)
    # otherwise a machine that stands still for two seconds is taken for a deadlock
    replayer = Replayer(workflows=[SagaWorkflow], data_converter=converter, debug_mode=True)
    await replayer.replay_workflow(history)


async def replay_all(cluster: Cluster) -> int:
    """Replay every history of a service, and return how many there are."""
    count = 0
    async for each in cluster.client.list_workflows(f"WorkflowId STARTS_WITH '{cluster.service}/'"):
        handle = cluster.client.get_workflow_handle(each.id, run_id=each.run_id)
        await replay(await handle.fetch_history())
        count += 1
    return count
