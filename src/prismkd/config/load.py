"""TOML files to the configuration's dataclasses, with errors that name the nearest valid key."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, cast, get_args, get_origin, get_type_hints

from prismkd.config import ENERGIES, EXECUTORS, IMAGE_FORMATS, METHODS, OPTIMIZERS, PRECISIONS, Config
from prismkd.errors import UserError

MAX_INT = 10**15


def load_config(path: Path) -> Config:
    """Read a TOML file; keys that aren't named keep their defaults.

    Raises:
        UserError: no such file, broken TOML, an unknown key, a wrong type, or a value out of range.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"expected a configuration file, got {path}: {error.strerror}; check --config") from None
    except (ValueError, RecursionError, OverflowError) as error:
        raise UserError(f"expected TOML in {path}, got: {error}; mend the file") from None
    config = _build(Config, data, "")
    check_config(config)
    return config


def config_from_dict(data: dict[str, Any]) -> Config:
    """The inverse of ``dataclasses.asdict``, from JSON."""
    return cast(Config, _build(Config, data, ""))


def _build(kind: type, data: dict[str, Any], prefix: str) -> Any:
    """Make the dataclass ``kind`` of a TOML table."""
    hints = get_type_hints(kind)
    for key in data:
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1, cutoff=0.4)
            help_ = f"perhaps {prefix}{near[0]}" if near else f"use one of {', '.join(hints)}"
            raise UserError(f"expected a known configuration key, got {prefix}{key}; {help_}")
    return kind(**{key: _convert(hints[key], value, prefix + key) for key, value in data.items()})


def _convert(kind: Any, value: Any, name: str) -> Any:
    """Check a TOML value against a field's type; ints pass for floats, lists for tuples."""
    if is_dataclass(kind) and isinstance(kind, type):
        if isinstance(value, dict):
            return _build(kind, value, f"{name}.")
        raise UserError(f"expected a table [{name}], got {value!r}; write its settings below [{name}]")
    if get_origin(kind) is tuple:
        if isinstance(value, list):
            return tuple(_convert(get_args(kind)[0], item, name) for item in value)
        raise UserError(f"expected a list for {name}, got {value!r}; put it in [ ]")
    if kind is float and type(value) is int and abs(value) < MAX_INT:
        return float(value)
    if kind is int and type(value) is int and abs(value) >= MAX_INT:
        raise UserError(f"expected a number below 10**15 for {name}, got a larger one; mend it")
    if type(value) is not kind:
        raise UserError(f"expected {kind.__name__} for {name}, got {value!r} ({type(value).__name__}); mend the value")
    return value


def check_config(config: Config) -> None:
    """Check the values that types can't.

    Raises:
        UserError: a value out of range, with the range.
    """
    for method in config.methods:
        if method not in METHODS:
            near = difflib.get_close_matches(method, METHODS, n=1, cutoff=0.4)
            raise UserError(
                f"expected methods among {', '.join(METHODS)}, got {method!r}"
                + (f"; perhaps {near[0]}" if near else "")
            )
    positive = {
        "generator.num_inference_steps": config.generator.num_inference_steps,
        "generator.batch_size": config.generator.batch_size,
        "guidance.num_views": config.guidance.num_views,
        "guidance.every": config.guidance.every,
        "guidance.temperature": config.guidance.temperature,
        "guidance.num_calibration_images": config.guidance.num_calibration_images,
        "synthesis.images_per_class": config.synthesis.images_per_class,
        "synthesis.shard_size": config.synthesis.shard_size,
        "synthesis.max_tries": config.synthesis.max_tries,
        "synthesis.timeout": config.synthesis.timeout,
        "distillation.num_steps": config.distillation.num_steps,
        "distillation.batch_size": config.distillation.batch_size,
        "distillation.learning_rate": config.distillation.learning_rate,
        "distillation.temperature": config.distillation.temperature,
        "distillation.stored_top_k": config.distillation.stored_top_k,
        "evaluation.nearest_k": config.evaluation.nearest_k,
        "evaluation.max_images": config.evaluation.max_images,
        "prompts.language_model.timeout": config.prompts.language_model.timeout,
        "prompts.language_model.max_tries": config.prompts.language_model.max_tries,
        "prompts.language_model.num_phrases": config.prompts.language_model.num_phrases,
    }
    for name, value in positive.items():
        if not value > 0:
            raise UserError(f"expected a positive {name}, got {value}; raise it")
    not_negative = {
        "guidance.strength": config.guidance.strength,
        "guidance.batch_norm_weight": config.guidance.batch_norm_weight,
        "guidance.prototype_weight": config.guidance.prototype_weight,
        "guidance.diversity_weight": config.guidance.diversity_weight,
        "guidance.x0_noise": config.guidance.x0_noise,
        "guidance.margin_weight": config.guidance.margin_weight,
        "guidance.label_weight": config.guidance.label_weight,
        "distillation.weight_decay": config.distillation.weight_decay,
        "distillation.feature_weight": config.distillation.feature_weight,
        "distillation.mixup": config.distillation.mixup,
        "distillation.cutmix": config.distillation.cutmix,
        "distillation.memory_gigabytes": config.distillation.memory_gigabytes,
        "distillation.num_workers": config.distillation.num_workers,
        "generator.image_size": config.generator.image_size,
        "evaluation.image_size": config.evaluation.image_size,
        "evaluation.restrict_below": config.evaluation.restrict_below,
        "prompts.num_probes": config.prompts.num_probes,
        "prompts.num_content_probes": config.prompts.num_content_probes,
        "prompts.max_senses": config.prompts.max_senses,
        "num_threads": config.num_threads,
        "synthesis.num_workers": config.synthesis.num_workers,
    }
    for name, value in not_negative.items():
        if not 0 <= value < float("inf"):
            raise UserError(f"expected a finite {name} of at least 0, got {value}; correct it")
    chosen = {
        "guidance.energy": (config.guidance.energy, ENERGIES),
        "synthesis.image_format": (config.synthesis.image_format, IMAGE_FORMATS),
        "synthesis.executor": (config.synthesis.executor, EXECUTORS),
        "distillation.optimizer": (config.distillation.optimizer, OPTIMIZERS),
        "distillation.mixed_precision": (config.distillation.mixed_precision, PRECISIONS),
    }
    for name, (word, choices) in chosen.items():
        if word not in choices:
            near = difflib.get_close_matches(word, choices, n=1, cutoff=0.4)
            raise UserError(
                f"expected {name} to be one of {', '.join(choices)}, got {word!r}; "
                f"perhaps {near[0] if near else choices[0]}"
            )
    if not 1 <= config.synthesis.image_quality <= 100:
        raise UserError(
            f"expected synthesis.image_quality from 1 to 100, got {config.synthesis.image_quality}; mend it"
        )
    if not 0 <= config.distillation.ema_decay < 1:
        raise UserError(
            f"expected distillation.ema_decay from 0 to below 1, got {config.distillation.ema_decay}; 0 is no average"
        )
    _check_distillation(config)
    if not 0 < config.guidance.react_quantile <= 1:
        raise UserError(
            f"expected guidance.react_quantile above 0 and up to 1, got {config.guidance.react_quantile}; 1 is off"
        )
    if not config.guidance.log_snr_min < config.guidance.log_snr_max:
        raise UserError(
            f"expected guidance.log_snr_min below log_snr_max, got {config.guidance.log_snr_min} and "
            f"{config.guidance.log_snr_max}; the default band is -1.2 to 0.2"
        )
    if not 0 <= config.prompts.id_share <= 1:
        raise UserError(f"expected prompts.id_share from 0 to 1, got {config.prompts.id_share}; it is a share")
    if not 0 <= config.prompts.pilot_share < 1:
        raise UserError(
            f"expected prompts.pilot_share from 0 to below 1, got {config.prompts.pilot_share}; 0 allocates evenly"
        )
    if "@" in config.synthesis.storage:
        raise UserError(
            "expected synthesis.storage without user and password, which a run would record, got one with @; put them "
            "into the store's own environment variables, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    scheme, mark, place = config.synthesis.storage.partition("://")
    if mark and not (scheme and place.strip("/")):
        raise UserError(
            f"expected synthesis.storage such as s3://bucket/folder, got {config.synthesis.storage}; name the place"
        )
    if not config.seeds:
        raise UserError("expected at least one seed, got none; name some in seeds")
    asked = config.prompts.language_model
    if "@" in asked.url or "?" in asked.url:
        raise UserError(
            "expected prompts.language_model.url without user and password or query, which a run would record, got "
            "one with @ or ?; put the key into the environment variable that prompts.language_model.key_variable names"
        )
    if asked.url and not (asked.model and asked.url.startswith(("http://", "https://"))):
        raise UserError(
            "expected prompts.language_model.url such as http://localhost:8080/v1, and its model, got "
            f"{asked.url!r} and {asked.model!r}; name both"
        )
    if config.prompts.template and "{name}" not in config.prompts.template:
        raise UserError(
            f"expected {{name}} in prompts.template, got {config.prompts.template!r}; say where the class goes"
        )


def _check_distillation(config: Config) -> None:
    recipe = config.distillation
    for name in ("hard_label_weight", "real_share"):
        if not 0 <= getattr(recipe, name) <= 1:
            raise UserError(f"expected distillation.{name} from 0 to 1, got {getattr(recipe, name)}; it is a share")
    if not 0 <= recipe.momentum < 1:
        raise UserError(f"expected distillation.momentum from 0 to below 1, got {recipe.momentum}; 0.9 is usual")
    if not 0 <= recipe.rand_augment <= 30:
        raise UserError(f"expected distillation.rand_augment from 0 to 30, got {recipe.rand_augment}; 9 is usual")
    if recipe.real_share > 0 and not recipe.real:
        raise UserError("expected distillation.real for distillation.real_share, got none; name the labelled images")
