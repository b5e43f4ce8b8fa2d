"""The recipes for photographs are what they say, as far as that can be seen without weights."""

from __future__ import annotations

import math
from pathlib import Path

import diffusers
import pytest
import torch

from benchmarks.cost.more_shapes import FLUX_SCHNELL, HUB_MODELS, SDXL_TURBO
from benchmarks.cost.rows import band_steps
from benchmarks.costs import CONFIGS, guided_steps, hub_model, teacher_network
from prismkd.classes import load_classes
from prismkd.classes.wordnet import find_synset
from prismkd.classifiers.networks import new_network
from prismkd.commands.preview import preview
from prismkd.config import METHODS, Config, GuidanceConfig
from prismkd.config.load import load_config
from prismkd.guidance.schedulers import SUPPORTED, check_scheduler
from prismkd.prompts.dpe import plain_plan, with_defaults

NUM_CLASSES = {"imagenette": 10, "imagenet-100": 100, "imagenet-1k": 1000, "pacs": 7, "office-home": 65,
               "domainnet": 345}  # fmt: skip
SETTINGS = (
    "# [evaluation]",
    "# source =",
    "# shifted =",
    "# id_domain =",
)  # in comments
RECIPES = {path.stem: load_config(path) for path in CONFIGS}
of_the_recipes = pytest.mark.parametrize("config", RECIPES.values(), ids=RECIPES)


def test_every_data_set_and_every_generator_has_a_recipe() -> None:
    on_stable_diffusion = {config.classes for config in RECIPES.values() if "v1-5" in config.generator.source}
    assert on_stable_diffusion == set(NUM_CLASSES)
    assert {config.generator.source for config in RECIPES.values()} == set(HUB_MODELS)
    students = {config.distillation.architecture for config in RECIPES.values()}
    assert all(any(kind in name for name in students) for kind in ("resnet18", "resnet50", "mobilenet", "vit_small"))


@of_the_recipes
def test_the_plan_has_the_recipes_images_and_the_student_its_classes(config: Config) -> None:
    found, num_classes = preview(config, 0), NUM_CLASSES[config.classes]
    assert (
        found.cost.images
        == config.synthesis.images_per_class * num_classes
        == len(found.plan.subjects) * (config.synthesis.images_per_class)
    )
    with torch.device("meta"):
        student = new_network(config.distillation.architecture, num_classes, 3).eval()
        _, side = teacher_network(config.teacher)
        assert student(torch.empty(1, 3, side, side)).shape == (1, num_classes)


@of_the_recipes
def test_the_student_sees_every_image_a_hundred_times_as_the_comment_says(config: Config) -> None:
    images = config.synthesis.images_per_class * NUM_CLASSES[config.classes]
    passes = config.distillation.num_steps * config.distillation.batch_size / images
    assert passes == pytest.approx(100, rel=0.02)


@of_the_recipes
def test_pipeline_and_scheduler_are_known_and_some_step_is_guided(config: Config) -> None:
    model = hub_model(config)
    assert hasattr(diffusers, model.pipeline)
    assert config.generator.scheduler in {*SUPPORTED, ""}
    check_scheduler(model.shape.new_scheduler())
    assert METHODS[config.methods[-1]].guided and guided_steps(config, model) >= 1
    assert model.shape.num_passes == (1 if config.generator.guidance_scale <= 1 else 2)


@of_the_recipes
def test_shards_are_whole_batches_and_probes_are_fewer_than_half_of_the_images(config: Config) -> None:
    assert config.synthesis.shard_size % config.generator.batch_size == 0
    cost = preview(config, 0).cost
    assert cost.sense_probes + cost.content_probes < cost.images / 2


@pytest.mark.parametrize(("shape", "guided"), [(SDXL_TURBO, (0, 0, 1, 1)), (FLUX_SCHNELL, (0, 0, 1, 2))])
def test_of_few_steps_so_many_are_guided_as_the_comments_say(shape, guided) -> None:
    counted = tuple(band_steps(shape.new_scheduler(), steps, GuidanceConfig()) for steps in (1, 2, 3, 4))
    assert counted == guided


def test_flux_has_the_noise_levels_of_its_pipeline() -> None:
    scheduler = FLUX_SCHNELL.new_scheduler()
    scheduler.set_timesteps(4)
    assert scheduler.sigmas.tolist() == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0])
    assert math.log(0.25 / 0.75) > GuidanceConfig().log_snr_min  # the second step is in the band


def test_dit_knows_every_prompt_of_its_recipe() -> None:
    """DiT's names are ImageNet's lemmas; of two classes with the same one it takes the later."""
    config = RECIPES["dit-xl"]
    assert not any(METHODS[name].diversified for name in config.methods)
    template = with_defaults(config.prompts, config.generator.source).template
    names = {lemma: item.synset for item in load_classes("imagenet-1k") for lemma in find_synset(item.synset).lemmas}
    classes = load_classes(config.classes)
    plan = plain_plan(classes, 0, template)
    assert [names.get(plan[label].text) for label in range(len(classes))] == [item.synset for item in classes]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_recipes_are_short_and_begin_with_what_they_are(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# ") and len(text.splitlines()) < 50


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_what_is_commented_out_parses_when_it_is_put_in(path: Path, tmp_path: Path) -> None:
    lines = [line.removeprefix("# ") if line.startswith(SETTINGS) else line for line in path.read_text().splitlines()]
    (tmp_path / path.name).write_text("\n".join(lines))
    config = load_config(tmp_path / path.name)
    assert (config.evaluation.source != Config().evaluation.source) == (path.parent.name == "datasets")
