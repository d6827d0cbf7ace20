"""How each server is set up, started and asked whether it is ready.

Every one listens on 127.0.0.1 alone, on ports that were free, and keeps its data in a folder of its
own. `start` after `stop` or `kill` brings it back with its data, on the same port.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import ClassVar, Final
from uuid import uuid4

from services import programs
from services.ports import free_port
from services.process import Process, ServerError, answers

__all__ = ["SERVERS", "Server", "make"]

_SESSIONS_END: Final = 10.0
"""Seconds for which the sessions of a PostgreSQL that was killed may go on."""

_WRITTEN: Final = 5.0
"""Seconds for which a RabbitMQ that is to be killed may take to write its list of queues."""


class Server:
    """One server with its data in `folder`. The subclasses say how."""

    name: ClassVar[str]
    politely: ClassVar[int] = signal.SIGTERM
    """The signal that ends it in order, without waiting for its clients."""
    named: ClassVar[bool] = False
    """Whether it is started only where it is asked for by its name: it takes long to get."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.port = free_port()
        self.process: Process | None = None
        self.program = self.find()

    @staticmethod
    def find() -> Path:
        """Return the program, fetched if need be. Raises `Missing`."""
        raise NotImplementedError

    @staticmethod
    def is_here() -> bool:
        """Tell whether the program can be had without a long wait."""
        return True

    @property
    def url(self) -> str:
        """Its address, as a broker or database URL."""
        raise NotImplementedError

    def create(self) -> None:
        """Prepare the folder for the first start."""

    def begin(self) -> Process:
        """Start the process and wait until it is ready."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it, with the data that it has."""
        self.process = self.begin()

    def stop(self) -> None:
        """End it as its operator would."""
        if self.process is not None:
            self.process.stop(self.politely)
            self.process = None

    def kill(self) -> None:
        """End it as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process = None


class Postgresql(Server):
    """PostgreSQL. It refuses to run as root, so it then runs as the user postgres."""

    name = "postgresql"
    politely = signal.SIGINT
    find = staticmethod(programs.postgresql)

    @property
    def url(self) -> str:
        return f"postgresql://switchgear@127.0.0.1:{self.port}/postgres"

    def create(self) -> None:
        if self._user:
            shutil.chown(self.folder, self._user)
        command = [self.program / "initdb", "-D", self._data, "-A", "trust", "-U", "switchgear"]
        subprocess.run([*command, "--no-sync"], check=True, capture_output=True, user=self._user)

    def start(self) -> None:
        """Start it. After a crash its sessions may have some moments left, in which it refuses."""
        until = time.monotonic() + _SESSIONS_END
        while True:
            try:
                return super().start()
            except ServerError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    def begin(self) -> Process:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": 200,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return Process(
            [self.program / "postgres", "-D", self._data, "-p", self.port, *options],
            self.log,
            ready=self._ready,
            user=self._user,
            cwd=self.folder,
        )

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _user(self) -> str | None:
        return "postgres" if os.geteuid() == 0 else None

    def _ready(self) -> bool:
        command = [self.program / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0


class Rabbitmq(Server):
    """RabbitMQ, with a port mapper of its own: the usual one listens everywhere and stays."""

    name = "rabbitmq"
    find = staticmethod(programs.rabbitmq)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._node = f"switchgear-{secrets.token_hex(4)}@localhost"
        self._dist, self._mapper = free_port(), free_port()
        self._epmd: Process | None = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def create(self) -> None:
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nlog.console = true\nlog.file = false\n"
            "log.console.level = warning\n"
        )
        (self.folder / "plugins").write_text("[].\n")

    def kill(self) -> None:
        """End it as a crash would, once the queues that were declared would be there afterwards.

        It writes its list of quorum queues up to a second after it has declared one. A queue that
        is not on it begins as a new member at the next start, and has no leader for ever.
        """
        until = time.monotonic() + _WRITTEN
        while not self._has_written() and time.monotonic() < until:
            time.sleep(0.05)
        super().kill()

    def _has_written(self) -> bool:
        for names in self.folder.glob("data/*/quorum/*/names.dets"):
            written = names.read_bytes()
            queues = [path for path in names.parent.iterdir() if path.is_dir()]
            if any(queue.name.encode() not in written for queue in queues):
                return False
        return True

    def ready(self) -> bool:
        """Tell whether it answers to the protocol."""
        return answers(self.port, b"AMQP\x00\x00\x09\x01", b"\x01")

    def begin(self) -> Process:
        folder = self.folder
        begun = self.log.stat().st_size if self.log.exists() else 0

        def ready() -> bool:
            # it answers some time before it has begun to the end
            return self.ready() and b"completed with" in self.log.read_bytes()[begun:]

        return Process(
            # the port mapper is of the same group, and so ends with it
            [
                "/bin/sh",
                "-c",
                f'epmd -address 127.0.0.1 -port {self._mapper} & exec "$0"',
                self.program,
            ],
            self.log,
            ready=ready,
            environment={
                "HOME": str(folder),
                "ERL_EPMD_PORT": str(self._mapper),
                "ERL_EPMD_ADDRESS": "127.0.0.1",
                "RABBITMQ_NODENAME": self._node,
                "RABBITMQ_DIST_PORT": str(self._dist),
                "RABBITMQ_MNESIA_BASE": str(folder / "data"),
                "RABBITMQ_LOG_BASE": str(folder / "logs"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
                "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                    "-kernel inet_dist_use_interface {127,0,0,1}"
                ),
                # its script then becomes the server, and signals reach it
                "RUNNING_UNDER_SYSTEMD": "true",
            },
            cwd=folder,
        )


class Nats(Server):
    """NATS with JetStream. It writes to the disk before it confirms."""

    name = "nats"
    find = staticmethod(programs.nats)
    more: ClassVar[str] = ""
    """Further lines of its configuration."""

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def create(self) -> None:
        (self.folder / "nats.conf").write_text(
            f'listen: "127.0.0.1:{self.port}"\n'
            f'jetstream {{ store_dir: "{self.folder / "data"}", sync_interval: always }}\n'
            f"{self.more}\n"
        )

    def begin(self) -> Process:
        return Process(
            [self.program, "-c", self.folder / "nats.conf"],
            self.log,
            ready=lambda: answers(self.port, b"", b"INFO "),
        )


class Kafka(Server):
    """Apache Kafka in KRaft mode, one node. Sessions are short, so that tests need not wait."""

    name = "kafka"
    find = staticmethod(programs.kafka)
    more: ClassVar[dict[str, str]] = {}
    """Further settings of the broker."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._controller = free_port()

    @property
    def url(self) -> str:
        return f"kafka://127.0.0.1:{self.port}"

    def create(self) -> None:
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},"
            f"CONTROLLER://127.0.0.1:{self._controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.folder / "data"),
            # a broker that was killed is let in again once its session has ended
            "broker.session.timeout.ms": "6000",
            "broker.heartbeat.interval.ms": "500",
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "500",
            "group.consumer.min.session.timeout.ms": "500",
            # a machine that stands still for some seconds is no member that is gone
            "group.consumer.session.timeout.ms": "6000",
            "group.consumer.min.heartbeat.interval.ms": "100",
            "group.consumer.heartbeat.interval.ms": "300",
            **self.more,
        }
        path = self.folder / "server.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        identity = base64.urlsafe_b64encode(uuid4().bytes).decode().rstrip("=").replace("-", "A")
        done = subprocess.run(
            [*self._java, "kafka.tools.StorageTool", "format", "-t", identity, "-c", str(path)],
            check=False,
            capture_output=True,
        )
        if done.returncode:
            raise ServerError(f"its storage could not be formatted: {done.stderr.decode()[-2000:]}")

    def begin(self) -> Process:
        begun = self.log.stat().st_size if self.log.exists() else 0

        def ready() -> bool:
            # the port takes connections some time before the broker serves
            return b"Kafka Server started" in self.log.read_bytes()[begun:]

        command = [*self._java, "kafka.Kafka", self.folder / "server.properties"]
        return Process(command, self.log, ready=ready, cwd=self.folder)

    @property
    def _java(self) -> list[str]:
        heap = ["-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        return ["java", *heap, "-cp", f"{self.program}/*"]


class Sqs(Server):
    """ElasticMQ, which speaks the protocol of SQS. It is a stand-in: its results are its own."""

    name = "sqs"
    find = staticmethod(programs.elasticmq)

    @property
    def url(self) -> str:
        return f"sqs://x:x@elasticmq?endpoint=http://127.0.0.1:{self.port}"

    def create(self) -> None:
        data = self.folder / "data"
        (self.folder / "custom.conf").write_text(
            'include classpath("application.conf")\n'
            f'node-address {{ host = "127.0.0.1", port = {self.port} }}\n'
            "rest-sqs { enabled = true, sqs-limits = strict, "
            f'bind-hostname = "127.0.0.1", bind-port = {self.port} }}\n'
            "rest-stats { enabled = false }\n"
            f'queues-storage {{ enabled = true, path = "{self.folder / "queues.conf"}" }}\n'
            f'messages-storage {{ enabled = true, uri = "jdbc:h2:{data}" }}\n'
        )

    def begin(self) -> Process:
        heap = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        config = f"-Dconfig.file={self.folder / 'custom.conf'}"
        return Process(
            ["java", *heap, config, "-cp", f"{self.program}/*", "org.elasticmq.server.Main"],
            self.log,
            ready=self._ready,
            cwd=self.folder,
        )

    def _ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/?Action=ListQueues&Version=2012-11-05")
            return connection.getresponse().status == http.client.OK
        except OSError:
            return False
        finally:
            connection.close()


class Temporal(Server):
    """Temporal, all of its services in one process on a SQLite file."""

    name = "temporal"
    named = True
    find = staticmethod(programs.temporal)
    is_here = staticmethod(programs.has_temporal)
    namespace: ClassVar[str] = "default"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._http = free_port()

    @property
    def url(self) -> str:
        return f"temporal://127.0.0.1:{self.port}/{self.namespace}"

    def create(self) -> None:
        settings = {
            # others see a new namespace when they look for it, 10 s later by default
            "system.namespaceCacheRefreshInterval": "500ms",
            # a timer may be up to this late, 1 s by default
            "history.timerProcessorMaxTimeShift": "1ms",
            # two cores are shared with the tests
            "matching.numTaskqueueReadPartitions": 1,
            "matching.numTaskqueueWritePartitions": 1,
        }
        dynamic = self.folder / "dynamic.yaml"
        dynamic.write_text(
            "".join(f"{name}:\n- value: {json.dumps(value)}\n" for name, value in settings.items())
        )
        sql = {
            "pluginName": "sqlite",
            "databaseName": str(self.folder / "temporal.db"),
            "connectAddr": "localhost",
            "connectProtocol": "tcp",
            "connectAttributes": {"mode": "rwc", "setup": "true", "journal_mode": "wal"},
            "maxConns": 1,
            "maxIdleConns": 1,
            "maxConnLifetime": "1h",
        }
        ports = {"frontend": (self.port, {"httpPort": self._http})}
        ports |= {one: (free_port(), {}) for one in ("matching", "history", "worker")}
        config = {
            "log": {"stdout": True, "level": "warn"},
            "persistence": {
                "defaultStore": "main",
                "visibilityStore": "visibility",
                "numHistoryShards": 1,
                "datastores": {"main": {"sql": sql}, "visibility": {"sql": sql}},
            },
            "global": {"membership": {"maxJoinDuration": "30s", "broadcastAddress": "127.0.0.1"}},
            "services": {
                name: {
                    "rpc": {
                        "grpcPort": port,
                        "membershipPort": free_port(),
                        "bindOnLocalHost": True,
                        **more,
                    }
                }
                for name, (port, more) in ports.items()
            },
            "clusterMetadata": {
                "enableGlobalNamespace": False,
                "failoverVersionIncrement": 10,
                "masterClusterName": "active",
                "currentClusterName": "active",
                "clusterInformation": {
                    "active": {
                        "enabled": True,
                        "initialFailoverVersion": 1,
                        "rpcName": "frontend",
                        "rpcAddress": f"127.0.0.1:{self.port}",
                        "httpAddress": f"127.0.0.1:{self._http}",
                    }
                },
            },
            "dcRedirectionPolicy": {"policy": "noop"},
            "archival": {"history": {"state": "disabled"}, "visibility": {"state": "disabled"}},
            "dynamicConfigClient": {"filepath": str(dynamic), "pollInterval": "60s"},
        }
        (self.folder / "temporal.yaml").write_text(json.dumps(config))  # JSON is YAML

    def begin(self) -> Process:
        file = self.folder / "temporal.yaml"
        command = [self.program, "--config-file", file, "--allow-no-auth", "start"]
        return Process(command, self.log, ready=self._ready, cwd=self.folder)

    def connection(self, host: str, port: int) -> http.client.HTTPConnection:
        """Return a connection to where it is asked whether it is ready."""
        return http.client.HTTPConnection(host, port, timeout=5)

    def _ready(self) -> bool:
        """Tell whether the namespace can be used; it is made when the server first answers."""
        name, week = self.namespace, "604800s"
        registered = {"namespace": name, "workflowExecutionRetentionPeriod": week}
        asked = f"/api/v1/namespaces/{name}/task-queues/ready?taskQueueType=1"
        if self._ask("GET", asked) == http.client.OK:
            return True
        self._ask("POST", "/api/v1/namespaces", registered)
        return False

    def _ask(self, method: str, path: str, body: object = None) -> int:
        connection = self.connection("127.0.0.1", self._http)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": "application/json"})
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()


SERVERS: Final[dict[str, type[Server]]] = {
    one.name: one for one in (Postgresql, Rabbitmq, Nats, Kafka, Sqs, Temporal)
}


def make(name: str, folder: Path) -> Server:
    """Return a server that was just set up in the empty `folder`, and start it."""
    server = SERVERS[name](folder)
    server.create()
    server.start()
    return server
