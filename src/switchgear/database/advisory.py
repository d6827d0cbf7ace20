"""Locks by number, among the processes that share one SQLite file.

PostgreSQL has advisory locks; SQLite has one lock for all writers. Here a lock is one byte of a
file beside the database, locked as SQLite locks its own: it ends with the process that holds it,
however that ends. They only advise: what must not happen twice, the database has to refuse.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Final

if sys.platform != "win32":
    import fcntl

__all__ = ["AdvisoryLocks"]

_RANGE: Final = 2**62 - 1


class AdvisoryLocks:
    """The locks of one process beside the file `database`. Where there are none, all are free.

    Within a process they exclude nobody.
    """

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(f"{database.name}-locks")
        self._file: int | None = None

    def take(self, number: int) -> bool:
        """Take a lock now; False if another process holds it."""
        if sys.platform == "win32":
            return True
        try:
            if self._file is None:
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                self._file = os.open(self._path, flags, 0o600)
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number & _RANGE)
        except OSError as error:
            # POSIX allows both; anything else means that there are no locks: the database decides
            return error.errno not in {errno.EAGAIN, errno.EACCES} or self._file is None
        return True

    def give(self, number: int) -> None:
        """Give a lock back."""
        if sys.platform != "win32" and self._file is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number & _RANGE)

    def close(self) -> None:
        """Give all back."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
