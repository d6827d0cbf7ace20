"""Whether a channel of gRPC is connected, asked before anything is sent.

gRPC answers UNAVAILABLE both where a request never left and where it was lost on the way, and does
not tell which. So nothing is sent before the channel is known to be connected, and what could not
be sent was certainly not done. Connecting may take nine tenths of the time that is left, so that
its failure is told as such and not as a timeout of the whole.
"""

from __future__ import annotations

import asyncio
import threading
from math import inf
from time import monotonic
from typing import Final

from switchgear.errors import MissingExtra

try:
    import grpc
except ImportError as error:
    raise MissingExtra("grpcio", "grpc") from error

__all__ = ["READY", "AioLink", "Link"]

READY: Final = grpc.ChannelConnectivity.READY
_IDLE: Final = grpc.ChannelConnectivity.IDLE
_SHUT: Final = grpc.ChannelConnectivity.SHUTDOWN
_FAILED: Final = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, _SHUT)
_CONNECT: Final = 20.0


def _patience(deadline: float) -> float:
    return _CONNECT if deadline == inf else max(0.0, (deadline - monotonic()) * 0.9)


class AioLink:
    """The connection of one channel of `grpc.aio`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._connecting: asyncio.Task[bool] | None = None

    async def ready(self, deadline: float, *, patient: bool = False) -> bool:
        """Wait until the channel is connected; False: it has failed to, or not in time.

        patient: go on while it fails, as gRPC's `wait_for_ready` does.
        """
        if self._channel.get_state(try_to_connect=True) is READY:
            return True
        until = monotonic() + _patience(deadline)
        while True:
            task = self._connecting
            if task is None or task.done():
                task = self._connecting = asyncio.get_running_loop().create_task(
                    self._watch(patient=patient)
                )
            left = max(0.0, until - monotonic())
            done, _ = await asyncio.wait([task], timeout=left)
            if not done or task.cancelled():
                return False
            if task.result():
                return True
            # the task may be one of a call that was less patient
            if not patient or self._channel.get_state() is _SHUT:
                return False

    def close(self) -> None:
        """Stop watching."""
        if self._connecting is not None:
            self._connecting.cancel()

    async def _watch(self, *, patient: bool) -> bool:
        """Follow the channel until it is connected or has failed to."""
        while True:
            state = self._channel.get_state(try_to_connect=True)
            if state is READY:
                return True
            if state is _SHUT or (state in _FAILED and not patient):
                return False
            await self._channel.wait_for_state_change(state)


class Link:
    """The connection of one channel for threads.

    gRPC tells of changes from a thread of its own, which begins with the first call. What it told
    last may be some milliseconds old: a request is then sent into a connection that has just been
    lost, and its outcome is unknown. A connection that was lost is made again at once.
    """

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._state: grpc.ChannelConnectivity | None = None
        self._changed = threading.Condition()
        self._subscribed = False

    def ready(self, deadline: float, *, patient: bool = False) -> bool:
        """Wait until the channel is connected; see `AioLink.ready`."""
        if self._state is READY:
            return True
        with self._changed:
            first, self._subscribed = not self._subscribed, True
        if first:
            self._channel.subscribe(self._told, try_to_connect=True)
        ends = (READY, _SHUT) if patient else (READY, *_FAILED)
        with self._changed:
            found = self._changed.wait_for(
                lambda: self._state if self._state in ends else None, _patience(deadline)
            )
        return found is READY

    def close(self) -> None:
        """Stop watching."""
        with self._changed:
            was, self._subscribed, self._state = self._subscribed, True, _SHUT
            self._changed.notify_all()
        if was:
            self._channel.unsubscribe(self._told)

    def _told(self, state: grpc.ChannelConnectivity) -> None:
        with self._changed:
            if self._state is _SHUT:
                return
            self._state = state
            self._changed.notify_all()
        if state is _IDLE:
            # there is no other public way to ask for a connection
            self._channel.subscribe(self._nothing, try_to_connect=True)
            self._channel.unsubscribe(self._nothing)

    def _nothing(self, _: grpc.ChannelConnectivity) -> None:
        pass
