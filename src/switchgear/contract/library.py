"""A module of contracts: what it declares, and all that can be written down of it for others."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from switchgear.contract.declaration import declaration_of
from switchgear.contract.enums import Enum
from switchgear.contract.event import EventContract
from switchgear.contract.kinds import is_message
from switchgear.contract.message import Message
from switchgear.contract.service import ServiceContract
from switchgear.errors import OperationError, SwitchgearError

__all__ = ["Library", "library_of", "load_library"]


@dataclass(frozen=True, slots=True)
class Library:
    """What one module declares, each in the order of the module."""

    name: str
    module: ModuleType
    services: tuple[ServiceContract, ...]
    messages: tuple[type[Message], ...]
    """Every message of the module's own, those of refusals and events and nested ones too."""
    enums: tuple[type[Enum], ...]
    events: tuple[EventContract, ...]
    target: str = ""
    """What it was loaded by: a dotted name, or a file."""

    @property
    def roots(self) -> tuple[Any, ...]:
        """Everything, as the exports take it."""
        return (*self.services, *self.messages, *self.enums)


def load_library(target: str) -> Library:
    """Import a module of contracts by its name (`shop.contracts`) or its file (`contracts.py`).

    A file inside a package, whose folder holds an `__init__.py`, has its dotted name either way.
    Raises `OperationError` if there is none or it declares nothing, and the module's own errors of
    declaration.
    """
    try:
        module = _file(Path(target)) if target.endswith(".py") else importlib.import_module(target)
    except SwitchgearError:
        raise
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and target.startswith(f"{error.name}")
        raise OperationError(
            f"there is no module {target}."
            if missing
            else f"it cannot be imported: {type(error).__name__}: {error}.",
            where=target,
            fix="Name it as shop.contracts, from the folder that holds it; or name its file.",
        ) from error
    found = library_of(module)
    if not found.roots:
        raise OperationError(
            "it declares no contracts.", where=target, fix="Name the module that declares them."
        )
    return replace(found, target=target)


def library_of(module: ModuleType) -> Library:
    """Return what `module` declares itself; what it imports belongs to others."""
    own = [
        one
        for one in vars(module).values()
        if isinstance(one, type) and one.__module__ == module.__name__
    ]
    services = [vars(one).get("__contract__") for one in own]
    messages = [one for one in own if is_message(one) and not hasattr(one, "__contract__")]
    messages += [
        vars(one)["__message__"] for one in own if isinstance(vars(one).get("__message__"), type)
    ]
    enums = [one for one in own if issubclass(one, Enum)]
    for message in messages:  # it grows: what is declared inside is walked too
        inner = [one for one in vars(message).values() if isinstance(one, type)]
        messages += [one for one in inner if is_message(one) and _owner(one) is message]
        enums += [one for one in inner if issubclass(one, Enum) and _owner(one) is message]
    messages.sort(key=lambda one: declaration_of(one).serial)
    events = [vars(one).get("__event__") for one in messages]
    return Library(
        name=module.__name__,
        module=module,
        services=tuple(one for one in services if isinstance(one, ServiceContract)),
        messages=tuple(messages),
        enums=tuple(enums),
        events=tuple(one for one in events if isinstance(one, EventContract)),
    )


def _owner(cls: type[Message | Enum]) -> object:
    return cls.__dict__.get("__owner__") if issubclass(cls, Enum) else declaration_of(cls).owner


def _file(path: Path) -> ModuleType:
    """Import one file: under its dotted name inside a package, else under that of its stem."""
    if not path.is_file():
        raise OperationError("there is no such file.", where=str(path))
    folder = path.parent.resolve()
    parts = [] if path.stem == "__init__" else [path.stem]
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    if folder == path.parent.resolve():
        return _alone(path)
    return _inside(".".join(parts), folder, path)


def _inside(name: str, folder: Path, path: Path) -> ModuleType:
    """Import a module of a package that begins in `folder`."""
    sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))
    if module.__file__ is None or not path.samefile(module.__file__):
        raise OperationError(
            f"another module has its name, {name}: {module.__file__}.",
            where=str(path),
            fix="Give the package a name of its own.",
        )
    return module


def _alone(path: Path) -> ModuleType:
    """Import a file that no package holds."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise OperationError("it is not a module.", where=str(path))
    module = importlib.util.module_from_spec(spec)
    # annotations are evaluated where the module is
    before = sys.modules.get(path.stem)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(path.stem)
        if before is not None:
            sys.modules[path.stem] = before
        raise
    return module
