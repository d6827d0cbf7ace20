"""One service as a child process: start it, follow its log and its state, end it.

    STOPPED or EXITED -> STARTING -> READY -> DRAINING -> STOPPED
                             |         |          |
                             +---------+----------+-----> EXITED

`STOPPED` and `EXITED` differ in who decided: a process that was told to stop is `STOPPED`, one
that ended by itself or was killed is `EXITED`, and only that is a reason to start it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

from switchgear.app.lifeline import VARIABLE
from switchgear.errors import OperationError

__all__ = ["Process", "State"]

_LOG_LINES: Final = 2000
_LONGEST_LINE: Final = 65_536
_PIPE_GRACE: Final = 1.0
"""Seconds to read on after the end, where a process that it started still holds its output."""
_LAST_LINES: Final = 15
_KILL_AFTER: Final = 3.0
"""Seconds beyond the drain bound after which a service that was told to stop is killed."""


class State(StrEnum):
    """How a service's process is."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    EXITED = "exited"


class Process:
    """A service's process. `Supervisor` makes it; drills and tests drive it.

    `env` holds environment variables for the next start, on top of those of the system.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        folder: Path,
        drain: float = 10.0,
        ready: float = 30.0,
        on_line: Callable[[str, str], None] | None = None,
        on_state: Callable[[Process], None] | None = None,
    ) -> None:
        self.name = name
        self.env: dict[str, str] = {}
        self.logs: deque[str] = deque(maxlen=_LOG_LINES)
        """The last lines of its output, over all its starts."""
        self.http: str | None = None
        """Where its REST door listens, `host:port`, known once it is ready."""
        self.grpc: str | None = None
        """Where its gRPC door listens."""
        self.state = State.STOPPED
        self.exit_code: int | None = None
        """Of the last run; negative: the signal that ended it. None while it runs."""
        self.failure: str | None = None
        """What it said about why it could not start."""
        self.starts = 0
        self._command = command
        self._base_env = env
        self._folder = folder
        self._drain = drain
        self._ready_within = ready
        self._on_line = on_line
        self._on_state = on_state
        self._child: asyncio.subprocess.Process | None = None
        self._follower: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._ready = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self._told_to_stop = False

    @property
    def pid(self) -> int | None:
        """The process id, or None while it does not run."""
        child = self._child
        return child.pid if child is not None and child.returncode is None else None

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self.pid is not None

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop, so that its end is no surprise."""
        return self._told_to_stop

    @property
    def end(self) -> str:
        """How the last run ended, in words: `exit code 1`, `signal SIGKILL`."""
        return _told(self.exit_code)

    async def start(self) -> None:
        """Start the process and return at once; `wait_ready` waits until it can work."""
        async with self._starting:
            if not self.running:
                await self._finished()
                await self._start()

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            self._child = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                cwd=self._folder,
                env={**self._base_env, **self.env, VARIABLE: str(theirs.fileno())},
                pass_fds=(theirs.fileno(),),
                # Ctrl-C in the terminal is for the supervisor alone, which then drains
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise OperationError(
                f"the process of {self.name} cannot be started: {error.strerror}.",
                where=" ".join(self._command),
                fix="Check the folder of switchgear.toml and the limits of this user.",
            ) from error
        finally:
            theirs.close()
        self.starts += 1
        self.exit_code = self.failure = self.http = self.grpc = None
        self._told_to_stop = False
        self._ready.clear()
        self._ended.clear()
        self._become(State.STARTING)
        self._follower = asyncio.create_task(self._follow(self._child, ours))

    async def wait_ready(self, within: float | None = None) -> None:
        """Wait until the service says that it is ready.

        `within` is in seconds; default: `[system] ready`. Raises `OperationError` with its last
        lines if it ended, or if it takes longer.
        """
        bound = self._ready_within if within is None else within
        waits = [asyncio.create_task(event.wait()) for event in (self._ready, self._ended)]
        try:
            await asyncio.wait(waits, timeout=bound, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        if self._ready.is_set() and not self._ended.is_set():
            return
        raise self.why(f"is not ready after {bound:g} s" if self.running else None)

    def why(self, what: str | None = None) -> OperationError:
        """Return what is known about why it does not run, to be raised or shown."""
        if self.failure:
            return OperationError(f"{self.name} did not start: {self.failure}")
        said = what or f"ended with {self.end}"
        lines = list(self.logs)[-_LAST_LINES:]
        tail = ("\n" + "\n".join(f"  | {line}" for line in lines)) if lines else ""
        return OperationError(f"{self.name} {said}.{tail}")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal. To the supervisor its end is a failure, as `kill -9` would be."""
        if self._child is not None and self.running:
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(number)

    async def terminate(self, within: float | None = None) -> int | None:
        """Tell it to stop, wait until it has drained, and return its exit code.

        `within` is in seconds, default its drain bound and a little more; after that it is killed.
        """
        self._told_to_stop = True
        if self.running:
            self.kill(signal.SIGTERM)
            bound = self._drain + _KILL_AFTER if within is None else within
            try:
                await asyncio.wait_for(self._ended.wait(), bound)
            except TimeoutError:
                self.kill()
        await self._finished()
        if self.state is not State.STOPPED:
            self._become(State.STOPPED)
        return self.exit_code

    async def restart(self, *, wait: bool = True, **env: str) -> None:
        """Stop it if it runs and start it again, with `env` on top of its own variables."""
        await self.terminate()
        self.env.update(env)
        await self.start()
        if wait:
            await self.wait_ready()

    async def wait(self) -> int | None:
        """Wait until the process has ended, and return its exit code."""
        await self._ended.wait()
        return self.exit_code

    async def _finished(self) -> None:
        if self._follower is not None:
            await self._follower
            self._follower = None

    def _become(self, state: State) -> None:
        self.state = state
        if self._on_state is not None:
            self._on_state(self)

    async def _follow(self, child: asyncio.subprocess.Process, line: socket.socket) -> None:
        """Read its output and its reports until it has ended."""
        reader, writer = await asyncio.open_connection(sock=line)
        reports = asyncio.create_task(self._reports(reader))
        output = asyncio.create_task(self._output(child))
        try:
            code = await child.wait()
            # what it wrote last is still in the pipes
            await asyncio.wait([reports, output], timeout=_PIPE_GRACE)
        finally:
            for task in (reports, output):
                task.cancel()
            await asyncio.gather(reports, output, return_exceptions=True)
            writer.close()
        self.exit_code = code
        self._ended.set()
        self._become(State.STOPPED if self._told_to_stop else State.EXITED)

    async def _reports(self, reader: asyncio.StreamReader) -> None:
        while raw := await reader.readline():
            told = json.loads(raw)
            if told["state"] == "ready":
                self.http, self.grpc = told.get("http"), told.get("grpc")
                self._ready.set()
                self._become(State.READY)
            elif told["state"] == "draining":
                self._become(State.DRAINING)
            elif told["state"] == "failed":
                self.failure = told.get("error")

    async def _output(self, child: asyncio.subprocess.Process) -> None:
        if child.stdout is None:
            return
        rest = b""
        while chunk := await child.stdout.read(_LONGEST_LINE):
            *lines, rest = (rest + chunk).split(b"\n")
            for found in lines:
                self._line(found)
            if len(rest) > _LONGEST_LINE:
                self._line(rest)
                rest = b""
        if rest:
            self._line(rest)

    def _line(self, raw: bytes) -> None:
        text = raw.decode(errors="replace").rstrip("\r")
        self.logs.append(text)
        if self._on_line is not None:
            self._on_line(self.name, text)


def _told(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return f"signal {signal.Signals(-code).name}"
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}"
