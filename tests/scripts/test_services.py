"""The program that starts the servers of the tests: it ends exactly what it started."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from services import Missing, ServerError, Shared, programs
from services.ports import free_port
from services.process import Process, born, end
from tests.servers import own, without

LISTEN = "import socket, time; s = socket.create_server(('{}', {})); time.sleep(600)"


def listener(address, port, tmp_path, ready=lambda: True):
    command = [sys.executable, "-c", LISTEN.format(address, port)]
    return Process(command, tmp_path / "log", ready=ready)


def is_up(port):
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_each_port_is_given_out_once():
    code = "from services.ports import free_port; print([free_port() for _ in range(200)])"
    command = [sys.executable, "-c", f"{code}; input()"]
    folder = Path(__file__).parents[2] / "scripts"
    others = [
        subprocess.Popen(
            command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    given = [free_port() for _ in range(200)]
    for other in others:
        given += json.loads(other.stdout.readline())
    for other in others:
        other.communicate("\n")
    assert len(set(given)) == 600


def test_a_server_on_loopback_is_taken_and_ended(tmp_path):
    port = free_port()
    process = listener("127.0.0.1", port, tmp_path, lambda: is_up(port))
    process.stop()
    assert not is_up(port)


def test_a_server_that_listens_beyond_loopback_is_refused_and_ended(tmp_path):
    port = free_port()
    with pytest.raises(ServerError, match=rf"beyond loopback, on 00000000:{port}"):
        listener("", port, tmp_path, lambda: is_up(port))
    assert not is_up(port)


def test_a_server_that_does_not_start_shows_its_log(tmp_path):
    with pytest.raises(ServerError, match="no such address"):
        Process(
            [sys.executable, "-c", "raise SystemExit('no such address')"],
            tmp_path / "log",
            ready=lambda: False,
        )


def test_another_process_of_the_same_id_is_left_alone():
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    end(other.pid, "long ago")
    assert other.poll() is None
    other.communicate(b"\n")
    assert other.returncode == 0


def test_an_address_in_the_environment_is_used_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("SWITCHGEAR_TEST_KAFKA", "kafka://example:9092")
    assert Shared(tmp_path / "run").url("kafka") == "kafka://example:9092"
    assert not list(tmp_path.glob("run/*.json"))


def test_one_that_has_died_is_started_again_and_all_are_ended(tmp_path):
    shared = Shared(tmp_path / "run")
    try:
        first = shared.url("nats")
    except Missing as error:
        without("nats", error)
    assert shared.url("nats") == first
    found = json.loads((tmp_path / "run" / "nats.json").read_text())
    end(found["pid"], found["born"])
    assert shared.url("nats") != first
    data = Path(json.loads((tmp_path / "run" / "nats.json").read_text())["data"])
    assert list(shared.stop()) == ["nats"]
    assert not data.exists()
    assert not (tmp_path / "run").exists()


def test_a_missing_program_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(programs.shutil, "which", lambda *_, **__: None)
    with pytest.raises(Missing, match="golang is not installed: `apt-get install golang`"):
        programs.nats()


@pytest.mark.parametrize("name", ["postgresql", "rabbitmq", "nats", "kafka", "sqs"])
def test_each_server_starts_again_after_a_crash_on_the_same_address(name):
    with own(name) as server:
        url = server.url
        server.kill()
        server.start()
        assert server.url == url
        pid = server.process.pid
        assert born(pid)
        server.stop()
        assert not born(pid)
        assert server.folder.is_dir()
