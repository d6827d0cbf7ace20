"""Mutation testing of the policies: change the code in small ways, and see whether a test notices.

`make mutation` runs it. A copy of `policy/` and its tests is made in build/mutation, where mutmut
mutates it; what has been tried is remembered there, so a run that was stopped goes on, and a
second run tries only what has changed. Arguments go to `mutmut run` (a pattern of mutants, say).

Prints a table: of each module the mutants, those that a test noticed (a failure, or a run that
never ends), and those that survived. `cd build/mutation; mutmut show NAME` shows one.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACE = ROOT / "build/mutation"
COPIED = ("src/switchgear", "tests/policy", "docs")
SETTINGS = """\
[tool.mutmut]
source_paths = ["src/switchgear/policy"]
pytest_add_cli_args_test_selection = ["tests/policy"]
also_copy = ["src/switchgear", "docs"]

[tool.pytest.ini_options]
addopts = ["--import-mode=importlib", "-p", "no:cacheprovider"]
asyncio_mode = "auto"
"""
NOTICED = frozenset({"killed", "timeout", "segfault"})


def main(arguments: list[str]) -> None:
    """Copy, run, and print the table."""
    for name in COPIED:
        shutil.rmtree(PLACE / name, ignore_errors=True)
        shutil.copytree(ROOT / name, PLACE / name, ignore=shutil.ignore_patterns("__pycache__"))
    (PLACE / "pyproject.toml").write_text(SETTINGS, encoding="utf-8")
    mutmut = str(Path(sys.executable).parent / "mutmut")
    done = subprocess.run([mutmut, "run", *arguments], cwd=PLACE, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    found = subprocess.run(
        [mutmut, "results", "--all", "true"],
        cwd=PLACE,
        check=True,
        capture_output=True,
        text=True,
    )
    table(found.stdout)


def table(results: str) -> None:
    """Print the score of each module and of all."""
    modules: defaultdict[str, Counter[bool]] = defaultdict(Counter)
    survivors = []
    for line in results.splitlines():
        name, _, status = line.strip().rpartition(": ")
        if not name or status == "not checked":
            continue
        module = name.split(".")[2]
        modules[module][status in NOTICED] += 1
        if status not in NOTICED:
            survivors.append(f"{name}: {status}")
    everything: Counter[bool] = Counter()
    for seen in modules.values():
        everything.update(seen)
    print("\n".join(survivors))
    print("\n| module | mutants | noticed | survived | score |\n| --- | --: | --: | --: | --: |")
    for module, seen in [*sorted(modules.items()), ("all", everything)]:
        print(
            f"| {module} | {seen.total()} | {seen[True]} | {seen[False]} "
            f"| {seen[True] / max(1, seen.total()):.1%} |"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
