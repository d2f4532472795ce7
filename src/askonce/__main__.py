"""``python -m askonce``: the command line, where no script is on the PATH."""

import sys

from askonce.cli import main

sys.exit(main())
