"""One connection to NATS: requests and their answers, what is delivered, and what errors mean.

nats-py keeps the connection and comes back by itself after it was lost. It would also keep what is
sent meanwhile and send it later; that is off (`pending_size=0`), because what was given up must not
arrive behind what came after it. The rules on top:

- One inbox serves all requests; each has a token in it.
- A lost connection fails every request that waits: whether it was carried out is not known.
- After the connection came back, listeners are told: what was being delivered may have been lost.
- A missing permission is told by NATS apart from any request, by its subject: the requests that
  wait for an answer from there get it as their error.
- `natss://` is TLS or nothing. nats-py encrypts if the server asks for it, so a server, or somebody
  before it, could talk it out of that.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from switchgear.errors import BrokerError, MissingExtra
from switchgear.events.brokers.port import BrokerUnavailable

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

__all__ = [
    "NatsConnection",
    "NatsSettings",
    "Nobody",
    "Tls",
    "failure",
    "import_nats",
    "is_away",
    "status",
]

LOGGER: Final = logging.getLogger("switchgear.nats")

_CONNECT: Final = 5.0
_ANSWER: Final = 5.0
_NOBODY: Final = "503"
_FORBIDDEN: Final = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"')
_REFUSED: Final = ("authorization violation", "authentication expired", "authentication revoked")
_NO_JETSTREAM: Final = {10039, 10076}
_AWAY: Final = {409, 429}
_SERVER: Final = 500


class Nobody(BrokerUnavailable):
    """Nobody is there who could carry a request out: it certainly was not."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How to prove who the server is, and who we are: PEM files; None is the system's own."""

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None

    def context(self) -> ssl.SSLContext:
        """Read the files. Raises `BrokerError` if one cannot be."""
        try:
            made = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                made.load_cert_chain(self.certificate, self.key)
        except OSError as error:
            given = ", ".join(filter(None, (self.ca, self.certificate, self.key)))
            raise BrokerError(
                f"the files for TLS cannot be read ({given}): {error}.",
                fix="Give PEM files as ca, certificate and key in the broker's URL.",
            ) from error
        return made


@dataclass(frozen=True, slots=True)
class NatsSettings:
    """How to reach NATS, and how names are written there."""

    servers: Sequence[str]
    """`host:port` each."""
    client: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Arguments of `nats.connect`, credentials among them."""
    tls: Tls | None = None
    """None: as the server wants it."""
    prefix: str = ""
    """Before the names of topics and of the bucket of the groups."""


def import_nats() -> Any:
    """Return the module of the client. Raises `MissingExtra`."""
    try:
        import nats.aio.client  # noqa: PLC0415  an optional dependency
        import nats.errors  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtra("nats-py", "nats") from error
    return nats


def is_away(error: Mapping[str, Any]) -> bool:
    """Tell whether an error of JetStream will pass by itself; nothing was done then."""
    code = error.get("code", 0)
    return error.get("err_code") not in _NO_JETSTREAM and (code >= _SERVER or code in _AWAY)


def failure(error: Mapping[str, Any], doing: str) -> Exception:
    """Return what is raised for an error in a reply of JetStream: away, or refused."""
    what = f"{doing}: {error.get('description')}"
    if error.get("err_code") in _NO_JETSTREAM:
        return BrokerError(
            f"NATS has no JetStream here ({what}).",
            fix="Enable JetStream on the server and for this account.",
        )
    if is_away(error):
        return BrokerUnavailable(f"NATS cannot do it now ({what})")
    return BrokerError(
        f"NATS refuses it ({what}, code {error.get('err_code')}).",
        fix="Correct the stream or this account's limits.",
    )


def status(message: Msg) -> str | None:
    """Return the status that a message of the server itself has; None: it is a record."""
    return message.headers.get("Status") if message.headers and not message.data else None


class NatsConnection:
    """The connection of one broker; opened at the first use, and again if it ended for good."""

    def __init__(self, settings: NatsSettings) -> None:
        self.settings = settings
        self.listeners: set[Callable[[], None]] = set()
        """Called after a connection was lost and is there again."""
        self.forbidden: dict[str, BrokerError] = {}
        """By subject in lower case: what this user may not do there."""
        self._client: Client | None = None
        self._opening = asyncio.Lock()
        self._cause: BaseException | None = None
        self._failures = 0
        self._hopeless = asyncio.Event()
        self._closed = False
        self.max_payload = 1_048_576
        """Bytes of the largest message, headers included; the server says so when it is there."""
        self._inbox = ""
        self._tokens = 0
        self._waiting: dict[str, tuple[str, asyncio.Future[Msg]]] = {}
        self._watched: dict[str, set[Callable[[Msg], None]]] = {}

    async def client(self) -> Client:
        """Return the client, connected when it was opened just now.

        Raises `BrokerUnavailable`, and `BrokerError` if the credentials are refused.
        """
        client = self._client
        if client is None or client.is_closed:
            async with self._opening:
                if self._client is None or self._client.is_closed:
                    again = self._client is not None
                    self._client = await self._connect()
                    try:
                        await self._subscribe(self._client)
                    except import_nats().errors.Error as error:  # lost already
                        raise self._away() from error
                    if again:
                        self._tell()
                client = self._client
        return client

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: dict[str, str] | None = None,
        within: float = _ANSWER,
    ) -> Msg:
        """Send a request and return its answer.

        Raises `BrokerUnavailable` if none came, and whether it was carried out is not known then.
        """
        await self.client()  # which gives the inbox its name
        with self.expecting(subject) as (inbox, answer):
            await self.send(subject, payload, reply=inbox, headers=headers)
            return await self.answered(answer, subject, within)

    @contextmanager
    def expecting(self, subject: str) -> Iterator[tuple[str, asyncio.Future[Msg]]]:
        """Give a reply subject, and the future of the first answer that is not empty."""
        self._tokens += 1
        token = f"{self._tokens:x}"
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._waiting[token] = subject.lower(), answer
        try:
            yield f"{self._inbox}.{token}", answer
        finally:
            del self._waiting[token]
            if not answer.cancel() and not answer.cancelled():
                answer.exception()  # somebody has to look at it

    async def answered(self, answer: asyncio.Future[Msg], subject: str, within: float) -> Msg:
        """Wait for an answer. Raises `BrokerUnavailable`, as `request` does."""
        try:
            async with asyncio.timeout(within):
                message = await answer
        except TimeoutError as error:
            raise BrokerUnavailable(
                f"NATS gives no answer to {subject} within {within:g} s", cause=error
            ) from error
        if status(message) == _NOBODY:
            raise Nobody(f"nobody at NATS answers to {subject} now")
        return message

    async def ask(
        self, call: str, body: Mapping[str, Any] | None = None, *, within: float = _ANSWER
    ) -> dict[str, Any]:
        """Call JetStream's API and return the reply, in which `error` may be."""
        payload = b"" if body is None else json.dumps(body).encode()
        message = await self.request(f"$JS.API.{call}", payload, within=within)
        found: dict[str, Any] = json.loads(message.data)
        return found

    async def info(self, stream: str) -> dict[str, Any]:
        """Return what JetStream says of a stream. Raises `BrokerUnavailable` or `BrokerError`."""
        found = await self.ask(f"STREAM.INFO.{stream}")
        if "error" in found:
            raise failure(found["error"], f"looking at the stream {stream}")
        return found

    async def listen(self, handler: Callable[[Msg], None]) -> tuple[str, Subscription]:
        """Return an inbox, of which all goes to `handler`, and the subscription that ends that.

        Records keep the subject that they were published to: an inbox is told apart by who
        subscribed to it, so each reader has one.
        """
        client = await self.client()
        inbox = client.new_inbox()

        async def arrived(message: Msg) -> None:
            handler(message)

        try:
            return inbox, await client.subscribe(f"{inbox}.*", cb=arrived)
        except import_nats().errors.Error as error:
            raise self._away() from error

    async def watch(self, subject: str, handler: Callable[[Msg], None]) -> None:
        """Call `handler` for whatever is published to `subject`; some of it may be lost."""
        client = await self.client()
        handlers = self._watched.get(subject)
        if handlers is not None:
            handlers.add(handler)
            return
        self._watched[subject] = {handler}
        try:
            await self._watch(client, subject)
        except import_nats().errors.Error as error:
            del self._watched[subject]
            raise self._away() from error

    def unwatch(self, subject: str, handler: Callable[[Msg], None]) -> None:
        """Do not call `handler` any more."""
        handlers = self._watched.get(subject)
        if handlers is not None:
            handlers.discard(handler)

    async def send(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        reply: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        """Hand a message to the connection. Raises `BrokerUnavailable` if there is none now."""
        errors = import_nats().errors
        gone = (
            errors.OutboundBufferLimitError,  # there is no connection, and nothing is kept for one
            errors.ConnectionClosedError,
            errors.ConnectionDrainingError,
        )
        client = await self.client()
        try:
            await client.publish(subject, payload, reply, headers)
        except gone as error:
            raise self._away() from error
        except errors.Error as error:  # what cannot be written down: a subject, a header
            raise BrokerError(
                f"NATS cannot send to {subject}: {error}.", fix="Rename it."
            ) from error

    async def close(self) -> None:
        """Close the connection. Closing twice is allowed."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            await client.close()
        self._fail(BrokerUnavailable("the connection to NATS was closed"))
        self._closed = False

    # the client's side

    async def _connect(self) -> Client:
        nats = import_nats()
        secure = self.settings.tls
        client: Client = nats.aio.client.Client() if secure is None else _secure()
        options: dict[str, Any] = {
            "name": "switchgear",
            "connect_timeout": 2,
            "reconnect_time_wait": 0.2,
            "max_reconnect_attempts": -1,
            "ping_interval": 10,
            **self.settings.client,
            "servers": [f"nats://{server}" for server in self.settings.servers],
            "pending_size": 0,
            "error_cb": self._erred,
            "disconnected_cb": self._disconnected,
            "reconnected_cb": self._reconnected,
        }
        if secure is not None:
            options["tls"] = secure.context()
        self._cause, self._failures = None, 0
        self._hopeless.clear()
        # it would try for ever; one round of the servers is enough to say that none is there
        connecting = asyncio.ensure_future(_connected(client, options))
        hopeless = asyncio.ensure_future(self._hopeless.wait())
        try:
            async with asyncio.timeout(_CONNECT):
                await asyncio.wait({connecting, hopeless}, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            pass
        finally:
            hopeless.cancel()
            if not connecting.done():
                connecting.cancel()
            await asyncio.wait({connecting})
            connected = not connecting.cancelled() and connecting.exception() is None
            if not connected:
                # it may assert that it was open
                with suppress(nats.errors.Error, OSError, AssertionError):
                    await client.close()
        if connected:
            return client
        raise self._unconnected(None if connecting.cancelled() else connecting.exception())

    def _unconnected(self, raised: BaseException | None) -> Exception:
        error = self._cause or raised
        servers = ", ".join(self.settings.servers)
        if isinstance(error, (BrokerError, MissingExtra)):
            return error
        if isinstance(error, ImportError):
            return MissingExtra("nkeys", "nats")
        if isinstance(error, (FileNotFoundError, PermissionError)) or _is_refusal(error):
            return BrokerError(
                f"NATS at {servers} refuses the credentials: {error}.",
                fix="Correct the user, token, creds or nkey in the broker's URL.",
            )
        passing = (import_nats().errors.Error, OSError, TimeoutError)
        if error is None or isinstance(error, passing):
            return BrokerUnavailable(
                f"NATS at {servers} cannot be reached: {error or 'it does not answer'}",
                cause=error,
            )
        return BrokerError(
            f"the client of NATS cannot work with its settings: {error}.",
            fix="Correct [broker.options], which are arguments of nats.connect, or the files "
            "that the broker's URL names.",
        )

    async def _subscribe(self, client: Client) -> None:
        self.max_payload = client.max_payload
        self._inbox = client.new_inbox()
        await client.subscribe(f"{self._inbox}.*", cb=self._arrived)
        for subject in list(self._watched):
            await self._watch(client, subject)

    async def _watch(self, client: Client, subject: str) -> None:
        async def arrived(message: Msg) -> None:
            for handler in list(self._watched[subject]):
                handler(message)

        await client.subscribe(subject, cb=arrived)

    async def _arrived(self, message: Msg) -> None:
        token = message.subject.rpartition(".")[2]
        waiting = self._waiting.get(token)
        # an empty message says that the first of a batch was taken
        if waiting is not None and not waiting[1].done() and (message.data or message.headers):
            waiting[1].set_result(message)

    async def _erred(self, error: Exception) -> None:
        found = _FORBIDDEN.search(str(error).lower())
        if found is not None:
            self._forbid(*found.groups())
            return
        if not isinstance(error, (import_nats().errors.Error, OSError, TimeoutError)):
            asyncio.get_running_loop().call_exception_handler(
                {"message": "what NATS delivered could not be taken", "exception": error}
            )
            return
        LOGGER.debug("NATS: %s", error)
        # of what one server said and how the others fail, a refusal is what a person has to know
        if self._cause is None or not _is_refusal(self._cause):
            self._cause = error
        self._failures += 1
        if self._failures >= len(self.settings.servers):
            self._hopeless.set()

    def _forbid(self, doing: str, subject: str) -> None:
        refusal = BrokerError(
            f"NATS refuses it: this user may not {'publish' if doing == 'publish' else 'subscribe'}"
            f" to {subject}.",
            fix="Give the user the permission; the page Brokers lists what is needed.",
        )
        self.forbidden[subject] = refusal
        for asked, answer in self._waiting.values():
            if not answer.done() and (doing != "publish" or asked == subject):
                answer.set_exception(refusal)

    async def _disconnected(self) -> None:
        if not self._closed:
            self._fail(self._away())

    async def _reconnected(self) -> None:
        self._cause = None
        self.forbidden.clear()
        self._tell()

    def _tell(self) -> None:
        for listener in list(self.listeners):
            listener()

    def _fail(self, error: Exception) -> None:
        for _, answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(error)

    def _away(self) -> BrokerUnavailable:
        servers = ", ".join(self.settings.servers)
        why = f": {self._cause}" if self._cause is not None else ""
        return BrokerUnavailable(f"the connection to NATS at {servers} is lost{why}")


def _is_refusal(error: BaseException | None) -> bool:
    return any(word in str(error).lower() for word in _REFUSED)


async def _connected(client: Client, options: dict[str, Any]) -> None:
    await client.connect(**options)  # here an option that it does not know is an error like others


def _secure() -> Client:
    """Return a client that goes on only with a server that offers TLS."""
    from nats.aio.client import Client  # noqa: PLC0415  an optional dependency
    from nats.errors import Error  # noqa: PLC0415

    class Secure(Client):
        async def _process_info(
            self,
            info: dict[str, Any],
            initial_connection: bool = False,  # noqa: FBT001, FBT002  as it is there
        ) -> None:
            if initial_connection:
                if not (info.get("tls_required") or info.get("tls_available")):
                    raise Error("the server offers no TLS")
                info["tls_required"] = True
            await super()._process_info(info, initial_connection)

    return Secure()
