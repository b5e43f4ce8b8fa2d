"""Opening with another library what somebody else made: no code, no network, no question, and errors in one line.

boundary.py      the one block in which such a library is called
offline.py       no connection and no question while it is at work
budget.py        a network in the making may not be larger than the weights that it is to get
quiet.py         transformers and diffusers say and draw nothing meanwhile
descriptions.py  the JSON files beside weights, read and checked before a library sees them
"""

from prismkd.foreign.boundary import first_line, naming, opening
from prismkd.foreign.budget import Budget, no_larger_than
from prismkd.foreign.descriptions import ADAPTER, MAX_SIDE, check_folder, read_description
from prismkd.foreign.offline import offline, stays_offline, unasked
from prismkd.foreign.quiet import quiet

__all__ = [
    "ADAPTER",
    "MAX_SIDE",
    "Budget",
    "check_folder",
    "first_line",
    "naming",
    "no_larger_than",
    "offline",
    "opening",
    "quiet",
    "read_description",
    "stays_offline",
    "unasked",
]
