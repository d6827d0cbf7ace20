"""What is made of Temporal's answers, without a server."""

from __future__ import annotations

import pytest
from temporalio.service import RPCError, RPCStatusCode

from switchgear.model.outcome import Reason, Unavailable
from switchgear.saga.errors import TemporalRefused
from switchgear.saga.state import What
from switchgear.saga.story import Decision
from switchgear.saga.temporal import cluster
from switchgear.saga.temporal.wire import Action

NOT_NOW = "Unable to perform workflow execution update due to unexpected workflow task failure."
ACTION = Action("o-1/ship", What.RETRY, Decision("me", "again"))


class Client:
    """A client whose updates are answered one after the other."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)

    def get_workflow_handle(self, *_: object, **__: object) -> Client:
        return self

    async def execute_update(self, *_: object, **__: object) -> object:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def failed(message: str) -> RPCError:
    return RPCError(message, RPCStatusCode.FAILED_PRECONDITION, b"")


async def test_an_update_between_two_runs_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_PAUSE", 0.0)
    client = Client(failed(NOT_NOW), failed(NOT_NOW), "item")
    assert await cluster.Cluster(client, "orders").act("o-1", ACTION) == "item"


async def test_one_that_is_never_taken_in_was_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_PAUSE", 0.0)
    monkeypatch.setattr(cluster, "_WITHIN", cluster._WITHIN * 0)
    with pytest.raises(Unavailable) as raised:
        await cluster.Cluster(Client(failed(NOT_NOW)), "orders").act("o-1", ACTION)
    assert raised.value.reason is Reason.NOT_EXECUTED


async def test_what_is_refused_is_not_sent_again() -> None:
    client = Client(failed("no such feature"), "item")
    with pytest.raises(TemporalRefused):
        await cluster.Cluster(client, "orders").act("o-1", ACTION)
    assert client.answers == ["item"]
