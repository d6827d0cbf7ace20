"""`switchgear saga explain`: what a saga does when something fails, before anything has."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

from switchgear.app.service import Service
from switchgear.app.target import add_to_path, import_path, load_target
from switchgear.config import Config
from switchgear.errors import OperationError
from switchgear.saga.definition import Saga
from switchgear.saga.draw import mermaid, svg
from switchgear.saga.explain import Explanation, Failing, explain_all
from switchgear.saga.explain import explain as explain_saga

__all__ = ["Form", "explain"]

Form = Literal["text", "json", "mermaid", "svg"]


def explain(
    config: Config,
    name: str,
    fails: str | None,
    how: Failing,
    *,
    after: Sequence[str],
    form: Form,
) -> None:
    """Print what happens when `fails` fails; without it, every failure point, or the saga drawn."""
    saga = _saga(config, name)
    if fails is None and (after or how != "refused"):
        raise OperationError(
            "--how and --after say how a step fails, and no step is named.",
            fix="Add --fails STEP; without it every failure point is explained.",
        )
    told = None if fails is None else explain_saga(saga, fails, how, after)
    if form == "mermaid":
        print(mermaid(saga.plan, told))
    elif form == "svg":
        print(svg(saga.plan, told))
    else:
        _print([told] if told else explain_all(saga), as_json=form == "json")


def _print(told: Sequence[Explanation], *, as_json: bool) -> None:
    if as_json:
        for each in told:
            print(json.dumps(each.as_dict()))
    else:
        print("\n\n".join(each.text() for each in told))


def _saga(config: Config, name: str) -> Saga:
    """Return a saga that a service of the system runs, the newest version, or `module:name`."""
    add_to_path(import_path(config))
    if ":" in name:
        found = load_target(name)
        if isinstance(found, Saga):
            return found
        raise OperationError(f"{name} is a {type(found).__name__}, not a saga.")
    known: list[Saga] = []
    for service in config.services.values():
        app = load_target(service.app) if service.app else None
        if isinstance(app, Service):
            known += app.declared_sagas
    wanted = [saga for saga in known if name in {saga.name, f"{saga.name}/{saga.version}"}]
    if wanted:
        return max(wanted, key=lambda saga: saga.version)
    listed = ", ".join(sorted({f"{saga.name}/{saga.version}" for saga in known})) or "none"
    raise OperationError(
        f"no service of the system runs a saga {name}.",
        fix=f"It runs {listed}. Name the system's file with --config, or the saga by module:name.",
    )
