"""``guidance.domains = "own"``: of diverse prompts only the images in the teacher's own domain are guided."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from prismkd import Config, Session
from prismkd.cli import main
from prismkd.config import GeneratorConfig, GuidanceConfig, PromptsConfig
from prismkd.prompts.styles import own_styles

CONFIG = Config(
    classes="pictograms-24",
    prompts=PromptsConfig(num_probes=0, num_content_probes=0, id_share=0.5),
    generator=GeneratorConfig(num_inference_steps=4),
    guidance=GuidanceConfig(domains="own", energy="conditional", num_calibration_images=24, num_views=1),
)


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(CONFIG)


def test_only_the_teachers_own_domain_is_guided(session: Session) -> None:
    plan, count = session.plan("prism", 0), 48
    is_own = torch.tensor([plan[index].style == "filled" for index in range(count)])
    assert 0 < is_own.sum() < count
    guided, unguided = session.draw("prism", count)[0], session.draw("dpe", count)[0]
    changes = (guided - unguided).abs().flatten(1).amax(1) > 0
    assert changes[is_own].float().mean() > 0.8 and not changes[~is_own].any()
    samples = list(session.synthesizer("prism").samples([plan[index] for index in range(count)]))
    assert [sample.metadata["energy_before"] is not None for sample in samples] == is_own.tolist()


def test_plain_prompts_name_no_style_and_are_guided_all(session: Session) -> None:
    everywhere = Session(replace(CONFIG, guidance=replace(CONFIG.guidance, domains="all")))
    assert torch.equal(session.draw("eda", 4)[0], everywhere.draw("eda", 4)[0])


def test_a_domains_styles_are_its_own_and_no_others() -> None:
    photos = own_styles(("photo", "art"))
    assert {"photo", "photo 9"} <= photos and not any("art" in name for name in photos)
    assert own_styles(("photo 1: a photo of {}", "photo")) == {"photo 1"}
    assert own_styles(("x-ray: an x-ray image of {}", "photo")) == {"x-ray"}


def test_the_setting_is_part_of_what_diverse_images_are_made_with_and_of_no_others(tmp_path: Path) -> None:
    arguments = ["--classes", "pictograms-24", "--out", str(tmp_path), "--methods", "eda", "prism",
                 "--guidance.domains", "own", "--guidance.num-calibration-images", "24", "--prompts.num-probes", "0",
                 "--prompts.num-content-probes", "0", "--generator.num-inference-steps", "4",
                 "--synthesis.images-per-class", "1"]  # fmt: skip
    assert main(["prompts", *arguments]) == 0 and main(["synthesize", *arguments]) == 0
    eda, prism = (json.loads((tmp_path / "seed-0" / method / "images" / "dataset.json").read_text())["identity"]
                  for method in ("eda", "prism"))  # fmt: skip
    assert prism["guidance"].pop("domains") == "own" and eda["guidance"] == prism["guidance"]
