"""The promises hold with compression and encryption on: tests of other rooms, run once more with both.

They are slow here, because the quick run has them already, without.
"""

from __future__ import annotations

import pytest

from tests.freshness.conftest import *  # noqa: F403
from tests.freshness.test_invalidation import *  # noqa: F403
from tests.sealing.on import both_on  # noqa: F401

pytestmark = pytest.mark.slow
