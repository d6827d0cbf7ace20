import pytest

from switchgear.events.brokers.port import UnsupportedBroker
from switchgear.events.brokers.postgres import PostgresBroker
from switchgear.events.brokers.sqlite import SqliteBroker
from switchgear.events.brokers.url import broker_of


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///data/broker.db", "data/broker.db"),
        ("sqlite:////var/lib/broker.db", "/var/lib/broker.db"),
        ("sqlite:///with%20space.db", "with space.db"),
    ],
)
def test_three_slashes_are_relative_and_four_absolute(url, path):
    broker = broker_of(url)
    assert isinstance(broker, SqliteBroker)
    assert str(broker.path) == path


def test_an_unknown_scheme_is_refused_with_what_is_supported():
    with pytest.raises(UnsupportedBroker, match="sqlite:///relative/path.db.*postgresql://"):
        broker_of("smoke://user:secret@host")


def test_a_secret_in_a_refused_url_is_not_repeated():
    with pytest.raises(UnsupportedBroker) as caught:
        broker_of("smoke://user:secret@host")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "amqp://tea:s3cr/et@rabbit/",
        "amqp://tea:s3cr#et@rabbit/",
        "amqp://tea:s3cr?et@rabbit/",
        "nats://tea:s3cr/et@a,b",
        "nats://s3cr/et@a",
        "kafka://tea:s3cr#et@a:9092?sasl=PLAIN",
        "sqs://key:s3cr/et@eu-west-1",
        "postgresql://tea:s3cr/et@host/db",
        "amqp://tea:s3cr[et@rabbit/",
        "nats://tea:s3cr\u2100@rabbit/",
        "nats://tea:s3cr",
        "kafka://tea:s3cr",
        "amqp://tea:s3cr",
    ],
)
def test_no_part_of_a_password_that_is_not_encoded_is_repeated(url):
    with pytest.raises(UnsupportedBroker, match="ercent-encode") as caught:
        broker_of(url)
    assert "s3cr" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_at_sign_elsewhere_is_no_password():
    broker_of("sqlite:///a@b.db")
    broker_of("amqp://host/?groups=g@t")
    broker_of("nats://me:s%2Fs@host,[::1],[::1]:4333")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite://host/path.db",
        "sqlite:///a.db?partition=3",
        "sqlite:///a.db?partitions=three",
        "sqlite:///a.db?synchronous=maybe",
        "broker.db",
    ],
)
def test_a_url_that_cannot_be_meant_is_refused(url):
    with pytest.raises(UnsupportedBroker):
        broker_of(url)


def test_what_is_not_ours_in_the_url_is_the_drivers():
    url = "postgresql://me:secret@host/db?sslmode=verify-full&partitions=3&notify=true"
    broker = broker_of(url, {"command_timeout": 5.0})
    assert isinstance(broker, PostgresBroker)
    assert broker._url == "postgresql://me:secret@host/db?sslmode=verify-full"
    assert (broker._partitions, broker._notify) == (3, True)
    assert broker._options["command_timeout"] == 5.0


@pytest.mark.parametrize(("url", "patience"), [("sqs://a", 5), ("sqs://a?wait=20", 20.0)])
def test_sqs_waits_for_no_longer_than_its_driver(url, patience):
    with pytest.raises(UnsupportedBroker, match="no request would outlast a quiet moment"):
        broker_of(url, {"read_timeout": patience})
    broker_of(url, {"read_timeout": patience + 1})


def test_options_are_in_the_query():
    broker = broker_of("sqlite:///a.db?partitions=3&retention=3600&synchronous=normal")
    assert not broker.capabilities.durable
    assert broker.capabilities.retention == 3600
