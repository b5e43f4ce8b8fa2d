"""Train the embedded generator's denoiser: a small PixArt transformer over 16 latent tokens, rectified flow.

Usage: python -m benchmarks.pictograms.denoiser [--minutes 60] [--cache DIR]

It needs the caches of ``build.py``, ``autoencoder.py`` and ``text_encoder.py``, and writes ``denoiser.pt`` into the
cache, from which the same command continues a stopped run. The exponential moving average of the weights in it is what
``pack.py`` ships.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import PixArtTransformer2DModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertModel, BertTokenizerFast

from benchmarks.pictograms.build import CACHE
from benchmarks.pictograms.text_encoder import MAX_LENGTH

BATCH = 128
PEAK_LEARNING_RATE = 1e-3
COMMON_SHARE = 0.75  # of each batch is drawn from the concepts that many sets draw, as web-scale data are head-heavy
COMMON_SETS = 16
CAPTION_DROPOUT = 0.1  # the empty caption is what classifier-free guidance contrasts with
STYLE_NAMES = {
    "filled": ("filled", "solid", "glyph", "black"),
    "outline": ("outline", "line", "outlined", "thin line"),
    "duotone": ("duotone", "two-tone"),
    "color": ("color", "flat color"),
    "emoji": ("emoji", "color emoji"),
    "pixel": ("pixel art", "pixel"),
    "hand-drawn": ("hand-drawn", "sketch"),
}


def new_denoiser() -> PixArtTransformer2DModel:
    """Eight blocks of width 256 over 4 x 4 latent positions of 16 channels, with cross-attention to the prompt."""
    return PixArtTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=64,
        in_channels=16,
        out_channels=16,
        num_layers=8,
        cross_attention_dim=256,
        sample_size=4,
        patch_size=1,
        caption_channels=384,
        use_additional_conditions=False,
        norm_elementwise_affine=False,
    )


def caption(thing: str, style: str, category: str, rng: random.Random) -> str:
    """A natural-language caption of an icon, made of its name and, at times, its style and category."""
    if rng.random() < CAPTION_DROPOUT:
        return ""
    named = f"{thing}, {category.lower()}" if category and rng.random() < 0.25 else thing
    if style and rng.random() < 0.6:
        word = rng.choice(STYLE_NAMES[style])
        templates: tuple[str, ...] = (f"a {word} icon of a {named}", f"{word} {thing} icon", f"{named}, {word} style")
    else:
        templates = (f"an icon of a {named}", f"{named} icon", named, f"a {named}", f"a pictogram of a {named}")
    return rng.choice(templates)


def noised(x0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rectified flow (Liu et al. 2022): x_t = (1 - t) x0 + t eps; returns x_t, t and the target eps - x0.

    t is logit-normal, which spends most samples on the middle of the schedule (Esser et al. 2024).
    """
    eps = torch.randn_like(x0)
    t = torch.sigmoid(torch.randn(len(x0)))
    t_ = t.view(-1, 1, 1, 1)
    return (1 - t_) * x0 + t_ * eps, t, eps - x0


class Data:
    """Latents with captions, drawn at random.

    There are no mirror images: letters and figures in icons have a side.
    """

    def __init__(self, cache: Path, seed: int) -> None:
        icons = np.load(cache / "generator.npz")
        self.things, self.styles, self.categories = (icons[k].tolist() for k in ("things", "styles", "categories"))
        latents = torch.load(cache / "latents.pt", weights_only=True)
        self.mean, self.std = latents["mean"], latents["std"]
        self.tokenizer = BertTokenizerFast.from_pretrained(cache / "tokenizer")
        self.text_encoder = BertModel.from_pretrained(cache / "text_encoder", attn_implementation="eager")
        self.text_encoder.eval().to(torch.bfloat16)
        self.common = common_concepts(self.things, icons["prefixes"].tolist())
        self.rng = random.Random(seed)

    @torch.no_grad()
    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Latents (batch, 16, 4, 4), text features (batch, tokens, 384) and their mask (batch, tokens)."""
        everything = range(len(self.things))
        index = [self.rng.choice(self.common if self.rng.random() < COMMON_SHARE else everything) for _ in range(BATCH)]
        texts = [caption(self.things[i], self.styles[i], self.categories[i], self.rng) for i in index]
        tokens = self.tokenizer(texts, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
        features = self.text_encoder(tokens["input_ids"], attention_mask=tokens["attention_mask"])[0]
        mean, std = self.mean[index].float(), self.std[index].float()
        return mean + std * torch.randn_like(mean), features, tokens["attention_mask"]


def common_concepts(things: list[str], prefixes: list[str]) -> list[int]:
    """Positions of icons named by one or two words that at least ``COMMON_SETS`` icon sets use."""
    sets_of_word: dict[str, set[str]] = {}
    for thing, prefix in zip(things, prefixes, strict=True):
        for word in thing.split():
            sets_of_word.setdefault(word, set()).add(prefix)
    common = {word for word, sets in sets_of_word.items() if len(sets) >= COMMON_SETS}
    return [i for i, thing in enumerate(things) if len(thing.split()) <= 2 and common.issuperset(thing.split())]


def learning_rate(step: int, spent: float, seconds: float) -> float:
    """Short warm-up, constant, and a linear decay over the last third of the time."""
    return PEAK_LEARNING_RATE * min(1.0, (step + 1) / 500, 3.0 * max(0.0, 1 - spent / seconds) + 0.01)


def new_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW, with weight decay for matrices and none for biases and gains."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    return torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}],
        lr=PEAK_LEARNING_RATE, betas=(0.9, 0.95), fused=True)  # fmt: skip


def flow_loss(model: nn.Module, x0: Tensor, features: Tensor, mask: Tensor) -> Tensor:
    """The mean square error of the predicted flow, ``|model(x_t, t) - (eps - x0)|^2``, at random t."""
    x_t, t, target = noised(x0)
    with torch.autocast("cpu", torch.bfloat16):
        prediction = model(x_t, encoder_hidden_states=features, encoder_attention_mask=mask, timestep=t * 1000,
                           added_cond_kwargs={"resolution": None, "aspect_ratio": None}).sample  # fmt: skip
    return F.mse_loss(prediction.float(), target)


@torch.no_grad()
def update_average(average: dict[str, Tensor], model: nn.Module, step: int) -> None:
    """Move the average of the weights; the decay grows as 1 - 10 / (step + 10), up to 0.9995."""
    decay = min(0.9995, 1 - 1 / (step / 10 + 1))
    weights = model.state_dict()
    torch._foreach_lerp_(list(average.values()), [weights[name] for name in average], 1 - decay)


def train(cache: Path, seconds: float) -> None:
    """Train until the denoiser has had ``seconds`` in all."""
    model = new_denoiser()
    model.set_attn_processor(AttnProcessor())  # on CPUs three times as fast as fused attention for 16 tokens
    average = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = new_optimizer(model)
    checkpoint, step, spent, running = cache / "denoiser.pt", 0, 0.0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average, step, spent = state["ema"], state["step"], state["spent"]
    data = Data(cache, seed=step)
    torch.manual_seed(step)
    print(f"{model.num_parameters():,} parameters, {len(data.things):,} icons", flush=True)
    last = time.monotonic()
    while spent < seconds:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, spent, seconds)
        loss = flow_loss(model, *data.batch())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        update_average(average, model, step)
        running += (loss.item() - running) * max(0.005, 1 / step)
        now = time.monotonic()
        spent, last = spent + now - last, now
        if step % 250 == 0:
            print(f"{spent:6.0f} s  step {step}  loss {running:.4f}  {step * BATCH / spent:.0f} images/s", flush=True)
        if step % 1000 == 0 or spent >= seconds:
            save(checkpoint, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "ema": average,
                              "step": step, "spent": spent})  # fmt: skip


def save(path: Path, state: dict) -> None:
    """Write a checkpoint so that a kill leaves either the old one or the new one."""
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--minutes", type=float, default=60.0)
    args = parser.parse_args()
    train(args.cache, args.minutes * 60)


if __name__ == "__main__":
    main()
