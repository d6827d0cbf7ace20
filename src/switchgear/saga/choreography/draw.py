"""A chain of events in words and as a picture, and what becomes of it when something fails."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from switchgear.saga.choreography.chain import Chain, Part, Step, short
from switchgear.saga.choreography.explain import GIVES_UP, Explanation
from switchgear.saga.choreography.reach import in_order
from switchgear.saga.picture import Arrow, Box, Picture

__all__ = ["drawn", "follows"]


def follows(chain: Chain, event: str) -> str:
    """Return what follows from an event, as an indented text; what came before is not repeated."""
    lines: list[str] = []
    told: set[str] = set()
    waiting: list[tuple[str, Step | str]] = [("", event)]
    while waiting:  # no recursion: a chain may be longer than Python's stack
        indent, one = waiting.pop()
        if isinstance(one, Step):
            lines.append(f"{indent}{one.name}{_says(chain, one)}")
            below: Sequence[Step | str] = one.emits
        else:
            again = one in told and chain.on(one)
            lines.append(f"{indent}{_event(chain, one)}{' (as above)' if again else ''}")
            below = () if again else chain.on(one)
            told.add(one)
        waiting += [(f"{indent}  ", each) for each in reversed(below)]
    return "\n".join(lines)


def _event(chain: Chain, event: str) -> str:
    declared = chain.events.get(event)
    key = f" by {declared.key}" if declared and declared.key else ""
    origins = ", ".join(origin.service for origin in chain.origins(event))
    begins = f", published by {origins}" if origins else ""
    return f"{short(event)}{key}{begins}"


def _says(chain: Chain, step: Step) -> str:
    subscription = step.subscription
    tries = "" if subscription.on_failure == "block_key" else f" after {subscription.attempts}"
    undone = ", ".join(part.name for part in chain.undone(step))
    undoes = f", undoes {undone}" if undone else ""
    unsaid = ", does not say what it emits" if step.handler.emits is None else ""
    return f": {subscription.on_failure}{tries}{undoes}{unsaid}"


def drawn(chain: Chain, event: str, told: Explanation | None = None) -> Picture:
    """Return the picture of what follows from an event, or of what `told` says of it."""
    title = told.text().split("\n")[0] if told else f"What follows from {short(event)}."
    steps = in_order(chain, event)
    parts: list[Part] = [*chain.origins(event), *steps]
    notes = _undos(chain, steps) if told is None else _notes(told)
    rest = "plain" if told is None else "never"
    boxes = {_key(part): Box(part.name, *notes.get(part.name, (rest, ""))) for part in parts}
    starts = [_key(origin) for origin in chain.origins(event)]
    if not starts:
        boxes = {"": Box(short(event), "plain" if told is None else "done"), **boxes}
    arrows = [
        Arrow(start, _key(step), short(event))
        for start in starts or [""]
        for step in chain.on(event)
    ]
    arrows += [
        Arrow(_key(step), _key(heard), short(emitted))
        for step in steps
        for emitted in step.emits
        for heard in chain.on(emitted)
    ]
    return Picture(title, boxes, arrows)


def _key(part: Part) -> str:
    return f"{part.name}/{part.event}"


def _undos(chain: Chain, steps: Iterable[Step]) -> dict[str, tuple[str, str]]:
    """Return what the handlers that undo something take back."""
    return {
        step.name: ("plain", f"undoes {', '.join(one.name for one in undone)}")
        for step in steps
        if (undone := chain.undone(step))
    }


def _notes(told: Explanation) -> dict[str, tuple[str, str]]:
    """Return state and note of each box that something happens to."""
    notes: dict[str, tuple[str, str]] = dict.fromkeys(told.perhaps, ("plain", "perhaps"))
    notes |= dict.fromkeys(told.beside, ("done", ""))
    for before in told.before:
        said = ("failed", f"said {short(before.published)}")
        notes[before.name] = said if before.refused else ("done", "")
    notes |= dict.fromkeys(told.waits, ("person", "waits behind it"))
    for each in told.undone:
        notes[each.undone] = "undone", each.undo + ("" if each.certain else ", perhaps")
    word = "keeps failing" if told.how == GIVES_UP else f"publishes {short(told.how)}"
    notes[told.fails] = "failed", f"{word}; {told.ends}"
    return notes
