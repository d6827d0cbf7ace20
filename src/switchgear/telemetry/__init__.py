"""What the parts report, as log lines and, where OpenTelemetry is set up, as metrics and spans."""

from collections.abc import Iterator
from contextlib import contextmanager

from switchgear.telemetry.logs import LEVELS, logged
from switchgear.telemetry.metrics import measured
from switchgear.telemetry.spans import traced

__all__ = ["LEVELS", "logged", "measured", "reported", "traced"]


@contextmanager
def reported(service: str) -> Iterator[None]:
    """Log, measure and trace what a service does during the body of the `with`."""
    with logged(), measured(service), traced(service):
        yield
