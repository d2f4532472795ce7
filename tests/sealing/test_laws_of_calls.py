"""The promises hold with compression and encryption on: tests of other rooms, run once more with both.

They are slow here, because the quick run has them already, without.
"""

from __future__ import annotations

import pytest

from tests.engine.test_batches import *  # noqa: F403
from tests.engine.test_failures import *  # noqa: F403
from tests.engine.test_one_call import *  # noqa: F403
from tests.engine.test_unreadable import *  # noqa: F403
from tests.sealing.on import both_on  # noqa: F401

pytestmark = pytest.mark.slow
