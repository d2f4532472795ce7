"""The mutants run the laws, which are shipped, so pytest would not look into their asserts unless told before they are imported."""

import pytest

for name in ("trial", "contract", "contract_ends", "contract_late", "contract_links", "contract_logs"):
    pytest.register_assert_rewrite(f"askonce.testing.{name}")
