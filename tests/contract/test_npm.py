"""A client in TypeScript, built from the package of `contract publish --npm`, calls the shop.

What npm fetches is kept between runs, by version: once it is there, nothing is fetched any more.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from switchgear.cli.main import _main
from tests.contract import nodejs
from tests.contract.doors import warehouse

pytestmark = pytest.mark.timeout(600)

nodejs.need("npm", "its client is not built")

GENERATORS = {"@bufbuild/protoc-gen-es": "2.13.0", "openapi-typescript": "7.13.0"}
CLIENT = {
    "@bufbuild/protobuf": "2.13.0",
    "@connectrpc/connect": "2.1.2",
    "@connectrpc/connect-node": "2.1.2",
    "@types/node": "20.19.25",
    "openapi-fetch": "0.17.0",
    "typescript": "5.9.3",
}
NAME = "@acme/shop-contracts"
COUNTING = "@acme/counting"
TYPESCRIPT = {"strict": True, "target": "es2022", "module": "nodenext", "types": ["node"]}


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def kept() -> Path:
    """What npm has fetched: its cache, for these versions alone, and the generators."""
    pins = json.dumps([GENERATORS, CLIENT]).encode()
    key = hashlib.sha256(pins).hexdigest()[:12]
    folder = Path.home() / ".cache" / "switchgear-tests" / "npm" / key
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def install(kept: Path, name: str, folder: Path, packages: dict[str, str]) -> None:
    """Install packages into a folder, from what was fetched for a run before if there was one."""
    about = {"private": True, "type": "module", "dependencies": packages}
    (folder / "package.json").write_text(json.dumps(about))
    told = kept / f"{name}-fetched"
    where = ["--cache", str(kept / "cache"), *(["--offline"] if told.exists() else [])]
    run("npm", "install", "--no-audit", "--no-fund", "--no-package-lock", *where, cwd=folder)
    told.touch()


@pytest.fixture(scope="session")
def generators(kept: Path) -> Path:
    """A folder with the generators in its `node_modules`."""
    folder = kept / "generators"
    if not (folder / "node_modules" / ".bin" / "openapi-typescript").exists():
        folder.mkdir(exist_ok=True)
        install(kept, "generators", folder, GENERATORS)
    return folder


@pytest.fixture(scope="session")
def published(generators: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, as a folder."""
    out = tmp_path_factory.mktemp("npm")
    assert publish(generators, out) == 0
    return out / "npm"


@pytest.fixture(scope="session")
def counting(generators: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of contracts with streams in them."""
    out = tmp_path_factory.mktemp("counting")
    source = Path(__file__).with_name("counting.py")
    assert publish(generators, out, name=COUNTING, module=str(source)) == 0
    return out / "npm"


def publish(
    here: Path,
    out: Path,
    *arguments: str,
    name: str = NAME,
    module: str = "examples.shop.contracts",
) -> int:
    """Publish contracts from the folder `here`, those of the shop if nothing else is said."""
    root = Path.cwd()
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(here)
        patched.syspath_prepend(root)
        folders = ["--history", str(out / "history.jsonl"), "--out", str(out), "--npm", name]
        return _main(["contract", "publish", module, *folders, *arguments])


@pytest.fixture(scope="session")
def client(
    kept: Path, published: Path, counting: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The programs, type-checked and compiled, where the packed packages are installed."""
    folder = tmp_path_factory.mktemp("client")
    packed = json.loads(run("npm", "pack", "--json", str(published), str(counting), cwd=folder))
    tarballs = {one["name"]: f"file:{one['filename']}" for one in packed}
    install(kept, "client", folder, {**tarballs, **CLIENT})
    programs = ["client.ts", "streams.ts"]
    for name in programs:
        shutil.copy(Path(__file__).with_name(name), folder)
    options = {"compilerOptions": TYPESCRIPT, "files": programs}
    (folder / "tsconfig.json").write_text(json.dumps(options))
    run("node_modules/.bin/tsc", cwd=folder)
    return folder


async def call(program: Path) -> subprocess.CompletedProcess[str]:
    """Let a program call both doors."""
    async with warehouse() as doors:
        command = ["node", str(program), doors.grpc, doors.rest]
        return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)


async def test_the_client_speaks_with_both_doors(client: Path) -> None:
    done = await call(client / "client.js")
    refusal = "urn:switchgear:refusal:examples.shop.contracts.OutOfStock"
    assert done.stdout.splitlines() == [
        "grpc tea 2n",
        "refused FailedPrecondition tea 2n",
        "rest 200 tea 2 2n",
        f"refused 422 {refusal} tea 2",
        "event o-1 7n",
    ], done.stderr
    assert done.returncode == 0


async def test_streams_go_both_ways(client: Path) -> None:
    done = await call(client / "streams.js")
    assert done.stdout.splitlines() == [
        "echo 7n 8n",
        "count 1n 2n FailedPrecondition 2n",
        "200 application/x-ndjson",
        "lines 1n 2n",
        "200 text/event-stream",
        'events data: {"number":1} data: {"number":2} event: problem',
    ], done.stderr
    assert done.returncode == 0


def test_the_package_carries_what_the_wheel_does(published: Path) -> None:
    about = json.loads((published / "package.json").read_text())
    assert (about["name"], about["version"], about["type"]) == (NAME, "1.0.0", "module")
    assert about["peerDependencies"] == {"@bufbuild/protobuf": "^2.13.0"}
    for name in ("openapi.json", "openapi.d.ts", "asyncapi.json", "README.md"):
        assert (published / name).stat().st_size
    assert (published / "proto/shop/orders/v1.proto").exists()
    assert (published / "gen/google/type/money_pb.js").exists()
    assert f"`{NAME}/shop/orders/v1`" in (published / "README.md").read_text()
    # nothing of this machine is in it
    texts = [one.read_text() for one in published.rglob("*") if one.is_file()]
    assert not any(str(Path.home()) in text or str(published.parent) in text for text in texts)


def test_a_later_version_takes_the_folder_of_the_one_before(
    generators: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = tmp_path / "npm"
    (earlier / "gen").mkdir(parents=True)
    (earlier / "gen" / "gone_pb.js").touch()
    assert publish(generators, tmp_path) == 1
    assert "it holds something else than a package" in capsys.readouterr().err
    assert (earlier / "gen" / "gone_pb.js").exists()
    assert not (tmp_path / "history.jsonl").exists()  # what was not written was not published
    (earlier / "package.json").write_text('{"switchgear": {}}')
    assert publish(generators, tmp_path, "--release", "1.4.0") == 0
    assert json.loads((earlier / "package.json").read_text())["version"] == "1.4.0"
    assert not (earlier / "gen" / "gone_pb.js").exists()
    assert sorted(one.name for one in tmp_path.iterdir())[1:] == ["history.jsonl", "npm"]


def test_a_name_that_npm_does_not_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("@Acme/shop", "shop contracts", "../shop", "@acme", "x" * 215):
        assert publish(tmp_path, tmp_path / "out", name=wrong) == 2
        assert "is not a name of an npm package" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_missing_is_named_with_the_way_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    local = tmp_path / "node_modules" / ".bin"
    local.mkdir(parents=True)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def told() -> str:
        assert publish(tmp_path, tmp_path / "out") == 1
        assert not list((tmp_path / "out").glob("*"))
        return capsys.readouterr().err

    assert "node is not installed" in (first := told())
    assert "npm install --save-dev @bufbuild/protoc-gen-es openapi-typescript" in first
    program(tmp_path / "bin" / "node", "")
    assert "protoc-gen-es is not installed" in told()
    program(local / "protoc-gen-es", "echo protoc-gen-es v1.10.0")
    assert "openapi-typescript is not installed" in told()
    program(local / "openapi-typescript", "")
    assert "protoc-gen-es is too old: protoc-gen-es v1.10.0" in told()
    program(local / "protoc-gen-es", "echo protoc-gen-es v2.0.0; [ $# = 1 ] || exit 3")
    assert "protoc-gen-es failed" in told()


def program(path: Path, script: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
