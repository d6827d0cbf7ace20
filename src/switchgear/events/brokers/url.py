"""A broker from its URL. The URL says how to reach it, never what it means.

Options after the question mark are ours where this page knows them; those of PostgreSQL's driver
stay in the URL for it. `native` are more of the driver's own options, as `[broker.options]` of
`switchgear.toml` gives them.

A package can serve a scheme of its own by an entry point of the group `switchgear.brokers`: its
name is the scheme, and its object is called with the URL and the native options, for a `Broker`.
`switchgear.testing.conformance` tests what it then has to keep.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from switchgear.events.brokers.port import Broker, UnsupportedBroker

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["SCHEMES", "broker_of", "others"]

Options = dict[str, Any]  # what a driver takes is its own affair
Make = Callable[[str, Options], Broker]
Known = Mapping[str, Callable[[str], Any]]


def broker_of(url: str, native: Mapping[str, Any] | None = None) -> Broker:
    """Return the broker behind `url`; nothing is opened yet.

    All take `partitions`, of the topics that they create, as in `sqlite:///broker.db?partitions=4`.
    The other options are each broker's own; the page "Brokers" of the reference lists them. Raises
    `UnsupportedBroker`.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # it quotes what it cannot read
        raise UnsupportedBroker(
            "the broker's URL cannot be read.", fix="Percent-encode the user and the password."
        ) from None
    scheme = parts.scheme
    make = _BROKERS.get(scheme) or others().get(scheme)
    if make is None:
        raise UnsupportedBroker(
            f"no broker serves the scheme {scheme}."
            if scheme
            else "the broker's URL has no scheme.",
            fix=f"Supported: {', '.join(_EXAMPLES)}.",
        )
    if scheme in _BROKERS and _is_cut(parts):
        raise UnsupportedBroker(
            "the broker's URL has an @ behind its servers.",
            fix="Percent-encode the user and the password: / is %2F, # is %23, ? is %3F, @ is %40.",
        )
    return make(url, dict(native or {}))


def _is_cut(parts: SplitResult) -> bool:
    """Tell whether the rest of a password seems to be where a path, query or fragment is."""
    if not parts.netloc or "@" in parts.netloc:
        return False
    names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    return any("@" in one for one in (parts.path, parts.fragment, *names))


@cache
def others() -> Mapping[str, Make]:
    """Return what installed packages serve, by scheme; none of it is imported yet."""
    from importlib.metadata import entry_points  # noqa: PLC0415  most have none, and start sooner

    found = entry_points(group="switchgear.brokers")
    return {one.name: partial(_loaded, one) for one in found if one.name not in _BROKERS}


def _loaded(point: EntryPoint, url: str, native: Options) -> Broker:
    try:
        make = point.load()
    except Exception as error:
        raise UnsupportedBroker(
            f"the broker of {point.name}:// cannot be imported from {point.value}: {error}",
            fix="Correct or remove the package that provides it.",
        ) from error
    broker: Broker = make(url, native)
    return broker


def _sqlite(url: str, native: Options) -> Broker:
    from switchgear.events.brokers.sqlite import SqliteBroker  # noqa: PLC0415  the chosen one only

    parts = urlsplit(url)
    path = unquote(parts.path).removeprefix("/")
    if parts.netloc or not path:
        examples = " or ".join(_EXAMPLES[:2])
        raise UnsupportedBroker("the broker's URL names no file.", fix=f"Write {examples}.")
    if native:
        raise UnsupportedBroker(
            "the embedded broker has no options of a driver.", fix="Leave [broker.options] out."
        )
    known: Known = {
        "partitions": int,
        "retention": _seconds,
        "retention_bytes": int,
        "synchronous": _one_of("FULL", "NORMAL", "OFF"),
    }
    options, rest = _options(url, known)
    if rest:
        raise _unknown(url, min(rest), known)
    return SqliteBroker(path, **options)


def _postgres(url: str, native: Options) -> Broker:
    from switchgear.events.brokers.postgres import PostgresBroker  # noqa: PLC0415  as above

    known: Known = {"partitions": int, "retention": _seconds, "notify": _yes, "connections": int}
    options, rest = _options(url, known)
    # what is not ours is the driver's: sslmode, sslrootcert, search_path and so on
    plain = urlunsplit(urlsplit(url)._replace(query=urlencode(rest)))
    return PostgresBroker(plain, options=native, **options)


def _kafka(url: str, native: Options) -> Broker:
    from switchgear.events.brokers.kafka import KafkaBroker  # noqa: PLC0415  as above

    known: Known = {
        "partitions": int,
        "prefix": str,
        "protocol": _one_of("consumer", "classic"),
        "sasl": str,
        "ca": str,
        "certificate": str,
        "key": str,
    }
    options, rest = _options(url, known)
    if rest:
        raise _unknown(url, min(rest), known)
    login, _, servers = urlsplit(url).netloc.rpartition("@")
    if not servers:
        raise UnsupportedBroker("the broker's URL names no server.", fix="Write kafka://host:9092.")
    secure = url.startswith("kafkas:")
    client: Options = {}
    if login:
        if "sasl" not in options:
            raise UnsupportedBroker(
                "the broker's URL has a user and does not say how it proves who it is.",
                fix="Add ?sasl=SCRAM-SHA-512, PLAIN or another mechanism of the cluster.",
            )
        user, _, password = login.partition(":")
        client["sasl.username"], client["sasl.password"] = unquote(user), unquote(password)
        client["sasl.mechanism"] = options["sasl"]
    client["security.protocol"] = ("SASL_" if login else "") + ("SSL" if secure else "PLAINTEXT")
    for name, setting in _KAFKA_FILES.items():
        if name in options:
            client[setting] = options[name]
    given = {
        name: options[name] for name in ("partitions", "prefix", "protocol") if name in options
    }
    hosts = ",".join(_server(one, 9092) for one in servers.split(","))
    return KafkaBroker(hosts, options=client | native, **given)


def _nats(url: str, native: Options) -> Broker:
    from switchgear.events.brokers.nats import NatsBroker  # noqa: PLC0415  as above
    from switchgear.events.brokers.nats_client import NatsSettings, Tls  # noqa: PLC0415

    known: Known = {
        "partitions": int,
        "retention": _seconds,
        "replicas": int,
        "max_bytes": int,
        "prefix": _subject_prefix,
        "creds": str,
        "nkey": str,
        "ca": str,
        "certificate": str,
        "key": str,
    }
    options, rest = _options(url, known)
    if rest:
        raise _unknown(url, min(rest), known)
    login, _, servers = urlsplit(url).netloc.rpartition("@")
    if not servers:
        raise UnsupportedBroker("the broker's URL names no server.", fix="Write nats://host:4222.")
    client: Options = {}
    user, colon, password = login.partition(":")
    if colon:
        client["user"], client["password"] = unquote(user), unquote(password)
    elif login:
        client["token"] = unquote(login)  # as NATS's own URLs have it
    for name, setting in (("creds", "user_credentials"), ("nkey", "nkeys_seed")):
        if name in options:
            client[setting] = options.pop(name)
    if len({"user", "token", "user_credentials", "nkeys_seed"} & client.keys()) > 1:
        raise UnsupportedBroker(
            "the broker's URL has more than one proof of who it is.",
            fix="Give one of: user and password, a token, creds, nkey.",
        )
    files = {name: options.pop(name) for name in ("ca", "certificate", "key") if name in options}
    secure = url.startswith("natss:")
    if files and not secure:
        raise UnsupportedBroker(
            f"the broker's URL gives {min(files)} and asks for no TLS.", fix="Write natss://."
        )
    hosts = [_server(one, 4222) for one in servers.split(",")]
    prefix = options.pop("prefix", "")
    tls = Tls(**files) if secure else None
    return NatsBroker(NatsSettings(hosts, client | native, tls, prefix), **options)


def _rabbitmq(url: str, native: Options) -> Broker:
    from switchgear.events.brokers.rabbitmq import RabbitBroker  # noqa: PLC0415  as above
    from switchgear.events.brokers.rabbitmq_client import RabbitSettings  # noqa: PLC0415

    known: Known = {
        "partitions": int,
        "prefix": str,
        "groups": _groups,
        "max_bytes": int,
        "ca": str,
        "certificate": str,
        "key": str,
    }
    options, rest = _options(url, known)
    if rest:
        raise _unknown(url, min(rest), known)
    strange = sorted(native.keys() - {"auth"})
    if strange:
        raise UnsupportedBroker(
            f"[broker.options] have {strange[0]}, which RabbitMQ's driver has not.",
            fix='Known for amqp: auth, as in auth = "external".',
        )
    parts = urlsplit(url)
    login, _, servers = parts.netloc.rpartition("@")
    secure = url.startswith("amqps:")
    files = sorted({"ca", "certificate", "key"} & options.keys())
    if files and not secure:
        raise UnsupportedBroker(
            f"the broker's URL gives {files[0]} and asks for no TLS.", fix="Write amqps://."
        )
    if not servers:
        raise UnsupportedBroker("the broker's URL names no server.", fix="Write amqp://host/.")
    settings: Options = {
        "hosts": [_host(one, 5671 if secure else 5672) for one in servers.split(",")],
        "vhost": unquote(parts.path.removeprefix("/")) or "/",
        "tls": secure,
        "options": native,
    }
    if login:
        user, _, password = login.partition(":")
        settings |= {"user": unquote(user), "password": unquote(password)}
    for name in ("prefix", "ca", "certificate", "key"):
        if name in options:
            settings[name] = options.pop(name)
    return RabbitBroker(RabbitSettings(**settings), **options)


def _sqs(url: str, native: Options) -> Broker:
    from switchgear.events.brokers.sqs import WAIT, SqsBroker  # noqa: PLC0415  as above
    from switchgear.events.brokers.sqs_client import SqsSettings  # noqa: PLC0415

    known: Known = {
        "endpoint": str,
        "prefix": _matching(r"[A-Za-z0-9_-]{0,16}", "it has 16 letters, digits, - and _ at most"),
        "profile": str,
        "create": _yes,
        "discover": float,
        "wait": _between(0, 20),
        "max_bytes": int,
    }
    options, rest = _options(url, known)
    if rest:
        raise _unknown(url, min(rest), known)
    login, _, region = urlsplit(url).netloc.rpartition("@")
    if not region:
        raise UnsupportedBroker("the broker's URL names no region.", fix="Write sqs://eu-west-1.")
    reach: Options = {name: options.pop(name) for name in _SQS_REACH & options.keys()}
    patience, wait = native.get("read_timeout"), options.get("wait", WAIT)
    if isinstance(patience, int | float) and patience <= wait:
        raise UnsupportedBroker(
            f"read_timeout gives SQS {patience:g} seconds to answer, and it waits {wait} for "
            "messages: no request would outlast a quiet moment.",
            fix="Raise read_timeout in [broker.options], or lower `wait` in the broker's URL.",
        )
    if login:
        host = urlsplit(reach.get("endpoint", "")).hostname or ""
        if host != "localhost" and not host.startswith("127.") and host != "::1":
            raise UnsupportedBroker(
                "the broker's URL has credentials for SQS.",
                fix="Leave them out: they are found as the AWS tools find them, in the "
                "environment, a profile, or the role of the machine. Only a stand-in on this "
                "machine takes them in the URL.",
            )
        key, _, secret = login.partition(":")
        reach["key"] = (unquote(key), unquote(secret))
    return SqsBroker(SqsSettings(region, client=native, **reach), **options)


def _options(url: str, known: Mapping[str, Callable[[str], Any]]) -> tuple[Options, dict[str, str]]:
    """Return the options of `url` that are known, read, and the others as they are."""
    found: Options = {}
    rest: dict[str, str] = {}
    for name, value in parse_qsl(urlsplit(url).query, keep_blank_values=True):
        if name not in known:
            rest[name] = value
            continue
        try:
            found[name] = known[name](value)
        except ValueError as error:
            raise UnsupportedBroker(
                f"the broker's option {name} is {value!r}: {error}.", fix="Correct it."
            ) from None
    return found, rest


def _unknown(url: str, name: str, known: Known) -> UnsupportedBroker:
    return UnsupportedBroker(
        f"the broker's URL has the unknown option {name}.",
        fix=f"Known for {urlsplit(url).scheme}: {', '.join(sorted(known))}.",
    )


def _seconds(value: str) -> timedelta:
    return timedelta(seconds=float(value))


def _subject_prefix(value: str) -> str:
    if not re.fullmatch(r"([A-Za-z0-9_-]+\.?)*", value):
        raise ValueError("it takes letters, digits, '-', '_' and single dots, as in 'shop.'")
    return value


def _yes(value: str) -> bool:
    if value not in {"true", "false"}:
        raise ValueError("it is true or false")
    return value == "true"


def _between(least: int, most: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if not least <= int(value) <= most:
            raise ValueError(f"it is from {least} to {most}")
        return int(value)

    return read


def _matching(pattern: str, rule: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(rule)
        return value

    return read


def _groups(value: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in value.split(","):
        group, sign, topic = one.partition("@")
        if not (group and sign and topic):
            raise ValueError("it is group@topic, separated by commas")
        found.setdefault(group, []).append(topic)
    return found


def _host(server: str, port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{server}")
        return parts.hostname or "", parts.port or port
    except ValueError:  # it may be part of a password, and the error quotes it
        raise UnsupportedBroker(
            "the broker's URL has a server whose port is no number.",
            fix="Write host:port, and percent-encode the user and the password.",
        ) from None


def _server(server: str, port: int) -> str:
    _host(server, port)
    return server if re.search(r":\d+$", server) else f"{server}:{port}"


def _one_of(*words: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        found = next((word for word in words if word.lower() == value.lower()), None)
        if found is None:
            raise ValueError(f"it is one of {', '.join(words)}")
        return found

    return read


_SQS_REACH: Final = frozenset({"endpoint", "prefix", "profile"})
_KAFKA_FILES: Final = {
    "ca": "ssl.ca.location",
    "certificate": "ssl.certificate.location",
    "key": "ssl.key.location",
}
_BROKERS: Final[Mapping[str, Make]] = {
    "sqlite": _sqlite,
    "postgresql": _postgres,
    "postgres": _postgres,
    "kafka": _kafka,
    "kafkas": _kafka,
    "sqs": _sqs,
    "amqp": _rabbitmq,
    "amqps": _rabbitmq,
    "nats": _nats,
    "natss": _nats,
}
SCHEMES: Final = tuple(_BROKERS)
"""Every scheme that a broker's URL may have."""
_EXAMPLES: Final = (
    "sqlite:///relative/path.db",
    "sqlite:////absolute/path.db",
    "postgresql://user@host/database",
    "kafka://host:9092",
    "sqs://region",
    "amqp://host/vhost",
    "nats://host:4222",
)
