"""Who holds a lease, and whether it still exists.

A lease runs out by itself. Where the holder was a process of this very machine and is gone, there
is no need to wait: a restarted service goes on with its sagas at once. That is told from Linux's
`/proc`: the boot, the process namespace, the process id and the moment it began. Anywhere else a
holder is never known to be dead, and its lease runs out.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

__all__ = ["identity", "is_dead"]

_PROC = Path("/proc")
_PARTS = 4
_STATE, _BEGAN = 0, 19  # fields of /proc/<pid>/stat, counted after the command's name


def identity() -> str:
    """Return a name for this process's worker: machine, process, its beginning, and a nonce."""
    pid = os.getpid()
    return f"{_machine()}/{pid}/{_began(pid) or 0}/{secrets.token_hex(4)}"


def is_dead(owner: str) -> bool:
    """Tell whether `owner` was a process of this machine that has ended."""
    parts = owner.split("/")
    machine = _machine()
    if len(parts) != _PARTS or not machine or parts[0] != machine or not parts[1].isdecimal():
        return False
    return _began(int(parts[1])) != parts[2]


def _machine() -> str:
    """Identify this boot and process namespace, in few bytes; empty where that cannot be told.

    Each saga's row has it, and the index of what a worker holds.
    """
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = (_PROC / "self/ns/pid").stat().st_ino
    except OSError:
        return ""
    return hashlib.blake2b(f"{boot}.{namespace}".encode(), digest_size=8).hexdigest()


def _began(pid: int) -> str | None:
    """Return when a process began, in ticks since boot; None: it is gone, or only a zombie."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[_STATE] in {"Z", "X"} else fields[_BEGAN]
