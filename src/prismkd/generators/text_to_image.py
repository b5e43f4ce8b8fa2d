"""A diffusers pipeline as: prompts and seeds in, images out, with an optional edit of every x0 prediction."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from prismkd.classifiers.precision import fast_matmul
from prismkd.config import GeneratorConfig
from prismkd.config.seeds import check_seed
from prismkd.errors import UserError
from prismkd.generators.decoders import decode_with, full_decoder
from prismkd.generators.embeddings import TextEmbeddings
from prismkd.generators.layouts import Edit, layout_of
from prismkd.generators.lora import Adapter, fuse_adapters, restore_weights
from prismkd.guidance import EnergyGuidance, edit_x0, seeded_steps
from prismkd.guidance.schedulers import EXPLODING


class TextToImage:
    """A loaded pipeline with its decoders.

    Attributes:
        pipeline: the diffusers pipeline.
        tiny_decoder: the small decoder that guidance goes through, or None: then the full one serves.
        config: steps, guidance scale, image size.
        batch_size: images drawn together; whoever runs out of memory halves it for all that follow.
        layout: how the scheduler's latents relate to the decoder's.
    """

    place_of_settings = "the section [generator]"  # for errors

    def __init__(self, pipeline: Any, tiny_decoder: Any, config: GeneratorConfig) -> None:
        self.pipeline = pipeline
        self.tiny_decoder = tiny_decoder
        self.config, self.batch_size = config, config.batch_size
        self.layout = layout_of(pipeline)
        self._full_decoder = full_decoder(pipeline)
        # Gradients pass through the decoder to x0; none of its weights needs one.
        pipeline.vae.requires_grad_(False)
        # Pipelines differ in what their call takes, and diffusers has no other record of it.
        self._accepted = set(inspect.signature(type(pipeline).__call__).parameters)
        self._embeddings = TextEmbeddings(pipeline, config.guidance_scale)
        self._adapter: Adapter | None = None
        self._replaced = dict[nn.Module, Tensor]()  # weights that the adapter has changed
        _check_pipeline(pipeline, config)

    def place(self, device: torch.device, *, offload: bool) -> None:
        """Move the pipeline to ``device``, or, offloading, only the part of it that is at work."""
        if offload and device.type != "cpu":
            self.pipeline.enable_model_cpu_offload(device=device)
        else:
            self.pipeline.to(device)
        if self._full_decoder is not self.pipeline.vae:
            self._full_decoder.to(device)

    @property
    def num_channels(self) -> int:
        """Channels of the images: 1 for gray, 3 for color."""
        return int(getattr(self.pipeline.vae.config, "out_channels", 3))

    @property
    def image_size(self) -> int:
        """Pixels per side of the images, unless a call says otherwise."""
        if self.config.image_size:
            return self.config.image_size
        pipeline = self.pipeline
        network = getattr(pipeline, "transformer", None) or pipeline.unet
        latents = getattr(pipeline, "default_sample_size", None) or network.config.sample_size
        # As diffusers' own pipelines compute it.
        scale = getattr(pipeline, "vae_scale_factor", None) or 2 ** (len(pipeline.vae.config.block_out_channels) - 1)
        return int(latents * scale)

    @property
    def device(self) -> torch.device:
        """Where the pipeline computes."""
        return getattr(self.pipeline, "_execution_device", self.pipeline.device)

    def sample(self, prompts: list[str], seeds: list[int], guidance: EnergyGuidance | None = None) -> Tensor:
        """Draw one image per prompt and seed; an image depends on its own prompt and seed only.

        Returns:
            Images (batch, channels, height, width) float32 in [0, 1], on the CPU.

        Raises:
            UserError: the scheduler can't be guided, none of its steps lies in the guidance's band, a seed is out of
                range, or the pipeline refuses the settings.
        """
        guided = nullcontext() if guidance is None else self.guided(guidance, len(prompts))
        with guided:
            drawn = self.call(prompts, seeds)
        if guidance is not None:
            check_band(guidance)
        images = drawn.images.float().clamp(0, 1).cpu()
        flagged = getattr(drawn, "nsfw_content_detected", None)
        if flagged is not None:  # a safety checker blackens these: not a number, so that they are drawn again
            images[torch.tensor(flagged)] = torch.nan
        return images

    def call(
        self, prompts: list[str], seeds: list[int], around: Callable[[Any], AbstractContextManager[Any]] = nullcontext
    ) -> Any:
        """The pipeline's own answer to prompts and seeds; ``around(scheduler)`` is active meanwhile.

        Raises:
            UserError: as ``sample``.
        """
        # On the CPU and one per image: the same seed is the same noise on every device and in every batch.
        generators = [torch.Generator().manual_seed(check_seed(seed, "each of seeds")) for seed in seeds]
        arguments = {**self.settings(), **self.prompt_arguments(prompts), "generator": generators, "output_type": "pt"}
        scheduler = self.pipeline.scheduler
        with seeded_steps(scheduler, generators), around(scheduler), self.precision():
            return self._call_pipeline(arguments)

    def use_adapter(self, adapter: Adapter | None) -> None:
        """From now on draw with this adapter on top of the pipeline's weights; None: with these alone, bit for bit."""
        if adapter != self._adapter:
            restore_weights(self._replaced)
            self._replaced, self._adapter = {}, None
            if adapter is not None:
                self._replaced, self._adapter = fuse_adapters(self.pipeline, [adapter]), adapter

    def settings(self) -> dict[str, Any]:
        """What each call of the pipeline is given beside prompts and generators."""
        config = self.config
        given: dict[str, Any] = {
            "num_inference_steps": config.num_inference_steps, "guidance_scale": config.guidance_scale
        }  # fmt: skip
        if "use_resolution_binning" in self._accepted:
            # Else these pipelines draw at a known size nearby and resize: what guidance saw is not what is kept.
            given["use_resolution_binning"] = False
        if config.image_size and "height" in self._accepted:
            given |= {"height": config.image_size, "width": config.image_size}
        return given

    @contextmanager
    def guided(self, edit: Edit, num_images: int) -> Iterator[None]:
        """While active, ``edit`` changes every x0 prediction of the pipeline, which draws ``num_images`` at a time."""
        wrapped = self.layout.wrap(edit, num_images)
        with self.layout.following_calls(), edit_x0(self.pipeline.scheduler, wrapped):
            yield

    @torch.no_grad()
    def text_features(self, texts: list[str]) -> Tensor | None:
        """The mean over tokens of the first text encoder's output, (n, width); None where there is none, as in DiT."""
        encoder, tokenizer = (getattr(self.pipeline, name, None) for name in ("text_encoder", "tokenizer"))
        if encoder is None or tokenizer is None:
            return None
        rows = []
        for text in texts:
            # One by one, so that no padding enters the mean over tokens.
            tokens = tokenizer(text, truncation=True, return_tensors="pt").to(encoder.device)
            found = encoder(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
            rows.append(found.last_hidden_state[0].float().mean(0).cpu())
        return torch.stack(rows)

    def decode(self, x0: Tensor) -> Tensor:
        """The scheduler's x0 to images in [0, 1], differentiable, through the tiny decoder where there is one."""
        return self._decode_tiny(self.layout.latents(x0))

    def decode_fully(self, x0: Tensor) -> Tensor:
        """As ``decode``, through the full decoder."""
        return self._decode_full(self.layout.latents(x0))

    def reconstruct(self, images: Tensor) -> Tensor:
        """Images (batch, channels, height, width) in [0, 1] through the full autoencoder and back."""
        vae = self._full_decoder
        encoded = vae.encode(images.to(self.device, vae.dtype) * 2 - 1)
        latents = encoded.latent_dist.mean if hasattr(encoded, "latent_dist") else encoded.latent
        return vae.decode(latents).sample.float().add(1).div(2).clamp(0, 1)

    @cached_property
    def _decode_full(self) -> Callable[[Tensor], Tensor]:
        return decode_with(self._full_decoder, tiny=False)

    @cached_property
    def _decode_tiny(self) -> Callable[[Tensor], Tensor]:
        if self.tiny_decoder is None:
            return self._decode_full
        return decode_with(self.tiny_decoder, tiny=type(self.tiny_decoder).__name__ == "AutoencoderTiny")

    def precision(self) -> AbstractContextManager[Any]:
        """What the pipeline's call runs under."""
        return fast_matmul(self.device) if self.pipeline.dtype == torch.float32 else nullcontext()

    def _call_pipeline(self, arguments: dict[str, Any]) -> Any:
        try:
            return self.pipeline(**arguments)
        except ValueError as error:
            raise UserError(
                f"expected settings that {type(self.pipeline).__name__} takes, got: {str(error).splitlines()[0]}; "
                f"correct {self.place_of_settings}"
            ) from None

    @property
    def takes_text(self) -> bool:
        """Whether any prompt will do; DiT draws what it knows by name, and nothing else."""
        return "class_labels" not in self._accepted

    def prompt_arguments(self, prompts: list[str]) -> dict[str, Any]:
        """Prompts for the pipeline's call; the text encoders run once per distinct text."""
        if not self.takes_text:
            return {"class_labels": self._class_labels(prompts)}
        return self._embeddings.arguments(prompts, self.device)

    def _class_labels(self, prompts: list[str]) -> list[int]:
        """DiT takes class numbers, so its prompts are the names that it was trained with."""
        names: dict[str, int] = self.pipeline.labels
        for prompt in prompts:
            if prompt not in names:
                near = difflib.get_close_matches(prompt, names, n=3)
                raise UserError(
                    f"expected prompts that are {type(self.pipeline).__name__}'s own class names, got {prompt!r}; "
                    f'set prompts.template = "{{name}}" and use names like {", ".join(near or list(names)[:3])}'
                )
        return [names[prompt] for prompt in prompts]


def _check_pipeline(pipeline: Any, config: GeneratorConfig) -> None:
    """Refuse what diffusers' DiT pipeline accepts and gets wrong or ignores."""
    if type(pipeline).__name__ != "DiTPipeline":
        return
    if type(pipeline.scheduler).__name__ in EXPLODING:
        raise UserError(
            f"expected a scheduler that DiTPipeline can use, got {type(pipeline.scheduler).__name__}, whose initial "
            'noise it does not scale; set generator.scheduler = "DDIMScheduler"'
        )
    if config.image_size:
        raise UserError(f"expected DiT's own image size, got {config.image_size}; set generator.image_size = 0")


def check_band(guidance: EnergyGuidance) -> None:
    """Guidance that never acts is a mistake, not a result.

    Raises:
        UserError: none of the steps that it saw lies in its band.
    """
    if guidance.config.strength == 0 or guidance.num_band_steps:
        return
    levels = guidance.log_snrs
    seen = f"{min(levels):.2f} to {max(levels):.2f}" if levels else "none"
    raise UserError(
        f"expected a denoising step with log(alpha / sigma) in [{guidance.config.log_snr_min}, "
        f"{guidance.config.log_snr_max}], got {len(levels)} steps at {seen}; widen guidance.log_snr_min and "
        "log_snr_max or raise num_inference_steps (the last step is never guided)"
    )
