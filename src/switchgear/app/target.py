"""Import `module:name`, and say in one line what is wrong if that fails."""

from __future__ import annotations

import importlib
import logging
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from switchgear.config import Config
from switchgear.errors import OperationError, SwitchgearError, UsageError

__all__ = ["add_to_path", "import_path", "load_target"]

_log = logging.getLogger(__name__)


def import_path(config: Config) -> list[Path]:
    """Return the folders from which a system's modules are imported.

    They are `[system] path`, then the folder of the file; where that folder is a package itself,
    the first folder above that is none.
    """
    folder = config.folder
    while (folder / "__init__.py").exists() and folder != folder.parent:
        folder = folder.parent
    return [*config.system.path, folder]


def add_to_path(folders: Iterable[Path]) -> None:
    """Put folders in front of the import path, in this order."""
    names = [str(folder) for folder in folders]
    sys.path[:] = [*names, *(name for name in sys.path if name not in names)]


def load_target(target: str) -> object:
    """Return what `module:name` names. Raises `OperationError` where there is no such thing.

    What the library itself raises while the module is imported (a contract, policy or saga that
    breaks a rule) is passed on as it is.
    """
    module_name, _, attributes = target.partition(":")
    if not module_name or not attributes:
        raise UsageError(f"{target!r} is not module:name.", fix="Write it as shop.orders:app.")
    try:
        found: object = importlib.import_module(module_name)
    except SwitchgearError:
        raise
    except Exception as error:
        _log.debug("cannot import %s", module_name, exc_info=True)
        raise _not_imported(module_name, error) from error
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError as error:
            raise OperationError(
                f"the module {module_name} has no {attributes}.",
                where=target,
                fix=f"Name the variable that holds the application: {module_name}:app.",
            ) from error
        except Exception as error:  # a module may make its attributes when they are asked for
            raise _not_imported(module_name, error) from error
    return found


def _not_imported(module: str, error: Exception) -> OperationError:
    missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
    if missing and (module == missing or module.startswith(f"{missing}.")):
        return OperationError(
            f"there is no module {missing}.",
            where=module,
            fix="Run from the folder that holds it, or name that folder in [system] path.",
        )
    frames = traceback.extract_tb(error.__traceback__)
    # the last frame outside of the import system is where the module's author has to look
    frame = next((f for f in reversed(frames) if "importlib" not in f.filename), None)
    where = f"{frame.filename}:{frame.lineno}" if frame else module
    if isinstance(error, SyntaxError):
        where = f"{error.filename}:{error.lineno}"
    said = str(error).partition("\n")[0]
    return OperationError(
        f"{module} cannot be imported: {type(error).__name__}: {said}.",
        where=where,
        fix="The whole trace is in the log at level debug.",
    )
