"""``python -m pytest_nrfdfu.cli`` is the command ``nrfdfu``."""

import sys

from pytest_nrfdfu.cli import main

sys.exit(main())
