"""An application of another framework at the edge, and where the time of its late answers went.

Nothing is known of it but when a request came and when its answer began; what it asks our clients
meanwhile is. A request is called by its method and its route (`GET /checkout/{customer}`), where
the framework leaves that in the scope as Starlette and FastAPI do, else by its method alone: paths
as they come have no end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from time import monotonic

from switchgear.app.health import App, Message, Receive, Scope, Send
from switchgear.config import Config
from switchgear.model.context import bind, current
from switchgear.model.trail import Spent
from switchgear.serve.late import Lateness

__all__ = ["judged", "promised_by"]


def promised_by(config: Config, service: str) -> dict[str, float]:
    """Return the latencies that the objectives of a system promise, by what they name.

    That of the service itself is under "".
    """
    return {
        "" if name == service else name: objective.latency
        for name, objective in config.objectives.items()
        if objective.latency is not None
    }


def judged(app: App, latency: Mapping[str, float]) -> App:
    """Return `app` with a line in the log for answers that begin later than `latency` promises.

    It holds seconds, by the name of a request; "" is for all others.
    """
    if not latency:
        return app
    lateness = Lateness(latency)

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        spent, began = Spent(), monotonic()

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                now = monotonic()
                lateness.elsewhere(_name(scope), now - began, spent, now)
            await send(message)

        with bind(replace(current(), spent=spent)):
            await app(scope, receive, sending)

    return wrapped


def _name(scope: Scope) -> str:
    path = getattr(scope.get("route"), "path", None)
    return f"{scope['method']} {path}" if isinstance(path, str) else str(scope["method"])
