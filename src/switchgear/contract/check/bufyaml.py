"""buf.yaml and buf.work.yaml: which files belong together, and which rules they are held to.

| version | files | `ignore` is relative to |
| --- | --- | --- |
| `v1beta1` | `build.roots` (default: the folder), less `build.excludes` | the root |
| `v1` | the folder, less `build.excludes`; several with buf.work.yaml | the folder |
| `v2` | `modules` (default: the folder), less their `excludes` | the folder of buf.yaml |

Without a `breaking` section the category is FILE. Rules of plugins are not run, and not refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from switchgear.contract.check.catalogue import BUF_RULES, BUF_VERSIONS, named
from switchgear.errors import UnreadableContract

__all__ = ["Breaking", "Module", "read_modules"]

_UNSTABLE: Final = re.compile(r"v[1-9]\d*(test.*|(p[1-9]\d*)?(alpha|beta)([1-9]\d*)?)")


@dataclass(frozen=True, slots=True)
class Breaking:
    """The `breaking` section: which rules, and where they do not hold."""

    rules: frozenset[str]
    excluded: frozenset[str] = frozenset()
    ignore: tuple[str, ...] = ()
    ignore_only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ignore_unstable_packages: bool = False
    prefix: str = ""
    """What stands before the name of a file where its path is compared."""

    def using(self, rules: Collection[str]) -> Breaking:
        """Return the section with other rules in the place of `use`; `except` still holds."""
        return replace(self, rules=frozenset(rules) - self.excluded)

    def ignores(self, rule: str, name: str, package: str) -> bool:
        """Whether a finding of `rule` in a file is to be left out."""
        paths = (*self.ignore, *self.ignore_only.get(rule, ()))
        if paths:
            path = PurePosixPath(self.prefix, name)
            if any(one in {"", "."} or path.is_relative_to(one) for one in paths):
                return True
        return self.ignore_unstable_packages and bool(
            _UNSTABLE.fullmatch(package.rpartition(".")[2])
        )


@dataclass(frozen=True, slots=True)
class Module:
    """One folder from which `.proto` files import each other."""

    root: Path
    breaking: Breaking
    excludes: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    configured: bool = True
    """Whether a buf.yaml said so."""

    def holds(self, name: str) -> bool:
        """Whether the file of that name belongs to the module."""
        path = PurePosixPath(name)
        if self.includes and not any(path.is_relative_to(one) for one in self.includes):
            return False
        return not any(path.is_relative_to(one) for one in self.excludes)


def read_modules(folder: Path) -> list[Module]:
    """Return the modules of a folder; the folder itself where nothing says otherwise.

    Raises `UnreadableContract` for a file that does not say what buf understands.
    """
    work = _file(folder, "buf.work")
    if work is not None:
        folders = _texts(_mapping(_load(work), work), "directories", str(work))
        return [one for inner in folders for one in _module_of(folder / inner)]
    return _module_of(folder)


def _module_of(folder: Path) -> list[Module]:
    file = _file(folder, "buf")
    if file is None:
        every = frozenset(named("FILE", BUF_RULES["v2"], str(folder)))
        return [Module(folder, Breaking(every), configured=False)]
    where = str(file)
    told = _mapping(_load(file), file)
    version = told.get("version", "v1beta1")
    if version not in BUF_VERSIONS:
        raise UnreadableContract(
            f"The version {version!r} is not known.",
            where=where,
            fix=f"Use one of {', '.join(BUF_VERSIONS)}.",
        )
    section = _section(told, "breaking", where)
    plugins = bool(told.get("plugins"))
    breaking = _breaking(section, version, where, plugins=plugins)
    build = _section(told, "build", where)
    if version == "v1beta1":
        roots = _texts(build, "roots", where) or ["."]
        excludes = _texts(build, "excludes", where)
        return [Module(folder / root, breaking, tuple(_below(excludes, root))) for root in roots]
    if version == "v1":
        return [Module(folder, breaking, tuple(_texts(build, "excludes", where)))]
    return _modules(folder, told, breaking, where)


def _modules(folder: Path, told: Mapping[str, Any], breaking: Breaking, where: str) -> list[Module]:
    modules = told.get("modules") or [{"path": "."}]
    if not isinstance(modules, list):
        raise UnreadableContract("`modules` is not a list.", where=where)
    found = []
    for one in modules:
        module = _mapping(one, where)
        path = str(module.get("path", "."))
        own = breaking
        if "breaking" in module:
            plugins = bool(told.get("plugins"))
            own = _breaking(_section(module, "breaking", where), "v2", where, plugins=plugins)
        prefix = "" if path == "." else PurePosixPath(path).as_posix()
        found.append(
            Module(
                folder / path,
                replace(own, prefix=prefix),
                tuple(_below(_texts(module, "excludes", where), path)),
                tuple(_below(_texts(module, "includes", where), path)),
            )
        )
    return found


def _breaking(section: Mapping[str, Any], version: str, where: str, *, plugins: bool) -> Breaking:
    table = BUF_RULES[version]

    def rules(names: Iterable[str]) -> frozenset[str]:
        found: set[str] = set()
        for name in names:
            try:
                found.update(named(name, table, where))
            except UnreadableContract:
                if not plugins:  # a plugin may have rules and categories of its own
                    raise
        return frozenset(found)

    only = _mapping(section.get("ignore_only") or {}, where)
    by_rule: dict[str, tuple[str, ...]] = {}
    for name in only:
        paths = tuple(_texts(only, name, where))
        for rule in rules([name]):
            by_rule[rule] = (*by_rule.get(rule, ()), *paths)
    excluded = rules(_texts(section, "except", where))
    return Breaking(
        rules(_texts(section, "use", where) or ["FILE"]) - excluded,
        excluded,
        tuple(_texts(section, "ignore", where)),
        by_rule,
        bool(section.get("ignore_unstable_packages")),
    )


def _below(paths: Iterable[str], root: str) -> list[str]:
    """Return those of `paths` that are below `root`, seen from there."""
    inner = [PurePosixPath(path) for path in paths]
    return [
        path.relative_to(root).as_posix()
        for path in inner
        if root == "." or path.is_relative_to(root)
    ]


def _file(folder: Path, stem: str) -> Path | None:
    named = (folder / f"{stem}{suffix}" for suffix in (".yaml", ".yml"))
    return next((one for one in named if one.is_file()), None)


def _load(path: Path) -> Any:
    from switchgear.contract.check.documents import read_document  # noqa: PLC0415  needs PyYAML

    return read_document(path).value


def _mapping(value: Any, where: object) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UnreadableContract("It is not a mapping of keys to values.", where=str(where))
    return value


def _section(told: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    return _mapping(told.get(key), f"{where}: {key}")


def _texts(told: Mapping[str, Any], key: str, where: str) -> list[str]:
    value = told.get(key) or []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise UnreadableContract(f"`{key}` is not a list of words.", where=where)
    return list(value)
