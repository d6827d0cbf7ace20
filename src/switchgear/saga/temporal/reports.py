"""How what a workflow reports becomes signals: in the worker's own loop, never in the workflow's.

A listener may start a task or look at a clock. In the thread and the loop of a workflow that would
become a part of its history.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from temporalio.worker import Interceptor, WorkflowInboundInterceptor, WorkflowInterceptorClassInput

from switchgear.saga.temporal.wire import REPORT

__all__ = ["Reports"]


class Reports(Interceptor):
    """Gives the workflows of a worker a place to leave what they report."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002  as it is called there
    ) -> type[WorkflowInboundInterceptor] | None:
        """Lend workflows the function, and intercept nothing."""
        input.unsafe_extern_functions[REPORT] = self._report
        return None

    def _report(self, report: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(report)
