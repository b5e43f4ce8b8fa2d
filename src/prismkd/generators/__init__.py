"""Text-to-image generators: diffusers pipelines behind one small interface."""

from prismkd.generators.load import generator_folder, load_generator, pinned, resolve_device
from prismkd.generators.text_to_image import TextToImage

__all__ = ["TextToImage", "generator_folder", "load_generator", "pinned", "resolve_device"]
