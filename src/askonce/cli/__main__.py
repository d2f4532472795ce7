"""``python -m askonce.cli``, where no script is on the PATH."""

import sys

from askonce.cli import main

sys.exit(main())
