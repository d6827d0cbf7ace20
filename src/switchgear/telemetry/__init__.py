"""What the parts report, as log lines and, where OpenTelemetry is set up, as metrics and spans."""

from switchgear.telemetry.logs import LEVELS, logged
from switchgear.telemetry.metrics import measured
from switchgear.telemetry.spans import traced

__all__ = ["LEVELS", "logged", "measured", "traced"]
