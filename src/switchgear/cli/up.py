"""`switchgear up`: the supervisor on a terminal."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import cycle
from typing import Final

from rich.console import Console
from rich.status import Status
from rich.text import Text

from switchgear.app.process import Process, State
from switchgear.app.up import Supervisor
from switchgear.config import Config

__all__ = ["Lines", "up"]

_FAILED: Final = 1
_INTERRUPTED: Final = 130
_COLOURS: Final = ("cyan", "magenta", "green", "blue", "yellow", "bright_cyan", "bright_magenta")
_LEVELS: Final = {"warning": "yellow", "error": "red", "critical": "bold red", "debug": "dim"}
_SHOWN: Final = frozenset({"time", "level", "service", "logger", "message", "trace"})


class Lines:
    """The logs of all services as one: coloured on a terminal, else one JSON object a line."""

    def __init__(self, console: Console, names: Sequence[str], *, json_lines: bool) -> None:
        self.console = console
        self.json_lines = json_lines
        self._width = max(map(len, names), default=0)
        self._colour = dict(zip(names, cycle(_COLOURS), strict=False))

    def line(self, service: str, raw: str) -> None:
        """Show a line that a service wrote."""
        told = _parsed(raw)
        if self.json_lines:
            self._write(json.dumps({"service": service, **(told or {"message": raw})}))
            return
        text = self._prefix(service)
        if told is None:
            text.append(raw)
        else:
            text.append_text(_readable(told))
        self.console.print(text, soft_wrap=True)

    def say(self, service: str | None, message: str, *, style: str = "bold") -> None:
        """Show what the supervisor has to say itself."""
        if self.json_lines:
            told = {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "level": "info",
                "service": service,
                "logger": "switchgear.up",
                "message": message,
            }
            self._write(json.dumps({key: value for key, value in told.items() if value}))
            return
        text = self._prefix(service) if service else Text()
        self.console.print(text.append(message, style=style), soft_wrap=True)

    def _write(self, line: str) -> None:
        self.console.print(line, soft_wrap=True, markup=False, highlight=False)

    def _prefix(self, service: str) -> Text:
        return Text().append(f"{service:<{self._width}} ", style=self._colour.get(service, ""))


def _parsed(raw: str) -> dict[str, object] | None:
    """Return the record that a line is, or None for a line that something else printed."""
    if not raw.startswith("{"):
        return None
    try:
        told = json.loads(raw)
    except ValueError:
        return None
    return told if isinstance(told, dict) and "message" in told else None


def _readable(told: dict[str, object]) -> Text:
    text = Text()
    level = str(told.get("level", "info"))
    text.append(f"{_time(told.get('time'))} ", style="dim")
    text.append(f"{level:<8}", style=_LEVELS.get(level, ""))
    text.append(str(told["message"]))
    for key, value in told.items():
        if key not in _SHOWN:
            text.append(f" {key}=", style="dim").append(str(value))
    if "trace" in told:
        text.append(f"\n{told['trace']}", style="dim")
    return text


def _time(stamp: object) -> str:
    try:
        return datetime.fromisoformat(str(stamp)).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except ValueError:
        return ""


async def up(
    config: Config,
    names: Sequence[str] | None = None,
    *,
    restart: bool = True,
    json_lines: bool | None = None,
    console: Console | None = None,
) -> int:
    """Run a system until Ctrl-C or SIGTERM, and return the exit code for the process.

    Raises `OperationError` where a service does not start, after the others have ended.
    """
    screen = console or Console(highlight=False)
    as_json = not screen.is_terminal if json_lines is None else json_lines
    return await _Up(
        config, names, Lines(screen, names or list(config.services), json_lines=as_json), restart
    ).run()


class _Up:
    """One run of the supervisor with what it shows."""

    def __init__(
        self,
        config: Config,
        names: Sequence[str] | None,
        lines: Lines,
        restart: bool,  # noqa: FBT001
    ) -> None:
        self._config = config
        self._names = names
        self._lines = lines
        self._restart = restart
        self._stop = asyncio.Event()
        self._killed = False
        self._known: dict[str, State] = {}
        self._status: Status | None = None
        self._supervisor = Supervisor(
            config, restart=restart, on_line=lines.line, on_state=self._changed
        )

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._told)
        try:
            with self._spinner():
                if not await self._started():
                    return _INTERRUPTED
            self._welcome()
            await self._stop.wait()
        finally:
            late = await self._end()
        return _INTERRUPTED if self._killed else _FAILED if late else 0

    async def _started(self) -> bool:
        """Start everything; False if somebody wanted it to stop meanwhile."""
        starting = asyncio.create_task(self._supervisor.start(self._names))
        waiting = asyncio.create_task(self._stop.wait())
        await asyncio.wait([starting, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if starting.done():
            starting.result()
            return True
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return False

    async def _end(self) -> bool:
        """Stop everything; tell whether some did not end by themselves in time."""
        if any(process.running for process in self._supervisor):
            self._lines.say(None, "draining")
        await self._supervisor.stop()
        killed = [p.name for p in self._supervisor if p.exit_code == -signal.SIGKILL]
        if killed and self._stop.is_set() and not self._killed:
            self._lines.say(None, f"killed after the bound: {', '.join(killed)}", style="bold red")
        return bool(killed)

    def _told(self) -> None:
        """Take a signal: the first one drains, the second one kills."""
        if self._stop.is_set():
            self._killed = True
            self._lines.say(None, "killing what is left", style="bold red")
            for process in self._supervisor:
                process.kill()
        self._stop.set()

    def _welcome(self) -> None:
        for process in self._supervisor:
            if process.running:
                secure = "s" if self._config.services[process.name].tls else ""
                doors = [f"http{secure}://{process.http}"] if process.http else []
                doors += [f"grpc{secure}://{process.grpc}"] if process.grpc else []
                self._lines.say(process.name, " ".join(["ready", *doors]), style="bold green")
        self._lines.say(None, f"{self._config.system.name} is up. Ctrl-C stops it.")

    def _changed(self, process: Process) -> None:
        """Say what becomes of a service that was up before."""
        before = self._known.get(process.name)
        self._known[process.name] = process.state
        if self._status is not None:
            self._status.update(self._waiting())
        again = process.starts > 1
        if process.state is State.READY and again:
            self._lines.say(process.name, "is ready again", style="bold green")
        elif process.state is State.EXITED and before is State.STARTING:
            if again:
                self._lines.say(process.name, process.why().what, style="bold red")
        elif process.state is State.EXITED:
            what = f"ended with {process.end}" + ("; starting it again" if self._restart else "")
            self._lines.say(process.name, what, style="bold red")

    @contextmanager
    def _spinner(self) -> Iterator[None]:
        """Show on a terminal which services are waited for."""
        if self._lines.json_lines or not self._lines.console.is_terminal:
            yield
            return
        with self._lines.console.status("starting") as self._status:
            yield
        self._status = None

    def _waiting(self) -> str:
        starting = [name for name, state in self._known.items() if state is State.STARTING]
        return f"waiting for {', '.join(starting)}" if starting else "starting"
