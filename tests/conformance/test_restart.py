"""Our adapters with servers, while those are taken away, by the suite that we ship."""

import pytest

from switchgear.testing.conformance.restart import *  # noqa: F403  the tests

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(900)]
