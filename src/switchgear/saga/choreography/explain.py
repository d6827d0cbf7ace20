"""What follows from an event, and what happens when one of its handlers fails.

Read off the declarations. A handler fails in one of two ways:

- it keeps failing (`gives-up`): nothing of it is committed and nothing follows from it; its
  subscription says what becomes of the event;
- it publishes an event that turns the chain round, and nothing else: one of which a handler undoes
  something that was done before, or beside. It did its work, and its work was to say no.

Each way that leads to the handler is a case of its own: the handlers on it were done, or had said
no, or have undone something. What is *certain* follows from the events on that way, which were
published: each of their handlers runs. The rest depends on what handlers choose to publish. Two
handlers of one subscription, topic and key are one queue: behind an event that waits, the later
ones wait too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

from switchgear.errors import UsageError
from switchgear.saga.choreography.chain import Chain, Origin, Part, Step, short
from switchgear.saga.choreography.declared import OnFailure
from switchgear.saga.choreography.reach import LOOKED, leading, reach, routes

__all__ = [
    "GIVES_UP",
    "Before",
    "Explanation",
    "Staying",
    "Undoing",
    "explain",
    "explain_all",
]

Ends: TypeAlias = Literal["blocked", "parked", "skipped", "undone", "partly-undone", "stays"]
"""What becomes of it: of the event that keeps failing, or of what had been done."""
_ENDS: dict[OnFailure, Ends] = {"block_key": "blocked", "park_key": "parked", "skip": "skipped"}
GIVES_UP = "gives-up"


@dataclass(frozen=True, slots=True)
class Before:
    """One thing on the way to the failure."""

    name: str
    published: str
    """The type of the event with which the chain went on."""
    refused: bool = False
    """That event turned the chain round: it had done nothing that is to be undone."""


@dataclass(frozen=True, slots=True)
class Undoing:
    """One handler that takes back what another has done."""

    undone: str
    undo: str
    on: str
    """The event at which it does."""
    wave: int
    """How many events after the failure; an undo that was there before is in wave 0."""
    certain: bool
    """False where it depends on what a handler publishes, or whether there is anything to undo."""
    runbook: str | None
    """What a person reads if the undo fails."""


@dataclass(frozen=True, slots=True)
class Staying:
    """Something that has been done and stays, with what could undo it."""

    name: str
    undo: tuple[str, ...]
    """Each handler that undoes it, with its event; empty: nobody does."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What happens when `fails` fails in the way `how`."""

    event: str
    """Where the chain begins."""
    fails: str
    subscription: str
    how: str
    """`gives-up`, or the type of the event that it publishes instead."""
    ends: Ends
    before: tuple[Before, ...]
    """What has been done by then, in order."""
    beside: tuple[str, ...]
    """What certainly runs, and does not depend on it."""
    perhaps: tuple[str, ...]
    """What may run: it depends on what others publish."""
    waits: tuple[str, ...]
    """What waits behind it, in the same queue, should its event come."""
    unsaid: tuple[str, ...]
    """What runs, or may, and does not say what it publishes: more may follow from it."""
    never: tuple[str, ...]
    """What would have been done, and is not."""
    undone: tuple[Undoing, ...]
    stays: tuple[Staying, ...]
    attempts: int | None = None
    """How often it is tried; None: for ever, or it does not give up."""
    key: str | None = None
    """What the events that wait behind it have in common."""
    runbook: str | None = None
    """What a person reads about the event that is parked."""
    more: bool = False
    """More ways lead there than are told, and this is the last that is."""

    def text(self) -> str:
        """Return it in words."""
        gives_up = self.how == GIVES_UP
        how = "keeps failing" if gives_up else f"publishes {short(self.how)}"
        way = [f"{one.name} said {short(one.published)}" for one in self.before if one.refused]
        after = f", after {' and '.join(way)}" if way else ""
        lines = [f"{short(self.event)}: {self.fails} {how}{after}."]
        if gives_up:
            lines.append(self._waiting())
        done = [one.name for one in self.before if not one.refused]
        if done:
            lines.append(f"Done by then: {', '.join(done)}.")
        if self.beside:
            lines.append(f"Runs all the same: {', '.join(self.beside)}.")
        if self.perhaps:
            lines.append(f"May run, as others decide: {', '.join(self.perhaps)}.")
        if self.waits:
            lines.append(f"Waits behind it, if its event comes: {', '.join(self.waits)}.")
        if self.unsaid:
            lines.append(f"What follows from {', '.join(self.unsaid)} is not declared.")
        if self.never:
            lines.append(f"Does not happen: {', '.join(self.never)}.")
        if self.undone:
            lines.append("Undone:")
            lines += map(_in_words, self.undone)
        lines += self._what_stays()
        if self.more:
            lines.append(
                f"More ways lead to {self.fails} than are told here, which are the shortest."
            )
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return asdict(self)

    def _waiting(self) -> str:
        person = f"a person decides ({self.runbook or 'there is no runbook'})"
        behind = f"later events of its {self.key}" if self.key else ""
        times = f"After {self.attempts} attempt{'' if self.attempts == 1 else 's'}"
        if self.ends == "blocked":
            waits = f", and {behind} of {self.subscription} wait" if behind else ""
            return f"It is tried again for ever{waits}."
        if self.ends == "skipped":
            return f"{times} the event is parked alone, and {person}."
        waits = f", {behind} wait behind it," if behind else ""
        return f"{times} the event is parked{waits} and {person}."

    def _what_stays(self) -> Iterator[str]:
        for each in self.stays:
            if each.undo:
                yield f"{each.name} stays; it would be undone by {' or '.join(each.undo)}."
        nobody = [each.name for each in self.stays if not each.undo]
        if nobody:
            yield f"Nobody undoes: {', '.join(nobody)}."


class Turning:
    """What each handler may publish that turns the chain of `event` round.

    What an undo publishes says that it is done: it has turned round before.
    """

    def __init__(self, chain: Chain, event: str) -> None:
        self._chain = chain
        self._event = event
        self.reached = tuple(reach(chain, [event]))
        """Every handler of the chain, nearest first."""
        self._known: dict[Step, tuple[str, ...]] = {}

    def __call__(self, step: Step) -> tuple[str, ...]:
        """Return the types of those events."""
        found = self._known.get(step)
        if found is None:
            found = self._known[step] = () if step.handler.undoes else self._of(step)
        return found

    def _of(self, step: Step) -> tuple[str, ...]:
        chain = self._chain
        undone = {
            emitted: {part for one in chain.on(emitted) for part in chain.undone(one)}
            for emitted in step.emits
        }
        if not any(undone.values()):
            return ()
        before: set[Part] = {*chain.origins(self._event)}
        before.update(leading(chain, step).intersection(self.reached))
        # what runs beside it has been done too, or may have been
        before.update(reach(chain, [self._event], without=[step]))
        return tuple(emitted for emitted in step.emits if undone[emitted] & before)


def explain(
    chain: Chain,
    event: str,
    fails: Step,
    how: str = GIVES_UP,
    *,
    after: Iterable[Step] = (),
    turning: Turning | None = None,
) -> list[Explanation]:
    """Explain what happens when `fails` fails in the way `how`, for each way that leads there.

    Only the ways through all of `after` are told. `turning` is that of the chain and event, where
    it is known already. Raises `UsageError` if the event does not lead to
    it (so), or if it does not publish `how`.
    """
    after = tuple(after)
    found = routes(chain, event, fails, after)
    if not found.ways:
        through = " and ".join(one.name for one in after)
        leads = f"to {fails.name}{through and f' by {through}'}"
        if found.more:
            raise UsageError(
                f"none of the {LOOKED:,} shortest ways from {short(event)} leads {leads}.",
                fix="Name handlers nearer to each other, or another event to begin with.",
            )
        raise UsageError(f"{short(event)} does not lead {leads}.")
    if how != GIVES_UP and how not in fails.emits:
        emits = ", ".join(map(short, fails.emits)) or "nothing"
        raise UsageError(
            f"{fails.name} does not say that it publishes {how}.",
            fix=f"It emits {emits}; the other way to fail is {GIVES_UP}.",
        )
    turning = turning or Turning(chain, event)
    told = [_Case(chain, event, way, fails, how, turning).told() for way in found.ways]
    return [*told[:-1], replace(told[-1], more=found.more)]


def explain_all(chain: Chain, event: str) -> list[Explanation]:
    """Explain every failure point: each handler that gives up, and each that turns it round."""
    turning = Turning(chain, event)
    return [
        told
        for step in turning.reached
        for how in (GIVES_UP, *turning(step))
        for told in explain(chain, event, step, how, turning=turning)
    ]


class _Case:
    """One handler that fails in one way after one way there: who runs, and what comes of it."""

    def __init__(  # noqa: PLR0917  made in one place
        self,
        chain: Chain,
        event: str,
        path: tuple[Step, ...],
        fails: Step,
        how: str,
        turning: Turning,
    ) -> None:
        self.chain = chain
        self.event = event
        self.fails = fails
        self.how = how
        self.path = path
        later = [one.event for one in (*path, fails)][1:]
        self.published = dict(zip(path, later, strict=True))
        """What each handler on the way has published, so that the chain went on."""
        self.chained = turning.reached
        self.turning = {step: turning(step) for step in path}
        self.refused = {step for step in path if self.published[step] in self.turning[step]}
        # in order, and not as a set: whoever compares two answers sees what has changed
        happened = dict.fromkeys([event, *later, *([how] if how != GIVES_UP else [])])
        on_way = {fails, *path}
        reached = reach(chain, happened, self._emits)
        self.waits = tuple(one for one in reached if one not in on_way and self._behind(one))
        self.reached = reach(chain, happened, self._emits, without=self.waits)
        others = [step for step in self.reached if step not in on_way]
        self.certain = tuple(step for step in others if step.event in happened)
        self.perhaps = tuple(step for step in others if step.event not in happened)

    def told(self) -> Explanation:
        chain, fails = self.chain, self.fails
        known = {fails, *self.path, *self.reached, *self.waits}
        undone = self._undone()
        stays = self._stays({part for part, _ in undone})
        gives_up = self.how == GIVES_UP
        subscription = fails.subscription
        for_ever = subscription.on_failure == "block_key"
        queue = chain.events.get(fails.event)
        return Explanation(
            event=self.event,
            fails=fails.name,
            subscription=fails.group,
            how=self.how,
            ends=self._ends(undone, stays),
            before=(
                *(Before(origin.name, self.event) for origin in chain.origins(self.event)),
                *(
                    Before(step.name, self.published[step], step in self.refused)
                    for step in self.path
                ),
            ),
            beside=_names(self.certain),
            perhaps=_names(self.perhaps),
            waits=_names(self.waits),
            unsaid=_names(
                step
                for step in (*self.path, *self.certain, *self.perhaps)
                if step.handler.emits is None
            ),
            never=_names(
                step for step in self.chained if step not in known and not step.handler.undoes
            ),
            undone=tuple(each for _, each in undone),
            stays=stays,
            attempts=subscription.attempts if gives_up and not for_ever else None,
            key=queue.key if queue and gives_up and subscription.on_failure != "skip" else None,
            runbook=fails.handler.runbook,
        )

    def _ends(self, undone: Collection[object], stays: Collection[object]) -> Ends:
        if self.how == GIVES_UP:
            return _ENDS[self.fails.subscription.on_failure]
        if not stays:
            return "undone"
        return "partly-undone" if undone else "stays"

    def _emits(self, step: Step) -> Collection[str]:
        """Return what a handler may publish in this case."""
        if step == self.fails:
            return () if self.how == GIVES_UP else (self.how,)
        if step not in self.published:
            return step.emits
        if step in self.refused:
            return (self.published[step],)
        return [emitted for emitted in step.emits if emitted not in self.turning[step]]

    def _behind(self, step: Step) -> bool:
        """Tell whether a handler waits in the queue of the one that fails."""
        if self.how != GIVES_UP or self.fails.subscription.on_failure == "skip":
            return False
        if step.group != self.fails.group or step.event == self.event:
            return False
        one = self.chain.events.get(self.fails.event)
        other = self.chain.events.get(step.event)
        if one is None or other is None or one.key is None:
            return False
        # what was published on the way there has been handled before it
        earlier = step.event in self.published.values()
        return (one.topic, one.key) == (other.topic, other.key) and not earlier

    def _undone(self) -> list[tuple[Part, Undoing]]:
        """Return what is taken back: for certain, or because of the failure."""
        ran = [*self.path, *self.certain, *self.perhaps]
        done: set[Part] = {*self.chain.origins(self.event)}
        done.update(step for step in ran if step not in self.refused)
        waves = {} if self.how == GIVES_UP else reach(self.chain, [self.how], self._emits)
        found: list[tuple[Part, Undoing]] = []
        for step in ran:
            for part in self.chain.undone(step):
                sure = step not in self.perhaps and part not in self.perhaps
                if part in done and (sure or step in waves):
                    wave, book = waves.get(step, 0), step.handler.runbook
                    undoing = Undoing(part.name, step.name, step.event, wave, sure, book)
                    found.append((part, undoing))
        return sorted(found, key=lambda one: one[1].wave)

    def _stays(self, undone: Collection[Part]) -> tuple[Staying, ...]:
        done: list[Part] = [*self.chain.origins(self.event)]
        done += [one for one in (*self.path, *self.certain) if one not in self.refused]
        return tuple(
            Staying(
                part.name,
                tuple(
                    f"{undo.name} on {short(undo.event)}" for undo in self.chain.undos.get(part, ())
                ),
            )
            for part in done
            if part not in undone and (isinstance(part, Origin) or not part.handler.undoes)
        )


def _names(steps: Iterable[Step]) -> tuple[str, ...]:
    return tuple(step.name for step in steps)


def _in_words(each: Undoing) -> str:
    number = f"{each.wave}. " if each.wave else "by then: "
    sure = "" if each.certain else ", if that is published"
    person = f"a person reads {each.runbook}" if each.runbook else "there is no runbook"
    return (
        f"  {number}{each.undo} undoes {each.undone} on {short(each.on)}{sure} "
        f"(if it fails, {person})"
    )
