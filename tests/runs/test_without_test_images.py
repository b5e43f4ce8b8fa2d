"""A teacher of one's own, its class list and nothing else: all stages and commands, up to a delivered student."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from prismkd.classifiers import load_classifier, save_classifier
from prismkd.classifiers.networks import new_network
from prismkd.cli import main
from prismkd.config import Config, EvaluationConfig, GeneratorConfig
from prismkd.config.load import load_config
from prismkd.errors import UserError
from prismkd.generators import load_generator
from prismkd.metrics.hits import unpack_hits
from prismkd.prompts import PromptPlan
from prismkd.records.directory import HELD_OUT
from prismkd.runs import session as session_module
from prismkd.runs.api import run
from prismkd.runs.session import Session
from prismkd.shards import read_samples, to_array, verify
from tests.delivery.small_run import write_test
from tests.generators.tiny_pipelines import build

NAMES = ["bell", "crane", "mouse", "umbrella"]
NUM_HELD_OUT = 10
TINY = """
methods = ["plain", "dpe"]
[prompts]
num_probes = 0
num_content_probes = 0
[generator]
num_inference_steps = 2
batch_size = 8
[guidance]
num_calibration_images = 8
num_views = 1
[synthesis]
images_per_class = 2
shard_size = 6
[distillation]
architecture = "small-resnet-4"
num_steps = 3
batch_size = 4
[evaluation]
num_held_out = 10
"""


def forbidden(name: str) -> Path:
    raise AssertionError(f"{name} of the embedded world was opened")


@pytest.fixture(autouse=True, scope="module")
def nothing_embedded() -> Iterator[None]:
    """Neither test nor real images, nor teacher or judge of the embedded world; its generator draws."""
    from prismkd.classifiers import sources

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_module, "asset", forbidden)
        patch.setattr(sources, "asset", forbidden)
        yield


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Flags of a run that has a teacher and a class list."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "names.txt").write_text("\n".join(NAMES))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        teacher = new_network("small-resnet-4", len(NAMES), in_channels=3).eval()
        generator = load_generator(GeneratorConfig(num_inference_steps=2, device="cpu"))
        logits = teacher(generator.sample(NAMES * 3, list(range(12))))
        teacher.head.bias -= logits.mean(0)  # so that it doesn't see one class everywhere
    save_classifier(folder / "teacher", teacher, {"architecture": "small-resnet-4", "num_classes": len(NAMES),
                                                  "in_channels": 3})  # fmt: skip
    (folder / "tiny.toml").write_text(TINY)
    return ["--config", str(folder / "tiny.toml"), "--teacher", str(folder / "teacher"),
            "--classes", str(folder / "names.txt")]  # fmt: skip


@pytest.fixture(scope="module")
def finished(own: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of every stage, each by its own command; to be read only."""
    out = tmp_path_factory.mktemp("finished") / "out"
    for stage in ("prompts", "plan", "synthesize", "distill", "evaluate", "report"):
        assert main([stage, *own, "--out", str(out)]) == 0, stage
    return out


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return shutil.copytree(finished, tmp_path / "copied")


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def tars(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.tar"))}


# --- what is measured ------------------------------------------------------------------------------------------------


def test_students_are_compared_with_the_teacher_and_nothing_is_called_accuracy(finished: Path) -> None:
    rows = read(finished / "metrics.json")["results"]
    found = {(row["method"], row["seed"], row["domain"], row["metric"]) for row in rows}
    of_students = {(method, 0, domain, "agreement") for method in ("plain", "dpe") for domain in HELD_OUT.values()}
    assert found == of_students | {("teacher", 0, domain, "prompted") for domain in HELD_OUT.values()}
    for row in rows:
        assert row["n"] == NUM_HELD_OUT
        assert 0 <= row["ci95"][0] <= row["value"] <= row["ci95"][1] <= 1 and row["ci95"][0] < row["ci95"][1]


def test_agreement_is_that_of_the_stored_images(finished: Path, own: list[str]) -> None:
    teacher, student = load_classifier(Path(own[3])), load_classifier(finished / "seed-0" / "dpe" / "student")
    details = read(finished / "seed-0" / "dpe" / "evaluation.json")["domains"]
    for kind, domain in HELD_OUT.items():
        images = torch.stack([torch.from_numpy(to_array(s)) for s in samples(finished, kind)])
        with torch.no_grad():
            taught, expected = teacher(images).argmax(1), teacher(images).argmax(1) == student(images).argmax(1)
        assert len(set(taught.tolist())) > 1, "the images are told apart"
        assert unpack_hits(details[domain]["hits"], NUM_HELD_OUT).tolist() == expected.int().tolist()


def samples(run_folder: Path, kind: str) -> list[Any]:
    return list(read_samples(run_folder / "held-out" / kind))


def test_the_run_records_that_it_has_neither_test_nor_real_images_nor_a_judge(finished: Path) -> None:
    evaluation = read(finished / "run.json")["config"]["evaluation"]
    assert [evaluation[name] for name in ("source", "real", "judge")] == ["", "", ""]
    assert main(["evaluate", "--out", str(finished)]) == 0, "the folder alone goes on"


# --- the held-out images ---------------------------------------------------------------------------------------------


def test_no_student_learns_from_a_held_out_prompt_or_noise(finished: Path) -> None:
    learned = [s for method in ("plain", "dpe") for s in read_samples(finished / "seed-0" / method / "images")]
    held_out = {kind: samples(finished, kind) for kind in HELD_OUT}
    for kind, own in held_out.items():
        assert len(own) == NUM_HELD_OUT
        assert sorted(Counter(s.label for s in own).values()) == [2, 2, 3, 3], "classes have as many, or one more"
        assert {s.index for s in own}.isdisjoint(s.index for s in learned)
        others = [s for other, rows in held_out.items() if other != kind for s in rows]
        assert {s.metadata["seed"] for s in own}.isdisjoint(s.metadata["seed"] for s in [*learned, *others])
        assert all(s.metadata["guided"] == 0 for s in own)
        assert verify(finished / "held-out" / kind) == NUM_HELD_OUT
    assert len({s.metadata["prompt"] for s in held_out["plain"]}) == len(NAMES)
    assert len({s.metadata["prompt"] for s in held_out["diverse"]}) > len(NAMES)
    plan = PromptPlan.from_dict(read(finished / "seed-0" / "dpe" / "prompts.json")["plan"])
    diverse = PromptPlan.from_dict(read(finished / "held-out" / "diverse.json")["plan"])
    assert diverse.subjects == plan.subjects, "the senses and contents that DPE has decided"


def test_few_images_of_many_classes_are_spread_over_the_list() -> None:
    config = Config(classes="imagenet-1k", teacher="none", evaluation=EvaluationConfig(num_held_out=8))
    found = Session(config)
    plan = found.held_out_plan("plain")
    assert plan is not None
    labels = [prompt.label for prompt in found.held_out_prompts(plan)]
    assert labels == [0, 125, 250, 375, 500, 625, 750, 875]


def test_a_generator_of_class_names_alone_draws_no_diverse_ones(own: list[str], tmp_path: Path) -> None:
    build("dit-DDIM")[0].save_pretrained(tmp_path / "dit")
    index = tmp_path / "dit" / "model_index.json"
    index.write_text(json.dumps(read(index) | {"id2label": {"0": "bell", "1": "cat", "2": "ship"}}))
    (tmp_path / "names.txt").write_text("bell\ncat\nship")
    teacher = new_network("small-resnet-4", 3, in_channels=3)
    save_classifier(tmp_path / "teacher", teacher, {"architecture": "small-resnet-4", "num_classes": 3})
    arguments = [*own[:2], "--teacher", str(tmp_path / "teacher"), "--classes", str(tmp_path / "names.txt"),
                 "--methods", "plain", "--generator.source", str(tmp_path / "dit"), "--prompts.template", "{name}",
                 "--out", str(tmp_path / "out")]  # fmt: skip
    assert main(["run", *arguments]) == 0
    rows = read(tmp_path / "out" / "metrics.json")["results"]
    assert {row["domain"] for row in rows} == {"synthetic plain"}
    assert read(tmp_path / "out" / "held-out" / "diverse.json") == {"plan": None}


def test_a_lost_shard_is_drawn_again_bit_for_bit_by_synthesis_and_by_evaluation(copied: Path, own: list[str]) -> None:
    before, metrics = tars(copied / "held-out"), read(copied / "metrics.json")["results"]
    for name in ("shard-000001.tar", "ledger/shard-000001.json"):
        (copied / "held-out" / "diverse" / name).unlink()
    assert main(["synthesize", "--out", str(copied)]) == 0
    assert tars(copied / "held-out") == before
    shutil.rmtree(copied / "held-out")
    (copied / "references.json").unlink()
    (copied / "seed-0" / "plain" / "evaluation.json").unlink()
    assert main(["evaluate", *own, "--out", str(copied)]) == 0
    assert tars(copied / "held-out") == before
    assert read(copied / "metrics.json")["results"] == metrics


def test_a_damaged_shard_is_found_and_repaired(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, path = tars(copied / "held-out"), copied / "held-out" / "plain" / "shard-000000.tar"
    path.write_bytes(path.read_bytes()[:600] + b"?" + path.read_bytes()[601:])
    assert main(["verify", "--out", str(copied)]) == 2
    assert "held-out/plain" in capsys.readouterr().out
    assert main(["repair", "--out", str(copied)]) == 0
    assert tars(copied / "held-out") == before
    assert main(["verify", "--out", str(copied)]) == 0


def test_images_are_not_measured_with_another_teacher(
    copied: Path, own: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Their records say what the former one saw in them."""
    record = read(copied / "run.json")
    shutil.copytree(Path(own[3]), copied / "other")
    state = new_network("small-resnet-4", len(NAMES), in_channels=3).state_dict()
    save_file(state, copied / "other" / "model.safetensors")
    record["config"]["teacher"] = str(copied / "other")
    (copied / "run.json").write_text(json.dumps(record))
    before = {kind: [s.metadata for s in samples(copied, kind)] for kind in HELD_OUT}
    for path in (copied / "references.json", *copied.glob("seed-0/*/evaluation.json")):
        path.unlink()
    assert main(["evaluate", "--out", str(copied)]) == 2
    assert f"in {copied / 'other'}; bring it back, or choose another --out" in capsys.readouterr().err
    assert {kind: [s.metadata for s in samples(copied, kind)] for kind in HELD_OUT} == before


def test_without_held_out_images_nothing_is_measured_and_that_is_said(
    own: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = [*own, "--methods", "plain", "--evaluation.num-held-out", "0", "--out", str(out)]
    assert main(["run", *arguments]) == 0
    assert "nothing was measured of the students" in capsys.readouterr().out
    assert read(out / "metrics.json")["results"] == [] and not (out / "held-out").exists()
    assert main(["export", "--out", str(out), "--method", "plain", "--to", "safetensors",
                 "--dest", str(tmp_path / "student")]) == 0  # fmt: skip
    assert "Not measured" in (tmp_path / "student" / "README.md").read_text()
    assert main(["compare", str(out), str(out)]) == 2
    assert "expected a run with test images or held-out synthetic ones" in capsys.readouterr().err


# --- commands on such a run ------------------------------------------------------------------------------------------


def test_evaluate_prints_agreement(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--out", str(finished)]) == 0
    shown = capsys.readouterr().out
    assert "Agreement with the teacher on held-out" in shown and "synthetic diverse" in shown and "Top-1" not in shown
    assert "the teacher sees the prompted class in" in shown


def test_a_student_is_delivered_and_predicts(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    picture = tmp_path / "picture.png"
    from PIL import Image

    Image.fromarray(samples(finished, "plain")[0].image).save(picture)
    folder = tmp_path / "student"
    assert main(["export", "--out", str(finished), "--method", "dpe", "--to", "student", "--dest", str(folder)]) == 0
    assert f"top-1 on {NUM_HELD_OUT} of {NUM_HELD_OUT} held-out synthetic images" in capsys.readouterr().out
    assert read(folder / "config.json")["input_size"] == 64, "of the images that it learned from"
    card = (folder / "README.md").read_text()
    assert "There were no test images" in card and f"| synthetic diverse | {NUM_HELD_OUT} |" in card
    assert "model-index" not in card
    assert main(["push-to-hub", str(folder), "--repo", "org/name"]) == 0
    capsys.readouterr()
    answers = []
    for student in ([str(folder)], [str(finished), "--method", "dpe"]):
        assert main(["predict", student[0], str(picture), *student[1:], "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1] and answers[0][0]["top"][0]["class"] in NAMES


def test_two_methods_are_compared_on_the_same_held_out_images(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(finished), "--methods", "plain", "dpe", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["measure"] == "agreement" and found["shifted"] is None
    assert {row["domain"]: row["num_images"] for row in found["domains"]} == dict.fromkeys(
        HELD_OUT.values(), NUM_HELD_OUT
    )
    assert main(["compare", str(finished), "--methods", "plain", "dpe"]) == 0
    assert "Agreement with the teacher on the same images" in capsys.readouterr().out


def test_runs_of_other_teachers_are_not_compared(copied: Path, finished: Path) -> None:
    """The images are the same, but to agree means another thing."""
    path = copied / "seed-0" / "dpe" / "evaluation.json"
    document = read(path)
    document["domains"]["synthetic plain"]["images"] = "seen otherwise"
    path.write_text(json.dumps(document))
    from prismkd.records.comparison import compare

    with pytest.raises(UserError, match="others of synthetic plain"):
        compare([finished, copied], ["dpe"])
    path.write_text((finished / "seed-0" / "dpe" / "evaluation.json").read_text())
    assert compare([finished, copied], ["dpe"]).measure == "agreement"


def test_the_survival_test_asks_the_teacher_alone(own: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["survival", *own, "--generator.num-inference-steps", "4", "--out", str(out)]) == 0
    assert {row["viewer"] for row in read(out / "survival.json")["rows"]} == {"teacher"}


def test_the_teacher_is_examined_and_the_cost_measured(own: list[str], finished: Path) -> None:
    assert main(["doctor", *own]) == 0
    assert main(["plan", *own, "--dry-run"]) == 0
    assert main(["status", "--out", str(finished)]) == 0


# --- from Python -----------------------------------------------------------------------------------------------------


def test_a_run_in_python_has_agreement_and_no_top1(finished: Path, own: list[str]) -> None:
    config = replace(load_config(Path(own[1])), teacher=own[3], classes=own[5])
    result = run(config, finished)
    assert result.top1 == {}
    assert set(result.agreement) == {"plain", "dpe"} and set(result.agreement["dpe"]) == set(HELD_OUT.values())
    assert result.student("dpe").num_classes == len(NAMES)


def test_a_session_measures_as_the_run_does(finished: Path, own: list[str]) -> None:
    session = Session(replace(load_config(Path(own[1])), teacher=own[3], classes=own[5]))
    assert session.config.evaluation.source == ""
    rows = session.evaluate(load_classifier(finished / "seed-0" / "plain" / "student"))
    expected = read(finished / "seed-0" / "plain" / "evaluation.json")["results"]
    assert [(row.domain, row.metric, round(row.value, 5)) for row in rows] == [
        (row["domain"], row["metric"], row["value"]) for row in expected
    ]
    without = replace(session.config, evaluation=EvaluationConfig(num_held_out=0))
    with pytest.raises(UserError, match=r"expected test images in evaluation\.source, or evaluation\.num_held_out"):
        Session(without).evaluate(session.teacher)


# --- real images, and a judge of features alone ----------------------------------------------------------------------


def test_a_headless_network_measures_images_also_without_real_ones(
    own: list[str], copied: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "judge.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), weights)
    judge = ["--evaluation.judge", f"timm:test_resnet@{weights}"]
    found = images_rows([*own, *judge], tmp_path / "alone")
    assert set(found) == {("plain", "teacher_agreement"), ("dpe", "teacher_agreement")}, "too few images for Vendi"
    real = ["--evaluation.real", str(write_test(tmp_path / "real.parquet", len(NAMES), 1))]
    domains = images_rows([*own, *judge, *real], tmp_path / "beside")
    assert {("plain", "precision"), ("dpe", "recall"), ("dpe", "fd"), ("real-vs-real", "recall")} <= set(domains)
    assert "judge_top1" not in {metric for _, metric in domains}


def images_rows(arguments: list[str], out: Path) -> dict[tuple[str, str], float]:
    assert main(["run", *arguments, "--evaluation.num-held-out", "0", "--out", str(out)]) == 0
    rows = read(out / "metrics.json")["results"]
    return {(row["method"], row["metric"]): row["value"] for row in rows if row["domain"] == "images"}


def test_the_method_real_works_without_test_images_and_needs_real_ones(
    own: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", *own, "--methods", "real", "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "expected evaluation.real for the method real, got none" in capsys.readouterr().err
    real = write_test(tmp_path / "real.parquet", len(NAMES), 1)
    assert main([*arguments, "--evaluation.real", str(real)]) == 0
    rows = read(tmp_path / "out" / "metrics.json")["results"]
    assert {(row["method"], row["metric"]) for row in rows} == {("real", "agreement"), ("teacher", "prompted")}


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--evaluation.shifted", "a=b"], "expected test images in evaluation.source for evaluation.shifted, got none"),
        (["--evaluation.id-domain", "photo"], "expected test images in evaluation.source for evaluation.id_domain"),
        (["--evaluation.cas"], "expected test images in evaluation.source for evaluation.cas, got none"),
        (["--evaluation.source", "pictograms"], "expected evaluation.source of your classes, got the embedded images"),
        (["--evaluation.real", "pictograms"], "expected evaluation.real of your classes, got the embedded images"),
        (["--distillation.real", "pictograms"], "expected distillation.real of your classes, got the embedded images"),
        (["--evaluation.judge", "nowhere"], "expected a file or folder for evaluation.judge, got nowhere"),
        (["--evaluation.num-held-out", "-1"], "expected a finite evaluation.num_held_out of at least 0, got -1"),
    ],
)
def test_what_needs_test_images_or_is_none_of_the_users_is_one_line(
    own: list[str], flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prompts", *own, *flags, "--out", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr().err
    assert message in shown and len(shown.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_an_empty_source_is_no_test_set_wherever_one_is(
    own: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The current folder has class folders of the run's classes, which nobody has named."""
    for name in NAMES:
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    assert main(["prompts", *own, "--evaluation.source", "", "--methods", "plain", "--out", str(out)]) == 0
    assert read(out / "run.json")["config"]["evaluation"]["source"] == ""
