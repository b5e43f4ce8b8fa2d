"""Record what guidance costs.

Usage: prismkd bench guidance --json | python -m benchmarks.guidance_cost && python -m benchmarks.publish
"""

from __future__ import annotations

import json
import sys

from benchmarks.publish import write_results


def main() -> None:
    """Store the rows of standard input with their provenance."""
    write_results("guidance_cost", "prismkd bench guidance --json", [], {"rows": json.load(sys.stdin)})


if __name__ == "__main__":
    main()
