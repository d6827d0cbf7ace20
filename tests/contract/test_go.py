"""A client in Go, built from the module that `contract publish --go` writes, calls the shop.

The plugins and the modules that Go fetches are kept between runs, in Go's own caches.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from switchgear.cli.main import _main
from switchgear.contract.publish.gomodule import _MARK, _PLUGINS
from tests.contract.doors import warehouse

pytestmark = pytest.mark.timeout(600)

if shutil.which("go") is None:
    if os.environ.get("CI"):
        pytest.fail("Go is not installed, and CI has to build its client.", pytrace=False)
    pytest.skip("Go is not installed: its client is not built", allow_module_level=True)


def go(folder: Path, *arguments: str, **environment: str) -> None:
    done = subprocess.run(
        ["go", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, built from what was published."""
    folder = tmp_path_factory.mktemp("go")
    plugins = Path.home() / ".cache" / "switchgear-tests" / "go"
    for name, package in _PLUGINS.items():
        if not (plugins / name).exists():
            plugins.mkdir(parents=True, exist_ok=True)
            go(plugins, "install", f"{package}@latest", GOBIN=str(plugins))
    gone = folder / "go" / "shop" / "gone" / "v1.pb.go"  # of an earlier version
    gone.parent.mkdir(parents=True)
    gone.write_text("package v1\n")
    (folder / "go" / "go.mod").write_text(f"{_MARK}\n")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("GOBIN", str(plugins))
        folders = ["--history", str(folder / "history.jsonl"), "--out", str(folder)]
        arguments = [*folders, "--go", "acme.com/contracts/shop"]
        assert _main(["contract", "publish", "examples.shop.contracts", *arguments]) == 0
    assert not gone.exists()
    program = folder / "go" / "client"
    program.mkdir()
    shutil.copy(Path(__file__).with_name("client.go"), program / "main.go")
    go(folder / "go", "mod", "tidy")
    go(folder / "go", "build", "-o", str(folder / "shop-client"), "./client")
    return folder / "shop-client"


async def test_the_client_speaks_with_both_doors(client: Path) -> None:
    async with warehouse() as doors:
        command = [client, doors.grpc, doors.rest]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    refusal = "urn:switchgear:refusal:examples.shop.contracts.OutOfStock"
    assert done.stdout.splitlines() == [
        "grpc tea 2",
        "refused FailedPrecondition tea 2",
        "rest 200 tea 2",
        f"refused 422 {refusal} tea 2",
    ], done.stderr
