"""Asking SQS: botocore's client, called in threads of our own, and what its errors mean.

botocore and not aiobotocore: the latter takes one narrow range of botocore's versions, which then
is at odds with whatever boto3 a team has, and what a call costs is the work of botocore itself,
which in a thread does not hold the event loop up.

botocore repeats what failed on the way or was throttled, with growing pauses. That is safe for
everything that we ask: a message that is sent twice has the same deduplication id.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from switchgear.errors import BrokerError, MissingExtra
from switchgear.events.brokers.port import BrokerUnavailable
from switchgear.events.brokers.sqs_wire import BATCH
from switchgear.model.outcome import Reason, Unknown

__all__ = ["LOGGER", "SqsClient", "SqsSettings", "failed_entry"]

LOGGER: Final = logging.getLogger("switchgear.sqs")

_THREADS: Final = 64
_CONNECT: Final = 5.0
_ANSWER: Final = 10.0
_TRIES: Final = 3
_CREATE: Final = "Create it, or add create=true to the broker's URL to have it created."
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
    """One client for all of a process. Nothing is opened before the first call."""

    def __init__(self, settings: SqsSettings) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="sqs")
        self._making = threading.Lock()
        self._client: Any = None  # botocore makes its clients' classes at run time

    async def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Call an operation, such as `receive_message`, and return its answer.

        Raises `BrokerUnavailable` if SQS cannot be reached or is too busy, `Unknown` if something
        may have been sent, and `BrokerError` if it refuses.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._call, operation, arguments)

    async def receive(
        self, queue: str, *, wait: int, visibility: int, wanted: Callable[[], bool]
    ) -> list[dict[str, Any]]:
        """Receive at most ten messages; those that nobody wants by then are given back at once.

        A wait cannot be broken off, so whoever asked may be gone when messages come.
        """

        def work() -> list[dict[str, Any]]:
            arguments = {
                "QueueUrl": queue,
                "MaxNumberOfMessages": BATCH,
                "WaitTimeSeconds": wait,
                "VisibilityTimeout": visibility,
                "MessageAttributeNames": ["All"],
                "MessageSystemAttributeNames": ["All"],
            }
            found: list[dict[str, Any]] = self._call("receive_message", arguments).get(
                "Messages", []
            )
            if not found or wanted():
                return found
            entries = [
                {"Id": str(number), "ReceiptHandle": one["ReceiptHandle"], "VisibilityTimeout": 0}
                for number, one in enumerate(found)
            ]
            self._call("change_message_visibility_batch", {"QueueUrl": queue, "Entries": entries})
            return []

        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        """Let the threads end; one that waits for messages does so when its wait is over."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _call(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            from botocore import exceptions  # noqa: PLC0415  an optional dependency
        except ImportError as error:
            raise MissingExtra("botocore", "sqs") from error
        try:
            answer: dict[str, Any] = getattr(self._opened(), operation)(**arguments)
        except exceptions.ClientError as error:
            raise _answered(error, operation) from error
        except exceptions.ConnectionError as error:
            raise BrokerUnavailable(f"SQS cannot be reached: {error}", cause=error) from error
        except exceptions.HTTPClientError as error:
            if operation.startswith("send"):
                raise Unknown(f"SQS did not confirm ({error})", reason=Reason.TIMEOUT) from error
            what = f"SQS did not answer {operation}: {error}"
            raise BrokerUnavailable(what, cause=error) from error
        except exceptions.BotoCoreError as error:
            raise BrokerError(
                f"SQS cannot be asked for {operation}: {error}",
                fix="Give region and credentials as the AWS tools take them.",
            ) from error
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
            read_timeout=_ANSWER,
            retries={"mode": "standard", "total_max_attempts": _TRIES},
            max_pool_connections=_THREADS,
            user_agent_extra="switchgear",
        )
        key, secret = settings.key or (None, None)
        return Session(profile=settings.profile).create_client(
            "sqs",
            region_name=settings.region,
            endpoint_url=settings.endpoint,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=config.merge(Config(**settings.client)),
        )


def failed_entry(entry: Mapping[str, Any], doing: str) -> Exception | None:
    """Return what is raised for an entry of a batch that failed; None: its receipt has expired."""
    code, message = entry.get("Code", ""), entry.get("Message", "")
    if code in _GONE and not doing.startswith("send"):
        return None
    if entry.get("SenderFault"):
        return _refused(code, message, doing)
    return BrokerUnavailable(f"SQS failed to {doing}: {code}: {message}")


def _answered(error: Any, operation: str) -> Exception:
    """Return what is raised for an answer of SQS that is an error (botocore's `ClientError`)."""
    code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if "Throttl" in code or code in {"OverLimit", "KmsThrottled"}:
        return BrokerUnavailable(f"SQS throttles {operation}: {code}: {message}")
    if status >= 500:  # noqa: PLR2004  of the server
        if operation.startswith("send"):
            return Unknown(f"SQS did not confirm ({code}: {message})", reason=Reason.SERVER_ERROR)
        return BrokerUnavailable(f"SQS failed at {operation}: {code}: {message}")
    return _refused(code, message, operation)


def _refused(code: str, message: str | None, doing: str) -> BrokerError:
    name = code.rpartition("#")[2]
    return BrokerError(
        f"SQS refuses {doing}: {name}: {message}",
        fix=_REFUSED.get(name, "See what it says, and correct queue, rights or settings."),
    )
