"""What a system promises is what its services' answers are held against."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pytest

from switchgear import Message, Service, field, query, service
from switchgear.config import load
from switchgear.contract.service import contract_of

TEXT = """
[services.promising]
app = "a:b"
[objectives.promising]
latency = 2
[objectives."promised.v1.Slowly"]
latency = 0.5
availability = 0.999
[objectives."promised.v1.Slowly/one"]
latency = 0.3
[objectives.elsewhere]
latency = 0.001
[objectives."promised.v1.Quickly/three"]
availability = 0.9
"""


class Ask(Message):
    what: str = field(1, default="")


@service("promised.v1")
class Slowly(Protocol):
    @query("GET /v1/one")
    async def one(self, request: Ask) -> Ask: ...
    @query("GET /v1/two")
    async def two(self, request: Ask) -> Ask: ...


@service("promised.v1")
class Quickly(Protocol):
    @query("GET /v1/three")
    async def three(self, request: Ask) -> Ask: ...


class Both(Slowly, Quickly):
    async def one(self, request: Ask) -> Ask:
        return request

    async def two(self, request: Ask) -> Ask:
        return request

    async def three(self, request: Ask) -> Ask:
        return request


@pytest.mark.parametrize(
    ("contract", "name", "promised"),
    [(Slowly, "one", 0.3), (Slowly, "two", 0.5), (Quickly, "three", 2.0)],
)
async def test_the_narrowest_objective_counts(
    tmp_path: Path, contract: type, name: str, promised: float
) -> None:
    app = Service("promising")
    app.serves(Both)
    file = tmp_path / "switchgear.toml"
    file.write_text(TEXT, encoding="utf-8")
    async with app.lifespan(config=load(file, {})):
        operation = contract_of(contract).operations[name]
        assert app.runtime.dispatcher._lateness._promised(operation) == promised
