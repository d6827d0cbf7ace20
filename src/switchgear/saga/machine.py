"""The rules by which a saga goes forward, turns round, and ends. No I/O, no clock, no randomness.

The rules, in prose
-------------------
A saga goes *forward* through its steps; when that cannot go on it is *undoing*; it ends *done* or
*undone*. Where neither can be reached without a person, a *work item* is open and it is *queued*.

1. A step begins when every step before it is done. The record that tells of the last of these
   also says that it begins, so one commit a step is enough.
2. What an attempt answers decides (the table below). Nothing but a definite answer is taken for
   one: a step is *in doubt* from the first attempt that may have been carried out, until it
   answers Ok, and a later "certainly not done" speaks for its own attempt alone.
3. Before the point of no return, what cannot go forward is undone: the deadline passed, a definite
   no, or the attempts used up. The point of no return is the first attempt at the pivot, or at
   the first retriable step. From there the deadline means nothing.
4. Undoing waits for the attempts that are running (no new one begins), then undoes in reverse
   order of dependency every step that was done or may have been done. A step in doubt has nothing
   after it, so its own undo comes first. A step that was certainly not done is not undone.
5. An undo that is refused, or fails as often as its policy allows, becomes a work item; so does a
   pivot or retriable step whose `give_up` has passed, and a retriable step that is refused. What
   depends on it waits; what does not goes on.
6. A worker that died or was stopped leaves an *interruption*: every half step that may have been
   running counts as attempted once more, in doubt, and is attempted again. Interruptions use up
   no attempts. Hence an undo may run for a step that never began: its worker died between the
   record that it begins and its first attempt, and then the deadline passed. Where every attempt
   may have a worker of its own, the interruption names the step, and concerns that one alone.
7. A saga may know how to undo its start: the row that was committed together with it, say. That is
   done when the saga begins, so it is the last to be undone.
8. A person moves an open work item: `retry` begins its attempts and its `give_up` afresh;
   `resolve` says that it was carried out by hand; `skip` leaves it as it is (an undo, or a
   retriable step whose result nobody needs); `abort` says that a pivot was certainly not done.
9. A step that was recorded as done can be *refuted*, also after the end: the payment bounced. It
   is not undone, since there is nothing to take back, and the saga turns round wherever it stands.
   A pivot or retriable step that was done, or may have been, is *stranded* then: it has no undo,
   so it becomes a work item at once. What it stands on waits for the person, for reverse order
   holds here too: the stock of a parcel that is on its way must not be sold again. `resolve` says
   that it was taken back by hand, and what it stood on is undone. `skip` of a pivot says that it
   stays, and then all that it stands on stays with it. Nothing else leads a saga backwards after
   the point of no return.

The answers of a step that runs forward
---------------------------------------
`doubt` is whether an earlier attempt, or an earlier command of this one, may have been done.
"again" is after the backoff, or "undo" if the deadline or the attempts do not allow another.

| answer      | compensatable, read | pivot                              | retriable             |
| ----------- | ------------------- | ---------------------------------- | --------------------- |
| ok          | go on               | go on                              | go on                 |
| refused     | undo                | undo; doubt of this attempt: again | work item             |
| rejected    | undo                | undo; if doubt, again              | work item             |
| unavailable | again, then undo    | again, then undo; if doubt, again  | again                 |
| unknown     | again, then undo    | again                              | again                 |
| unrecorded  | undo, in doubt      | again                              | again                 |

The pivot's "again" in doubt and the retriable step's end at `give_up` with a work item. `refused`
is the callee's own no under the same key, which settles what an earlier attempt left open, so it
turns a pivot round; a compensatable step is undone all the same, since an undo that finds nothing
costs nothing. `rejected` turned this request away (expired credentials, say) and tells nothing of
an earlier one. `unrecorded` is a result that cannot be written down: the effect happened.

An undo answers ok (undone), refused or rejected (work item), or anything else (again, then a work
item).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from switchgear.saga.allowed import complaint, side_of
from switchgear.saga.plan import Backoff, Kind, Plan, Side, StepPlan
from switchgear.saga.state import (
    Answered,
    Entry,
    Expired,
    Fate,
    Happening,
    Left,
    Mark,
    Next,
    Operated,
    Phase,
    Run,
    State,
    Stranded,
    Try,
    What,
)

__all__ = [
    "awaited",
    "begin",
    "complaint",
    "decide",
    "evolve",
    "expired",
    "happening",
    "runs",
    "side_of",
    "status",
]


def begin(plan: Plan, now: float, deadline: float | None) -> State:
    """Return the state of a saga that starts at `now`, with its first steps begun."""
    marks = {
        step.name: Mark(Fate.DONE) if step.kind is Kind.START else Mark() for step in plan.steps
    }
    return State(_settle(plan, Phase.FORWARD, marks, now), marks, deadline)


def runs(plan: Plan, state: State) -> tuple[Run, ...]:
    """Return the half steps to attempt now or later; none while undoing waits for an answer."""
    if state.phase is Phase.FORWARD:
        return tuple(
            Run(name, Side.DO, mark.do.attempt, mark.do.due)
            for name, mark in state.marks.items()
            if mark.fate is Fate.BEGUN and not mark.item
        )
    if state.phase is not Phase.UNDOING or awaited(state):
        return ()
    return tuple(
        Run(step.name, Side.UNDO, mark.undo.attempt, mark.undo.due)
        for step in reversed(plan.steps)
        if (mark := state.marks[step.name]).undo.attempt and _owed(step, mark) and not mark.item
    )


def awaited(state: State) -> tuple[str, ...]:
    """Return the steps whose running attempts must answer before undoing can begin."""
    if state.phase is not Phase.UNDOING:
        return ()
    return tuple(name for name, mark in state.marks.items() if mark.fate is Fate.BEGUN)


def happening(
    plan: Plan, state: State, now: float, flying: Collection[str] = ()
) -> Happening | None:
    """Return what has happened without an attempt, and is to be decided next.

    `flying` are the steps that are being attempted.
    """
    if expired(plan, state, now, flying):
        return Expired()
    for name in awaited(state):
        if name not in flying:
            return Left(name)
    stranded = _stranded(plan, state)
    return Stranded(stranded[0]) if stranded else None


def status(plan: Plan, state: State) -> str:
    """Return running, undoing, queued (only a person can move it), done or undone."""
    ended = state.phase in {Phase.DONE, Phase.UNDONE}
    if ended or runs(plan, state) or awaited(state) or _stranded(plan, state):
        return state.phase.value
    return "queued"


def expired(plan: Plan, state: State, now: float, flying: Collection[str] = ()) -> bool:
    """Tell whether the deadline turns the saga round now.

    `flying` are the steps that are being attempted. A pivot that was recorded as begun but was
    certainly never attempted does not count as begun.
    """
    if state.phase is not Phase.FORWARD or state.deadline is None or now < state.deadline:
        return False
    return not any(
        _decisive(step)
        and mark.fate in _BEGUN
        and not (_untouched(mark) and step.name not in flying)
        for step, mark in ((step, state.marks[step.name]) for step in plan.steps)
    )


def decide(plan: Plan, state: State, happening: Happening, *, now: float, draw: float) -> Entry:
    """Return what the journal will say of `happening`. `draw` is a random number in [0, 1).

    Raises `ValueError` if the happening cannot follow from the state.
    """
    match happening:
        case Expired():
            return Entry(What.EXPIRED, Next.UNDO, now)
        case Left(name):
            mark = state.marks[name]
            return Entry(What.LEFT, Next.UNDO, now, name, Side.DO, mark.do.attempt)
        case Stranded(name):
            if name not in _stranded(plan, state):
                raise ValueError(f"{happening} says so of a step that is not.")
            return Entry(What.STRANDED, Next.QUEUE, now, name, Side.UNDO)
        case Operated(name, action):
            wrong = complaint(plan, state, name, action)
            if wrong:
                raise ValueError(f"{action} of {name}: {wrong}")
            mark = state.marks[name]
            follows = Next.UNDO if action in _TURNS else Next.GO
            side = Side.DO if action is What.REFUTE else side_of(mark)
            attempt = (mark.do if side is Side.DO else mark.undo).attempt
            return Entry(action, follows, now, name, side, attempt)
        case Answered(name, Side.UNDO, what):
            mark = state.marks[name]
            _check(happening, running=mark.undo.attempt > 0 and not mark.item)
            follows, due = _after_undo(plan.step[name], mark, happening, now, draw)
            return Entry(what, follows, now, name, Side.UNDO, mark.undo.attempt, due)
        case Answered(name, _, what):
            mark = state.marks[name]
            _check(happening, running=mark.fate is Fate.BEGUN and not mark.item)
            doubt = mark.doubt or happening.partial or what in _MAYBE
            if _decisive(plan.step[name]) and _settles(happening):
                doubt = False
            follows, due = _after_do(plan, state, happening, now, draw)
            return Entry(what, follows, now, name, Side.DO, mark.do.attempt, due, doubt)


def evolve(plan: Plan, state: State, entry: Entry) -> State:
    """Return the state after `entry`. It depends on nothing else, so a journal can be replayed."""
    marks = dict(state.marks)
    phase = state.phase
    if entry.what is What.INTERRUPTED:
        named = [plan.step[entry.step]] if entry.step else plan.steps
        _interrupt(named, phase, marks, entry.at)
    elif entry.side is not None:
        mark = marks[entry.step]
        if entry.side is Side.UNDO:
            marks[entry.step] = _undo_moved(mark, entry)
            if entry.what is What.SKIP and plan.step[entry.step].kind is Kind.PIVOT:
                _keep(plan, marks, entry.step)
        else:
            marks[entry.step] = _do_moved(plan.step[entry.step], mark, entry)
    if entry.next is Next.UNDO:
        phase = Phase.UNDOING
    return State(_settle(plan, phase, marks, entry.at), marks, state.deadline)


_PATIENCE = 3600.0
"""Seconds up to which a callee's `retry_after` is believed."""
_BEGUN = frozenset({Fate.BEGUN, Fate.DONE, Fate.SKIPPED})
_BY = frozenset({Fate.DONE, Fate.SKIPPED})
_NO = frozenset({What.REFUSED, What.REJECTED})
_MAYBE = frozenset({What.UNKNOWN, What.UNRECORDED})
_TURNS = frozenset({What.ABORT, What.REFUTE})
_STANDS = frozenset({Fate.DONE, Fate.UNSURE})


def _check(happening: Happening, *, running: bool) -> None:
    if not running:
        raise ValueError(f"{happening} answers for a half step that is not running.")


def _decisive(step: StepPlan) -> bool:
    return step.kind in {Kind.PIVOT, Kind.RETRIABLE}


def _untouched(mark: Mark) -> bool:
    """Tell whether no worker can have attempted a step, except the one that asks."""
    return mark.fate is Fate.BEGUN and mark.do.attempt == 1 and not mark.doubt


def _owed(step: StepPlan, mark: Mark) -> bool:
    """Tell whether the step has an effect, or may have one, that an undo takes back."""
    return step.undoable and mark.fate in _STANDS


def _stands(step: StepPlan, mark: Mark) -> bool:
    """Tell whether the step has an effect, or may have one, that no undo takes back."""
    return _decisive(step) and mark.fate in _STANDS


def _stranded(plan: Plan, state: State) -> tuple[str, ...]:
    """Return the steps that need a person and have no work item yet, the last first."""
    if state.phase is not Phase.UNDOING or awaited(state):
        return ()
    return tuple(
        step.name
        for step in reversed(plan.steps)
        if _stands(step, mark := state.marks[step.name]) and not mark.item
    )


def _keep(plan: Plan, marks: dict[str, Mark], pivot: str) -> None:
    """Leave what a pivot stands on as it is, since the pivot stays (rule 9)."""
    for name in plan.earlier[pivot]:
        if _owed(plan.step[name], marks[name]):
            marks[name] = replace(marks[name], fate=Fate.SKIPPED, item=False)


def _after_do(
    plan: Plan, state: State, answer: Answered, now: float, draw: float
) -> tuple[Next, float | None]:
    """Decide what follows from the answer of a step that runs forward: the table above."""
    step, mark = plan.step[answer.step], state.marks[answer.step]
    if state.phase is Phase.UNDOING:
        return Next.UNDO, None
    if answer.what is What.OK:
        return (Next.UNDO if _too_late(plan, state, step, now) else Next.GO), None
    follows = {Kind.PIVOT: _after_pivot, Kind.RETRIABLE: _after_retriable}.get(
        step.kind, _after_reversible
    )(step, mark, answer, now)
    if follows is not Next.AGAIN:
        return follows, None
    due = now + _delay(step.retry, mark.do, answer, draw)
    if not _decisive(step) and state.deadline is not None and due >= state.deadline:
        return Next.UNDO, None
    return Next.AGAIN, due


def _after_reversible(step: StepPlan, mark: Mark, answer: Answered, _now: float) -> Next:
    spent = mark.do.failures + 1 >= step.retry.attempts
    definite = answer.what in _NO or answer.what is What.UNRECORDED
    return Next.UNDO if definite or spent else Next.AGAIN


def _after_pivot(step: StepPlan, mark: Mark, answer: Answered, now: float) -> Next:
    if mark.doubt or answer.partial or answer.what in _MAYBE:
        return Next.UNDO if _settles(answer) else _until_give_up(step, mark, now)
    return _after_reversible(step, mark, answer, now)


def _settles(answer: Answered) -> bool:
    """Tell whether the callee said no under the step's key, which covers earlier attempts."""
    return answer.what is What.REFUSED and not answer.partial


def _after_retriable(step: StepPlan, mark: Mark, answer: Answered, now: float) -> Next:
    return Next.QUEUE if answer.what in _NO else _until_give_up(step, mark, now)


def _until_give_up(step: StepPlan, mark: Mark, now: float) -> Next:
    late = step.give_up is not None and now - mark.do.since >= step.give_up
    return Next.QUEUE if late else Next.AGAIN


def _too_late(plan: Plan, state: State, step: StepPlan, now: float) -> bool:
    """Tell whether a step that was just done came after the deadline, with more to come."""
    if _decisive(step) or not expired(plan, state, now):
        return False
    return any(mark.fate not in _BY for name, mark in state.marks.items() if name != step.name)


def _after_undo(
    step: StepPlan, mark: Mark, answer: Answered, now: float, draw: float
) -> tuple[Next, float | None]:
    if answer.what is What.OK:
        return Next.GO, None
    if answer.what in _NO or mark.undo.failures + 1 >= step.undo_retry.attempts:
        return Next.QUEUE, None
    return Next.AGAIN, now + _delay(step.undo_retry, mark.undo, answer, draw)


def _delay(backoff: Backoff, tried: Try, answer: Answered, draw: float) -> float:
    asked = min(answer.retry_after or 0.0, _PATIENCE)
    return max(backoff.wait(tried.failures + 1, draw), asked)


def _do_moved(step: StepPlan, mark: Mark, entry: Entry) -> Mark:
    """Return the mark of a step after an entry about its forward half."""
    if entry.what is What.REFUTE:
        return replace(mark, fate=Fate.REFUTED, item=False)
    fate = _SETTLED.get(entry.what)
    if fate is not None:
        return replace(mark, fate=fate, item=False)
    doubt = mark.doubt or entry.doubt
    if entry.next is Next.QUEUE:
        return replace(mark, item=True, doubt=doubt)
    if entry.next is Next.UNDO:
        # the answer of a step without an undo may have settled what was in doubt before
        spoken = _decisive(step) and entry.what is not What.LEFT
        unsure = (entry.doubt if spoken else doubt) and step.kind is not Kind.READ
        return replace(mark, fate=Fate.UNSURE if unsure else Fate.ABSENT, item=False, doubt=unsure)
    return replace(mark, do=_tried(mark.do, entry), item=False, doubt=doubt)


def _undo_moved(mark: Mark, entry: Entry) -> Mark:
    """Return the mark of a step after an entry about its undo."""
    fate = _SETTLED.get(entry.what)
    if fate is not None:
        return replace(mark, fate=Fate.UNDONE if fate is Fate.DONE else fate, item=False)
    if entry.next is Next.QUEUE:
        return replace(mark, item=True)
    return replace(mark, undo=_tried(mark.undo, entry), item=False)


_SETTLED = {What.OK: Fate.DONE, What.RESOLVE: Fate.DONE, What.SKIP: Fate.SKIPPED}


def _tried(tried: Try, entry: Entry) -> Try:
    """Return the next attempt; a person's `retry` begins the count and `give_up` afresh."""
    if entry.what is What.RETRY:
        return Try(tried.attempt + 1, 0, entry.at, entry.at)
    return tried.again(entry.at if entry.due is None else entry.due, tried.failures + 1)


def _interrupt(steps: Iterable[StepPlan], phase: Phase, marks: dict[str, Mark], at: float) -> None:
    """Count what may have been running of `steps` as attempted once more, in doubt (rule 6)."""
    for step in steps:
        mark = marks[step.name]
        if mark.item:
            continue
        if mark.fate is Fate.BEGUN and phase is Phase.FORWARD:
            due = max(at, mark.do.due)
            marks[step.name] = replace(mark, do=mark.do.again(due, mark.do.failures), doubt=True)
        elif mark.fate is Fate.BEGUN:
            unsure = step.kind is not Kind.READ
            marks[step.name] = replace(
                mark, fate=Fate.UNSURE if unsure else Fate.ABSENT, doubt=unsure
            )
        elif mark.undo.attempt and _owed(step, mark):
            due = max(at, mark.undo.due)
            marks[step.name] = replace(mark, undo=mark.undo.again(due, mark.undo.failures))


def _settle(plan: Plan, phase: Phase, marks: dict[str, Mark], at: float) -> Phase:
    """Begin what can begin in `marks`, and return the phase that results."""
    if phase is Phase.FORWARD:
        for step in plan.steps:
            if marks[step.name].fate is Fate.WAITING and all(
                marks[before].fate in _BY for before in step.after
            ):
                marks[step.name] = Mark(Fate.BEGUN, Try(1, 0, at, at))
        return Phase.DONE if all(mark.fate in _BY for mark in marks.values()) else phase
    if phase is not Phase.UNDOING or any(mark.fate is Fate.BEGUN for mark in marks.values()):
        return phase
    owed = {step.name for step in plan.steps if _owed(step, marks[step.name])}
    open_ = owed | {step.name for step in plan.steps if _stands(step, marks[step.name])}
    for name in owed:
        if not marks[name].undo.attempt and not open_ & plan.later[name]:
            marks[name] = replace(marks[name], undo=Try(1, 0, at, at))
    return phase if open_ else Phase.UNDONE
