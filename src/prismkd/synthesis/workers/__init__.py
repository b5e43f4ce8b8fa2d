"""Who does the work: this process, a process per device, the ranks of an array job, or Ray's actors.

All of them run the same units, each of which is idempotent, so that it doesn't matter who did what, or how often.
"""

from prismkd.synthesis.workers.array import check_rank, units_of_rank
from prismkd.synthesis.workers.pool import Policy, Pool, Progress, Unit, Worker

__all__ = ["Policy", "Pool", "Progress", "Unit", "Worker", "check_rank", "units_of_rank"]
