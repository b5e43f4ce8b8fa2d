"""Train the embedded generator's autoencoder: a small KL autoencoder and a still smaller decoder for it.

Usage: python -m benchmarks.pictograms.autoencoder [--steps 5000] [--cache DIR] [--device cpu]

It needs the cache of ``build.py``, and writes into it the models (``vae``, ``tiny_vae``), the encoded training images
(``latents.pt``), and checkpoints: the same command continues a stopped run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.pictograms.build import CACHE
from benchmarks.pictograms.generator_set import GeneratorSet, read_generator_set
from benchmarks.pictograms.pictures import LUMINANCE, MIN_CONTRAST, SIZE

LATENT_CHANNELS, LATENT_SIZE = 16, 8
KL_WEIGHT = 5e-4  # small: the latents need a bounded range, not the shape of a normal distribution
BATCH = 32
LEARNING_RATE = 1.5e-3
RECOLORED_SHARE = 0.5  # of the gray images of a batch is drawn in any two colors
SAVE_EVERY = 200  # steps


def new_autoencoder() -> AutoencoderKL:
    """Images (3, 64, 64) to latents (16, 8, 8)."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 128),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=SIZE,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def new_tiny_autoencoder() -> AutoencoderTiny:
    """The tiny decoder, as TAESD is to Stable Diffusion; its encoder is there because the class has one."""
    return AutoencoderTiny(
        in_channels=3,
        out_channels=3,
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(16, 16, 16, 16),
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
        latent_channels=LATENT_CHANNELS,
        upsampling_scaling_factor=2,
        scaling_factor=1.0,
        force_upcast=False,
    )


def recolored(images: Tensor) -> Tensor:
    """A share of the gray images in any two colors that can be told from each other; values in [0, 1]."""
    luminance = images.new_tensor(LUMINANCE)
    colors = torch.rand(len(images), 2, 3, device=images.device)
    drawing, background = colors[:, 0, :, None, None], colors[:, 1, :, None, None]
    is_gray = ((images - images[:, :1]).abs() < 1e-3).flatten(1).all(1)
    told_apart = ((colors[:, 0] - colors[:, 1]) @ luminance).abs() >= MIN_CONTRAST
    chosen = is_gray & told_apart & (torch.rand(len(images), device=images.device) < RECOLORED_SHARE)
    in_color = images * background + (1 - images) * drawing
    return torch.where(chosen[:, None, None, None], in_color, images)


def shifted(images: Tensor) -> Tensor:
    """All moved by up to four pixels, and every second one mirrored: where a drawing sits must not matter."""
    images = torch.roll(images, torch.randint(-4, 5, (2,)).tolist(), dims=(2, 3))
    return torch.cat([images[::2], images[1::2].flip(3)])


def batch_of(icons: GeneratorSet, device: torch.device) -> Tensor:
    """Images (batch, 3, 64, 64) in [-1, 1], in other colors and places than they are stored."""
    images = icons.images(torch.randint(len(icons), (BATCH,)).tolist()).to(device)
    return shifted(recolored(images)) * 2 - 1


def autoencoder_loss(autoencoder: AutoencoderKL, x: Tensor) -> tuple[Tensor, Tensor]:
    """Training loss and reconstruction error (MSE in [-1, 1]) of the full autoencoder."""
    posterior = autoencoder.encode(x).latent_dist
    error = F.mse_loss(autoencoder.decode(posterior.sample()).sample, x)
    kl = posterior.kl().mean() / (LATENT_CHANNELS * LATENT_SIZE**2)
    return error + KL_WEIGHT * kl, error


def tiny_loss(tiny: AutoencoderTiny, autoencoder: AutoencoderKL, x: Tensor) -> tuple[Tensor, Tensor]:
    """Training loss and error of the tiny decoder: the image from scaled latents, as diffusers' class expects them."""
    with torch.no_grad():
        latents = autoencoder.encode(x).latent_dist.mean * autoencoder.config.scaling_factor
    error = F.mse_loss(tiny.decode(latents).sample, x)
    return error, error


def train(model: nn.Module, batch_loss: Callable[[], tuple[Tensor, Tensor]], checkpoint: Path, num_steps: int) -> None:
    """Train ``model`` until it has had ``num_steps`` in all, continuing from ``checkpoint``.

    ``batch_loss`` gives the loss and the error to print. The learning rate falls over the last half of the steps.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, betas=(0.9, 0.98))
    device, done, began = next(model.parameters()).device, 0, time.monotonic()
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["step"]
    torch.manual_seed(done)
    for step in range(done + 1, num_steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, step / 200, 2.0 * (1 - step / num_steps) + 0.01)
        with torch.autocast(device.type, torch.bfloat16):
            loss, error = batch_loss()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % SAVE_EVERY == 0 or step == num_steps:
            print(f"{time.monotonic() - began:6.0f} s  step {step}  mse {error:.4f}", flush=True)
            save(checkpoint, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step})


def save(path: Path, state: dict) -> None:
    """Write a checkpoint so that a kill leaves either the old one or the new one."""
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def posteriors(
    autoencoder: AutoencoderKL, icons: GeneratorSet, positions: list[int], device: torch.device
) -> Iterator[DiagonalGaussianDistribution]:
    """What the encoder says of some images, 256 at a time."""
    for start in range(0, len(positions), 256):
        images = icons.images(positions[start : start + 256]).to(device)
        yield autoencoder.encode(images * 2 - 1).latent_dist


@torch.no_grad()
def encode_all(autoencoder: AutoencoderKL, icons: GeneratorSet, device: torch.device) -> tuple[Tensor, Tensor]:
    """Means and standard deviations of the posteriors of all images, scaled, (n, 16, 8, 8) in half precision."""
    scale, means, stds = autoencoder.config.scaling_factor, [], []
    for posterior in posteriors(autoencoder, icons, list(range(len(icons))), device):
        means.append((posterior.mean * scale).half().cpu())
        stds.append((posterior.std * scale).half().cpu())
    return torch.cat(means), torch.cat(stds)


@torch.no_grad()
def scale_of(autoencoder: AutoencoderKL, icons: GeneratorSet, device: torch.device) -> float:
    """The factor that gives the latents unit variance, for which diffusion is tuned."""
    positions = torch.randperm(len(icons))[:2048].tolist()
    means = [posterior.mean for posterior in posteriors(autoencoder, icons, positions, device)]
    return 1.0 / torch.cat(means).std().item()


def main() -> None:
    """Train, scale the latents to unit variance, save both models and the encoded training set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--steps", type=int, default=5_000, help="of the full autoencoder")
    parser.add_argument("--tiny-steps", type=int, default=3_000, help="of the tiny decoder")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device(args.device)
    icons = read_generator_set(args.cache)
    autoencoder = new_autoencoder().to(device)
    print(f"{len(icons):,} images; autoencoder: {autoencoder.num_parameters():,} parameters", flush=True)
    train(autoencoder, lambda: autoencoder_loss(autoencoder, batch_of(icons, device)), args.cache / "autoencoder.pt",
          args.steps)  # fmt: skip
    autoencoder.eval()
    autoencoder.register_to_config(scaling_factor=scale_of(autoencoder, icons, device))
    autoencoder.save_pretrained(args.cache / "vae")
    mean, std = encode_all(autoencoder, icons, device)
    save(args.cache / "latents.pt", {"mean": mean, "std": std})
    print(f"scaling factor {autoencoder.config.scaling_factor:.4f}, posterior std {std.float().mean():.4f} of the "
          f"latents' own", flush=True)  # fmt: skip

    tiny = new_tiny_autoencoder().to(device)
    print(f"tiny decoder: {sum(p.numel() for p in tiny.decoder.parameters()):,} parameters", flush=True)
    train(tiny, lambda: tiny_loss(tiny, autoencoder, batch_of(icons, device)), args.cache / "tiny.pt",
          args.tiny_steps)  # fmt: skip
    tiny.save_pretrained(args.cache / "tiny_vae")


if __name__ == "__main__":
    main()
