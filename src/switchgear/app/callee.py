"""What `app.calls` returns: typed as the contract, connected when the service starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from switchgear.contract.service import ServiceContract
from switchgear.errors import OperationError
from switchgear.policy.defaults import Defaults
from switchgear.policy.policy import Policy

__all__ = ["Call", "Callee", "ServiceNotRunning"]


class ServiceNotRunning(OperationError):
    """Something was asked of a service that has not been started, or has been stopped."""

    code = "SG221"


class Callee:
    """Stands for a client until there is one; then it is asked for everything.

    `inventory.reserve` is the client's own method, so that `ask(inventory.reserve, ...)` works.
    """

    def __init__(self, service: str, contract: ServiceContract) -> None:
        self._service = service
        self._contract = contract
        self._client: object | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self._client is None:
            raise ServiceNotRunning(
                f"{self._contract.name} cannot be called: the service {self._service} is not "
                "running.",
                where=f"{self._contract.full_name}/{name}",
                fix="Run it (switchgear run, or its lifespan), or test it with switchgear.testing.",
            )
        found = getattr(self._client, name)
        # found at once the next time; `bind` forgets it
        self.__dict__[name] = found
        return found

    def __repr__(self) -> str:
        return f"<{self._contract.name} as called by {self._service}>"


def bind(callee: Callee, client: object | None) -> None:
    """Let `callee` stand for `client`; None: for nobody."""
    kept = {"_service": callee._service, "_contract": callee._contract}  # noqa: SLF001  same module
    callee.__dict__.clear()
    callee.__dict__.update(kept, _client=client)


@dataclass(frozen=True, slots=True)
class Call:
    """A contract that a service calls, as declared."""

    contract: ServiceContract
    policy: Policy | None
    url: str | None
    callee: Callee = field(repr=False)

    def policies(self, defaults: Defaults) -> dict[str, Policy]:
        """Return the policy of each operation: what the code gives, over the system's defaults."""
        return {
            operation.name: defaults.policy(
                self.policy,
                callee=self.contract.full_name,
                pattern=operation.pattern,
                operation=operation.name,
            )
            for operation in self.contract.operations.values()
        }
