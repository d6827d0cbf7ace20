"""`switchgear contract check` beside `buf breaking`: 1,000 files, 5,000 messages, old and new.

buf checks one category, the check all five sets of rules at once. Three changes: nothing, one file,
and a field in every file. Time is of the whole process; memory is the most that the process and its
children held at once, each by its own peak (for the check: its own and both protocs').
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

FILES, MESSAGES, FIELDS, ROUNDS = 1000, 5, 10, 5
BIN = Path(sysconfig.get_path("scripts"))
KINDS = ["string", "int64", "int32", "bool", "bytes", "double"]


def text(index: int) -> str:
    lines = ['syntax = "proto3";', f"package shop.p{index % 50}.v1;"]
    if index % 50 != index:
        lines.append(f'import "p{index % 50}/f{index - 50}.proto";')
    for number in range(MESSAGES):
        lines.append(f"// What {index} says of {number}.\nmessage M{index}x{number} {{")
        for field in range(1, FIELDS + 1):
            kind = KINDS[(index + field) % len(KINDS)]
            lines.append(f"  // Field {field}.\n  {kind} field_{field} = {field};")
        if index % 50 != index:
            lines.append(f"  M{index - 50}x{number} before = {FIELDS + 1};")
        lines.append("}")
    lines.append(f"service S{index} {{ rpc Do(M{index}x0) returns (M{index}x1); }}")
    return "\n".join(lines) + "\n"


def lay(root: Path) -> None:
    for index in range(FILES):
        path = root / f"p{index % 50}" / f"f{index}.proto"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(index))


def change(root: Path, indexes: range | list[int]) -> None:
    for index in indexes:
        path = root / f"p{index % 50}" / f"f{index}.proto"
        path.write_text(path.read_text().replace("field_3 = 3", "renamed = 3"))


def measure(command: list[str], folder: Path) -> tuple[float, float]:
    """Return seconds, and the peaks of memory of a process and its children in MB."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    peaks: dict[int, int] = {}
    while process.poll() is None:
        for pid in descendants(process.pid):
            peaks[pid] = max(peaks.get(pid, 0), peak(pid))
        time.sleep(0.005)
    took = time.perf_counter() - begun
    assert process.returncode in (0, 1, 100), process.returncode
    return took, sum(peaks.values()) / 1024


def descendants(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        try:
            told = Path(f"/proc/{one}/task/{one}/children").read_text()
        except OSError:
            continue
        found += [int(child) for child in told.split()]
    return found


def peak(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def main() -> None:
    root = Path(tempfile.mkdtemp(prefix="switchgear-bench-"))
    try:
        lay(root / "old")
        for name, indexes in {
            "nothing": [],
            "one file": [FILES - 1],
            "every file": range(FILES),
        }.items():
            shutil.rmtree(root / "new", ignore_errors=True)
            shutil.copytree(root / "old", root / "new")
            change(root / "new", indexes)
            rules = "file,package,wire_json,wire,switchgear"
            ours = [str(BIN / "switchgear"), "contract", "check", "new", "--against", "old"]
            ours += ["--rules", rules, "--format", "json"]
            buf = [str(BIN / "buf"), "breaking", "new", "--against", "old"]
            # In turns: the machine is not quiet.
            rounds = [(measure(ours, root), measure(buf, root)) for _ in range(ROUNDS)]
            for what, at, unit in (("time", 0, "s"), ("memory", 1, "MB")):
                mine = statistics.median(one[0][at] for one in rounds)
                theirs = statistics.median(one[1][at] for one in rounds)
                ratios = sorted(one[0][at] / one[1][at] for one in rounds)
                spread = f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
                print(
                    f"{name:10} {what:6} switchgear {mine:8.2f} {unit:2} buf {theirs:8.2f} {unit:2}"
                    f"  ratio {statistics.median(ratios):.2f} {spread}"
                )
                sys.stdout.flush()
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    os.environ["PYTHONDONTWRITEBYTECODE"] = ""
    random.seed(1)
    main()
