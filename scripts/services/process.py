"""A server's process: started, waited for, checked for where it listens, and ended by its id."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

__all__ = ["Process", "ServerError", "answers", "born", "end"]

_START: Final = 180.0
_STOP: Final = 60.0
_LISTEN: Final = "0A"


class ServerError(Exception):
    """A server did not start, or listens where it must not."""


def answers(port: int, send: bytes = b"", expect: bytes = b"") -> bool:
    """Tell whether a server on `port` takes a connection and answers `send` with `expect`."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as one:
        one.settimeout(2)
        one.sendall(send)
        return not expect or one.recv(len(expect)) == expect
    return False


def born(pid: int) -> str:
    """Return when a process was started, so that a later one of the same id is told apart."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    found = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], check=False, capture_output=True
    )
    return found.stdout.decode().strip()


def end(pid: int, birth: str, politely: int = signal.SIGTERM) -> None:
    """End the process group that `pid` leads, if it is still the one that was born then."""
    for number, patience in ((politely, _STOP), (signal.SIGKILL, _STOP)):
        until = time.monotonic() + patience
        with contextlib.suppress(ProcessLookupError):
            if birth and born(pid) == birth:
                os.killpg(pid, number)
        while time.monotonic() < until:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)  # ours may be a zombie
            if not birth or born(pid) != birth:
                return
            time.sleep(0.02)


class Process:
    """One running server, the leader of a process group of its own."""

    def __init__(
        self,
        command: Sequence[object],
        log: Path,
        *,
        ready: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        cwd: Path | None = None,
    ) -> None:
        with log.open("ab") as out:
            self._popen = subprocess.Popen(
                [str(one) for one in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=None if environment is None else {**os.environ, **environment},
                user=user,
                cwd=cwd,
                start_new_session=True,
            )
        self.pid = self._popen.pid
        self.born = born(self.pid)
        self._wait(ready, log)
        strangers = sorted(_beyond_loopback(self.pid))
        if strangers:
            self.stop()
            raise ServerError(f"it listens beyond loopback, on {', '.join(strangers)}.")

    def stop(self, politely: int = signal.SIGTERM) -> None:
        """End it as its operator would."""
        end(self.pid, self.born, politely)
        self._popen.wait()

    def leave(self) -> None:
        """Let it run on when this process ends; whoever has its id and birth can `end` it."""
        self._popen.returncode = 0  # or the interpreter would warn of a child that runs

    def kill(self) -> None:
        """End it as a crash would, with whatever it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()

    def _wait(self, ready: Callable[[], bool], log: Path) -> None:
        until = time.monotonic() + _START
        while not ready():
            if self._popen.poll() is not None or time.monotonic() > until:
                self.kill()
                tail = log.read_text(errors="replace")[-3000:]
                raise ServerError(f"it did not start; its log ends with:\n{tail}")
            time.sleep(0.05)


def _beyond_loopback(leader: int) -> set[str]:
    """Return where the process group listens beyond loopback; on Linux, where it can be seen."""
    if not sys.platform.startswith("linux"):
        return set()
    sockets = set(_sockets(leader))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address, _, port = fields[1].partition(":")
            if fields[3] == _LISTEN and fields[9] in sockets and not _is_loopback(address):
                found.add(f"{address}:{int(port, 16)}")
    return found


def _is_loopback(address: str) -> bool:
    # words in the byte order of the machine: 0100007F is 127.0.0.1, and ::ffff:127.0.0.1 ends in it
    short = address[-8:]
    mapped = address[:-8] in {"", "0000000000000000FFFF0000"}
    return (mapped and short.endswith("7F")) or address == "0" * 24 + "01000000"


def _sockets(leader: int) -> Iterator[str]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            # in its session: servers start helpers in groups of their own
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) != leader:
                continue
            for one in (folder / "fd").iterdir():
                target = str(one.readlink())
                if target.startswith("socket:["):
                    yield target[8:-1]
