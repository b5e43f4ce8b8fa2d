"""Text-to-image generators: diffusers pipelines behind one small interface."""

from prismkd.generators.text_to_image import TextToImage, generator_folder, load_generator

__all__ = ["TextToImage", "generator_folder", "load_generator"]
