"""Adaptation: EDA learned by the generator itself, as a low-rank adapter, from the teacher alone.

loop.py        the training, its checks and its end
lessons.py     the prompts that it learns from
trajectory.py  a batch's denoising, recorded, and played again with gradients in the band of guided steps
objectives.py  the losses: regression onto guided predictions, or the energy itself
check.py       what the teacher says of the images of an adapter
low_rank.py    the matrices beside the denoiser's layers, and their files
state.py       the checkpoint, and the record
"""

from prismkd.adaptation.loop import adapt
from prismkd.adaptation.state import Adaptation

__all__ = ["Adaptation", "adapt"]
