"""Asking SQS: botocore's client, called in threads of our own, and what its errors mean.

botocore and not aiobotocore: the latter takes one narrow range of botocore's versions, which then
is at odds with whatever boto3 a team has, and what a call costs is the work of botocore itself,
which in a thread does not hold the event loop up.

botocore repeats what failed on the way or was throttled, with growing pauses. That is safe for
everything that we ask: a message that is sent twice has the same deduplication id. It tells how the
last try ended, and we remember the others: a send is certainly not done only if no try may have
done it.

Requests for messages wait for long, so they have threads and connections of their own. Commits,
extensions and sends wait for none of them.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from switchgear.errors import BrokerError, MissingExtra, SwitchgearError
from switchgear.events.brokers.port import BrokerUnavailable
from switchgear.events.brokers.sqs_wire import BATCH
from switchgear.model.outcome import Reason, Unknown

__all__ = ["LOGGER", "SqsClient", "SqsSettings", "failed_entry"]

LOGGER: Final = logging.getLogger("switchgear.sqs")

_THREADS: Final = 64
_CONNECT: Final = 5.0
_ANSWER: Final = 10.0
_LONGEST: Final = 20.0
"""Seconds for which SQS lets a request wait for messages."""
_TRIES: Final = 3
_CREATE: Final = "Create it, or add create=true to the broker's URL to have it created."
_SEND: Final = "send_message_batch"
_REFUSED: Final[Mapping[str, str]] = {
    "AccessDenied": "Give this identity the right to it; the page Brokers lists what is needed.",
    "AccessDeniedException": (
        "Give this identity the right to it; the page Brokers lists what is needed."
    ),
    "InvalidAddress": "Correct the region or the endpoint in the broker's URL.",
    "InvalidClientTokenId": "Give valid credentials, as the AWS tools take them.",
    "InvalidSecurity": "Give valid credentials, as the AWS tools take them.",
    "SignatureDoesNotMatch": "Give valid credentials, as the AWS tools take them.",
    "UnrecognizedClientException": "Give valid credentials, as the AWS tools take them.",
    "QueueDoesNotExist": _CREATE,
    "AWS.SimpleQueueService.NonExistentQueue": _CREATE,
}
_GONE: Final = frozenset({"ReceiptHandleIsInvalid", "InvalidParameterValue", "MessageNotInflight"})


@dataclass(frozen=True, slots=True)
class SqsSettings:
    """Where SQS is, and how names are written there."""

    region: str
    endpoint: str | None = None
    """URL of a stand-in; None: the region's own."""
    prefix: str = ""
    """Before the names of queues."""
    profile: str | None = None
    """Of the AWS configuration files."""
    key: tuple[str, str] | None = field(default=None, repr=False)
    """Access key and secret of a stand-in; None: as the AWS tools find them."""
    client: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Further settings of botocore's `Config`."""


class SqsClient:
    """All that a process asks of SQS. Nothing is opened before the first call."""

    def __init__(self, settings: SqsSettings) -> None:
        self._asking = _Line(settings, "sqs", answer=_ANSWER)
        self._receiving = _Line(settings, "sqs-receive", answer=_LONGEST + _ANSWER)

    async def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Call an operation, such as `delete_message_batch`, and return its answer.

        Raises `BrokerUnavailable` if SQS cannot be reached or is too busy, `Unknown` if something
        may have been sent, and `BrokerError` if it refuses.
        """
        line = self._asking
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(line.threads, line.call, operation, arguments)

    async def receive(
        self, queue: str, *, wait: int, visibility: int, wanted: Callable[[], bool]
    ) -> tuple[float, list[dict[str, Any]]]:
        """Receive at most ten messages; those that nobody wants by then are given back at once.

        Returns with them when the request began, on the loop's clock. A wait cannot be broken off,
        so whoever asked may be gone when messages come.
        """
        line = self._receiving
        loop = asyncio.get_running_loop()

        def work() -> tuple[float, list[dict[str, Any]]]:
            began = loop.time()  # here: it may have waited for a thread
            arguments = {
                "QueueUrl": queue,
                "MaxNumberOfMessages": BATCH,
                "WaitTimeSeconds": wait,
                "VisibilityTimeout": visibility,
                "MessageAttributeNames": ["All"],
                "MessageSystemAttributeNames": ["All"],
            }
            found: list[dict[str, Any]] = line.call("receive_message", arguments).get(
                "Messages", []
            )
            if not found or wanted():
                return began, found
            entries = [
                {"Id": str(number), "ReceiptHandle": one["ReceiptHandle"], "VisibilityTimeout": 0}
                for number, one in enumerate(found)
            ]
            line.call("change_message_visibility_batch", {"QueueUrl": queue, "Entries": entries})
            return began, []

        return await loop.run_in_executor(line.threads, work)

    def close(self) -> None:
        """Let the threads end; one that waits for messages does so when its wait is over."""
        for line in (self._asking, self._receiving):
            line.threads.shutdown(wait=False, cancel_futures=True)


class _Line:
    """A client of botocore, with a connection for each of its threads.

    `answer` is for how many seconds it waits for an answer.
    """

    def __init__(self, settings: SqsSettings, name: str, *, answer: float) -> None:
        self.threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=name)
        self._settings = settings
        self._answer = answer
        self._making = threading.Lock()
        self._client: Any = None  # botocore makes its clients' classes at run time
        self._tries = _Tries()

    def call(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Call an operation in the thread that we are in; see `SqsClient.call`."""
        try:
            from botocore import exceptions  # noqa: PLC0415  an optional dependency
        except ImportError as error:
            raise MissingExtra("botocore", "sqs") from error
        self._tries.begin()
        try:
            answer: dict[str, Any] = getattr(self._opened(), operation)(**arguments)
        except (exceptions.ClientError, exceptions.BotoCoreError) as error:
            meant = _meant(error, operation)
            if isinstance(meant, Unknown) or self._tries.doubt is None:
                raise meant from error
            raise _doubtful(self._tries.doubt, meant.what) from error
        if self._tries.doubt is not None and answer.get("Failed"):
            raise _doubtful(self._tries.doubt, "a part failed")
        return answer

    def _opened(self) -> Any:
        with self._making:
            if self._client is None:
                self._client = self._made()
            return self._client

    def _made(self) -> Any:
        from botocore.config import Config  # noqa: PLC0415  an optional dependency
        from botocore.session import Session  # noqa: PLC0415

        settings = self._settings
        config = Config(
            connect_timeout=_CONNECT,
            read_timeout=self._answer,
            retries={"mode": "standard", "total_max_attempts": _TRIES},
            max_pool_connections=_THREADS,
            user_agent_extra="switchgear",
        )
        key, secret = settings.key or (None, None)
        client = Session(profile=settings.profile).create_client(
            "sqs",
            region_name=settings.region,
            endpoint_url=settings.endpoint,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=config.merge(Config(**settings.client)),
        )
        client.meta.events.register("response-received.sqs.SendMessageBatch", self._tries.tried)
        return client


class _Tries(threading.local):
    """What the call of this thread has tried so far; botocore makes one call in one thread."""

    doubt: Unknown | None = None
    """What came of a try that may have sent."""

    def begin(self) -> None:
        """Forget the call before."""
        self.doubt = None

    def tried(
        self, parsed_response: Mapping[str, Any] | None, exception: Exception | None, **_: object
    ) -> None:
        """Look at one try to send, as botocore does before it repeats it."""
        from botocore import exceptions  # noqa: PLC0415  an optional dependency

        if exception is None and parsed_response is not None:
            if "Error" not in parsed_response:
                return
            exception = exceptions.ClientError(dict(parsed_response), _SEND)
        if isinstance(exception, exceptions.ClientError | exceptions.BotoCoreError):
            meant = _meant(exception, _SEND)
            if isinstance(meant, Unknown):
                self.doubt = meant


def failed_entry(entry: Mapping[str, Any], doing: str) -> Exception | None:
    """Return what is raised for an entry of a batch that failed; None: its receipt has expired."""
    code, message = entry.get("Code", ""), entry.get("Message", "")
    if code in _GONE and not doing.startswith("send"):
        return None
    if entry.get("SenderFault"):
        return _refused(code, message, doing)
    return BrokerUnavailable(f"SQS failed to {doing}: {code}: {message}")


def _doubtful(first: Unknown, then: str) -> Unknown:
    return Unknown(f"{first.what}; it was sent again: {then}", reason=first.reason)


def _meant(error: Exception, operation: str) -> SwitchgearError:
    """Return what is raised for an error of botocore."""
    from botocore import exceptions  # noqa: PLC0415  an optional dependency

    if isinstance(error, exceptions.ClientError):
        return _answered(error, operation)
    # an error of TLS is one of connecting to botocore, and may come after the request was written
    if operation == _SEND and isinstance(error, exceptions.SSLError | exceptions.HTTPClientError):
        return Unknown(f"SQS did not confirm ({error})", reason=Reason.TIMEOUT)
    if isinstance(error, exceptions.ConnectionError):
        return BrokerUnavailable(f"SQS cannot be reached: {error}", cause=error)
    if isinstance(error, exceptions.HTTPClientError):
        return BrokerUnavailable(f"SQS did not answer {operation}: {error}", cause=error)
    return BrokerError(
        f"SQS cannot be asked for {operation}: {str(error).rstrip('.')}.",
        fix="Give region and credentials as the AWS tools take them.",
    )


def _answered(error: Any, operation: str) -> SwitchgearError:
    """Return what is raised for an answer of SQS that is an error (botocore's `ClientError`)."""
    code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if "Throttl" in code or code in {"OverLimit", "KmsThrottled"}:
        return BrokerUnavailable(f"SQS throttles {operation}: {code}: {message}")
    if status >= 500:  # noqa: PLR2004  of the server
        if operation == _SEND:
            return Unknown(f"SQS did not confirm ({code}: {message})", reason=Reason.SERVER_ERROR)
        return BrokerUnavailable(f"SQS failed at {operation}: {code}: {message}")
    return _refused(code, message, operation)


def _refused(code: str, message: str | None, doing: str) -> BrokerError:
    name = code.rpartition("#")[2]
    return BrokerError(
        f"SQS refuses {doing}: {name}: {message}",
        fix=_REFUSED.get(name, "See what it says, and correct queue, rights or settings."),
    )
