"""``python -m prismkd``."""

import sys

from prismkd.cli import main

if __name__ == "__main__":
    sys.exit(main())
