"""`python -m taskstore` is `taskstore`."""

import sys

from taskstore.cli import main

sys.exit(main())
