"""Generators by name or folder; weights from safetensors only, and never code from the model's repository."""

from __future__ import annotations

import hashlib
import inspect
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from prismkd.assets import asset
from prismkd.config import GeneratorConfig
from prismkd.config.sources import is_hub_model
from prismkd.errors import UserError
from prismkd.foreign import Budget, naming, opening, quiet, stays_offline
from prismkd.generators.decoders import load_tiny_decoder
from prismkd.generators.folder import INDEX, check_pipeline_folder, check_whole
from prismkd.generators.lora import adapters_of, fuse_adapters
from prismkd.generators.sampling import check_sampling
from prismkd.generators.text_to_image import TextToImage
from prismkd.guidance.schedulers import BY_SIGMA, BY_TIMESTEP, EXPLODING, FLOW, SUPPORTED

NUM_READERS = 4  # files that are read at once
FINGERPRINTED = (".json", ".safetensors", ".bin", ".txt", ".model")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def generator_folder(config: GeneratorConfig) -> Path | None:
    """The folder of the embedded generator or of the user's; None for a model on the hub.

    Raises:
        UserError: there is no pipeline in the folder.
    """
    if is_hub_model(config.source):
        return None
    folder = asset("generator") if config.source == "pictograms" else Path(config.source)
    if not (folder / INDEX).is_file():
        raise UserError(f"expected a diffusers pipeline folder with {INDEX}, got {folder}; check the path")
    return folder


def load_generator(config: GeneratorConfig | str) -> TextToImage:
    """Load a pipeline with its scheduler and its tiny decoder onto the device.

    Args:
        config: the settings, or the source alone: ``pictograms`` (the embedded generator), the folder of a diffusers
            pipeline, or a model on the Hugging Face hub (org/name).

    Returns:
        The generator: ``generator.sample(prompts, seeds)`` are images (n, channels, height, width) in [0, 1], and
        ``generator.pipeline`` is the pipeline itself, for ``prismkd.EDA``.

    Raises:
        UserError: no such model, device or scheduler, or weights that aren't safetensors.
    """
    config = GeneratorConfig(source=config) if isinstance(config, str) else config
    folder = generator_folder(config)
    device = resolve_device(config.device)
    with naming(config.source):
        return _loaded(config, folder, device)


def _loaded(config: GeneratorConfig, folder: Path | None, device: torch.device) -> TextToImage:
    """The pipeline that is there, ready on the device."""
    pipeline = _load_pipeline(config, folder, _resolve_dtype(config.dtype, device))
    pipeline.set_progress_bar_config(disable=True)
    fuse_adapters(pipeline, adapters_of(config.lora))
    if config.scheduler:
        pipeline.scheduler = other_scheduler(pipeline.scheduler, config.scheduler)
    tiny = load_tiny_decoder(pipeline, folder, config.tiny_decoder, device)
    with opening(f"a pipeline for text to image at {folder or config.source}", "choose another generator.source"):
        check_sampling(pipeline, config)
        generator = TextToImage(pipeline, tiny, config)  # copies a float16 decoder, before hooks are in the way
    generator.place(device, offload=config.offload)
    _use_plain_attention_for_few_tokens(pipeline)
    if config.compile:
        # The denoiser alone, which runs at every step; the decoder runs once, and where guidance has its gradients.
        name = "transformer" if getattr(pipeline, "transformer", None) is not None else "unet"
        getattr(pipeline, name).compile()
    return generator


def pinned(config: GeneratorConfig) -> GeneratorConfig:
    """``config`` with the commit that a hub model's name stands for now, so that a resumed run draws from the same.

    Raises:
        UserError: the hub doesn't know the model, or can't be reached.
    """
    if not is_hub_model(config.source) or re.fullmatch(r"[0-9a-f]{40}", config.revision):
        return config
    from huggingface_hub import model_info

    try:
        found = model_info(config.source, revision=config.revision or None)
    except Exception as error:  # the hub's client raises a dozen kinds
        raise UserError(
            f"expected a model on the hub named {config.source}, got: {str(error).splitlines()[0]}; give a folder, or "
            "pin generator.revision to a commit of 40 hexadecimal digits that was downloaded before"
        ) from None
    return replace(config, revision=found.sha or config.revision)


def resolve_device(name: str) -> torch.device:
    """``auto`` is the best device at hand.

    Raises:
        UserError: no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"expected a device of this machine, got {name!r} ({reason}); use cpu or auto") from None


def _resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        # Most CPUs compute bfloat16 by way of float32, and lose its precision for nothing.
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if name not in DTYPES:
        raise UserError(f"expected generator.dtype auto, {', '.join(DTYPES)}, got {name!r}; choose one")
    return DTYPES[name]


def _load_pipeline(config: GeneratorConfig, folder: Path | None, dtype: torch.dtype) -> Any:
    import diffusers.utils.logging
    import transformers.utils.logging

    if folder is not None:
        check_pipeline_folder(folder)
    what = f"a diffusers pipeline with safetensors weights at {folder or config.source}"
    remedy, local = "check generator.source, generator.revision and generator.variant", folder is not None
    with opening(what, remedy):
        budget = None if folder is None else Budget.of_folder(folder)
    # A folder is as it is; a commit is the hub's.
    remote = {} if local else {"revision": config.revision or None}
    # Quiet, else every load warns that the text encoder isn't the class's usual one
    closed = local or stays_offline()
    with quiet(diffusers.utils.logging, transformers.utils.logging), opening(what, remedy, local=closed, budget=budget):
        pipeline = diffusers.DiffusionPipeline.from_pretrained(
            folder or config.source,
            use_safetensors=True,
            local_files_only=closed,
            dtype=dtype,
            variant=config.variant or None,
            trust_remote_code=False,
            **remote,
        )  # fmt: skip
    check_whole(pipeline, str(folder or config.source))
    return pipeline


def other_scheduler(scheduler: Any, name: str) -> Any:
    """The scheduler ``name`` with the settings of the pipeline's own; a flow model stays one.

    Raises:
        UserError: no such scheduler, or one for other kinds of models.
    """
    import diffusers

    if name not in SUPPORTED:
        raise UserError(f"expected generator.scheduler to be one of {', '.join(SUPPORTED)}, got {name!r}; choose one")
    # Both would clip x0 to the range of pixels, which latents exceed.
    settings: dict[str, Any] = {"clip_sample": False, "thresholding": False}
    is_flow = type(scheduler).__name__ in FLOW or scheduler.config.get("prediction_type") == "flow_prediction"
    fitting = FLOW + BY_SIGMA if is_flow else BY_TIMESTEP + BY_SIGMA + EXPLODING
    if name not in fitting:
        kind = "a flow model" if is_flow else "a model that predicts noise or v"
        raise UserError(f"expected a scheduler for {kind} ({', '.join(fitting)}), got {name}; choose one of these")
    if is_flow and name in BY_SIGMA:
        # The flow schedulers call it shift, the others flow_shift: the same schedule of noise under both.
        shift = scheduler.config.get("shift", scheduler.config.get("flow_shift", 1.0))
        settings |= {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": shift}
    cls = getattr(diffusers, name)
    accepted = inspect.signature(cls.__init__).parameters
    return cls.from_config(scheduler.config, **{k: v for k, v in settings.items() if k in accepted})


def _use_plain_attention_for_few_tokens(pipeline: Any) -> None:
    """On CPUs the fused attention kernel is several times slower than two matrix products for tens of tokens."""
    from diffusers.models.attention_processor import AttnProcessor

    transformer: Any = getattr(pipeline, "transformer", None)
    if pipeline.device.type != "cpu" or not type(pipeline).__name__.startswith("PixArt"):
        return
    tokens = (transformer.config.sample_size // transformer.config.patch_size) ** 2
    if tokens <= 64:
        transformer.set_attn_processor(AttnProcessor())


# --- which weights drew these images -----------------------------------------------------------------------------


def identity(config: GeneratorConfig) -> dict[str, Any]:
    """What of the generator determines its images: settings and weights."""
    found = asdict(config) | {"weights": fingerprint(generator_folder(config))}
    # Where and how fast an image is computed; a run may go on on another machine.
    for irrelevant in ("device", "offload", "compile"):
        del found[irrelevant]
    # By their content, wherever they are; images that were drawn without adapters know no such setting.
    del found["lora"]
    return found | ({"lora": _adapter_digests(config)} if config.lora else {})


def fingerprint(folder: Path | None) -> str:
    """A digest of the configurations and weights in ``folder``; empty for None, as a hub model's commit says it all."""
    if folder is None:
        return ""
    digest = hashlib.sha256()
    for name, of_file in _file_digests(folder.resolve()).items():
        digest.update(f"{name}\0".encode() + of_file)
    return digest.hexdigest()[:16]


def part_digests(config: GeneratorConfig) -> dict[str, str]:
    """Digests of a generator's parts on this disk, by name: unet, vae, scheduler, ..., and a tiny decoder beside them.

    Every byte of their configurations and weights counts. A hub model has none, as its commit says it all.
    """
    parts: dict[str, Any] = {}
    folder = generator_folder(config)
    for name, of_file in ({} if folder is None else _file_digests(folder.resolve())).items():
        part, _, file = name.rpartition("/")
        parts.setdefault(part or file, hashlib.sha256()).update(file.encode() + of_file)
    found = {part: digest.hexdigest() for part, digest in parts.items()}
    tiny = config.tiny_decoder
    if tiny not in ("auto", "none") and Path(tiny).is_dir():  # auto is among the folder's own parts
        found["tiny decoder"] = fingerprint(Path(tiny))
    return found | {f"lora {number}": digest for number, digest in enumerate(_adapter_digests(config))}


def _adapter_digests(config: GeneratorConfig) -> list[str]:
    """Of each LoRA adapter: its weight, its bytes, and those that peft has put beside it."""
    found = []
    for adapter in adapters_of(config.lora):
        digest = hashlib.sha256(repr(adapter.weight).encode())
        for path in (adapter.file, adapter.description_file):
            if path.is_file():
                digest.update(_sha256(path, _state(path)))
        found.append(digest.hexdigest())
    return found


def _file_digests(folder: Path) -> dict[str, bytes]:
    """The SHA-256 of each configuration and each file with weights in a folder, by its path in it."""
    # Sorted, and with the names: the same files give the same digest on every file system.
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix in FINGERPRINTED]
    with ThreadPoolExecutor(NUM_READERS) as pool:  # hashing leaves Python's lock to others
        digests = pool.map(_sha256, paths, map(_state, paths))
        return {path.relative_to(folder).as_posix(): digest for path, digest in zip(paths, digests, strict=True)}


def _state(path: Path) -> tuple[int, ...]:
    """What becomes another one when a file is replaced or written to."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@cache
def _sha256(path: Path, state: tuple[int, ...]) -> bytes:
    """Of a file's bytes, read once as long as its ``state`` stays."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
