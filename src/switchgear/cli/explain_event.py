"""`switchgear explain event`, and `switchgear export`, whose files it reads."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from switchgear.app.declared import declared
from switchgear.app.service import Service
from switchgear.app.target import add_to_path, import_path, load_target
from switchgear.cli.databases import some_service
from switchgear.config import Config
from switchgear.contract.files import write as write_file
from switchgear.errors import UsageError
from switchgear.saga.choreography.chain import Chain, merged, short
from switchgear.saga.choreography.declared import Declared, read, write
from switchgear.saga.choreography.draw import drawn, follows
from switchgear.saga.choreography.explain import GIVES_UP, Explanation, explain, explain_all
from switchgear.saga.choreography.findings import findings
from switchgear.saga.choreography.reach import reach

__all__ = ["explain_event", "export", "in_sight"]

Form = Literal["text", "json", "mermaid", "svg"]


def export(config: Config, names: Sequence[str], folder: Path | None) -> None:
    """Write what services declare, each to `NAME.json` in `folder`; without one, print it."""
    found = _of_system(config, names, otherwise="begin with: switchgear new NAME")
    if folder is None:
        for one in found:
            print(write(one).decode(), end="")
        return
    for one in found:
        file = folder / f"{one.service}.json"
        write_file(file, write(one))
        print(file)


def explain_event(
    config: Config,
    name: str,
    fails: str | None,
    how: str | None,
    *,
    after: Sequence[str],
    others: Sequence[Path],
    form: Form,
) -> None:
    """Print what follows from an event, and what happens when a handler of the chain fails."""
    if fails is None and (after or how):
        raise UsageError(
            "--how and --after say how a handler fails, and none is named.",
            fix="Add --fails SERVICE.HANDLER; without it every failure point is explained.",
        )
    chain = in_sight(config, others)
    event = chain.event(name)
    told = _told(chain, event, fails, how, after)
    if form in ("mermaid", "svg"):
        picture = drawn(chain, event, told[0] if fails else None)
        if fails and len(told) > 1:
            note = f"This is the shortest of {len(told)} ways; --after HANDLER chooses another."
            print(note, file=sys.stderr)
        print(picture.mermaid() if form == "mermaid" else picture.svg())
    elif form == "json":
        print(json.dumps(_plain(chain, event, told)))
    else:
        _print(chain, event, told, whole=fails is None)


def in_sight(config: Config, others: Iterable[Path] = ()) -> Chain:
    """Return the chain of all services of the system and of files; a folder is all its files.

    Raises `UsageError` for a file that is none, and where there is no service at all.
    """
    read_in = [read(file) for path in others for file in _files(path)]
    if config.services or not read_in:
        read_in += _of_system(config, (), otherwise="files of declarations with --with")
    return merged(read_in)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.json"))
    if not found:
        raise UsageError(
            "it holds no file of declarations.",
            where=str(path),
            fix="Write them with `switchgear export --out FOLDER`.",
        )
    return found


def _of_system(config: Config, names: Sequence[str], *, otherwise: str) -> list[Declared]:
    some_service(config, otherwise=otherwise)
    unknown = [name for name in names if name not in config.services]
    if unknown:
        listed = ", ".join(config.services)
        raise UsageError(f"the system has no service {unknown[0]!r}.", fix=f"It has: {listed}.")
    add_to_path(import_path(config))
    found = []
    for name in names or config.services:
        target = config.services[name].app
        app = load_target(target) if target else None
        if isinstance(app, Service):
            found.append(declared(app))
        elif names:
            raise UsageError(f"{name} is no Service, and so it declares nothing.")
    return found


def _told(
    chain: Chain, event: str, fails: str | None, how: str | None, after: Sequence[str]
) -> list[Explanation]:
    if fails is None:
        return explain_all(chain, event)
    steps = list(reach(chain, [event]))
    step = chain.step(fails, steps)
    way = GIVES_UP if how in (None, GIVES_UP) else chain.event(how or "")
    return explain(chain, event, step, way, after=[chain.step(one, steps) for one in after])


def _plain(chain: Chain, event: str, told: Sequence[Explanation]) -> dict[str, Any]:
    """Return what `--format json` prints."""
    return {
        "event": event,
        "handlers": [
            {
                "name": step.name,
                "subscription": step.group,
                "on": step.event,
                "on_failure": step.subscription.on_failure,
                "emits": step.handler.emits,
                "undoes": [part.name for part in chain.undone(step)],
                "runbook": step.handler.runbook,
            }
            for step in reach(chain, [event])
        ],
        "failures": [each.as_dict() for each in told],
        "findings": [
            {"kind": one.kind, "about": one.about, "what": one.what} for one in findings(chain)
        ],
    }


def _print(chain: Chain, event: str, told: Sequence[Explanation], *, whole: bool) -> None:
    parts = [follows(chain, event)] if whole else []
    parts += [each.text() for each in told]
    if not told:
        parts.append(f"No handler in sight hears {short(event)}.")
    found = findings(chain) if whole else []
    if found:
        parts.append("\n".join(["What does not add up:", *(f"  {one.what}" for one in found)]))
    print("\n\n".join(parts))
