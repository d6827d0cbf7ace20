"""Who may speak to NATS, and how that is proven: passwords, tokens, keys, certificates."""

import asyncio
import base64
import hashlib
import itertools
import json
import os
import re
from pathlib import Path

import pytest

from switchgear.errors import BrokerError
from switchgear.events.brokers.nats_client import _is_refusal
from switchgear.events.brokers.port import BrokerUnavailable, Record
from switchgear.events.brokers.url import broker_of
from tests.certificates import certificate
from tests.servers import own

TOPIC = "test.orders"
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "brokers.md"


def server_with(more):
    from services.servers import Nats

    return own("nats", type("Configured", (Nats,), {"more": more}))


async def round_trip(url, native=None):
    """Publish a record and read it."""
    broker = broker_of(url, native)
    try:
        await broker.publish([Record(TOPIC, "k", {}, b"x")])
        subscription = await broker.subscribe("g", [TOPIC])
        async with asyncio.timeout(90):
            while not (await subscription.poll(10, 0.5)).deliveries:
                pass
    finally:
        await broker.close()


async def test_a_user_with_a_password_and_one_with_a_token():
    for credentials, good, bad in (
        ('user: "me", password: "s@fe"', "me:s%40fe", "me:wr0ng"),
        ('token: "t0ken"', "t0ken", "wr0ng"),
    ):
        with server_with(f"authorization {{ {credentials} }}") as server:
            host = server.url.removeprefix("nats://")
            await round_trip(f"nats://{good}@{host}?partitions=1")
            for url in (f"nats://{bad}@{host}", server.url):
                with pytest.raises(BrokerError, match="refuses the credentials") as caught:
                    await round_trip(url)
                assert "wr0ng" not in str(caught.value)


def seed(kind):
    import nkeys

    return nkeys.encode_seed(os.urandom(32), kind)


def public(secret):
    import nkeys

    return nkeys.from_seed(bytearray(secret)).public_key.decode()


async def test_a_user_with_a_key(tmp_path):
    import nkeys

    secret = seed(nkeys.PREFIX_BYTE_USER)
    (tmp_path / "user.nk").write_bytes(secret)
    with server_with(f"authorization {{ users: [ {{ nkey: {public(secret)} }} ] }}") as server:
        await round_trip(f"{server.url}?partitions=1&nkey={tmp_path / 'user.nk'}")
        with pytest.raises(BrokerError, match="refuses the credentials"):
            await round_trip(f"{server.url}?nkey={tmp_path / 'none'}")


def token(signer, subject, name, claims):
    """A JWT as NATS has them."""
    import nkeys

    def part(data):
        raw = data if isinstance(data, bytes) else json.dumps(data).encode()
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    body = {"jti": hashlib.sha256(os.urandom(8)).hexdigest(), "iat": 1_700_000_000}
    body |= {"iss": public(signer), "sub": subject, "name": name, "nats": claims | {"version": 2}}
    signed = f"{part({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{part(body)}"
    return f"{signed}.{part(nkeys.from_seed(bytearray(signer)).sign(signed.encode()))}"


async def test_a_user_with_a_creds_file(tmp_path):
    import nkeys

    operator, account, user = (
        seed(kind)
        for kind in (
            nkeys.PREFIX_BYTE_OPERATOR,
            nkeys.PREFIX_BYTE_ACCOUNT,
            nkeys.PREFIX_BYTE_USER,
        )
    )
    limits = {"subs": -1, "conn": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1}
    limits |= {"leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
    claims = {"type": "account", "limits": limits | {"wildcards": True}}
    system = public(seed(nkeys.PREFIX_BYTE_ACCOUNT))
    more = (
        f"operator: {token(operator, public(operator), 'o', {'type': 'operator'})}\n"
        f"system_account: {system}\n"
        "resolver: MEMORY\n"
        "resolver_preload: {\n"
        f"  {system}: {token(operator, system, 's', {'type': 'account'})}\n"
        f"  {public(account)}: {token(operator, public(account), 'a', claims)}\n"
        "}\n"
    )
    whose = {"type": "user", "subs": -1, "data": -1, "payload": -1}
    (tmp_path / "user.creds").write_text(
        "-----BEGIN NATS USER JWT-----\n"
        f"{token(account, public(user), 'u', whose)}\n"
        "------END NATS USER JWT------\n\n"
        "-----BEGIN USER NKEY SEED-----\n"
        f"{user.decode()}\n"
        "------END USER NKEY SEED------\n"
    )
    with server_with(more) as server:
        await round_trip(f"{server.url}?partitions=1&creds={tmp_path / 'user.creds'}")
        with pytest.raises(BrokerError, match="refuses the credentials"):
            await round_trip(server.url)


@pytest.mark.parametrize(
    ("denied", "says"),
    [
        ("$JS.API.STREAM.CREATE.>", r"may not publish to \$js.api.stream.create.test_orders"),
        ("test.orders.0", r"may not publish to test\.orders\.0"),
        ("$KV.>", r"may not publish to \$kv\.switchgear\.group\.g"),
        ("$JS.API.CONSUMER.CREATE.>", r"may not publish to \$js.api.consumer.create.test_orders"),
        ("$JS.API.CONSUMER.MSG.NEXT.>", r"may not publish to \$js.api.consumer.msg.next"),
    ],
)
async def test_a_missing_permission_is_told_with_the_subject(denied, says, monkeypatch):
    monkeypatch.setattr("switchgear.events.brokers.nats_reader._HEARTBEAT", 0.2)
    user = f'{{ user: a, password: b, permissions: {{ publish: {{ deny: "{denied}" }} }} }}'
    with server_with(f"authorization {{ users: [ {user} ] }}") as server:
        with pytest.raises(BrokerError, match=says):
            await round_trip(f"{server.url.replace('//', '//a:b@')}?partitions=1")


async def test_the_permissions_of_the_docs_are_enough():
    """Those of the table in the page Brokers, and no others."""
    lines = PAGE.read_text().partition("| to | publish | subscribe |")[2].splitlines()[2:]
    table = itertools.takewhile(lambda line: line.startswith("|"), lines)
    rows = [[cell.strip() for cell in line.split("|")[2:4]] for line in table]
    names = {"T.": "test.orders.", "KV_B": "KV_switchgear", "KV.B": "KV.switchgear"}
    names |= {".S": ".test_orders"}
    publish, subscribe = (
        [_named(one.strip("` "), names) for row in rows for one in row[side].split(",") if one]
        for side in (0, 1)
    )
    assert len(publish) > 10
    user = (
        f"{{ user: a, password: b, permissions: {{ publish: {{ allow: {json.dumps(publish)} }}, "
        f"subscribe: {{ allow: {json.dumps(subscribe)} }} }} }}"
    )
    with server_with(f"authorization {{ users: [ {user} ] }}") as server:
        url = server.url.replace("//", "//a:b@")
        await round_trip(f"{url}?partitions=1")
        broker = broker_of(url)
        assert (await broker.lag("g", [TOPIC])).events == 1
        assert (await broker.lag("g", [])).events == 0
        await broker.close()
        assert "iolation" not in server.log.read_text()


def _named(subject, names):
    for short, full in names.items():
        if short != ".S" or not subject.startswith("T"):
            subject = re.sub(rf"{re.escape(short)}(?![A-Z])", full, subject)
    return subject


async def test_an_account_without_jetstream_is_refused():
    more = "accounts { A { users: [ { user: a, password: b } ] } }"
    with server_with(more) as server:
        with pytest.raises(BrokerError, match="no JetStream here"):
            await round_trip(server.url.replace("//", "//a:b@"))


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        ("nats: 'Authorization Violation'", True),
        ("nats: 'User Authentication Expired'", True),
        ("nats: 'User Authentication Revoked'", True),
        ("nats: 'Authentication Timeout'", False),
        ("certificate verify failed: certificate has expired (_ssl.c:992)", False),
        ("[Errno 111] Connect call failed", False),
    ],
)
def test_what_will_pass_is_not_taken_for_a_refusal(error, refused):
    assert _is_refusal(OSError(error)) == refused


async def test_tls(tmp_path):
    chain, key = certificate(tmp_path)
    tls = f'tls {{ cert_file: "{chain}", key_file: "{key}" }}'
    with server_with(tls) as server:
        host = server.url.removeprefix("nats://")
        await round_trip(f"natss://{host}?partitions=1&ca={chain}")
        with pytest.raises(BrokerUnavailable, match="certificate verify failed"):
            await round_trip(f"natss://{host}")
        with pytest.raises(BrokerError, match="files for TLS cannot be read"):
            await round_trip(f"natss://{host}?ca={tmp_path / 'none'}")


async def test_a_client_may_have_to_show_a_certificate(tmp_path):
    chain, key = certificate(tmp_path)
    tls = f'tls {{ cert_file: "{chain}", key_file: "{key}", ca_file: "{chain}", verify: true }}'
    with server_with(tls) as server:
        host = server.url.removeprefix("nats://")
        ours = f"&certificate={chain}&key={key}"
        await round_trip(f"natss://{host}?partitions=1&ca={chain}{ours}")
        with pytest.raises((BrokerUnavailable, BrokerError)):
            await round_trip(f"natss://{host}?ca={chain}")


async def test_tls_is_never_given_up_for_a_server_that_does_not_offer_it():
    with own("nats") as server:
        with pytest.raises(BrokerUnavailable, match="offers no TLS"):
            await round_trip(server.url.replace("nats://", "natss://"))


async def test_what_the_driver_cannot_use_is_refused_at_once(tmp_path):
    import nkeys

    (tmp_path / "bad.nk").write_text("not a seed")
    user = f"{{ nkey: {public(seed(nkeys.PREFIX_BYTE_USER))} }}"
    with server_with(f"authorization {{ users: [ {user} ] }}") as server:
        with pytest.raises(BrokerError, match="cannot work with its settings.*paces"):
            await round_trip(server.url, {"paces": 3})
        with pytest.raises(BrokerError, match="cannot work with its settings") as caught:
            await round_trip(f"{server.url}?nkey={tmp_path / 'bad.nk'}")
        assert "not a seed" not in str(caught.value)


async def test_options_of_the_driver_are_handed_on():
    with server_with('authorization { user: "me", password: "s@fe" }') as server:
        await round_trip(f"{server.url}?partitions=1", {"user": "me", "password": "s@fe"})
