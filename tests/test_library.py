"""The library as its first page shows it: five snippets, each alone; the public names; the examples."""

from __future__ import annotations

import ast
import importlib.util
import json
import pkgutil
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

import prismkd
from prismkd.assets import asset
from prismkd.classes.matching import ClassLabels
from prismkd.data import load_labeled_images

EXAMPLES = Path(__file__).parent.parent / "examples"
NUM_CLASSES = 97


def run_python(code: str) -> str:
    """In a process of its own, since this one has imported everything."""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


# --- the five snippets ----------------------------------------------------------------------------------------------


def test_eda() -> None:
    pipe = DiffusionPipeline.from_pretrained(asset("generator"))
    pipe.set_progress_bar_config(disable=True)
    teacher = prismkd.load_teacher("pictograms", classes="pictograms")
    small = prismkd.GuidanceConfig(num_calibration_images=12)
    settings = {"num_inference_steps": 4, "guidance_scale": 3.0}

    eda = prismkd.EDA(pipe, teacher, guidance=small)
    images = eda(["an icon of a bell", "an icon of a cat"], labels=[1, 3], seeds=[0, 1], **settings)

    assert images.shape == (2, 3, 64, 64) and images.dtype == torch.float32 and images.device.type == "cpu"
    assert 0 <= images.min() < images.max() <= 1
    assert eda.calibration is not None and len(eda.calibration.energy_target) == NUM_CLASSES
    assert eda.last is not None and eda.last.num_edits.shape == (2,) and eda.last.num_band_steps >= 1
    assert eda.energies(images).shape == (2,)


def test_plan() -> None:
    plan = prismkd.plan("imagenet-1k", domains=["photo", "sketch"], seed=0)
    prompt = plan[10_000_000]
    assert prompt.label == 0 and prompt.class_name == "tench" and "tench" in prompt.text
    assert plan[134].class_name == "crane bird"  # of labels=[134]
    assert prismkd.plan("imagenet-1k", template="a photo of a {name}", seed=0)[134].text == "a photo of a crane bird"
    styles = {plan[i].style.split()[0] for i in range(0, 50_000, 1000)}
    assert styles == {"photo", "sketch"}


def test_distill() -> None:
    teacher = prismkd.load_teacher("pictograms", classes="pictograms")
    images, labels = torch.rand(8, 3, 64, 64), torch.arange(8)
    student = prismkd.distill(teacher, images, labels, student="resnet18", num_steps=2, batch_size=4)
    assert isinstance(student, prismkd.Classifier) and not student.training
    assert student(images).shape == (8, NUM_CLASSES) and student.num_classes == NUM_CLASSES
    assert [row["step"] for row in student.log.rows] == [1, 2]


def test_evaluate(tmp_path: Path) -> None:
    student = prismkd.load_teacher("pictograms", classes="pictograms")
    names = [prismkd.plan("pictograms")[label].class_name for label in range(NUM_CLASSES)]
    labels = ClassLabels([[name] for name in names])
    found = load_labeled_images(asset("test.parquet"), labels).domain("id").subset(np.arange(0, 1920, 32))
    for number, (image, label) in enumerate(zip(found.images, found.labels.tolist(), strict=True)):
        folder = tmp_path / "test" / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).mul(255).round().byte().numpy()).save(folder / f"{number}.png")

    score = prismkd.evaluate(student, tmp_path / "test", classes="pictograms")

    top1 = score["id"]["top1"]
    assert top1.n == 60 and top1.ci95 is not None and top1.ci95[0] <= top1.value <= top1.ci95[1]
    assert top1.value == (student(found.images).argmax(1) == found.labels).double().mean().item()
    assert set(score["id"]) >= {"top1", "top5", "ece"} and "agreement" not in score["id"]
    assert str(score).splitlines()[1].split()[:3] == ["id", "60", f"{top1.value:.3f}"]
    assert json.loads(json.dumps(score.to_dict()))["id"]["top1"]["value"] == top1.value


def test_metrics() -> None:
    real_features, fake_features = torch.randn(40, 8), torch.randn(30, 8)
    found = prismkd.metrics.prdc(real_features, fake_features, k=5)
    assert found == prismkd.metrics.prdc(real_features.numpy(), fake_features.numpy(), k=5)
    assert 0 <= found.precision <= 1 and 0 <= found.recall <= 1


# --- the public names -----------------------------------------------------------------------------------------------


def test_importing_imports_nothing_heavy_and_planning_needs_no_torch() -> None:
    code = "import sys, prismkd; print(sorted(n for n in ('torch', 'numpy', 'diffusers', 'timm') if n in sys.modules))"
    assert run_python(code) == "[]"
    code = (
        "import sys, prismkd; prismkd.plan('pacs')[7]; prismkd.Config(); prismkd.metrics; print('torch' in sys.modules)"
    )
    assert run_python(code) == "False"


def test_every_public_name_is_there_and_listed() -> None:
    for name in prismkd.__all__:
        if name == "Session" and importlib.util.find_spec("prismkd.runs.session") is None:
            continue
        assert getattr(prismkd, name) is not None
        assert name in dir(prismkd)
    assert set(prismkd.__all__) == {*prismkd._MODULES, "UserError", "__version__"}
    with pytest.raises(AttributeError, match="module 'prismkd' has no attribute 'distil'"):
        print(prismkd.distil)


def test_type_checkers_see_what_python_sees() -> None:
    tree = ast.parse(Path(prismkd.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == prismkd._MODULES


def test_no_public_name_is_shadowed_by_a_package() -> None:
    """``import prismkd.x`` sets the attribute x of prismkd, whatever it was."""
    packages = {module.name for module in pkgutil.iter_modules(prismkd.__path__)}
    assert packages & set(prismkd.__all__) == {"metrics"}  # which is meant
    assert prismkd.run.__name__ == "run" and prismkd.plan.__name__ == "plan"


def test_the_rest_of_the_names_by_their_first_argument(tmp_path: Path) -> None:
    assert prismkd.load_generator("pictograms").num_channels == 3
    names = [item.class_name for item in prismkd.plan("pictograms").subjects]
    first, second = (prismkd.load_teacher("pictograms", classes) for classes in ("pictograms", names))
    assert torch.equal(first(torch.zeros(1, 3, 64, 64)), second(torch.zeros(1, 3, 64, 64)))
    with pytest.raises(prismkd.UserError, match=f"expected a class list with {NUM_CLASSES} names"):
        prismkd.load_teacher("pictograms", "pacs")


# --- the examples ---------------------------------------------------------------------------------------------------

SMALL = {
    "plan_prompts": ["pacs", "photo", "sketch"],
    "guide_your_pipeline": [".", "--images", "2", "--calibration", "8"],
    "distill_student": [".", "--steps", "3"],
    "evaluate_student": [],
    "own_teacher": [".", "--images", "1", "--steps", "2"],
    "compare_images": [],
}


@pytest.mark.parametrize("name", SMALL)
def test_examples_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *SMALL[name]])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert capsys.readouterr().out.count("\n") >= 1


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short_and_say_how_they_are_used(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) < 50
    assert f"Usage: python examples/{path.name}" in text or f"python examples/{path.name}" in text.split("Usage:")[1]
    assert path.stem in {*SMALL, "imagenet_teacher"}
