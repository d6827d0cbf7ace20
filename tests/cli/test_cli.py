"""What is typed and what is said: real processes, exit codes, one line an error."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer.core
from tests.ports import reserved_port

from switchgear.cli.commands import app
from switchgear.cli.main import main

WEB = """
import asyncio, os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    print("asked", scope["path"], "of", os.getpid(), flush=True)
    await asyncio.sleep(float(scope["query_string"] or 0))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hi"})
"""


NAMED = """
from switchgear import Service
app = Service("kitchen")

def reply(request):
    return request
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "web.py").write_text(WEB)
    (tmp_path / "named.py").write_text(NAMED)
    return tmp_path


def typed(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "switchgear", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "switchgear", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def line_with(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return line
    raise AssertionError(f"{text!r} was not said: {seen}")


def get(port: int, path: str = "/") -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_run_drains_on_sigterm_and_finishes_what_is_in_flight(folder: Path) -> None:
    port = reserved_port()
    with running(folder, "run", "web:app", "--http", f"127.0.0.1:{port}") as process:
        told = json.loads(line_with(process, '"ready"'))
        assert told["service"] == "web"
        assert told["http"] == f"127.0.0.1:{port}"
        assert get(port, "/readyz")[0] == 200
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /slow?0.4 HTTP/1.1\r\nhost: x\r\n\r\n")
            line_with(process, "asked /slow")
            process.send_signal(signal.SIGTERM)
            line_with(process, '"draining"')
            answer = b""
            while chunk := client.recv(4096):
                answer += chunk
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"hi\r\n0\r\n\r\n")
        assert process.wait(120) == 0


def test_up_runs_a_system_and_ctrl_c_stops_it(folder: Path) -> None:
    one, two = reserved_port(), reserved_port()
    (folder / "switchgear.toml").write_text(
        f'[services.one]\nasgi = "web:app"\nhttp = ":{one}"\n'
        f'[services.two]\nasgi = "web:app"\nhttp = ":{two}"\n'
    )
    with running(folder, "up") as process:
        line_with(process, "is up. Ctrl-C stops it.")
        assert get(one) == (200, b"hi")
        asked = json.loads(line_with(process, "asked /"))
        assert asked["service"] == "one"
        assert asked["message"].startswith("asked / of ")
        assert get(two, "/livez")[0] == 200
        process.send_signal(signal.SIGINT)
        line_with(process, '"draining"')
        assert process.wait(120) == 0
    with pytest.raises(urllib.error.URLError):
        get(one)


def test_a_second_ctrl_c_kills_and_is_no_success(folder: Path) -> None:
    port = reserved_port()
    (folder / "switchgear.toml").write_text(
        f'[services.web]\nasgi = "web:app"\nhttp = ":{port}"\ndrain = 60\n'
    )
    with running(folder, "up") as process:
        line_with(process, "is up")
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /slow?60 HTTP/1.1\r\nhost: x\r\n\r\n")
            line_with(process, "asked /slow")
            process.send_signal(signal.SIGINT)
            line_with(process, '"draining"')
            process.send_signal(signal.SIGINT)
            line_with(process, "killing what is left")
            assert process.wait(120) == 130
        assert process.stdout is not None
        assert "after the bound" not in process.stdout.read()


def test_what_is_wrongly_asked_ends_with_2(folder: Path) -> None:
    (folder / "switchgear.toml").write_text('[services.web]\nasgi = "web:app"\n')
    for arguments in (
        ["up", "nosuch"],
        ["run", "web:"],
        ["saga", "list", "--service", "nosuch"],
        ["events", "lag", "--service", "nosuch"],
        ["services", "--nosuch"],
    ):
        done = typed(folder, *arguments)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr


def test_wrong_sql_in_a_schema_is_one_line(folder: Path) -> None:
    (folder / "shop.py").write_text(
        "from switchgear import Service\napp = Service('shop', schema=['CREATE TABEL t (a)'])\n"
    )
    done = typed(folder, "run", "shop:app")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "service shop: the tables of its schema could not be made" in line
    assert "TABEL" in line


def test_up_says_which_service_did_not_start_and_why(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (folder / "switchgear.toml").write_text(
            f'[services.good]\nasgi = "web:app"\nhttp = ":{reserved_port()}"\n'
            f'[services.bad]\nasgi = "web:app"\nhttp = ":{port}"\n'
            '[services.gone]\nasgi = "nowhere:app"\nhttp = "0"\n'
        )
        done = typed(folder, "up")
    assert done.returncode == 1
    assert f"bad did not start: error[SG220]: services.bad.http: 127.0.0.1:{port} is in use." in (
        done.stderr
    )
    assert "gone did not start: error[SG220]: nowhere: there is no module nowhere." in done.stderr
    assert "good did" not in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_up_restarts_what_is_killed(folder: Path) -> None:
    port = reserved_port()
    (folder / "switchgear.toml").write_text(f'[services.web]\nasgi = "web:app"\nhttp = ":{port}"\n')
    with running(folder, "up") as process:
        line_with(process, "is up")
        assert get(port, "/pid") == (200, b"hi")
        said = json.loads(line_with(process, "asked /pid"))["message"]
        os.kill(int(said.rpartition(" ")[2]), signal.SIGKILL)
        line_with(process, "ended with signal SIGKILL; starting it again")
        line_with(process, "is ready again")
        assert get(port) == (200, b"hi")
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Type commands in this process, and leave nothing of them behind."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield folder
    for module in ("web", "named", "torn"):
        sys.modules.pop(module, None)
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


WRONG = [
    (
        '[services.web]\nasgi = "web:app"\nhtp = ":1"\n',
        ["up"],
        2,
        "[SG200]: switchgear.toml:3: services.web.htp: there is no such key. Did you mean http?\n",
    ),
    (
        "[services.web]\nasgi = web\n",
        ["up"],
        2,
        "[SG200]: switchgear.toml:2: asgi: it is not valid TOML: invalid value. Texts stand in",
    ),
    (None, ["up", "--config", "none.toml"], 2, "none.toml cannot be read: No such file"),
    (None, ["services"], 1, "there is no switchgear.toml here. Name the system's file with"),
    (None, ["up"], 1, "there is no service to start. List them as [services.NAME]"),
    ("", ["services"], 1, "switchgear.toml: it lists no service."),
    ("", ["run", "nobody"], 2, "there is no service 'nobody'. It lists: none."),
    ("", ["run", "none:app"], 1, "[SG220]: none: there is no module none. Run from the folder"),
    ("", ["run", "web:nothing"], 1, "web:nothing: the module web has no nothing."),
    ("", ["run", "web:asyncio.sleep.x"], 1, "the module web has no asyncio.sleep.x."),
    ("", ["run", "web:__name__"], 1, "web:__name__ is a str, which cannot be served."),
    ("", ["run", "switchgear:Message"], 1, "is the class Message, which cannot be served."),
    ("", ["run", "named:reply"], 1, "named:reply is a function, which cannot be served."),
    (
        '[services.cook-house]\napp = "named:app"\n',
        ["run", "cook-house"],
        2,
        "services.cook-house.app: named:app is the service 'kitchen'.",
    ),
    ("", ["run", "web:app", "--http", "a:b"], 2, "--http: 'a:b' is not an address"),
    ("", ["run", "web:app", "--http", "203.0.113.9:1"], 1, "cannot be listened on"),
    ("", ["new", "Big Name"], 2, "'Big Name' cannot be the name of a project."),
    ("", ["drill", "none"], 2, "there is no drill 'none'."),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case[3][:40])
def test_what_is_wrong_is_one_line_and_an_exit_code(
    here: Path,
    case: tuple[str | None, list[str], int, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    toml, arguments, code, said = case
    if toml is not None:
        (here / "switchgear.toml").write_text(toml)
    with pytest.raises(SystemExit) as end:
        main(arguments)
    printed = capsys.readouterr().err
    assert said in printed
    assert end.value.code == code
    assert printed.startswith("error[SG")
    assert printed.count("\n") == 1


def test_services_says_which_module_cannot_be_imported(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "torn.py").write_text("app = nothing\n")
    (here / "switchgear.toml").write_text('[services.torn]\napp = "torn:app"\n')
    with pytest.raises(SystemExit) as end:
        main(["services"])
    printed = capsys.readouterr()
    assert not end.value.code
    assert "torn:app" in printed.out
    assert "What torn serves is not known: error[SG220]" in printed.err
    assert "torn.py:1: torn cannot be imported: NameError" in printed.err


def test_at_level_debug_a_command_shows_the_whole_trace_beside_its_answer(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "torn.py").write_text("app = nothing\n")
    (here / "switchgear.toml").write_text(
        '[system]\nlog = "debug"\n[services.torn]\napp = "torn:app"\n'
    )
    with pytest.raises(SystemExit) as end:
        main(["edges"])
    printed = capsys.readouterr()
    assert end.value.code == 1
    assert not printed.out
    assert "Traceback" in printed.err
    assert "error[SG220]" in printed.err


def test_a_wrong_option_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["up", "--hlp"])
    assert end.value.code == 2
    assert "No such option: --hlp" in capsys.readouterr().err


def test_new_says_what_its_tests_need_before_it_says_to_run_them(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["new", "cafe"])
    assert not end.value.code
    said = capsys.readouterr().out
    assert said.index("cd cafe") < said.index("pip install -e '.[test]'") < said.index("pytest &&")


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    pyproject = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    version = capsys.readouterr().out.split()[1]
    assert f'version = "{version}"' in pyproject


def test_the_page_names_every_command() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/cli.md").read_text(encoding="utf-8")
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    for name, command in group.commands.items():
        assert f"`switchgear {name}" in page, name
        for inner in getattr(command, "commands", {}):
            assert f"`{inner}" in page, f"{name} {inner}"


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], {"asyncio", "switchgear.config", "switchgear.policy"}),
        (["saga", "--help"], {"asyncio", "switchgear.config", "switchgear.policy"}),
        (["contract", "check", "--help"], {"asyncio", "google.protobuf", "switchgear.config"}),
    ],
)
def test_what_is_not_needed_is_not_imported(arguments: list[str], heavy: set[str]) -> None:
    code = (
        "import sys\nfrom switchgear.cli.main import _main\n"
        f"assert _main({arguments}) == 0\n"
        f"assert not {heavy} & set(sys.modules), 'others start faster without it'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
