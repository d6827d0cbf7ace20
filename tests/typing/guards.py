"""What type checkers see of guards around channels and sessions."""

from typing import assert_type

import grpc
import grpc.aio
import requests
from requests.adapters import BaseAdapter

from switchgear import Guard


def channels(guard: Guard, sync: grpc.Channel, aio: grpc.aio.Channel) -> None:
    assert_type(guard.grpc(sync), grpc.Channel)
    assert_type(guard.grpc(aio, repeatable=frozenset({"/a.B/C"})), grpc.aio.Channel)
    guard.grpc(requests)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def sessions(guard: Guard) -> None:
    adapter = guard.requests()
    assert_type(adapter, BaseAdapter)
    requests.Session().mount("https://inventory", adapter)
