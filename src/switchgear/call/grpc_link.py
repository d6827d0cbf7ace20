"""Whether a channel of gRPC is connected, asked before anything is sent.

gRPC answers UNAVAILABLE both where a request never left and where it was lost on the way, and does
not tell which. So nothing is sent before the channel is known to be connected, and what could not
be sent was certainly not done. Connecting may take nine tenths of the time that is left, so that
its failure is told as such and not as a timeout of the whole.
"""

from __future__ import annotations

import asyncio
from math import inf
from time import monotonic, sleep
from typing import Any, Final

from switchgear.call.process import in_a_forked_process
from switchgear.errors import MissingExtra, PolicyError

try:
    import grpc
except ImportError as error:
    raise MissingExtra("grpcio", "grpc") from error

__all__ = ["READY", "AioLink", "Link"]

READY: Final = grpc.ChannelConnectivity.READY
_SHUT: Final = grpc.ChannelConnectivity.SHUTDOWN
_FAILED: Final = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, _SHUT)
_CONNECT: Final = 20.0
_LOOK: Final = 0.002
_PROBE: Final = 1.0
_SLOW: Final = "it takes too long"


def _patience(deadline: float) -> float:
    return _CONNECT if deadline == inf else max(0.0, (deadline - monotonic()) * 0.9)


_used = _lost = False
"""Whether `grpc.aio` was used in this process, and whether it was in the one that forked it."""


def _forked() -> None:
    global _lost  # noqa: PLW0603  gRPC's core is the process's
    _lost = _lost or _used


in_a_forked_process(_forked)


def _survives() -> None:
    """Note that `grpc.aio` is used. Raises PolicyError where a fork has broken it."""
    global _used  # noqa: PLW0603  gRPC's core is the process's
    if _lost:
        raise PolicyError(
            "grpc.aio was used before this process was forked, and its core does not survive that.",
            fix="Start workers by spawn or forkserver, or use gRPC after the fork alone.",
        )
    _used = True


class AioLink:
    """The connection of one channel of `grpc.aio`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        _survives()
        self._channel = channel
        self._connecting: asyncio.Task[bool] | None = None
        self.why = _SLOW
        """Why it is not connected, after `ready` has said so."""

    async def ready(self, deadline: float, *, patient: bool = False) -> bool:
        """Wait until the channel is connected; False: it has failed to, or not in time.

        patient: go on while it fails, as gRPC's `wait_for_ready` does. Raises PolicyError in a
        process that was forked after `grpc.aio` had been used.
        """
        _survives()
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
                self.why = _SLOW
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
                why = await _reason(self._channel)
                self.why = why or ""
                return why is None
            await self._channel.wait_for_state_change(state)


async def _reason(channel: grpc.aio.Channel) -> str | None:
    """Return why a channel has failed to connect; None if it meanwhile has.

    The state does not tell, but a call fails with it at once. It is one that does no harm where it
    does get through.
    """
    probe: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
    try:
        await probe(b"", timeout=_PROBE)
    except grpc.aio.AioRpcError as failure:
        if failure.code() is grpc.StatusCode.UNAVAILABLE:
            told = failure.details() or "unavailable"
            return told.rpartition("last error: ")[2].removeprefix("UNKNOWN: ")
    except grpc.aio.UsageError:
        return "it is closed"
    return None if channel.get_state() is READY else _SLOW


class Link:
    """The connection of one channel for threads.

    Only the channel's core can be asked for its state at once; the public way, `subscribe`, tells
    of changes late, from a thread of its own. A channel that has no such core (a fake, say) counts
    as connected: what it answers with UNAVAILABLE is then unknown.
    """

    def __init__(self, channel: grpc.Channel) -> None:
        core: Any = channel
        # what wraps a channel, as interceptors do, keeps it under the same name
        while core is not None and not hasattr(core, "check_connectivity_state"):
            core = getattr(core, "_channel", None)
        self._core = core

    def ready(self, deadline: float, *, patient: bool = False) -> bool:
        """Wait until the channel is connected; see `AioLink.ready`."""
        if self._core is None:
            return True
        ends = (_SHUT,) if patient else _FAILED
        until = monotonic() + _patience(deadline)
        while True:
            state = self._core.check_connectivity_state(True)
            if state == READY.value[0]:
                return True
            left = until - monotonic()
            if left <= 0 or any(state == end.value[0] for end in ends):
                return False
            sleep(min(_LOOK, left))
