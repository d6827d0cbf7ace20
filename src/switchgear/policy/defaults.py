"""Where the settings of a policy come from that the code does not give.

The order
---------
From the weakest to the strongest; each later one replaces single settings of those before:

    the library's defaults
    a preset, which a package of the organisation provides
    [policy]                                    every call
    [policy.query], [policy.command]            the calls of one pattern
    [policy.callees.NAME]                       the calls of one callee
    [policy.callees.NAME.query]                 those of one pattern
    [policy.callees.NAME.operations.METHOD]     one operation
    the code: what was given to `Policy(...)`

A part can be switched off (`breaker = false`, or None in code); a setting of it in a stronger layer
switches it on again. Another `kind` of a part (of a budget, an adaptive limit) forgets what weaker
layers said about the kind before.

What was given in code is what was written in the call that made the settings: `Policy(deadline=2)`
gives one setting, and `Retry()` inside a policy gives none, though it says that there are retries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, Final

from switchgear.errors import PolicyError
from switchgear.model.edge import Pattern
from switchgear.policy.adaptive import Aimd, Gradient, Vegas
from switchgear.policy.breaker import Breaker, Evidence
from switchgear.policy.budget import Budget, GrpcThrottling, TokenBucket
from switchgear.policy.fallback import Fallback, Stale
from switchgear.policy.hedge import Hedge
from switchgear.policy.limit import Limit
from switchgear.policy.policy import Policy
from switchgear.policy.retry import Retry
from switchgear.policy.settings import Settings
from switchgear.policy.throttle import Throttle

__all__ = ["PARTS", "Defaults", "Given", "Layer", "Scope", "Switch", "layer_of", "policy_of"]

PARTS: Final[Mapping[str, tuple[type[Settings], ...]]] = {
    "retry": (Retry,),
    "budget": (Budget, GrpcThrottling, TokenBucket),
    "hedge": (Hedge,),
    "throttle": (Throttle,),
    "breaker": (Breaker,),
    "limit": (Limit,),
    "limit.concurrency": (Aimd, Gradient, Vegas),
    "fallback": (Fallback,),
    "fallback.stale": (Stale,),
}
"""What may stand for each part of a policy, by path; the first is meant where no `kind` is said."""

_CODE: Final = "the code"
_CODE_ALONE: Final = frozenset({"fallback.value", "fallback.function"})


class Switch(Enum):
    """A part as a whole, in a layer."""

    ON = True
    OFF = False


@dataclass(frozen=True, slots=True)
class Given:
    """One setting of a layer, and where it stands."""

    value: object
    source: str


Layer = Mapping[str, Given]
"""Settings by path, such as `retry.attempts`; a part's own path has a `Switch`."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which calls a layer is for; None: any."""

    callee: str | None = None
    """Full name of a contract, or the name of a guard."""
    pattern: Pattern | None = None
    operation: str | None = None
    """Name of the method."""

    def covers(self, other: Scope) -> bool:
        """Tell whether the calls of `other` are among those of this."""
        return all(
            mine in (None, theirs)
            for mine, theirs in (
                (self.callee, other.callee),
                (self.pattern, other.pattern),
                (self.operation, other.operation),
            )
        )


@dataclass(frozen=True, slots=True)
class Defaults:
    """The layers between the library's defaults and the code, the weakest first."""

    layers: tuple[tuple[Scope, Layer], ...] = field(default=())

    @classmethod
    def of(
        cls,
        every: Policy | None = None,
        *,
        query: Policy | None = None,
        command: Policy | None = None,
        callees: Mapping[str, Policy] | None = None,
        source: str = "a preset",
    ) -> Defaults:
        """Return the defaults that an organisation gives in code: only what is given counts.

        source: how `Policy.describe()` names where they come from.
        """
        scoped = [
            (Scope(), every),
            (Scope(pattern=Pattern.QUERY), query),
            (Scope(pattern=Pattern.COMMAND), command),
            *((Scope(callee=name), policy) for name, policy in (callees or {}).items()),
        ]
        return cls(tuple((scope, layer_of(policy, source)) for scope, policy in scoped if policy))

    def over(self, weaker: Defaults) -> Defaults:
        """Return both as one, with these the stronger."""
        return Defaults((*weaker.layers, *self.layers))

    def policy(
        self,
        own: Policy | None = None,
        *,
        callee: str | None = None,
        pattern: Pattern | None = None,
        operation: str | None = None,
    ) -> Policy:
        """Return the policy of some calls. `own` is what the code gives.

        Its `sources`, and so its `describe()`, name where each setting comes from. Raises
        PolicyError for a setting out of range, and for two that contradict each other.
        """
        asked = Scope(callee, pattern, operation)
        layers = [layer for scope, layer in self.layers if layer and scope.covers(asked)]
        if not layers:
            return own or Policy()
        if own is not None:
            layers.append(layer_of(own, _CODE))
        return _made(layers)


def layer_of(policy: Policy, source: str) -> Layer:
    """Return what was given when a policy was made."""
    return {path: Given(value, source) for path, value in _given(policy, "")}


def _given(settings: Settings, prefix: str) -> Iterable[tuple[str, object]]:
    for name in sorted(settings.given - {"sources"}):
        path, value = f"{prefix}{name}", getattr(settings, name)
        if isinstance(value, Settings):
            yield path, Switch.ON
            if value.kind is not None:
                yield f"{path}.kind", value.kind
            yield from _given(value, f"{path}.")
        else:
            yield path, Switch.OFF if value is None and path in PARTS else value


def policy_of(description: Mapping[str, object]) -> Policy:
    """Return the policy that `Policy.describe()` has described.

    Raises PolicyError for a fallback to a value or a function: those are code, and cannot be
    described.
    """
    tree = Tree()
    for path, value in _told(description, ""):
        _put(tree, path, value)
    return _built("", Policy, tree, {})  # type: ignore[return-value]


def _told(description: Mapping[str, object], path: str) -> Iterable[tuple[str, object]]:
    """Yield what a description says, as a layer would; of a part first that it is there."""
    for name, value in description.items():
        inner = f"{path}.{name}".lstrip(".")
        if inner == "sources" or name == "kind":
            continue
        if inner in _CODE_ALONE:
            if value is not None:
                raise PolicyError(
                    "a fallback to a value or a function is code, and cannot be read from a "
                    "description.",
                    where="Fallback",
                )
        elif inner == "breaker.evidence":
            yield inner, Evidence.read(value)
        elif inner in PARTS and isinstance(value, Mapping):
            yield inner, Switch.ON
            if value.get("kind") is not None:
                yield f"{inner}.kind", value["kind"]
            yield from _told(value, inner)
        else:
            yield inner, Switch.OFF if value is None and inner in PARTS else value


class Tree(dict[str, Any]):
    """Settings by name; a part is a tree of its own.

    A class of its own, since a setting may itself be a dictionary. (`Any`: whatever one takes.)
    """


def _made(layers: Iterable[Layer]) -> Policy:
    """Return the policy that the layers add up to."""
    tree = Tree()
    sources: dict[str, str] = {}
    for layer in layers:
        for path, given in layer.items():
            _put(tree, path, given.value)
            sources[path] = given.source
    kept = {path: source for path, source in sources.items() if _stands(tree, path)}
    return _built("", Policy, Tree(tree, sources=kept), kept)  # type: ignore[return-value]


def _put(tree: Tree, path: str, value: object) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        inner = tree.get(parent)
        if not isinstance(inner, Tree):
            inner = tree[parent] = Tree()
        tree = inner
    if value is Switch.ON:
        if not isinstance(tree.get(last), Tree):
            tree[last] = Tree()
    elif value is Switch.OFF:
        tree[last] = None
    else:
        if last == "kind" and tree.get("kind", PARTS[".".join(parents)][0].kind) != value:
            tree.clear()
        tree[last] = value


def _stands(tree: Tree, path: str) -> bool:
    """Tell whether what a path says has not been replaced as a whole."""
    *parents, last = path.split(".")
    for parent in parents:
        inner = tree.get(parent)
        if not isinstance(inner, Tree):
            return False
        tree = inner
    return last in tree


def _built(path: str, cls: type[Settings], tree: Tree, sources: Mapping[str, str]) -> Settings:
    values = {
        name: _part(f"{path}.{name}".strip("."), value, sources)
        if isinstance(value, Tree)
        else value
        for name, value in tree.items()
        if name != "kind"
    }
    known = [setting.name for setting in fields(cls)]  # type: ignore[arg-type]  # each is a dataclass
    for name in values:
        if name not in known:
            raise PolicyError(
                f"{name} is no setting of {cls.__name__}; it has {', '.join(known)}.",
                where=sources.get(f"{path}.{name}"),
                fix="Say which kind is meant, or leave the setting out.",
            )
    try:
        return cls(**values)
    except PolicyError as error:
        within = {source for name, source in sources.items() if name.startswith(path)}
        raise PolicyError(
            error.what, where=" and ".join(sorted(within)) or error.where, fix=error.fix
        ) from error


def _part(path: str, tree: Tree, sources: Mapping[str, str]) -> Settings:
    choices = {cls.kind: cls for cls in PARTS[path]}
    kind = tree.get("kind", PARTS[path][0].kind)
    if kind not in choices:
        raise PolicyError(
            f"kind is {kind!r}; it has to be one of {', '.join(str(one) for one in choices)}.",
            where=sources.get(f"{path}.kind"),
        )
    return _built(path, choices[kind], tree, sources)
