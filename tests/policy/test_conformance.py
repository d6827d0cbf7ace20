"""The conformance pack against our machine. Its format: docs/reference/policy-conformance.md.

What is written here is what another implementation has to write: build a policy from its settings,
feed it the steps, and compare. Nothing is read that the format does not say.
"""

from __future__ import annotations

import json
import re
from dataclasses import fields
from importlib.resources import files
from math import inf
from pathlib import Path

import pytest

from switchgear.model.context import Context, Priority
from switchgear.model.outcome import Ok, Reason, Refused, Rejected, Unavailable, Unknown
from switchgear.model.signal import Signal
from switchgear.policy.admission import Admission, Turnstile, Visitor
from switchgear.policy.breaker import Breaker, Evidence
from switchgear.policy.budget import Budget, GrpcThrottling, TokenBucket
from switchgear.policy.call import Call
from switchgear.policy.fallback import Fallback, Stale
from switchgear.policy.hedge import Hedge
from switchgear.policy.limit import Limit
from switchgear.policy.machine import Machine
from switchgear.policy.policy import PARTS, Policy
from switchgear.policy.retry import Retry
from switchgear.policy.step import Answer, Attempt, Queue, Wait
from switchgear.policy.throttle import Throttle

PACK = files("switchgear.policy").joinpath("conformance")
PAGE = (Path(__file__).parents[2] / "docs/reference/policy-conformance.md").read_text("utf-8")
FILES = {
    one.name: json.loads(one.read_text("utf-8"))
    for one in PACK.iterdir()
    if one.name.endswith(".json")
}
CASES = [
    pytest.param(case, id=f"{found['part']}: {case['name']}")
    for found in FILES.values()
    for case in found["cases"]
]

BUDGETS = {"share": Budget, "grpc": GrpcThrottling, "bucket": TokenBucket}


def policy_of(given):
    """A part that is not given is not there; a setting that is not given has its default."""
    parts = dict.fromkeys(PARTS)
    for name, value in given.items():
        match name:
            case "retry":
                parts[name] = Retry(**value)
            case "budget":
                settings = dict(value)
                parts[name] = BUDGETS[settings.pop("kind", "share")](**settings)
            case "breaker":
                settings = dict(value)
                if "evidence" in settings:
                    settings["evidence"] = tuple(Evidence(**one) for one in settings["evidence"])
                parts[name] = Breaker(**settings)
            case "limit":
                parts[name] = Limit(**value)
            case "throttle":
                parts[name] = Throttle(**value)
            case "hedge":
                parts[name] = Hedge(**value)
            case "fallback":
                settings = dict(value)
                if "stale" in settings:
                    settings["stale"] = Stale(**settings["stale"])
                parts[name] = Fallback(**settings)
            case "deadline" | "attempt_timeout":
                parts[name] = value
            case _:
                raise AssertionError(f"unknown part {name}")
    return Policy(**parts)


class Draws:
    """The numbers that a case draws: one for every draw, or a list of which none is left over."""

    def __init__(self, given):
        self.given = given
        self.left = list(given) if isinstance(given, list) else None

    def __call__(self):
        if self.left is None:
            return self.given
        assert self.left, "more numbers are drawn than the case has"
        return self.left.pop(0)


def outcome_of(given):
    """What `with` says, as an outcome."""
    kind = next(iter(given))
    more = {name: given[name] for name in ("retry_after", "final") if name in given}
    match kind:
        case "ok":
            return Ok(given["ok"])
        case "refused":
            return Refused("no")
        case "rejected":
            return Rejected("no")
        case "unavailable":
            return Unavailable(reason=Reason(given[kind]), **more)
        case "unknown":
            return Unknown(reason=Reason(given[kind]), **more)
    raise AssertionError(f"unknown outcome {kind}")


def plain(decision):
    """A decision in the words of the format."""
    match decision:
        case Attempt():
            found = {
                "attempt": decision.number,
                "timeout": bounded(decision.deadline - decision.started),
                "wire": decision.wire_number,
                "hedge_at": bounded(decision.hedge_at),
            }
        case Wait():
            found = {"wait": decision.until}
        case Queue():
            found = {"queue": decision.until}
        case Answer():
            found = {
                "answer": decision.value,
                "degraded": decision.degraded,
                "age": decision.age,
                "attempts": decision.attempts,
            }
        case Rejected():
            found = {"rejected": True}
        case Refused():
            found = {"refused": True}
        case Unavailable() | Unknown():
            kind = "unavailable" if isinstance(decision, Unavailable) else "unknown"
            found = {
                kind: decision.reason,
                "attempts": decision.attempts,
                "final": decision.final,
                "retry_after": decision.retry_after,
            }
        case None:
            found = {"nothing": True}
        case _:
            raise AssertionError(f"the format does not know {decision!r}")
    return found


def bounded(value):
    return None if value == inf else value


class Runner:
    def __init__(self, case):
        self.draws = Draws(case["random"])
        self.machine = Machine(policy_of(case["policy"]), random=self.draws)
        self.calls = {}
        self.attempts = {}
        self.names = {}

    def step(self, step):
        verbs = {
            "begin": self.begin,
            "end": self.end,
            "resume": self.resume,
            "cancel": self.cancel,
            "hedge": self.hedge,
            "calls": self.many,
        }
        (verb,) = [name for name in verbs if name in step]
        left = set(step) - {verb, "at", "then", "state", "signals", "woken"}
        then = verbs[verb](step, left)
        assert not left, f"the step says what the format does not know: {left}"
        self.compare(step, then)

    def compare(self, step, then):
        told = self.machine.drain()
        if "then" in step:
            for name, expected in step["then"].items():
                assert name in then, f"{name} is expected, and decided was {then}"
                if isinstance(expected, float):
                    assert then[name] == pytest.approx(expected, abs=1e-6), (name, then)
                else:
                    assert then[name] == expected, (name, then)
        woken = [self.names[one] for one in told if isinstance(one, Call)]
        assert woken == step.get("woken", [])
        if "state" in step:
            assert self.machine.state == step["state"]
        signals = [str(one.kind) for one in told if isinstance(one, Signal)]
        for name in step.get("signals", []):
            assert name in signals

    def make(self, now, step, left):
        kind = step.get("as", "query")
        left -= {"as", "attempt", "inherited", "deadline", "question"}
        return self.machine.call(
            now,
            repeatable=kind in ("query", "keyed"),
            key="key" if kind == "keyed" else None,
            context=Context(deadline=step.get("inherited"), attempt=step.get("attempt", 1)),
            deadline=step.get("deadline"),
            cache_key=step.get("question"),
        )

    def decided(self, name, decision):
        if isinstance(decision, Attempt):
            self.attempts[name, decision.number] = decision
        return plain(decision)

    def begin(self, step, left):
        name = step["begin"]
        call = self.calls[name] = self.make(step["at"], step, left)
        self.names[call] = name
        return self.decided(name, call.begin(step["at"]))

    def end(self, step, left):
        left -= {"with", "attempt"}
        name = step["end"]
        call = self.calls[name]
        attempt = self.attempts[name, step.get("attempt", call.made)]
        return self.decided(name, call.ended(step["at"], attempt, outcome_of(step["with"])))

    def resume(self, step, left):
        return self.decided(step["resume"], self.calls[step["resume"]].resumed(step["at"]))

    def hedge(self, step, left):
        return self.decided(step["hedge"], self.calls[step["hedge"]].hedge(step["at"]))

    def cancel(self, step, left):
        self.calls[step["cancel"]].cancelled(step["at"])

    def many(self, step, left):
        left -= {"every", "with", "takes"}
        sent = turned_away = 0
        for number in range(step["calls"]):
            now = step["at"] + number * step["every"]
            call = self.machine.call(now, repeatable=True)
            decision = call.begin(now)
            if isinstance(decision, Attempt):
                sent += 1
                call.ended(now + step.get("takes", 0), decision, outcome_of(step["with"]))
                call.cancelled(now + step.get("takes", 0))
            else:
                turned_away += 1
        return {"sent": sent, "turned_away": turned_away}


class Door:
    """The runner of the cases of admission: requests in front of a server, and not calls."""

    def __init__(self, case):
        self.draws = Draws(case["random"])
        self.signals = []
        self.settings = Admission(**case["policy"]["admission"])
        self.turnstile = Turnstile(self.settings, lambda kind, _: self.signals.append(str(kind)))
        self.requests = {}

    def step(self, step):
        (verb,) = {"arrive", "overdue", "leave", "abandon"} & set(step)
        known = {"at", "then", "told", "signals", "operation", "hint", "deadline"}
        assert not set(step) - {verb} - known
        now, name = step["at"], step[verb]
        if verb == "arrive":
            hint = Priority(step.get("hint", "default"))
            priority = self.settings.priority_of(step.get("operation", ""), hint)
            self.requests[name] = Visitor(priority, step.get("deadline"))
        visitor = self.requests[name]
        {
            "arrive": self.turnstile.arrive,
            "overdue": self.turnstile.overdue,
            "leave": self.turnstile.left,
            "abandon": self.turnstile.abandoned,
        }[verb](now, visitor)
        self.compare(step, visitor)

    def compare(self, step, visitor):
        names = {visitor: name for name, visitor in self.requests.items()}
        told = [[names[one], one.verdict] for one in self.turnstile.outbox]
        self.turnstile.outbox.clear()
        assert told == step.get("told", [])
        then = {"verdict": visitor.verdict, "spared": visitor.spared}
        if visitor.verdict is None:
            then = {"waits": pytest.approx(visitor.until, abs=1e-6)}
        for word, expected in step.get("then", {}).items():
            assert expected == then[word], (word, then)
        for name in step.get("signals", []):
            assert name in self.signals
        self.signals.clear()


@pytest.mark.parametrize("case", CASES)
def test_a_case_of_the_pack(case):
    runner = Door(case) if "admission" in case["policy"] else Runner(case)
    for step in case["steps"]:
        runner.step(step)
    assert not runner.draws.left, "fewer numbers were drawn than the case has"


def test_every_case_is_argued_and_has_a_name_of_its_own():
    for found in FILES.values():
        assert found["format"] == 1
        assert set(found) == {"format", "part", "reference", "cases"}
        page, _, anchor = found["reference"].partition("#")
        text = (Path(__file__).parents[2] / page).read_text("utf-8")
        headings = [
            re.sub(r"[^\w -]", "", line.lstrip("# ")).strip().lower().replace(" ", "-")
            for line in text.splitlines()
            if line.startswith("#")
        ]
        assert anchor in headings
        names = [case["name"] for case in found["cases"]]
        assert len(set(names)) == len(names)
        for case in found["cases"]:
            assert set(case) == {"name", "because", "policy", "random", "steps"}
            assert len(case["because"]) > 20


def test_the_page_has_every_file_and_every_word_of_the_format():
    for name in FILES:
        assert f"`{name}`" in PAGE
    words = {word for found in FILES.values() for case in found["cases"] for word in words_of(case)}
    assert not [word for word in sorted(words) if f"`{word}`" not in PAGE]


def words_of(case):
    """The names that a case uses, but for those of settings, which the policies' page has."""
    for step in case["steps"]:
        yield from step
        yield from step.get("with", {})
        yield from step.get("then", {})


def test_settings_in_the_pack_are_those_of_the_policies():
    kinds = {
        "retry": (Retry,),
        "budget": tuple(BUDGETS.values()),
        "breaker": (Breaker,),
        "limit": (Limit,),
        "throttle": (Throttle,),
        "hedge": (Hedge,),
        "fallback": (Fallback,),
        "admission": (Admission,),
    }
    for found in FILES.values():
        for case in found["cases"]:
            for part, value in case["policy"].items():
                if isinstance(value, dict):
                    known = {one.name for kind in kinds[part] for one in fields(kind)} | {"kind"}
                    assert set(value) <= known
