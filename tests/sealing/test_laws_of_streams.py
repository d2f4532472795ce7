"""The promises hold with compression and encryption on: tests of other rooms, run once more with both.

They are slow here, because the quick run has them already, without.
"""

from __future__ import annotations

import pytest

from tests.sealing.on import both_on  # noqa: F401
from tests.stream.conftest import *  # noqa: F403
from tests.stream.test_fetch_stream import *  # noqa: F403

pytestmark = pytest.mark.slow
