"""Services as processes: started, watched, killed, drained."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from switchgear.app.up import State, Supervisor, isolated
from switchgear.config import load
from switchgear.errors import OperationError

WEB = """
import asyncio, os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    print("asked", scope["path"])
    await asyncio.sleep(float(scope["query_string"] or 0))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": os.environ.get("WORD", "hi").encode()})
"""
ONE = '[services.web]\nasgi = "web:app"\nhttp = "127.0.0.1:8001"\n'
TWO = ONE + '[services.other]\nasgi = "{target}"\nhttp = "127.0.0.1:8002"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "web.py").write_text(WEB)
    return tmp_path


def system(folder: Path, toml: str, **options: object) -> Supervisor:
    (folder / "switchgear.toml").write_text(toml)
    config = isolated(folder / "switchgear.toml", folder / "data")
    return Supervisor(config, **options)  # type: ignore[arg-type]


async def get(address: str | None, path: str = "/") -> bytes:
    async with httpx.AsyncClient(timeout=60) as client:
        return (await client.get(f"http://{address}{path}")).content


async def until(condition: Callable[[], bool], within: float = 60.0) -> None:
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.01)


async def test_starts_all_and_gates_on_readiness(folder: Path) -> None:
    lines: list[tuple[str, str]] = []
    two = TWO.format(target="web:app")
    async with system(folder, two, on_line=lambda name, line: lines.append((name, line))) as up:
        assert [process.state for process in up] == [State.READY, State.READY]
        assert await get(up["web"].http) == b"hi"
        assert b'"ready": true' in await get(up["web"].http, "/readyz")
        assert b'"alive": true' in await get(up["other"].http, "/livez")
        await until(lambda: ("web", "asked /") in lines)
        assert "asked /" in up["web"].logs
        pids = [process.pid for process in up]
    assert [process.state for process in up] == [State.STOPPED, State.STOPPED]
    assert [process.exit_code for process in up] == [0, 0]
    assert not any(alive(pid) for pid in pids)


async def test_a_request_in_flight_finishes_before_the_process_ends(folder: Path) -> None:
    async with system(folder, ONE) as up:
        web = up["web"]
        asked = asyncio.create_task(get(web.http, "/?0.4"))
        await until(lambda: "asked /" in web.logs)
        code = await web.terminate()
        assert code == 0
        assert await asked == b"hi"


async def test_a_drain_is_bounded(folder: Path) -> None:
    async with system(folder, ONE + "drain = 0.3\n") as up:
        web = up["web"]
        asked = asyncio.create_task(get(web.http, "/?30"))
        await until(lambda: "asked /" in web.logs)
        began = time.monotonic()
        await web.terminate()
        assert time.monotonic() - began < 25, "it did not wait for the request"
        assert await asked != b"hi"


async def test_a_killed_service_is_started_again(folder: Path) -> None:
    seen: list[str] = []
    async with system(
        folder, ONE, restart=True, on_state=lambda process: seen.append(process.state)
    ) as up:
        web = up["web"]
        web.kill()
        assert await web.wait() == -signal.SIGKILL
        await until(lambda: web.state is State.READY)
        assert web.starts == 2
        assert await get(web.http) == b"hi"
        await web.terminate()
        await asyncio.sleep(0.4)
        assert web.starts == 2, "told to stop: not started again"
    assert seen[:5] == ["starting", "ready", "exited", "starting", "ready"]


async def test_without_restart_it_stays_down_until_told(folder: Path) -> None:
    async with system(folder, ONE, env={"web": {"WORD": "first"}}) as up:
        web = up["web"]
        assert await get(web.http) == b"first"
        web.kill()
        await web.wait()
        assert (web.state, web.pid) == (State.EXITED, None)
        await web.restart(WORD="second")
        assert await get(web.http) == b"second"


async def test_a_module_that_is_missing_is_named_and_the_others_end(folder: Path) -> None:
    up = system(folder, TWO.format(target="shop.none:app"))
    with pytest.raises(OperationError) as caught:
        await up.start()
    assert "other did not start: error[SG220]: shop.none: there is no module shop." in str(
        caught.value
    )
    assert "web" not in str(caught.value)
    assert not any(process.running for process in up)
    assert up["other"].exit_code == 1


async def test_a_module_that_fails_says_where(folder: Path) -> None:
    (folder / "broken.py").write_text("x = 1\nx.nothing\n")
    up = system(folder, TWO.format(target="broken:app"))
    with pytest.raises(OperationError, match=r"broken\.py:2: .*AttributeError: 'int' object"):
        await up.start()


async def test_a_process_that_dies_silently_shows_its_last_lines(folder: Path) -> None:
    (folder / "dies.py").write_text("import os\nprint('no disk', flush=True)\nos._exit(7)\n")
    up = system(folder, TWO.format(target="dies:app"))
    with pytest.raises(OperationError) as caught:
        await up.start()
    assert "other ended with exit code 7.\n  | no disk" in str(caught.value)


async def test_a_service_that_never_becomes_ready(folder: Path) -> None:
    (folder / "slow.py").write_text("import time\ntime.sleep(60)\n")
    up = system(folder, "[system]\nready = 0.5\n" + TWO.format(target="slow:app"))
    with pytest.raises(OperationError, match=r"other is not ready after 0\.5 s"):
        await up.start()
    assert not any(process.running for process in up)


async def test_a_port_in_use(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (folder / "switchgear.toml").write_text(ONE.replace("8001", str(port)))
        up = Supervisor(load(folder / "switchgear.toml"))
        with pytest.raises(OperationError) as caught:
            await up.start()
    assert f"services.web.http: 127.0.0.1:{port} is in use. Stop what" in str(caught.value)


async def test_an_empty_system(folder: Path) -> None:
    with pytest.raises(OperationError, match="no service to start"):
        await system(folder, "").start()
    with pytest.raises(OperationError, match=r"has no service 'orders'.*It has: web"):
        system(folder, ONE).process("orders")


def test_an_isolated_system_keeps_its_own_addresses_apart(folder: Path) -> None:
    (folder / "switchgear.toml").write_text(
        ONE
        + '[services.web.env]\nNEXT = "grpc://127.0.0.1:8002"\nFAR = "http://127.0.0.1:80011"\n'
        + '[services.web.calls]\n"a.B" = "http://127.0.0.1:8002"\n'
        + TWO.format(target="web:app").removeprefix(ONE)
    )
    config = isolated(folder / "switchgear.toml", folder / "data")
    web, other = config.services["web"], config.services["other"]
    assert web.http is not None
    assert other.http is not None
    assert {web.http.port, other.http.port}.isdisjoint({8001, 8002})
    assert web.env == {"NEXT": f"grpc://{other.http}", "FAR": "http://127.0.0.1:80011"}
    reach = web.reach("a.B")
    assert reach is not None
    assert reach.url.reveal() == f"http://{other.http}"
    assert config.file_of(web.database) == folder / "data" / "web.db"


@pytest.mark.skipif(sys.platform != "linux", reason="a port can be kept for another on Linux alone")
def test_the_ports_of_an_isolated_system_are_nobody_elses(folder: Path) -> None:
    (folder / "switchgear.toml").write_text(ONE)
    config = isolated(folder / "switchgear.toml", folder / "data")
    door = config.services["web"].http
    assert door is not None
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((door.host, door.port))
    # but whoever is told of it listens there
    socket.create_server((door.host, door.port)).close()
    del config
    gc.collect()
    with socket.socket() as other:
        other.bind((door.host, door.port))


def test_kill_9_of_the_supervisor_leaves_no_orphans(folder: Path) -> None:
    (folder / "switchgear.toml").write_text(TWO.format(target="web:app") + "drain = 1\n")
    (folder / "main.py").write_text(f"""
import asyncio
from pathlib import Path
from switchgear.app.up import Supervisor, isolated

async def main():
    folder = Path({str(folder)!r})
    async with Supervisor(isolated(folder / "switchgear.toml", folder / "data")) as up:
        print(*(process.pid for process in up), flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
""")
    with subprocess.Popen(
        [sys.executable, str(folder / "main.py")], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(alive(pid) for pid in pids)
        parent.kill()
    deadline = time.monotonic() + 50  # less than they would run by themselves
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(alive(pid) for pid in pids)


def alive(pid: int | None) -> bool:
    """Tell whether a process runs; one that nobody has reaped yet does not."""
    assert pid is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return not Path("/proc/self").exists()
