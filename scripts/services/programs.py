"""The servers' programs: found on this machine, or fetched once into the user's cache folder.

What a package manager of the system installs is installed only in CI (`CI=true`) and as root;
elsewhere `Missing` says which command does it. Java programs come through Maven, NATS and Temporal
through Go, into a folder that carries their version: a second run fetches nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

__all__ = [
    "Missing",
    "cache",
    "elasticmq",
    "has_temporal",
    "kafka",
    "locked",
    "nats",
    "postgresql",
    "rabbitmq",
    "temporal",
]

NATS: Final = "2.15.2"
KAFKA: Final = "4.1.0"
ELASTICMQ: Final = "1.6.14"
TEMPORAL: Final = "1.30.4"

_TEMPORAL: Final = f"temporal-{TEMPORAL}"
_POLICY: Final = Path("/usr/sbin/policy-rc.d")
_POM: Final = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>local</artifactId><version>1</version>
  <dependencies>{}</dependencies>
</project>
"""
_DEPENDENCY: Final = (
    "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
)


class Missing(Exception):
    """A program is not here; the text says how to get it."""


def cache() -> Path:
    """Return the folder for what is fetched and what is running."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "switchgear" / "services"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock `path` against other threads and processes."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def postgresql() -> Path:
    """Return the folder of initdb and postgres."""

    def look() -> Path | None:
        found = shutil.which("pg_ctl")
        if found:
            return Path(found).resolve().parent
        versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
        return versions[-1].parent if versions else None

    return look() or _debian("postgresql", look)


def rabbitmq() -> Path:
    """Return the script that starts RabbitMQ without changing user and environment."""

    def look() -> Path | None:
        # the one in the path of a Debian system changes both
        debian = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
        found = debian if debian.exists() else shutil.which("rabbitmq-server")
        return Path(found) if found else None

    return look() or _debian("rabbitmq-server", look)


def nats() -> Path:
    """Return the NATS server."""
    return _built(f"nats-{NATS}", f"github.com/nats-io/nats-server/v2@v{NATS}") / "nats-server"


def temporal() -> Path:
    """Return the Temporal server. Its first build takes minutes."""
    module = f"go.temporal.io/server/cmd/server@v{TEMPORAL}"
    return _built(_TEMPORAL, module) / "server"


def has_temporal() -> bool:
    """Tell whether the Temporal server was built before."""
    return (cache() / _TEMPORAL).exists()


def kafka() -> Path:
    """Return the folder of Kafka's jars."""
    return _jars(
        f"kafka-{KAFKA}",
        ("org.apache.kafka", "kafka_2.13", KAFKA),
        ("org.slf4j", "slf4j-simple", "1.7.36"),  # without a binding it logs nothing
    )


def elasticmq() -> Path:
    """Return the folder of ElasticMQ's jars."""
    return _jars(f"elasticmq-{ELASTICMQ}", ("org.elasticmq", "elasticmq-server_2.13", ELASTICMQ))


def _built(name: str, module: str) -> Path:
    def build(target: Path) -> None:
        _run([_need("go"), "install", module], GOBIN=str(target))

    return _cached(cache() / name, build)


def _jars(name: str, *artifacts: tuple[str, str, str]) -> Path:
    _need("java")

    def build(target: Path) -> None:
        pom = target / "pom.xml"
        pom.write_text(_POM.format("".join(_DEPENDENCY.format(*one) for one in artifacts)))
        options = ["-DincludeScope=runtime", f"-DoutputDirectory={target}"]
        _run([_need("mvn"), "-q", "-B", "-f", pom, "dependency:copy-dependencies", *options])

    return _cached(cache() / name, build)


def _cached(folder: Path, build: Callable[[Path], None]) -> Path:
    """Build into `folder`, whole or not at all, by whoever comes first."""
    with locked(folder.with_suffix(folder.suffix + ".lock")):
        if not folder.exists():
            target = Path(tempfile.mkdtemp(dir=folder.parent))
            try:
                build(target)
                target.chmod(0o755)
                target.rename(folder)
            finally:
                shutil.rmtree(target, ignore_errors=True)
    return folder


_DEBIAN: Final = {"mvn": "maven", "java": "default-jre-headless", "go": "golang"}


def _need(program: str) -> str:
    def look() -> Path | None:
        found = shutil.which(program) or shutil.which(program, path="/usr/local/go/bin")
        return Path(found) if found else None

    return str(look() or _debian(_DEBIAN[program], look))


def _debian(package: str, look: Callable[[], Path | None]) -> Path:
    apt = shutil.which("apt-get")
    if not (apt and os.environ.get("CI") and os.geteuid() == 0):
        raise Missing(f"{package} is not installed: `apt-get install {package}`, or as you do it.")
    with locked(cache() / "apt.lock"):
        found = look()
        if found is None:
            with _nothing_starts():
                _run([apt, "update", "-qq"])
                _run(
                    [apt, "install", "-y", "-qq", "--no-install-recommends", package],
                    DEBIAN_FRONTEND="noninteractive",
                )
            found = look()
    if found is None:
        raise Missing(f"{package} was installed, and its program is still not found.")
    return found


@contextlib.contextmanager
def _nothing_starts() -> Iterator[None]:
    """Keep packages from starting their services, on ports that may be somebody's."""
    ours = not _POLICY.exists()
    if ours:
        _POLICY.write_text("#!/bin/sh\nexit 101\n")
        _POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            _POLICY.unlink()


def _run(command: Sequence[object], **environment: str) -> None:
    done = subprocess.run(
        [str(one) for one in command],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **environment},
    )
    if done.returncode:
        shown = " ".join(str(one) for one in command)
        raise Missing(f"`{shown}` failed: {done.stdout.decode(errors='replace')[-2000:]}")
