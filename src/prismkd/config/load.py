"""TOML files and records of runs to the configuration's dataclasses, and all checks of their values."""

from __future__ import annotations

from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, cast, get_args, get_origin, get_type_hints

from prismkd.config.embedded import resolved
from prismkd.config.methods import METHODS
from prismkd.config.nearest import perhaps
from prismkd.config.ranges import MAX_INT, check_fields, check_value, typed_fields
from prismkd.config.settings import AdaptationConfig, Config, GeneratorConfig, GuidanceConfig, PreprocessingConfig
from prismkd.errors import UserError
from prismkd.files import read_toml
from prismkd.text import shortened, visible


def load_config(path: Path) -> Config:
    """Read a TOML file; keys that aren't named keep their defaults.

    Raises:
        UserError: no such file, broken TOML, an unknown key, a wrong type, or a value out of range.
    """
    try:
        data = read_toml(path, dict[str, Any], remedy="correct the file")
    except FileNotFoundError:
        raise UserError(f"expected a configuration file, got {path}, where there is none; check --config") from None
    config = cast(Config, _build(Config, data, ""))
    check_config(config)
    return config


def config_from_dict(data: dict[str, Any]) -> Config:
    """The inverse of ``dataclasses.asdict``, from JSON.

    Types and the names of methods, which every reader looks up, are checked; ranges aren't, so that old runs can be
    read.

    Raises:
        UserError: an unknown key or method, or a wrong type.
    """
    config = cast(Config, _build(Config, data, ""))
    check_fields(config, ranges=False)
    check_value(config.methods, typed_fields(Config)["methods"], "methods")
    return config


def _build(kind: type, data: dict[str, Any], prefix: str) -> Any:
    """Make the dataclass ``kind`` of a TOML table."""
    hints = get_type_hints(kind)
    for key in data:
        if key not in hints:
            near = perhaps(key, hints, f"use one of {', '.join(hints)}", prefix)
            raise UserError(f"expected a known configuration key, got {prefix}{visible(key[:60])}; {near}")
    return kind(**{key: _convert(hints[key], value, prefix + key) for key, value in data.items()})


def _convert(kind: Any, value: Any, name: str) -> Any:
    """A TOML value as its field holds it: tables as dataclasses, lists as tuples, ints as floats where those are meant.

    Others stay as they are, and ``check_fields`` refuses them.
    """
    if is_dataclass(kind) and isinstance(kind, type):
        if isinstance(value, dict):
            return _build(kind, value, f"{name}.")
        raise UserError(f"expected a table [{name}], got {shortened(value)}; write its settings below [{name}]")
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_convert(get_args(kind)[0], item, name) for item in value)
    if kind is float and type(value) is int and abs(value) < MAX_INT:
        return float(value)
    return value


def check_config(config: Config) -> None:
    """Check every setting, and those that hang together.

    Raises:
        UserError: a value of a wrong type or out of range, with the range.
    """
    check_fields(config)
    check_together(config)


def check_together(config: Config) -> None:
    """Check what no single field can say of itself.

    Raises:
        UserError: settings that don't go together.
    """
    _check_seeds(config)
    _check_guided_band(config)
    _check_real_share(config)
    _check_test_images(config)
    _check_storage(config.synthesis.storage)
    _check_language_model(config)
    _check_template(config.prompts.template)
    _check_teacher_preprocessing(config)


def preprocessing_from(data: Any, name: str) -> PreprocessingConfig:
    """A table of the settings of ``teacher_preprocessing``, which a list of teachers has for each of them.

    Args:
        data: of a TOML file.
        name: what errors call it.

    Raises:
        UserError: an unknown key, a wrong type, or a value out of range.
    """
    preprocessing = cast(PreprocessingConfig, _convert(PreprocessingConfig, data, name))
    check_fields(preprocessing, prefix=f"{name}.")
    _check_preprocessing(preprocessing, name)
    return preprocessing


def _check_teacher_preprocessing(config: Config) -> None:
    _check_preprocessing(config.teacher_preprocessing, "teacher_preprocessing")
    if config.teacher.endswith(".toml") and config.teacher_preprocessing != PreprocessingConfig():
        raise UserError(
            f"expected teacher_preprocessing for one teacher, got several in {config.teacher}; set preprocessing in "
            "their [[teacher]] sections there"
        )


def _check_preprocessing(preprocessing: PreprocessingConfig, name: str) -> None:
    for key, sides in (("resize", preprocessing.resize), ("crop", preprocessing.crop)):
        if len(sides) > 2:
            raise UserError(f"expected one or two numbers for {name}.{key}, got {len(sides)}; give height and width")


def check_methods(config: Config) -> None:
    """Check that methods and seeds make a run.

    Raises:
        UserError: none, repeated ones, or a method without those that it needs.
    """
    for name, values in (("methods", config.methods), ("seeds", config.seeds)):
        if not values or len(set(values)) < len(values):
            raise UserError(f"expected {name}, each once, got {list(values)}; name each one once")
    for method in config.methods:
        needed = METHODS[method].budget_of
        if not set(needed) <= set(config.methods):
            named = " and ".join(needed)
            raise UserError(f"expected {named} beside {method}, which spends their seconds; add them to methods")
    if "real" in config.methods and not (config.evaluation.real or config.distillation.real):
        raise UserError("expected evaluation.real for the method real, got none; name the files or drop real")
    if any(METHODS[method].in_rounds for method in config.methods):
        _check_rounds(config)
    if any(METHODS[method].adapted for method in config.methods):
        check_adaptation(config.generator, config.guidance, config.adaptation)
    if config.distillation.auxiliary_batch_norm and not config.distillation.real_share:
        raise UserError(
            "expected a distillation.real_share above 0 for distillation.auxiliary_batch_norm, got 0; set it, or set "
            "auxiliary_batch_norm to false"
        )


def _check_rounds(config: Config) -> None:
    """Refuse settings of which only one can decide what comes next, or that leave a round without an image."""
    if config.prompts.pilot_share:
        raise UserError(
            f"expected prompts.pilot_share 0 beside methods in rounds, got {config.prompts.pilot_share}; set it to 0, "
            "or use rounds.allocate, by which the guide decides what comes next"
        )
    if config.synthesis.images_per_class < config.rounds.num_rounds:
        raise UserError(
            f"expected an image per class in each of {config.rounds.num_rounds} rounds, got "
            f"{config.synthesis.images_per_class} in all; raise synthesis.images_per_class or lower rounds.num_rounds"
        )


def check_adaptation(generator: GeneratorConfig, guidance: GuidanceConfig, adaptation: AdaptationConfig) -> None:
    """Check that an adapter can be trained with these settings.

    Raises:
        UserError: the generator is offloaded, or there is no guidance to learn.
    """
    if generator.offload:
        raise UserError(
            "expected generator.offload = false for adapted methods, whose adapter is trained with the generator on "
            "one device, got true; switch it off, or leave the adapted methods out"
        )
    if adaptation.objective == "guided" and guidance.strength == 0:
        raise UserError(
            "expected guidance.strength above 0 for adapted methods, since the adapter learns what guidance does, got "
            "0; raise it, or set adaptation.objective to energy"
        )


def check_diversity(config: Config, num_classes: int) -> None:
    """Check that a batch, which is filled within a shard, can hold the two images of a class that repel each other.

    Raises:
        UserError: the shards are too small.
    """
    if config.guidance.diversity_weight > 0 and config.synthesis.shard_size < 2 * num_classes:
        raise UserError(
            f"expected synthesis.shard_size of at least {2 * num_classes}, two images of each class, for "
            f"guidance.diversity_weight, got {config.synthesis.shard_size}; raise it"
        )


def _check_seeds(config: Config) -> None:
    if not config.seeds:
        raise UserError("expected at least one seed, got none; name some in seeds")


def _check_guided_band(config: Config) -> None:
    low, high = config.guidance.log_snr_min, config.guidance.log_snr_max
    if not low < high:
        raise UserError(
            f"expected guidance.log_snr_min below log_snr_max, got {low} and {high}; the default band is -1.2 to 0.2"
        )


def _check_real_share(config: Config) -> None:
    if config.distillation.real_share > 0 and not config.distillation.real:
        raise UserError("expected distillation.real for distillation.real_share, got none; name the labeled images")


def _check_test_images(config: Config) -> None:
    """What asks something of the test images needs some."""
    evaluation, defaults = resolved(config).evaluation, Config().evaluation
    if evaluation.source:
        return
    for name in ("shifted", "id_domain", "cas"):
        if getattr(evaluation, name) != getattr(defaults, name):
            raise UserError(
                f"expected test images in evaluation.source for evaluation.{name}, got none; name them, or leave "
                f"evaluation.{name} out"
            )


def _check_storage(storage: str) -> None:
    if "@" in storage:
        raise UserError(
            "expected synthesis.storage without user and password, which a run would record, got one with @; put them "
            "into the store's own environment variables, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    scheme, mark, place = storage.partition("://")
    if mark and not (scheme and place.strip("/")):
        raise UserError(f"expected synthesis.storage such as s3://bucket/folder, got {storage}; name the place")


def _check_language_model(config: Config) -> None:
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


def _check_template(template: str) -> None:
    if template and "{name}" not in template:
        raise UserError(f"expected {{name}} in prompts.template, got {template!r}; say where the class goes")
