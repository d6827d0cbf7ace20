"""`switchgear.toml`: what it means, and what is said when it is wrong."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchgear import config
from switchgear.config import Address, Config, Url, masked
from switchgear.config.lines import lines_of
from switchgear.config.settings import EventConfig, SagaConfig
from switchgear.errors import ConfigError
from switchgear.model.context import Priority
from switchgear.policy.adaptive import Vegas
from switchgear.policy.admission import Admission

SHOP = """\
# the shop
[system]
name = "shop"
data = "var"
path = [".."]
drain = 4

[services.orders]
app = "shop.orders:app"
http = "127.0.0.1:8001"
grpc = ":7001"
env = { DEBUG = "1" }

[services.gateway]
asgi = "shop.gateway:api"
http = "0.0.0.0:8000"
cors = ["https://example.org"]
drain = 2.5

[services.gateway.calls]
"shop.orders.v1.Orders" = "grpc://10.0.0.1:7001"
"shop.pay.v1.Payments" = { url = "grpcs://pay:443", token = "${env:PAY_TOKEN}", ca = "ca.pem" }

[objectives."shop.orders.v1.Orders/place"]
availability = 0.999
latency = 0.3
"""


def load(folder: Path, text: str, environ: Mapping[str, str] | None = None, **more: str) -> Config:
    file = folder / "switchgear.toml"
    file.write_text(text, encoding="utf-8")
    return config.load(file, {"PAY_TOKEN": "hush", **(environ or {}), **more})


def test_a_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAY_TOKEN", "hush")
    shop = load(tmp_path, SHOP)
    assert shop.system.name == "shop"
    assert shop.system.data == tmp_path / "var"
    assert shop.system.path == (tmp_path / "..",)
    assert shop.file_of(shop.system.broker) == tmp_path / "var" / "broker.db"
    orders, gateway = shop.service("orders"), shop.service("gateway")
    assert orders.app == "shop.orders:app"
    assert orders.http == Address("127.0.0.1", 8001)
    assert orders.grpc == Address("127.0.0.1", 7001)
    assert orders.env == {"DEBUG": "1"}
    assert orders.drain == 4
    assert shop.file_of(orders.database) == tmp_path / "var" / "orders.db"
    assert gateway.asgi == "shop.gateway:api"
    assert gateway.drain == 2.5
    assert gateway.cors == ("https://example.org",)
    assert gateway.http is not None
    assert gateway.http.reachable() == Address("127.0.0.1", 8000)
    reach = gateway.reach("shop.pay.v1.Payments")
    assert reach is not None
    assert reach.token is not None
    assert reach.token.reveal() == "hush"
    assert reach.ca == tmp_path / "ca.pem"
    assert gateway.reach("shop.stock.v1.Stock") is None
    assert shop.objectives["shop.orders.v1.Orders/place"].availability == 0.999


def test_without_a_file_everything_has_a_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = config.load(environ={"SWITCHGEAR_SERVICES_ORDERS_HTTP": "9000"})
    assert settings.file is None
    assert settings.services == {}
    assert settings.service("orders").http == Address("127.0.0.1", 9000)
    assert settings.service("stock").http is None


def test_the_environment_overrides_every_value(tmp_path: Path) -> None:
    shop = load(
        tmp_path,
        SHOP,
        SWITCHGEAR_SYSTEM_DRAIN="1.5",
        SWITCHGEAR_SERVICES_ORDERS_HTTP="127.0.0.1:9001",
        SWITCHGEAR_SERVICES_ORDERS_ENV_LEVEL="3",
        SWITCHGEAR_SERVICES_GATEWAY_CORS="https://a.org, https://b.org",
        SWITCHGEAR_SERVICES_GATEWAY_CALLS_SHOP_ORDERS_V1_ORDERS="http://there:1",
        SWITCHGEAR_SERVICES_GATEWAY_CALLS_SHOP_STOCK_V1_STOCK="http://stock:1",
        SWITCHGEAR_SERVICES_GATEWAY_CALLS_SHOP_PAY_V1_PAYMENTS_URL="grpcs://other:443",
    )
    assert shop.system.drain == 1.5
    assert shop.service("orders").http == Address("127.0.0.1", 9001)
    assert shop.service("orders").env == {"DEBUG": "1", "LEVEL": "3"}
    gateway = shop.service("gateway")
    assert gateway.cors == ("https://a.org", "https://b.org")
    urls = {
        name: reach.url.reveal()
        for name in ("shop.orders.v1.Orders", "shop.stock.v1.Stock", "shop.pay.v1.Payments")
        if (reach := gateway.reach(name))
    }
    assert urls == {
        "shop.orders.v1.Orders": "http://there:1",
        "shop.stock.v1.Stock": "http://stock:1",
        "shop.pay.v1.Payments": "grpcs://other:443",
    }
    assert set(shop.overrides) >= {"SWITCHGEAR_SYSTEM_DRAIN"}


def test_admission_is_read_by_setting_and_only_what_is_set(tmp_path: Path) -> None:
    text = """
[services.orders]
app = "a:b"
[services.orders.admission]
concurrency = "vegas"
reserve = 0
operations = { report = "sheddable" }
"""
    name = "SWITCHGEAR_SERVICES_ORDERS_ADMISSION_QUEUE"
    orders = load(tmp_path, text, {name: "7"}).service("orders")
    assert orders.admission == {
        "concurrency": Vegas(),
        "queue": 7,
        "reserve": 0.0,
        "operations": {"report": Priority.SHEDDABLE},
    }
    fixed = {"SWITCHGEAR_SERVICES_ORDERS_ADMISSION_CONCURRENCY": "12"}
    assert load(tmp_path, text, fixed).service("orders").admission["concurrency"] == 12
    assert load(tmp_path, SHOP).service("orders").admission == {}


def test_an_operation_may_be_given_places_of_its_own(tmp_path: Path) -> None:
    text = """
[services.orders]
app = "a:b"
[services.orders.admission.operations]
pay = "critical"
report = { concurrency = 2, queue = 0 }
"""
    assert load(tmp_path, text).service("orders").admission["operations"] == {
        "pay": Priority.CRITICAL,
        "report": Admission(concurrency=2, queue=0),
    }


def test_how_sagas_are_worked_off(tmp_path: Path) -> None:
    text = """
[services.orders]
app = "a:b"
[services.orders.sagas]
concurrency = 8
archive = "old/sagas"
"""
    lease = {"SWITCHGEAR_SERVICES_ORDERS_SAGAS_LEASE": "2.5"}
    sagas = load(tmp_path, text, lease).service("orders").sagas
    assert sagas == SagaConfig(concurrency=8, lease=2.5, archive=tmp_path / "old/sagas")
    assert load(tmp_path, SHOP).service("orders").sagas == SagaConfig()


def test_a_folder_for_sagas_that_is_not_there_is_told_when_the_service_runs(tmp_path: Path) -> None:
    text = """
[services.orders]
app = "a:b"
[services.orders.sagas]
archive = "${env:NOWHERE}"
"""
    with pytest.raises(ConfigError, match="NOWHERE"):
        load(tmp_path, text).service("orders")


def test_how_events_are_published_and_heard(tmp_path: Path) -> None:
    text = """
[services.orders]
app = "a:b"
[services.orders.events]
mode = "structured"
keep = 864000
"""
    lease = {"SWITCHGEAR_SERVICES_ORDERS_EVENTS_LEASE": "2.5"}
    events = load(tmp_path, text, lease).service("orders").events
    assert events == EventConfig(mode="structured", lease=2.5, keep=864_000.0)
    assert load(tmp_path, SHOP).service("orders").events == EventConfig()


WRONG = [
    (
        '[services.o]\napp = "a:b"\n[services.o.events]\nmode = "batched"\n',
        ":4: services.o.events.mode",
        "binary",
    ),
    (
        '[services.o]\napp = "a:b"\n[services.o.sagas]\nlease = 0\n',
        ":4: services.o.sagas.lease",
        "above 0",
    ),
    (
        '[services.o]\napp = "a:b"\n[services.o.admission.operations]\nr = { queue = -1 }\n',
        ":4: services.o.admission.operations.r.queue",
        "at least 0",
    ),
    (
        '[services.o.admission.operations]\nr = { operations = { x = "critical" } }\n',
        ":1: services.o.admission",
        "leave them out",
    ),
    ('[services.orders]\napp = "a:b"\nhtpp = "x"\n', ":3: services.orders.htpp", "mean http?"),
    ('[services.orders]\n\nhttp = "127.0.0.1:8001"\n', ":1: services.orders", "what to run"),
    ('[services.o]\napp = "a:b"\nhttp = "127.0.0.1:80000"\n', ":3: services.o.http", "host:port"),
    ('[services.o]\napp = "a:b"\nhttp = 8001\n', ":3: services.o.http", "found 8001"),
    ('[services.o]\napp = "a"\n', ":2: services.o.app", "shop.orders:app"),
    ('[services.o]\napp = "a:b"\nasgi = "a:b"\n', ":2: services.o.app", "both set"),
    ('[services.O]\napp = "a:b"\n', ":1: services.O", "small letters"),
    ("services = 3\n", ":1: services", "expected a table"),
    ("[services]\norders = 3\n", ":2: services.orders", "expected a table"),
    ("[system]\ndrain = 0\n", ":2: system.drain", "above 0"),
    ("[system]\ndrain = true\n", ":2: system.drain", "seconds"),
    ('[system]\nlog = "loud"\n', ":2: system.log", "debug, info, warning, error"),
    ('[system]\nbroker = "smoke://x"\n', ":2: system.broker", "sqlite://"),
    ('[system]\nbroker = "sqlite://x.db"\n', ":2: system.broker", "three slashes"),
    ('[system]\npath = ".."\n', ":2: system.path", "list of texts"),
    ("[sytem]\n", ":1: sytem", "mean system?"),
    ("[objectives.o]\navailability = 99.9\n", ":2: objectives.o.availability", "between 0 and 1"),
    ('[services.o]\napp = "a:b"\ncertificate = "c"\n', ":3: services.o.certificate", "Add key"),
    (
        '[services.o]\napp = "a:b"\n[services.o.calls]\n"a.B" = { url = "ftp://x" }\n',
        ':4: services.o.calls."a.B".url',
        "grpc://",
    ),
    (
        '[services.o]\napp = "a:b"\n[services.o.calls]\n"a.B" = { token = "${env:PAY_TOKEN}" }\n',
        ':4: services.o.calls."a.B"',
        "no url",
    ),
    (
        '[services.a]\napp = "a:b"\nhttp = ":1"\n[services.b]\napp = "a:b"\ngrpc = ":1"\n',
        ":6: services.b.grpc",
        "services.a.http",
    ),
    (
        '[services.a-b]\napp = "a:b"\n[services.a_b]\napp = "a:b"\n',
        ":3: services.a_b",
        "same names",
    ),
    (
        '[services.o]\napp = "a:b"\nadmission = { concurrency = "some" }\n',
        ":3: services.o.admission.concurrency",
        "at least 1 or one of aimd, gradient, vegas",
    ),
    (
        '[services.o]\napp = "a:b"\nadmission = { queue = 1.5 }\n',
        ":3: services.o.admission.queue",
        "a whole number, at least 0",
    ),
    (
        '[services.o]\napp = "a:b"\nadmission = { reserve = 1 }\n',
        ":3: services.o.admission.reserve",
        "below 1",
    ),
    (
        '[services.o]\napp = "a:b"\n[services.o.admission]\ntarget = 2\n',
        ":3: services.o.admission",
        "interval is 0.1",
    ),
    (
        '[services.o]\napp = "a:b"\n[services.o.admission.operations]\npay = "urgent"\n',
        ":4: services.o.admission.operations.pay",
        "critical, default, sheddable",
    ),
    ('[services.o]\nhttp = "127.0.0.1:1\n', ":2: http", "not valid TOML"),
    ('[services.o\napp = "a:b"\n', ":1: [services.o", "not valid TOML"),
    ('[system]\ndata = "${env:NOWHERE}"\n', ":2: system.data", "NOWHERE is not set"),
    ('[system]\ndata = "${file:none}"\n', ":2: system.data", "none cannot be read"),
    ('[system]\ndata = "${vault:x}"\n', ":2: system.data", "${env:NAME}"),
]


@pytest.mark.parametrize(("text", "where", "expected"), WRONG)
def test_a_complaint_names_file_line_key_and_expectation(
    tmp_path: Path, text: str, where: str, expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    said = str(caught.value)
    assert f"switchgear.toml{where}: " in said
    assert expected in said
    assert "\n" not in said


@pytest.mark.parametrize("entry", ['"A=B" = "x"', '"" = "x"', '"A\\u0000" = "x"', 'A = "\\u0000"'])
def test_what_cannot_be_an_environment_variable_is_said_with_its_line(
    tmp_path: Path, entry: str
) -> None:
    web = '[services.web]\nasgi = "web:app"\n\n[services.web.env]\n'
    with pytest.raises(ConfigError, match=r"switchgear\.toml:5"):
        load(tmp_path, f"{web}{entry}\n")


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"_ORDERS_HTPP.*ORDERS_HTTP"):
        load(tmp_path, SHOP, SWITCHGEAR_SERVICES_ORDERS_HTPP="1")
    with pytest.raises(ConfigError, match="variable SWITCHGEAR_SYSTEM_DRAIN: expected seconds"):
        load(tmp_path, SHOP, SWITCHGEAR_SYSTEM_DRAIN="soon")


def test_a_missing_file_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read.*--config"):
        config.load(tmp_path / "none.toml", {})


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "switchgear.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"switchgear\.toml: it is not UTF-8"):
        config.load(tmp_path / "switchgear.toml", {})


def test_the_file_can_come_from_the_environment(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text('[system]\nname = "other"\n')
    found = config.load(environ={"SWITCHGEAR_CONFIG": str(tmp_path / "other.toml")})
    assert found.system.name == "other"


def test_secrets_are_never_printed(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3same\n")
    text = """\
[services.orders]
app = "a:b"
database = "postgresql://orders:${file:password}@db/orders?sslkey=alsosecret"
[services.orders.calls]
"a.B" = { url = "https://b", token = "${env:PAY_TOKEN}" }
"""
    settings = load(tmp_path, text)
    database = settings.service("orders").database
    assert database.reveal().startswith("postgresql://orders:s3same@db/orders")
    shown = f"{settings!r} {settings.service('orders')} {database}"
    for hidden in ("s3same", "hush", "alsosecret"):
        assert hidden not in shown
    assert "orders:***@db" in str(database)


def test_the_secrets_of_others_need_not_be_here(tmp_path: Path) -> None:
    text = """\
[services.orders]
app = "a:b"
database = "postgresql://orders:${env:ORDERS_PASSWORD}@db/orders"
[services.pay]
app = "c:d"
database = "postgresql://pay:${env:PAY_PASSWORD}@db/pay"
[services.pay.calls]
"a.B" = { url = "https://b", token = "${file:none}" }
"""
    settings = load(tmp_path, text, {"ORDERS_PASSWORD": "s3same"})
    assert "s3same" in settings.service("orders").database.reveal()
    with pytest.raises(
        ConfigError, match=r":6: services\.pay\.database: .* PAY_PASSWORD is not set"
    ):
        settings.service("pay")


def test_options_of_the_brokers_driver_are_kept_as_they_are(tmp_path: Path) -> None:
    text = """\
[system]
broker = "postgresql://me@a.example/events?partitions=4"
[broker.options]
command_timeout = 2.5
"sasl.password" = "${env:PAY_TOKEN}"
secure = true
"""
    system = load(tmp_path, text, SWITCHGEAR_BROKER_OPTIONS_EXTRA="x").system
    assert system.broker_options == {
        "command_timeout": 2.5,
        "sasl.password": "hush",
        "secure": True,
        "EXTRA": "x",
    }
    assert "hush" not in repr(system)
    with pytest.raises(ConfigError, match=r"broker\.options\.a: expected a text, a number"):
        load(tmp_path, "[broker.options]\na = []\n")
    with pytest.raises(ConfigError, match=r"broker\.option: there is no such key"):
        load(tmp_path, "[broker.option]\na = 1\n")


def test_a_url_may_have_several_hosts(tmp_path: Path) -> None:
    broker = load(tmp_path, '[system]\nbroker = "postgresql://a:1,b:2/events"\n').system.broker
    assert broker.reveal() == "postgresql://a:1,b:2/events"


def test_a_complaint_masks_passwords(tmp_path: Path) -> None:
    text = '[system]\nbroker = "smoke://u:s3same@h/?token=hush"\n'
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert "s3same" not in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:s3/s3@h/db",
        "postgresql://u:s3@s3@h/db",
        "postgresql://u@corp:s3s3@h/db",
        "postgresql://u:s3:s3?s3#s3@h/db",
        "postgresql://u:s3's3\"s3@h",
        "redis://:s3s3@h",
        "x://h?password=s3#s3",
    ],
)
def test_of_a_password_that_is_not_encoded_nothing_is_printed(url: str) -> None:
    for text in (url, f"cannot reach {url}: refused", repr(url), f"{{'url': '{url}', 'a': 1}}"):
        assert "s3" not in masked(text)
    assert masked("no route to http://h:80/a, ask a@b") == "no route to http://h:80/a, ask a@b"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:s3/s3@h/db",
        "postgresql://u:7,s3/s3@h/db",
        "postgresql://u:7/s3@h/db",
        "postgresql://u:s3 s3@h/db",
        "postgresql://u:s3[s3@h/db",
        "postgresql://u:s3\u2100s3@h/db",
    ],
)
def test_a_url_whose_password_is_not_encoded_is_refused_without_it(
    tmp_path: Path, url: str
) -> None:
    with pytest.raises(ConfigError, match=r"system\.broker: expected a URL") as caught:
        load(tmp_path, f"[system]\nbroker = {json.dumps(url)}\n")
    assert "s3" not in str(caught.value)
    with pytest.raises(ConfigError, match="expected a URL") as caught:
        load(tmp_path, '[system]\nbroker = "${env:URL}"\n', {"URL": url})
    assert "s3" not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "revealed"),
    [
        ("postgresql://u:${env:PW}@h/db", "postgresql://u:a%2Fb%40c%3A%25d%20e@h/db"),
        ("postgresql://${env:ME}:${file:x/pw}@h", "postgresql://me%40corp:%3F%23@h"),
        ("postgresql://${env:LOGIN}@h/db", "postgresql://u:p%40p%3Aq@h/db"),
        ("${env:WHOLE}", "postgresql://u:p%40p@h/db"),
        ("postgresql://u@${env:HOST}/db?a=${env:HOST}@", "postgresql://u@h:1/db?a=h:1@"),
        ("sqlite:///${env:HOST}@x.db", "sqlite:///h:1@x.db"),
    ],
)
def test_what_is_put_into_the_login_of_a_url_is_encoded(
    tmp_path: Path, written: str, revealed: str
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "pw").write_text("?#\n")
    environ = {
        "PW": "a/b@c:%d e",
        "ME": "me@corp",
        "LOGIN": "u:p@p:q",
        "WHOLE": "postgresql://u:p%40p@h/db",
        "HOST": "h:1",
    }
    system = load(tmp_path, f'[system]\nbroker = "{written}"\n', environ).system
    assert system.broker.reveal() == revealed


def test_a_secret_in_the_file_itself_is_refused(tmp_path: Path) -> None:
    text = """\
[services.orders]
app = "a:b"
[services.orders.calls]
"a.B" = { url = "https://b", token = "s3same" }
"""
    with pytest.raises(ConfigError, match=r"\.token: expected \$\{env:NAME\}") as caught:
        load(tmp_path, text)
    assert "s3same" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8001", Address("127.0.0.1", 8001)),
        (":0", Address("127.0.0.1", 0)),
        ("0.0.0.0:80", Address("0.0.0.0", 80)),  # noqa: S104
        ("[::1]:80", Address("::1", 80)),
    ],
)
def test_addresses(text: str, expected: Address) -> None:
    assert Address.of(text) == expected
    assert Address.of(str(expected)) == expected


@pytest.mark.parametrize("text", ["", "a:b", "::1:80", ":-1", ":65536", ":٣"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"port|IPv6"):
        Address.of(text)


def test_sqlite_urls() -> None:
    assert Url.of("sqlite:///a/b.db").path(Path("/x")) == Path("/x/a/b.db")
    assert Url.of("sqlite:////a/b.db").path(Path("/x")) == Path("/a/b.db")
    url = Url.of("sqlite:///a%20b.db?synchronous=NORMAL")
    assert url.path(Path("/x")) == Path("/x/a b.db")
    assert url.absolute(Path("/x")) == "sqlite:////x/a%20b.db?synchronous=NORMAL"
    assert url.options == {"synchronous": "NORMAL"}
    assert Url.of("postgresql://h/d").absolute(Path("/x")) == "postgresql://h/d"


TRICKY = '''\
a.b = 1 # x = 2
"c d" = "[not] = a table"
e = """
f = 1
"""
g = [ # comment ]
  { h = 1, "i" = [2, 3] },
  "}",
]
[t]
j = { k.l = 'x#', m = {} }
[[u]]
n = 1979-05-27 07:32:00
[[u]]
n = 2
[u.v]
o = 1.5
'p"q' = "\\u0041\\\\"
'''


def test_the_line_of_every_key() -> None:
    lines = lines_of(TRICKY)
    named = {".".join(path): line for path, line in lines.items()}
    assert named == {
        "a": 1,
        "a.b": 1,
        "c d": 2,
        "e": 3,
        "g": 6,
        "g.0": 7,
        "g.0.h": 7,
        "g.0.i": 7,
        "g.0.i.0": 7,
        "g.0.i.1": 7,
        "g.1": 8,
        "t": 10,
        "t.j": 11,
        "t.j.k": 11,
        "t.j.k.l": 11,
        "t.j.m": 11,
        "u": 12,
        "u.0": 12,
        "u.0.n": 13,
        "u.1": 14,
        "u.1.n": 15,
        "u.1.v": 16,
        "u.1.v.o": 17,
        'u.1.v.p"q': 18,
    }


def paths(value: object, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found = {path} if path else set()
    if isinstance(value, dict):
        items = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list):
        items = [(str(number), inner) for number, inner in enumerate(value)]
    else:
        items = []
    return found.union(*(paths(inner, (*path, key)) for key, inner in items))


BITS = [
    "a = 1",
    'b.c = "x"',
    "d = '#'",
    '"e.f" = [1, [2], "]"]',
    "g = {h = 1, i.j = {}}",
    'k = """\n"quoted" [t]\n"""',
    "l = '''\n\\'''",
    'm = """x\\""""',
    'n = """y"""""',
    "o = [\n  1, # one ]\n  {p = 2},\n]",
    "# a = 3",
    "",
]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "[t]", "[t.u]", "[[v]]", '["w x"]', "[[v.y]]"]),
            st.lists(st.sampled_from(BITS), unique=True),
        ),
        max_size=5,
    )
)
def test_every_key_that_tomllib_sees_has_a_line(tables: list[tuple[str, list[str]]]) -> None:
    text = "\n".join(line for header, pairs in tables for line in (header, *pairs))
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # the same table twice
    lines = lines_of(text)
    assert lines.keys() == paths(tree)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())


def test_the_page_names_every_setting() -> None:
    page = (Path(__file__).parents[1] / "docs/reference/config.md").read_text(encoding="utf-8")
    kinds = (
        config.SystemConfig,
        config.ServiceConfig,
        config.CallConfig,
        EventConfig,
        SagaConfig,
        config.Objective,
    )
    names = {field.name for kind in kinds for field in dataclasses.fields(kind)}
    names = names - {"tls", "unset", "calls", "env", "broker_options", "saga_options"} | {
        "certificate",
        "key",
        "client_ca",
    }
    assert not [name for name in sorted(names) if f"`{name}`" not in page]
