"""The rivals that guidance is compared with: one file per rival."""

from prismkd.baselines.through_denoiser import NoiseLevel, images_through_denoiser, sample_through_denoiser

__all__ = ["NoiseLevel", "images_through_denoiser", "sample_through_denoiser"]
