"""Subscriptions on our adapters, by the suite that we ship."""

from switchgear.testing.conformance.reactions import *  # noqa: F403  the tests
