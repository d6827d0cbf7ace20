"""Brokers behind TLS and a password: who has both is served, who has not is told what is wrong."""

import base64
import gc
import hashlib
import json
import os
import shutil
import subprocess
import warnings

import pytest
from services.process import answers
from services.servers import Kafka, Postgresql, Rabbitmq

from switchgear.errors import BrokerError
from switchgear.events.brokers import kafka
from switchgear.events.brokers.port import BrokerUnavailable, Record, TopicRefused
from switchgear.events.brokers.url import broker_of
from switchgear.testing.conformance.world import declared
from tests.certificates import certificate
from tests.servers import own

SECRET = "s3cret-and-%ADodd"
QUOTED = "s3cret-and-%25ADodd"
RECORD = Record("test.orders", "k", {"ce-id": "1"}, b"x")


class SecuredPostgresql(Postgresql):
    """PostgreSQL that lets in nobody without TLS and a password."""

    def create(self):
        super().create()
        data = self.folder / "data"
        for path, name in zip(certificate(self.folder), ("server.crt", "server.key"), strict=True):
            shutil.copy(path, data / name)
            if os.geteuid() == 0:
                shutil.chown(data / name, "postgres")
            (data / name).chmod(0o600)
        with (data / "postgresql.conf").open("a") as settings:
            settings.write("ssl = on\n")
        password = f"ALTER USER switchgear PASSWORD '{SECRET}';"
        subprocess.run(
            [self.program / "postgres", "--single", "-D", data, "postgres"],
            input=password.encode(),
            check=True,
            capture_output=True,
            user="postgres" if os.geteuid() == 0 else None,
            cwd=data,
        )
        (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")

    def at(self, login, options):
        return f"postgresql://{login}@127.0.0.1:{self.port}/postgres?partitions=1{options}"


class SecuredKafka(Kafka):
    """Kafka that lets in nobody without TLS and a password."""

    def create(self):
        chain, key = certificate(self.folder)
        both = self.folder / "server.pem"
        both.write_text(key.read_text() + chain.read_text())
        login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
        self.more = {
            "listeners": f"SASL_SSL://127.0.0.1:{self.port},"
            f"CONTROLLER://127.0.0.1:{self._controller}",
            "advertised.listeners": f"SASL_SSL://127.0.0.1:{self.port}",
            "listener.security.protocol.map": "SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "SASL_SSL",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": f'{login} username="switchgear" '
            f'password="{SECRET}" user_switchgear="{SECRET}";',
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(both),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(chain),
        }
        super().create()

    def at(self, login, options):
        return f"kafkas://{login}@127.0.0.1:{self.port}?partitions=1&sasl=PLAIN{options}"


class SecuredRabbitmq(Rabbitmq):
    """RabbitMQ that lets in nobody without TLS and a password."""

    def create(self):
        super().create()
        chain, key = certificate(self.folder)
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp = none\nlisteners.ssl.1 = 127.0.0.1:{self.port}\n"
            f"ssl_options.cacertfile = {chain}\nssl_options.certfile = {chain}\n"
            f"ssl_options.keyfile = {key}\nssl_options.verify = verify_none\n"
            f"load_definitions = {self.folder / 'definitions.json'}\n"
            "log.console = true\nlog.file = false\nlog.console.level = warning\n"
        )
        salted = hashlib.sha256(b"salt" + SECRET.encode()).digest()
        password = base64.b64encode(b"salt" + salted).decode()
        names = {"switchgear": ".*", "guest": "prod-.*", "reader": ".*"}
        writing = names | {"reader": "^(?!test.orders$)"}
        definitions = {
            "vhosts": [{"name": "/"}],
            "users": [
                {"name": name, "password_hash": password, "tags": "", "limits": {}}
                | {"hashing_algorithm": "rabbit_password_hashing_sha256"}
                for name in names
            ],
            "permissions": [
                {"user": user, "vhost": "/", "configure": some, "read": some}
                | {"write": writing[user]}
                for user, some in names.items()
            ],
        }
        (self.folder / "definitions.json").write_text(json.dumps(definitions))

    def ready(self):
        return answers(self.port)

    def at(self, login, options):
        return f"amqps://{login}@127.0.0.1:{self.port}/?partitions=1{options}"


SERVERS = {"postgresql": SecuredPostgresql, "kafka": SecuredKafka, "rabbitmq": SecuredRabbitmq}


@pytest.fixture(scope="module", params=SERVERS)
def server(request):
    with own(request.param, SERVERS[request.param]) as server:
        yield server


@pytest.fixture
def trusting(server):
    chain = server.folder / "chain.pem"
    if server.name == "postgresql":
        return f"&sslmode=verify-full&sslrootcert={chain}"
    return f"&ca={chain}"


async def test_who_has_the_password_and_trusts_the_certificate_is_served(server, trusting):
    broker = broker_of(server.at(f"switchgear:{QUOTED}", trusting))
    try:
        await declared(broker, "g")
        await broker.publish([RECORD])
        member = await broker.subscribe("g", ["test.orders"])
        found = []
        while not found:
            found += (await member.poll(10, 5)).deliveries
        assert [(one.key, one.value) for one in found] == [("k", b"x")]
    finally:
        await broker.close()


async def refused(url):
    broker = broker_of(url)
    try:
        with pytest.raises((BrokerError, BrokerUnavailable)) as raised:
            await broker.subscribe("g", ["test.orders"])
    finally:
        await broker.close()
    assert SECRET not in str(raised.value)
    assert "wrong-one" not in str(raised.value)
    return raised.value


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(kafka, "_ANSWER", 10.0)


async def test_a_wrong_password_is_refused_and_not_taken_for_an_outage(server, trusting):
    error = await refused(server.at("switchgear:wrong-one", trusting))
    assert isinstance(error, BrokerError)
    assert not isinstance(error, BrokerUnavailable)
    assert "authentication failed" in str(error).lower()
    assert "password" in error.fix


@pytest.mark.parametrize("server", ["rabbitmq"], indirect=True)
async def test_a_right_that_is_missing_is_refused_with_the_servers_words(server, trusting):
    error = await refused(server.at(f"guest:{QUOTED}", trusting))
    assert isinstance(error, BrokerError)
    assert "ACCESS_REFUSED" in str(error)
    assert "'test.orders'" in str(error)
    assert "rights" in error.fix
    broker = broker_of(server.at(f"guest:{QUOTED}", f"{trusting}&prefix=prod-"))
    try:
        member = await broker.subscribe("g", ["test.orders"])
        await broker.publish([RECORD])
        while not (await member.poll(10, 5)).deliveries:
            pass
        assert (await broker.lag("g", ["test.orders"])).events == 1, "its owner could answer"
    finally:
        await broker.close()


@pytest.mark.parametrize("server", ["rabbitmq"], indirect=True)
async def test_a_right_that_is_missing_refuses_its_topic_alone(server, trusting):
    broker = broker_of(server.at(f"reader:{QUOTED}", f"{trusting}&groups=g@test.others"))
    other = Record("test.others", "k", {}, b"x")
    try:
        for batch in ([RECORD], [other, RECORD]):
            with pytest.raises(TopicRefused, match="ACCESS_REFUSED") as caught:
                await broker.publish(batch)
            assert caught.value.topic == "test.orders"
        await broker.publish([other])
    finally:
        await broker.close()


async def test_a_certificate_that_is_not_trusted_ends_it_before_the_password_is_sent(
    server, tmp_path
):
    other, _ = certificate(tmp_path)
    option = "sslmode=verify-full&sslrootcert=" if server.name == "postgresql" else "ca="
    with warnings.catch_warnings():
        # asyncpg leaves the socket of a handshake that failed to the collector
        warnings.simplefilter("ignore", ResourceWarning)
        error = await refused(server.at(f"switchgear:{QUOTED}", f"&{option}{other}"))
        gc.collect()
    assert isinstance(error, BrokerUnavailable)
    assert "certificate" in str(error)
