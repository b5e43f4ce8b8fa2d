"""prismkd: data-free knowledge distillation with guided text-to-image diffusion (PRISM, arXiv 2509.16897)."""

from prismkd.errors import UserError

__all__ = ["UserError", "__version__"]
__version__ = "0.1.0"
