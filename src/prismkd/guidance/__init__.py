"""Energy-guided Distribution Alignment (EDA): guided sampling inside any supported diffusers scheduler.

energy.py          every energy, one function and formula each: the hinge, and what may take its place
teacher_energy.py  the weighted sum of energies that guides, under one teacher
guide.py           a student inside the guidance, whose doubt is wanted
targets.py         where the descent stops, from a calibration on unguided samples
edit.py            the edit of the x0 predictions of one batch: when, which images, how far
hook.py            how the edit gets into a scheduler's step
schedulers.py      which schedulers are supported, and each one's x0 = a x_t + b out
"""

from prismkd.guidance.edit import EnergyGuidance, in_band, rms
from prismkd.guidance.guide import Guide
from prismkd.guidance.hook import edit_x0, seeded_steps
from prismkd.guidance.schedulers import X0Map, x0_map
from prismkd.guidance.targets import Calibration, calibration_from

__all__ = [
    "Calibration",
    "EnergyGuidance",
    "Guide",
    "X0Map",
    "calibration_from",
    "edit_x0",
    "in_band",
    "rms",
    "seeded_steps",
    "x0_map",
]
