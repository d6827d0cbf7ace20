"""The page of errors and the tree of errors say the same."""

import importlib
import pkgutil
import re
from pathlib import Path

import switchgear
from switchgear.errors import SwitchgearError

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"


def tree(cls):
    yield cls
    for child in cls.__subclasses__():
        yield from tree(child)


def declared():
    """Every class of ours in the tree, by its code."""
    for module in pkgutil.walk_packages(switchgear.__path__, "switchgear."):
        if not module.name.endswith("__main__") and ".examples" not in module.name:
            importlib.import_module(module.name)
    found: dict[str, set[str]] = {}
    for cls in tree(SwitchgearError):
        ours = cls.__module__.startswith("switchgear.")
        if ours and "code" in vars(cls) and not cls.__name__.startswith("_"):
            found.setdefault(cls.code, set()).add(cls.__name__)
    return found


def test_every_code_has_one_meaning():
    assert {code: names for code, names in declared().items() if len(names) > 1} == {}


def test_the_page_lists_every_code_and_no_other():
    rows = re.findall(r"^\| (SG\d+) \| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted((code, *names) for code, names in declared().items())
