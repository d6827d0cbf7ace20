"""Brokers that other packages bring, by an entry point."""

from pathlib import Path

import pytest

from switchgear.config import load
from switchgear.errors import ConfigError
from switchgear.events.brokers import url
from switchgear.events.brokers.port import UnsupportedBroker
from switchgear.events.brokers.sqlite import SqliteBroker
from switchgear.events.brokers.url import broker_of

MODULE = """
from switchgear.events.brokers.sqlite import SqliteBroker

def connect(url, options):
    return SqliteBroker(url.partition("://")[2], **options)
"""
POINTS = """
[switchgear.brokers]
acme = acme_broker:connect
torn = acme_broker:nothing
sqlite = acme_broker:nothing
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A package that serves acme://."""
    (tmp_path / "acme_broker.py").write_text(MODULE)
    info = tmp_path / "acme_broker-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-broker\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    url.others.cache_clear()
    yield
    url.others.cache_clear()


def test_a_package_serves_a_scheme_of_its_own(installed):
    broker = broker_of("acme://box.db", {"partitions": 3})
    assert isinstance(broker, SqliteBroker)
    assert str(broker.path) == "box.db"
    assert isinstance(broker_of("sqlite:///ours.db"), SqliteBroker), "ours stay ours"


def test_one_that_cannot_be_imported_says_where_it_is_from(installed):
    with pytest.raises(UnsupportedBroker, match=r"torn:// cannot be imported from acme_broker"):
        broker_of("torn://x")


def test_its_scheme_may_stand_in_switchgear_toml(installed, tmp_path):
    file = tmp_path / "switchgear.toml"
    file.write_text('[system]\nbroker = "acme://box"\n')
    assert load(file, {}).system.broker.scheme == "acme"
    file.write_text('[system]\nbroker = "amce://box"\n')
    with pytest.raises(ConfigError, match=r"acme://"):
        load(file, {})
