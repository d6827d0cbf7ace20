"""Ports for servers: each process gets its own, and nobody takes one while its server is away.

The system gives those of its own range to every connection, and to whoever asks for any port. So a
server's is below that range: one that is started again finds its port free. Which ones are given
out is written down as locks of one file, a byte for each port, until the process ends.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["free_port"]

_PORTS: Final = range(15_000, 32_000)
_guard: Final = threading.Lock()
_given: Final[set[int]] = set()
"""A lock keeps out other processes, and not this one."""


def free_port() -> int:
    """Return a port of the loopback that nobody listens on, and that nobody else is given."""
    with _guard:
        for port in random.sample(_PORTS, len(_PORTS)):
            if port not in _given and _lock(port) and _is_free(port):
                _given.add(port)
                return port
    raise OSError("no port is free")


@cache
def _locks() -> int:
    """Return the descriptor of the locks; the end of the process closes it."""
    path = Path(tempfile.gettempdir()) / f"switchgear-{os.getuid()}-ports"
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _lock(port: int) -> bool:
    try:
        fcntl.lockf(_locks(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
