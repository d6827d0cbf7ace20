"""docs/reference/wire.md says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from switchgear.model import wire
from switchgear.model.outcome import Status
from switchgear.serve import rest, status

PAGE = (Path(__file__).parents[2] / "docs/reference/wire.md").read_text("utf-8")


def table(first):
    """The rows of the table whose first column has this heading, without the quotes."""
    lines = iter(PAGE.splitlines())
    for line in lines:
        if line.startswith(f"| {first} |"):
            break
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return rows[1:]


def test_the_headers_are_those_of_the_module():
    values = {
        getattr(wire, name)
        for name in wire.__all__
        if isinstance(getattr(wire, name), str) and name not in ("FINAL", "NOT_EXECUTED")
    }
    assert {row[0] for row in table("header")} == values | {"retry-after", status.DETAILS}
    # what the REST door reads is what is there
    read = {name for name in rest._READ.values() if name in values}
    assert {row[0] for row in table("header") if row[1].startswith("request")} == read


@pytest.mark.parametrize("row", table("HTTP"), ids=lambda row: row[0])
def test_http_statuses(row):
    code = int(row[0])
    assert row[1:] == [str(wire.status_of_http(code)), str(wire.http_verdict(code))]


def test_http_statuses_that_differ_are_all_there():
    listed = {int(row[0]) for row in table("HTTP")}
    for code in range(300, 600):
        if code not in listed:
            expected = wire.Verdict.REFUSED if 400 <= code < 500 else wire.Verdict.UNKNOWN
            assert wire.http_verdict(code) is expected


def test_grpc_statuses():
    rows = [[str(one), str(wire.http_status(one)), str(wire.grpc_verdict(one))] for one in Status]
    assert table("gRPC") == rows
