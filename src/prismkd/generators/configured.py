"""A pipeline of somebody's own as a generator: it is called, and nothing of it is changed."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from torch import nn

from prismkd.config import GeneratorConfig
from prismkd.errors import UserError
from prismkd.generators.decoders import copied_decoder, full_decoder, load_tiny_decoder
from prismkd.generators.layouts import Edit
from prismkd.generators.text_to_image import TextToImage

# Arguments of a pipeline's call that are given here, and by no caller.
OURS = ("prompt", "class_labels", "generator", "num_images_per_prompt", "output_type", "return_dict")
# Latents per side for which these pipelines know the usual aspect ratios; any other size they refuse by default.
KNOWN_SIZES = {
    "PixArtAlphaPipeline": (32, 64, 128),
    "PixArtSigmaPipeline": (32, 64, 128, 256),
    "SanaPipeline": (16, 32, 64, 128),
}


class ConfiguredPipeline(TextToImage):
    """A pipeline that stays as its owner configured it: device, precision, scheduler, offloading, LoRA.

    What guidance needs beside it, a tiny decoder or a float32 copy of a float16 one, is its own and follows the
    pipeline to the device where that computes.

    Attributes:
        arguments: of the pipeline's call beside prompts, generators and the kind of output.
    """

    place_of_settings = "the arguments of the call"

    def __init__(self, pipeline: Any, decoder: str | Path | nn.Module | None = None, batch_size: int = 8) -> None:
        full_decoder(pipeline)  # refuses a pipeline without one
        # The base class switches the gradients of the vae's weights off, which its owner may be training.
        with without_gradients(pipeline.vae):
            super().__init__(pipeline, None, GeneratorConfig(batch_size=batch_size))
        self.arguments: dict[str, Any] = {}
        self.tiny_decoder = self._load_decoder(decoder)

    def _load_decoder(self, decoder: str | Path | nn.Module | None) -> Any:
        """None is the ``tiny_vae`` beside the pipeline's parts, where there is one: nothing is downloaded unasked."""
        if isinstance(decoder, nn.Module):
            return copied_decoder(decoder, self.pipeline, self.device)
        folder = Path(self.pipeline.name_or_path or "")
        if decoder is None:
            decoder = folder / "tiny_vae" if (folder / "tiny_vae").is_dir() else "none"
        return load_tiny_decoder(self.pipeline, None, str(decoder), self.device)

    def use_arguments(self, arguments: Mapping[str, Any]) -> None:
        """From now on the pipeline is called with these.

        Raises:
            UserError: an argument that the pipeline doesn't take, or that isn't the caller's to give.
        """
        for name in arguments:
            if name in OURS or name not in self._accepted:
                near = difflib.get_close_matches(name, self._accepted.difference(OURS), n=1)
                advice = f"perhaps {near[0]}" if near else "give prompts, labels and seeds, or call the pipeline itself"
                raise UserError(f"expected an argument of {type(self.pipeline).__name__}'s call, got {name}; {advice}")
        self.arguments = dict(arguments)

    def settings(self) -> dict[str, Any]:
        """The owner's arguments; a miniature gets those without which it refuses the defaults of its kind."""
        known = KNOWN_SIZES.get(type(self.pipeline).__name__)
        if known is None or self.pipeline.transformer.config.sample_size in known:
            return self.arguments
        # The default may be longer than the miniature's tokenizer allows.
        usual = inspect.signature(type(self.pipeline).__call__).parameters["max_sequence_length"].default
        length = min(usual, self.pipeline.tokenizer.model_max_length)
        needed = {"use_resolution_binning": False, "clean_caption": False, "max_sequence_length": length}
        return {**needed, **self.arguments}

    def prompt_arguments(self, prompts: list[str]) -> dict[str, Any]:
        """Prompts as they are: the owner's text encoders may be adapted, so nothing is kept of what they say."""
        return {"prompt": prompts} if self.takes_text else super().prompt_arguments(prompts)

    def precision(self) -> AbstractContextManager[Any]:
        """The owner's."""
        return nullcontext()

    @contextmanager
    def guided(self, edit: Edit, num_images: int) -> Iterator[None]:
        """As ``TextToImage.guided``; the decoder's weights get no gradients meanwhile."""
        self._follow()
        with without_gradients(self.pipeline.vae), super().guided(edit, num_images):
            yield

    def _follow(self) -> None:
        """What is guidance's own goes where the pipeline computes now."""
        if self._full_decoder is not self.pipeline.vae:
            self._full_decoder.to(self.device)
        if self.tiny_decoder is not None:
            self.tiny_decoder.to(self.device)


@contextmanager
def without_gradients(module: nn.Module) -> Iterator[None]:
    """While active, none of the module's parameters gets a gradient."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
