"""Outcomes as values and as errors, and how a wire's answer is classified."""

import pytest

from switchgear.errors import CallError
from switchgear.model.outcome import Ok, Reason, Refused, Rejected, Status, Unavailable, Unknown
from switchgear.model.wire import Verdict, grpc_verdict, http_status, http_verdict, status_of_http


def test_everything_but_ok_can_be_caught_as_a_failed_call():
    for outcome in (
        Rejected("no"),
        Unavailable(reason=Reason.CONNECT),
        Unknown(reason=Reason.TIMEOUT),
    ):
        assert isinstance(outcome, CallError)
    assert isinstance(Rejected("no"), Refused)
    assert Ok(1) == Ok(1)


@pytest.mark.parametrize("reason", list(Reason))
def test_only_what_the_caller_decided_itself_is_local(reason):
    local = {"breaker-open", "limit", "budget", "throttled", "expired"}
    assert Unavailable(reason=reason).local == (reason in local)


def test_an_error_says_its_code_where_and_why():
    error = Unknown("no reply", reason=Reason.TIMEOUT, key="k-1", where="orders -> pay")
    assert str(error) == "[SG430] orders -> pay: no reply"
    assert (error.key, error.attempts, error.final) == ("k-1", 1, False)


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (200, Verdict.OK),
        (204, Verdict.OK),
        (400, Verdict.REFUSED),
        (404, Verdict.REFUSED),
        (422, Verdict.REFUSED),
        (408, Verdict.UNKNOWN),
        (409, Verdict.UNKNOWN),
        (429, Verdict.UNAVAILABLE),
        (302, Verdict.UNKNOWN),
        (500, Verdict.UNKNOWN),
        (502, Verdict.UNKNOWN),
        (503, Verdict.UNKNOWN),
        (504, Verdict.UNKNOWN),
    ],
)
def test_http_statuses(code, verdict):
    assert http_verdict(code) is verdict


def test_grpc_statuses_are_unknown_unless_they_are_definitive():
    unknown = {status for status in Status if grpc_verdict(status) is Verdict.UNKNOWN}
    assert unknown == {
        Status.CANCELLED,
        Status.UNKNOWN,
        Status.DEADLINE_EXCEEDED,
        Status.ABORTED,
        Status.INTERNAL,
        Status.UNAVAILABLE,
        Status.DATA_LOSS,
    }
    assert grpc_verdict(Status.RESOURCE_EXHAUSTED) is Verdict.UNAVAILABLE


@pytest.mark.parametrize("status", list(Status))
def test_a_status_sent_over_http_is_classified_as_over_grpc(status):
    """ALREADY_EXISTS shares 409 with ABORTED; over HTTP the careful reading wins."""
    if status is not Status.ALREADY_EXISTS:
        if status is not Status.CANCELLED:
            assert http_verdict(http_status(status)) is grpc_verdict(status)
        assert status_of_http(http_status(status)) in Status
