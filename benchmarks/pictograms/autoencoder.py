"""Train the embedded generator's autoencoder: a small KL autoencoder and a still smaller decoder for it.

Usage: python -m benchmarks.pictograms.autoencoder [--minutes 8] [--cache DIR]

It needs the cache of ``build.py``, and writes into it the models (``vae``, ``tiny_vae``), the encoded training images
(``latents.pt``), and checkpoints: the same command continues a stopped run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.pictograms.build import CACHE

LATENT_CHANNELS = 16
KL_WEIGHT = 5e-4  # small: the latents need a bounded range, not the shape of a normal distribution
BATCH = 32
LEARNING_RATE = 1.5e-3


def new_autoencoder() -> AutoencoderKL:
    """Images (1, 32, 32) to latents (16, 4, 4)."""
    return AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 128),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=32,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def new_tiny_autoencoder() -> AutoencoderTiny:
    """The tiny decoder, as TAESD is to Stable Diffusion; its encoder is there because the class has one."""
    return AutoencoderTiny(
        in_channels=1,
        out_channels=1,
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(16, 16, 16, 16),
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
        latent_channels=LATENT_CHANNELS,
        upsampling_scaling_factor=2,
        scaling_factor=1.0,
        force_upcast=False,
    )


def augment(images: Tensor) -> Tensor:
    """Shift all by up to two pixels and flip every second one: where a drawing sits must not matter."""
    shift = torch.randint(-2, 3, (2,)).tolist()
    images = torch.roll(images, shift, dims=(2, 3))
    return torch.cat([images[::2], images[1::2].flip(3)])


def autoencoder_loss(autoencoder: AutoencoderKL, images: Tensor) -> tuple[Tensor, Tensor]:
    """Training loss and reconstruction error (MSE in [-1, 1]) of the full autoencoder on a fresh batch."""
    x = augment(images[torch.randint(len(images), (BATCH,))])
    posterior = autoencoder.encode(x).latent_dist
    error = F.mse_loss(autoencoder.decode(posterior.sample()).sample, x)
    kl = posterior.kl().mean() / (LATENT_CHANNELS * 16)
    return error + KL_WEIGHT * kl, error


def tiny_loss(tiny: AutoencoderTiny, latents: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Training loss and error of the tiny decoder: the image from scaled latents, as diffusers' class expects them."""
    index = torch.randint(len(images), (BATCH,))
    error = F.mse_loss(tiny.decode(latents[index].float()).sample, images[index])
    return error, error


def train(model: nn.Module, batch_loss: Callable[[], tuple[Tensor, Tensor]], checkpoint: Path, minutes: float) -> None:
    """Train ``model`` until it has had ``minutes`` in all, continuing from ``checkpoint``.

    ``batch_loss`` gives the loss and the error to print. The learning rate falls over the last half of the time.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, betas=(0.9, 0.98))
    spent, step = 0.0, 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        spent, step = state["spent"], state["step"]
    last = time.monotonic()
    while spent < minutes * 60:
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 200, 2.0 * (1 - spent / (minutes * 60)) + 0.01)
        with torch.autocast("cpu", torch.bfloat16):
            loss, error = batch_loss()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        now = time.monotonic()
        spent, last = spent + now - last, now
        if step % 500 == 0:
            print(f"{spent:6.0f} s  step {step}  mse {error:.4f}", flush=True)
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "spent": spent, "step": step}
            torch.save(state, checkpoint)


@torch.no_grad()
def encode_all(autoencoder: AutoencoderKL, images: Tensor) -> Tensor:
    """The posterior of all images: means and log variances of the latents side by side, (n, 32, 4, 4)."""
    return torch.cat([autoencoder.encode(batch).latent_dist.parameters for batch in images.split(512)])


def load_images(cache: Path) -> Tensor:
    """The generator's training images, (n, 1, 32, 32) float32 in [-1, 1]."""
    images = np.load(cache / "generator.npz")["images"]
    return torch.from_numpy(images).float().div(127.5).sub(1).unsqueeze(1)


def main() -> None:
    """Train, scale the latents to unit variance, save both models and the encoded training set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--minutes", type=float, default=8.0, help="for the full autoencoder")
    parser.add_argument("--tiny-minutes", type=float, default=3.0, help="for the tiny decoder")
    args = parser.parse_args()
    torch.manual_seed(0)
    images = load_images(args.cache)
    autoencoder = new_autoencoder()
    print(f"autoencoder: {autoencoder.num_parameters():,} parameters")
    train(autoencoder, lambda: autoencoder_loss(autoencoder, images), args.cache / "autoencoder.pt", args.minutes)
    mean, logvar = encode_all(autoencoder.eval(), images).chunk(2, dim=1)
    std = logvar.clamp(-30, 20).mul(0.5).exp()
    scale = 1.0 / mean.std().item()  # diffusion is tuned for latents of unit variance
    autoencoder.register_to_config(scaling_factor=scale)
    autoencoder.save_pretrained(args.cache / "vae")
    torch.save({"mean": (mean * scale).half(), "std": (std * scale).half()}, args.cache / "latents.pt")
    print(f"scaling factor {scale:.4f}, posterior std {std.mean() * scale:.4f} of the latents' own")

    tiny, latents = new_tiny_autoencoder(), mean * scale
    print(f"tiny decoder: {sum(p.numel() for p in tiny.decoder.parameters()):,} parameters")
    train(tiny, lambda: tiny_loss(tiny, latents, images), args.cache / "tiny.pt", args.tiny_minutes)
    tiny.save_pretrained(args.cache / "tiny_vae")


if __name__ == "__main__":
    main()
