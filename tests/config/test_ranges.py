"""Every setting has a type and a range, which one walk checks; a configuration survives its record."""

import json
import math
from dataclasses import asdict, is_dataclass, replace
from typing import Any, get_args, get_origin

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prismkd.config import (
    Config,
    DistillationConfig,
    GeneratorConfig,
    GuidanceConfig,
    PreprocessingConfig,
    PromptsConfig,
    SynthesisConfig,
)
from prismkd.config.load import check_config, config_from_dict
from prismkd.config.ranges import AtLeast, Between, OneOf, Positive, check_fields, typed_fields, without_extras
from prismkd.config.seeds import MAX_SEED, derive
from prismkd.errors import UserError


def values_of(kind: Any) -> st.SearchStrategy:
    """Any values of a setting's type that are in its range."""
    plain, limits = without_extras(kind)
    if is_dataclass(plain):
        return st.builds(plain, **{name: values_of(inner) for name, inner in typed_fields(plain).items()})
    if get_origin(plain) is tuple:
        return st.lists(values_of(get_args(plain)[0])).map(tuple)
    limit = limits[0] if limits else None
    if isinstance(limit, OneOf):
        return st.sampled_from(limit.choices)
    if plain is bool:
        return st.booleans()
    if plain is str:
        return st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
    low, high = -(10**15) + 1, 10**15 - 1
    if isinstance(limit, Between):
        low, high = math.ceil(limit.low), math.floor(limit.high)
    elif isinstance(limit, AtLeast | Positive):
        low = 0 if isinstance(limit, AtLeast) else 1
    if plain is int:
        return st.integers(low, high)
    if not isinstance(limit, Between):
        high = 1e14
    open_high = isinstance(limit, Between) and limit.open_high
    open_low = isinstance(limit, Positive) or (isinstance(limit, Between) and limit.open_low)
    return st.floats(min(low, 0) if open_low else low, high, exclude_min=open_low, exclude_max=open_high)


@given(values_of(Config))
@settings(max_examples=50, deadline=None)
def test_a_configuration_survives_its_record(config: Config) -> None:
    check_fields(config)
    assert config_from_dict(json.loads(json.dumps(asdict(config)))) == config


def float_settings(kind: Any = Config, prefix: str = "") -> list[str]:
    found = []
    for name, hint in typed_fields(kind).items():
        plain, _ = without_extras(hint)
        if is_dataclass(plain):
            found += float_settings(plain, f"{prefix}{name}.")
        elif plain is float:
            found.append(prefix + name)
    return found


def changed(config: Any, path: str, value: object) -> Any:
    name, _, rest = path.partition(".")
    return replace(config, **{name: changed(getattr(config, name), rest, value) if rest else value})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("path", float_settings())
def test_no_setting_is_nan_or_infinite(path: str, value: float) -> None:
    with pytest.raises(UserError, match=f"expected a finite {path}, got "):
        check_config(changed(Config(), path, value))


@pytest.mark.parametrize("path", float_settings())
def test_no_setting_is_so_large_that_arithmetic_or_a_clock_overflows(path: str) -> None:
    with pytest.raises(UserError, match=f"expected .*{path}.*, got "):
        check_config(changed(Config(), path, 1e308))


def test_a_run_recorded_before_its_ranges_can_still_be_read() -> None:
    old = replace(Config(), generator=GeneratorConfig(guidance_scale=-1.0), guidance=GuidanceConfig(strength=1e20))
    assert config_from_dict(json.loads(json.dumps(asdict(old)))) == old


def test_a_record_with_a_method_of_another_version_is_refused() -> None:
    with pytest.raises(UserError, match=r"expected methods to be one of .* got 'prsm'; perhaps prism"):
        config_from_dict({"methods": ["plain", "prsm"]})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(Config(), seeds=(0.5,)), r"expected int for seeds, got 0\.5 \(float\)"),
        (replace(Config(), trust=1), r"expected bool for trust, got 1 \(int\)"),
        (replace(Config(), num_threads=10**6), "num_threads from 0 to 1024, got 1000000"),
        (replace(Config(), synthesis=SynthesisConfig(num_workers=10**6)), r"synthesis\.num_workers from 0 to 1024"),
        (replace(Config(), prompts=PromptsConfig(num_probes=2**40)), r"prompts\.num_probes from 0 to 10000"),
        (replace(Config(), num_threads=True), r"expected int for num_threads, got True \(bool\)"),
        (replace(Config(), teacher=None), r"expected str for teacher, got None"),
        (replace(Config(), teacher="t\udcff"), r"expected teacher in UTF-8, got 't\\udcff'; rename the file"),
        (replace(Config(), methods="plain"), r"expected a list for methods, got 'plain'; put it in \[ \]"),
        (replace(Config(), distillation=DistillationConfig(mixup="x" * 999)), r"got 'x{59}\.\.\. \(str\)"),
        (replace(Config(), teacher_preprocessing=PreprocessingConfig(mean=(123.675,))),
         r"mean from -1 to 2, got 123\.675; images are in \[0, 1\]: divide what is for 0 to 255 by 255"),
        (replace(Config(), teacher_preprocessing=PreprocessingConfig(std=(58.395,))), r"got 58\.395; images are in"),
        (replace(Config(), distillation=DistillationConfig(image_size=100_000)), "from 0 to 4096, got 100000"),
        (replace(Config(), distillation=DistillationConfig(min_crop_scale=0.0)),
         "expected distillation.min_crop_scale above 0 and up to 1, got 0.0; 0.08 is usual"),
    ],
)  # fmt: skip
def test_values_from_python_are_checked_as_those_of_files(config: Config, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_config(config)


def test_ints_are_floats_and_lists_are_tuples_in_python() -> None:
    check_config(replace(Config(), guidance=GuidanceConfig(strength=1), seeds=[0, 1]))  # type: ignore[arg-type]


# --- seeds: what works, and nothing else -----------------------------------------------------------------------------


def test_the_largest_seed_works_at_the_last_step() -> None:
    check_config(replace(Config(), seeds=(0, MAX_SEED)))
    torch.Generator().manual_seed(derive(MAX_SEED, "batch", 10**15 - 1))
    for seed in (MAX_SEED + 1, -1):
        with pytest.raises(UserError, match=f"expected seeds from 0 to {MAX_SEED}, got {seed}"):
            check_config(replace(Config(), seeds=(0, seed)))
