"""EDA around a pipeline of the user's own, on every kind of pipeline in miniature: it guides, and changes nothing."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload_with_hook
from diffusers import AutoencoderTiny, StableDiffusionImg2ImgPipeline
from torch import Tensor, nn

from prismkd.classifiers import Classifier, Preprocessing
from prismkd.config import GuidanceConfig
from prismkd.errors import UserError
from prismkd.guidance import Calibration
from prismkd.synthesis.eda import EDA
from tests.generators.tiny_pipelines import SIZE, build

GUIDANCE = GuidanceConfig(strength=0.3, log_snr_min=-3.0, log_snr_max=3.0, augment=False, num_views=1,
                          num_calibration_images=4)  # fmt: skip
NEVER_DONE = Calibration([-99.0] * 2, -99.0, 0.0, [1, 1])
KINDS = {  # a pipeline and scheduler of each layout and family
    "sd": "sd-DDIM", "pndm": "sd-PNDM", "ancestral": "sd-EulerAncestralDiscrete", "sdxl": "sdxl-EulerDiscrete",
    "sd3": "sd3-FlowMatchEulerDiscrete-3.0", "flux": "flux-FlowMatchEulerDiscrete-True", "lcm": "lcm-LCM",
    "pixart": "pixart-alpha-DPMSolverMultistep", "sana": "sana-FlowMatchEulerDiscrete-3.0", "dit": "dit-DDIM",
}  # fmt: skip


class Ramp(nn.Module):
    """Logits that grow with the brightness of the image's left and right half: low energy is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(20.0))

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        return self.scale * torch.stack([x[..., :half].mean((1, 2, 3)), x[..., half:].mean((1, 2, 3))], dim=1)


def made(kind: str, **settings: Any) -> tuple[EDA, Any, list[str], dict[str, Any]]:
    """EDA, its pipeline, prompts, and the arguments of a call."""
    pipe, scale = build(KINDS[kind])
    arguments: dict[str, Any] = {"num_inference_steps": 6, "guidance_scale": scale}
    arguments |= {} if kind == "dit" else {"height": SIZE, "width": SIZE}
    given = {"guidance": GUIDANCE, "calibration": NEVER_DONE, **settings}
    prompts = ["bell", "cat", "ship"] if kind == "dit" else ["a bell", "a cat", "a ship"]
    return EDA(pipe, Ramp().eval(), **given), pipe, prompts, arguments


def own_call(pipe: Any, prompts: list[str], arguments: dict[str, Any], seeds: list[int]) -> Tensor:
    """What the pipeline's owner would write, with the settings that miniatures need."""
    given: dict[str, Any] = {"prompt": prompts}
    if type(pipe).__name__ == "DiTPipeline":
        given = {"class_labels": [pipe.labels[name] for name in prompts]}
    if type(pipe).__name__.startswith(("PixArt", "Sana")):
        given |= {"use_resolution_binning": False, "clean_caption": False, "max_sequence_length": 16}
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return pipe(**given, **arguments, generator=generators, output_type="pt").images.float().clamp(0, 1).cpu()


@pytest.mark.parametrize("kind", KINDS)
def test_strength_zero_is_the_owners_own_call_and_more_lowers_the_energy(kind: str) -> None:
    eda, pipe, prompts, arguments = made(kind)
    scheduler = type(pipe.scheduler)
    plain = own_call(pipe, prompts, arguments, [3, 4, 5])
    off = EDA(pipe, Ramp().eval(), guidance=replace(GUIDANCE, strength=0.0))
    assert torch.equal(off(prompts, [0, 1, 0], [3, 4, 5], **arguments), plain)
    assert off.calibration is None and off.last is not None and not off.last.num_edits.any()
    guided = eda(prompts, [0, 1, 0], [3, 4, 5], **arguments)
    assert guided.shape == plain.shape and guided.dtype == torch.float32
    assert (eda.energies(guided) < eda.energies(plain)).all()
    assert eda.last is not None and (eda.last.num_edits == eda.last.num_band_steps).all()
    assert eda.last.energy_after is not None and torch.allclose(eda.last.energy_after, eda.energies(guided))
    assert eda.last.energy_before.isfinite().all() and eda.last.num_band_steps >= 1
    assert type(pipe.scheduler) is scheduler and "prepare_latents" not in vars(pipe)
    assert torch.equal(own_call(pipe, prompts, arguments, [3, 4, 5]), plain)


def test_a_gray_teacher_guides_a_generator_of_color_images() -> None:
    eda, pipe, prompts, arguments = made("sd", preprocessing=Preprocessing(1, (16, 16)))
    plain = own_call(pipe, prompts, arguments, [3, 4, 5])
    guided = eda(prompts, [0, 1, 0], [3, 4, 5], **arguments)
    assert guided.shape == plain.shape == (3, 3, SIZE, SIZE)
    assert (eda.energies(guided) < eda.energies(plain)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_guides_the_owners_calls_as_eda_itself_does(kind: str) -> None:
    eda, pipe, prompts, arguments = made(kind)
    if kind == "flux":
        arguments |= {"height": SIZE, "width": 2 * SIZE}  # packed tokens don't say which side is the longer one
    expected = eda(prompts, [0, 1, 0], [3, 4, 5], **arguments)
    with eda.guiding([0, 1, 0]) as batches:
        first = own_call(pipe, prompts, arguments, [3, 4, 5])
        second = own_call(pipe, prompts, arguments, [3, 4, 5])
    assert torch.equal(first, expected) and torch.equal(second, expected)
    assert len(batches) == 2 and eda.last is batches[1] and batches[0].energy_after is None
    assert torch.equal(batches[0].num_edits, batches[1].num_edits) and batches[0].num_edits.any()


def test_a_block_guides_an_image_to_image_pipeline_of_the_same_scheduler() -> None:
    eda, pipe, _, _ = made("sd")
    other = StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    start = torch.full((1, 3, SIZE, SIZE), 0.2)

    def drawn() -> Tensor:
        generator = torch.Generator().manual_seed(3)
        return other("a bell", start, num_inference_steps=10, generator=generator, output_type="pt").images

    plain = drawn()
    with eda.guiding([0]) as batches:
        guided = drawn()
    assert len(batches) == 1 and (eda.energies(guided) < eda.energies(plain)).all()


def test_packed_latents_of_an_unknown_size_are_not_taken_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    eda, _, prompts, arguments = made("flux")
    monkeypatch.setattr(eda._generator.layout, "following_calls", nullcontext)  # as in a loop of the user's own
    with pytest.raises(UserError, match=r"expected the packed latents of an image of 256 x 256 pixels, got \d+ tokens"):
        eda(prompts, [0, 1, 0], [3, 4, 5], **arguments)


def test_dit_without_a_doubled_batch_is_guided_too() -> None:
    eda, pipe, prompts, arguments = made("dit")
    arguments["guidance_scale"] = 1.0
    plain = own_call(pipe, prompts, arguments, [3, 4, 5])
    assert (eda.energies(eda(prompts, [0, 1, 0], [3, 4, 5], **arguments)) < eda.energies(plain)).all()


@pytest.mark.parametrize("kind", ["sd", "flux", "sana"])
def test_an_image_depends_on_its_own_prompt_label_and_seed_only(kind: str) -> None:
    eda, _, prompts, arguments = made(kind, guidance=replace(GUIDANCE, augment=True, num_views=2))
    together = eda(prompts, [0, 1, 0], [3, 4, 5], **arguments)
    eda.batch_size = 2
    split = eda(prompts, [0, 1, 0], [3, 4, 5], **arguments)
    alone = eda(prompts[1:2], [1], [4], **arguments)
    assert torch.allclose(split, together, atol=1e-3) and torch.allclose(alone[0], together[1], atol=1e-3)
    assert (together[1] - together[0]).abs().mean() > 0.02


def test_the_first_call_calibrates_once_and_says_that_more_prompts_are_better(
    capsys: pytest.CaptureFixture[str],
) -> None:
    eda, pipe, prompts, arguments = made("sd", calibration=None)
    eda(prompts[:1], [0], [3], **arguments)
    first = eda.calibration
    assert first is not None and sum(first.per_class_count) == 4
    assert "calibrating on 4 unguided images of 1 different prompts" in capsys.readouterr().err
    eda(prompts, [0, 1, 0], [3, 4, 5], **arguments)
    assert eda.calibration is first and not capsys.readouterr().err
    seen = list[int]()
    again = eda.calibrate(prompts, [0, 1, 0], progress=seen.append, **arguments)
    assert eda.calibration is again and again != first and sum(seen) == 4 and again.latent_rms > 0
    eda(prompts, [0, 1, 0], [3, 4, 5], **arguments)
    assert eda.last is not None and eda.last.latent_ratio.isfinite().all()
    assert EDA(pipe, Ramp().eval(), guidance=GUIDANCE).calibrate(prompts, [0, 1, 0], **arguments) == again


def test_where_the_target_is_reached_nothing_is_edited() -> None:
    content = Calibration([99.0] * 2, 99.0, 0.0, [1, 1])
    eda, pipe, prompts, arguments = made("sd", calibration=content, guidance=replace(GUIDANCE, label_weight=0.0))
    plain = own_call(pipe, prompts, arguments, [3, 4, 5])
    labels = eda._teacher(plain).argmax(1)
    eda(prompts, labels, [3, 4, 5], **arguments)
    assert eda.last is not None and eda.last.num_edits.sum() < 3 * eda.last.num_band_steps


def test_a_batch_that_does_not_fit_is_halved_and_stays_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    eda, pipe, prompts, arguments = made("sd")
    four = ([*prompts, "a red bell"], [0, 1, 0, 1], [3, 4, 5, 6])
    expected = eda(*four, **arguments)
    whole = type(pipe).__call__
    room = 2

    def cramped(self: Any, prompt: list[str], **given: Any) -> Any:
        if len(prompt) > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return whole(self, prompt, **given)

    monkeypatch.setattr(type(pipe), "__call__", cramped)
    assert torch.allclose(eda(*four, **arguments), expected, atol=1e-3)
    assert eda.last is not None and eda.last.num_edits.shape == eda.last.latent_ratio.shape == (4,)
    assert eda.batch_size == 2 and "memory ran out with 4 images together; going on with 2" in capsys.readouterr().err
    room = 0
    with pytest.raises(UserError, match="expected memory for one image at a time"):
        eda(prompts, [0, 1, 0], [3, 4, 5], **arguments)


# --- the pipeline and the teacher stay as they are ------------------------------------------------------------------


def state_of(pipe: Any) -> list[Any]:
    """What guidance could change of a pipeline."""
    parts = [pipe.unet, pipe.vae, pipe.text_encoder]
    tensors = [(p.dtype, p.device, p.requires_grad, p.data_ptr()) for part in parts for p in part.parameters()]
    return [
        tensors,
        [part.training for part in parts],
        dict(pipe.scheduler.config),
        type(pipe.scheduler),
        list(vars(pipe)),
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_pipeline_stays_as_it_was_and_half_precision_is_guided_in_full(dtype: torch.dtype) -> None:
    pipe, _ = build("sd-DDIM")
    pipe.to(dtype)
    arguments = {"num_inference_steps": 6, "height": SIZE, "width": SIZE}
    plain = own_call(pipe, ["a bell"], arguments, [3])
    before = state_of(pipe)
    assert before[0][0][2]  # its weights could be trained, and can be afterwards
    eda = EDA(pipe, Ramp().eval(), guidance=GUIDANCE, calibration=NEVER_DONE)
    guided = eda(["a bell"], [0], [3], **arguments)
    assert guided.isfinite().all() and (eda.energies(guided) < eda.energies(plain)).all()
    assert state_of(pipe) == before


def test_parts_that_are_offloaded_are_guided_and_no_other_part_is_copied_with_the_decoder() -> None:
    pipe, _ = build("sd-DDIM")
    pipe.to(torch.float16)
    hook = None
    for part in (pipe.text_encoder, pipe.unet, pipe.vae):
        _, hook = cpu_offload_with_hook(part, execution_device="cpu", prev_module_hook=hook)
    eda = EDA(pipe, Ramp().eval(), guidance=GUIDANCE, calibration=NEVER_DONE)
    decoder = eda._generator._full_decoder
    assert decoder.dtype == torch.float32 and not hasattr(decoder, "_hf_hook")
    assert torch.equal(decoder.decoder.conv_in.weight, pipe.vae.decoder.conv_in.weight.float())
    arguments = {"num_inference_steps": 6, "height": SIZE, "width": SIZE}
    plain = own_call(pipe, ["a bell"], arguments, [3])
    assert (eda.energies(eda(["a bell"], [0], [3], **arguments)) < eda.energies(plain)).all()


def test_a_tiny_decoder_of_the_users_own_is_copied_and_guides(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tiny = AutoencoderTiny(latent_channels=4, encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
                           num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)).half()  # fmt: skip
    eda, _, prompts, arguments = made("sd", decoder=tiny)
    assert eda._generator.tiny_decoder.dtype == torch.float32 and tiny.dtype == torch.float16
    eda(prompts, [0, 1, 0], [3, 4, 5], **arguments)
    assert eda.last is not None and eda.last.num_edits.all()
    with pytest.raises(UserError, match="expected a tiny decoder of 4 latent channels, got 7 in AutoencoderTiny"):
        made("sd", decoder=AutoencoderTiny(latent_channels=7))
    with pytest.raises(UserError, match="expected an AutoencoderTiny at "):
        made("sd", decoder=tmp_path / "none")


def test_a_teacher_that_is_being_trained_elsewhere_stays_trainable() -> None:
    teacher = Ramp().eval()
    before = copy.deepcopy(teacher.state_dict())
    pipe, _ = build("sd-DDIM")
    eda = EDA(pipe, teacher, guidance=GUIDANCE, calibration=NEVER_DONE)
    eda(["a bell"], [0], [3], num_inference_steps=4, height=SIZE, width=SIZE)
    assert teacher.scale.requires_grad and teacher.scale.grad is None and not teacher.training
    assert torch.equal(teacher.state_dict()["scale"], before["scale"])
    fixed = Ramp().eval().requires_grad_(False)
    assert EDA(pipe, fixed)._teacher.network is fixed  # nothing to copy


def test_a_teacher_is_shown_what_its_preprocessing_makes_of_an_image() -> None:
    class Picky(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[1:] == (1, 8, 8) and x.min() < -0.4
            return x.flatten(1)[:, :2]

    pipe, _ = build("sd-DDIM")
    wanted = Preprocessing(1, resize=(8, 8), mean=(0.95,), std=(1.0,))
    eda = EDA(pipe, Picky().eval(), preprocessing=wanted, guidance=GUIDANCE, calibration=NEVER_DONE)
    eda(["a bell"], [0], [3], num_inference_steps=4, height=SIZE, width=SIZE)
    with pytest.raises(UserError, match=r"takes images \(1, 3, 32, 32\), got AssertionError.*give its preprocessing"):
        EDA(pipe, Picky().eval())
    with pytest.raises(UserError, match="expected no preprocessing for a Classifier"):
        EDA(pipe, Classifier(Ramp(), {"num_classes": 2}).eval(), preprocessing=wanted)
    with pytest.raises(UserError, match=r"got one in training mode; call teacher\.eval\(\)"):
        EDA(pipe, Ramp())
    with pytest.raises(UserError, match=r"expected logits \(1, classes\) of the teacher, got \(3072,\)"):
        EDA(pipe, nn.Flatten(0).eval())


# --- what is refused ------------------------------------------------------------------------------------------------


def test_a_block_that_guides_nothing_or_other_batches_is_an_error_and_not_a_result() -> None:
    eda, pipe, prompts, arguments = made("sd")
    scheduler = type(pipe.scheduler)
    with pytest.raises(UserError, match="expected StableDiffusionPipeline to draw inside the block"), eda.guiding([0]):
        pass
    with (
        pytest.raises(UserError, match="expected a batch of 2 images, one per label, got one of 3"),
        eda.guiding([0, 1]),
    ):
        own_call(pipe, prompts, arguments, [3, 4, 5])
    assert type(pipe.scheduler) is scheduler and all(p.requires_grad for p in pipe.vae.parameters())
    with pytest.raises(UserError, match="expected a denoising step with log"), eda.guiding([0, 1, 0]):
        own_call(pipe, prompts, {**arguments, "num_inference_steps": 1}, [3, 4, 5])
    with pytest.raises(UserError, match="expected a denoising step with log"):
        eda(prompts, [0, 1, 0], [3, 4, 5], **{**arguments, "num_inference_steps": 1})
    blind, *_ = made("sd", calibration=None)
    with pytest.raises(UserError, match=r"call eda\.calibrate\(prompts, labels\) first"), blind.guiding([0]):
        pass


def test_what_can_not_be_meant_is_refused_with_a_remedy() -> None:
    eda, pipe, prompts, arguments = made("sd")
    with pytest.raises(UserError, match="expected a list of prompts, got 'a bell'"):
        eda("a bell", [0], [3])
    with pytest.raises(UserError, match="expected a label for each of 3 prompts, got 1"):
        eda(prompts, [0], [3])
    with pytest.raises(UserError, match="expected a seed for each of 3 prompts, got 1"):
        eda(prompts, [0, 1, 0], [3])
    with pytest.raises(UserError, match="expected labels from 0 to 1, the teacher's classes, got 2"):
        eda(prompts, [0, 1, 2], [3, 4, 5])
    with pytest.raises(UserError, match=r"expected labels \(n,\) as integers, got torch.float32"):
        eda.calibrate(prompts, torch.rand(3))
    with pytest.raises(UserError, match="got num_inference_step; perhaps num_inference_steps"):
        eda(prompts, [0, 1, 0], [3, 4, 5], num_inference_step=4)
    with pytest.raises(UserError, match="got generator; "):
        eda(prompts, [0, 1, 0], [3, 4, 5], generator=None)
    with pytest.raises(UserError, match=r"expected settings that StableDiffusionPipeline takes, got.*arguments of the"):
        eda(prompts, [0, 1, 0], [3, 4, 5], **{**arguments, "height": 33})
    with pytest.raises(UserError, match=r"expected a finite guidance\.strength of at least 0, got -1"):
        EDA(pipe, Ramp().eval(), guidance=GuidanceConfig(strength=-1.0))
    with pytest.raises(UserError, match="expected a calibration of the teacher's 2 classes, got one of 1"):
        EDA(pipe, Ramp().eval(), calibration=Calibration([0.0], 0.0, 0.0, [1]))
    del pipe.vae
    with pytest.raises(UserError, match="expected a latent diffusion pipeline with a vae"):
        EDA(pipe, Ramp().eval())


def test_an_image_that_a_safety_checker_blackened_is_not_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    eda, pipe, prompts, arguments = made("sd")

    class Flagging(type(pipe)):  # type: ignore[misc]
        def __call__(self, **given: Any) -> Any:
            drawn = super().__call__(**given)
            drawn.nsfw_content_detected = [False, True, False]
            return drawn

    pipe.__class__ = Flagging
    images = eda(prompts, [0, 1, 0], [3, 4, 5], **arguments)
    assert images[[0, 2]].isfinite().all() and images[1].isnan().all()
    assert "1 of 3 images are not a number" in capsys.readouterr().err


@pytest.mark.gpu
def test_on_a_gpu_the_pipeline_and_its_offloaded_parts_are_guided_where_they_compute() -> None:
    for dtype, offload in ((torch.float16, False), (torch.bfloat16, True), (torch.float16, True)):
        pipe, _ = build("sd-DDIM")
        pipe.to(dtype)
        eda = EDA(pipe, Ramp().eval(), guidance=GUIDANCE)  # before the pipeline moves
        if offload:
            pipe.enable_model_cpu_offload()
        else:
            pipe.to("cuda")
        arguments = {"num_inference_steps": 6, "height": SIZE, "width": SIZE}
        plain = own_call(pipe, ["a bell", "a cat"], arguments, [3, 4])
        eda.calibrate(["a bell", "a cat"], [0, 1], **arguments)
        eda.calibration = NEVER_DONE
        guided = eda(["a bell", "a cat"], [0, 1], [3, 4], **arguments)
        assert (eda.energies(guided) < eda.energies(plain)).all()
        assert pipe.vae.dtype == dtype
