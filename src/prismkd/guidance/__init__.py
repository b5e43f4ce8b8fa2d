"""Energy-guided Distribution Alignment (EDA): guided sampling inside any supported diffusers scheduler."""

from prismkd.guidance.edit import EnergyGuidance, rms
from prismkd.guidance.hook import edit_x0, seeded_steps
from prismkd.guidance.schedulers import X0Map, x0_map
from prismkd.guidance.targets import Calibration, calibrate

__all__ = ["Calibration", "EnergyGuidance", "X0Map", "calibrate", "edit_x0", "rms", "seeded_steps", "x0_map"]
