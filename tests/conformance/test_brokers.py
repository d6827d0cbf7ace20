"""Our adapters, as the suite that we ship holds any adapter against the port."""

from switchgear.testing.conformance.brokers import *  # noqa: F403  the tests
