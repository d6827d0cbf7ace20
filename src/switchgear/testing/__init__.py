"""What a test of a service needs: the service without a socket, fakes, time that is wound."""

from switchgear.testing.consuming import Consumed, consuming
from switchgear.testing.service import NotQuiet, Testing, testing
from switchgear.testing.wire import NoFake

__all__ = ["Consumed", "NoFake", "NotQuiet", "Testing", "consuming", "testing"]
