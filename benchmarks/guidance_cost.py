"""Record what guidance costs.

Usage: prismkd bench guidance --json | python -m benchmarks.guidance_cost && python -m benchmarks.publish
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime

from benchmarks.publish import RESULTS, head_commit
from prismkd.stages import hardware


def main() -> None:
    """Store the rows of standard input with their provenance."""
    (RESULTS / "guidance_cost.json").write_text(json.dumps({
        "schema": 1, "rows": json.load(sys.stdin), "command": "prismkd bench guidance --json", "hardware": hardware(),
        "date": datetime.now(UTC).date().isoformat(), "commit": head_commit(), "seeds": [],
    }, indent=1) + "\n")  # fmt: skip


if __name__ == "__main__":
    main()
