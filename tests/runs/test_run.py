"""The whole path on the embedded world, as small as it gets."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from prismkd.classes import load_classes
from prismkd.cli import main
from prismkd.prompts import PromptPlan
from prismkd.shards import read_samples, verify

TINY = """
classes = "pictograms-24"
methods = ["real", "plain", "more", "eda", "dpe", "prism"]
[prompts]
num_probes = 1
num_content_probes = 0
[generator]
num_inference_steps = 4
[guidance]
num_calibration_images = 24
num_views = 1
[synthesis]
images_per_class = 1
shard_size = 16
[distillation]
architecture = "small-resnet-4"
num_steps = 4
batch_size = 8
[evaluation]
cas = true
"""


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, few_icons: Path) -> Iterator[Path]:
    """A run of every method, with its settings beside it; to be read only."""
    folder = tmp_path_factory.mktemp("run")
    icons = f'source = "{few_icons / "test.parquet"}"\nreal = "{few_icons / "real.parquet"}"\n'
    (folder / "tiny.toml").write_text(TINY + icons)
    assert main(["run", "--config", str(folder / "tiny.toml"), "--out", str(folder / "out")]) == 0
    before = digests(folder / "out")
    yield folder / "out"
    assert digests(folder / "out") == before, "a test has changed the run that all of them share"


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be changed."""
    return shutil.copytree(finished, tmp_path / "copied")


def digests(folder: Path) -> dict[str, str]:
    """All files but the records of seconds, and of who holds the lock."""
    timed = ("ledger", ".locks")
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.suffix in (".tar", ".json") and path.parent.name not in timed
    }


def test_metrics_have_the_published_schema(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["schema"] == 1
    methods = {"teacher", "real", "plain", "more", "eda", "dpe", "prism", "real-vs-real"}
    assert {row["method"] for row in metrics["results"]} == methods
    assert {"id", "outline", "duotone", "color", "pixel", "sketch", "recolored", "images"} == {
        r["domain"] for r in metrics["results"]
    }
    wanted = {"top1", "top5", "cas", "agreement", "ece", "vanished_classes", "precision", "recall", "density",
              "coverage", "sym_precision", "sym_recall", "class_recall", "fd", "kid", "vendi"}  # fmt: skip
    assert wanted <= {row["metric"] for row in metrics["results"]}
    for row in metrics["results"]:
        assert set(row) == {"method", "seed", "domain", "metric", "value", "n", "ci95"}
        assert row["ci95"] is None or row["ci95"][0] <= row["value"] <= row["ci95"][1]


def test_the_teacher_agrees_with_itself(finished: Path) -> None:
    rows = json.loads((finished / "metrics.json").read_text())["results"]
    values = [r["value"] for r in rows if r["method"] == "teacher" and r["metric"] == "agreement"]
    assert set(values) == {1.0}


def test_guided_images_differ_from_plain_ones_with_the_same_seeds(finished: Path) -> None:
    seeds = {}
    for method in ("plain", "eda"):
        examples = json.loads((finished / "seed-0" / method / "prompts.json").read_text())["examples"]
        seeds[method] = [row["seed"] for row in examples]
    assert seeds["plain"] == seeds["eda"]
    tars = [(finished / "seed-0" / m / "images" / "shard-000000.tar").read_bytes() for m in ("plain", "eda")]
    assert tars[0] != tars[1]


def test_the_same_command_again_changes_nothing(finished: Path, copied: Path) -> None:
    before = digests(copied)
    assert main(["run", "--config", str(finished.parent / "tiny.toml"), "--out", str(copied)]) == 0
    assert digests(copied) == before


def test_the_folder_alone_goes_on_with_its_own_settings(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = digests(copied)
    assert main(["run", "--out", str(copied)]) == 0
    assert digests(copied) == before
    capsys.readouterr()
    assert main(["distill", "--out", str(copied), "--guidance.num-views", "2"]) == 2
    assert "another guidance.num_views;" in capsys.readouterr().err


def test_two_processes_train_one_student_also_without_a_gpu(copied: Path) -> None:
    (copied / "seed-0" / "plain" / "student" / "log.json").unlink()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*launcher, "-m", "prismkd", "distill", "--out", str(copied)], env=environment,
                          capture_output=True, text=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert (done.stdout + done.stderr).count("student plain (seed 0): begins (4 to do)") == 1
    assert (copied / "seed-0" / "plain" / "student" / "log.json").is_file()


@pytest.mark.parametrize("command", ["distill", "repair"])
def test_a_run_that_trusted_a_program_does_not_make_the_next_user_trust_it(
    command: str, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((copied / "run.json").read_text())
    record["config"] |= {"teacher": f"torchscript:{tmp_path / 'program.pt'}", "trust": True}
    (copied / "run.json").write_text(json.dumps(record))
    (copied / "seed-0" / "plain" / "student" / "log.json").unlink()
    for name in ("shard-000001.tar", "ledger/shard-000001.json"):
        (copied / "seed-0" / "eda" / "images" / name).unlink()
    assert main([command, "--out", str(copied)]) == 2
    assert "expected --trust for" in capsys.readouterr().err
    assert main([command, "--out", str(copied), "--trust"]) == 2
    assert "got no program" in capsys.readouterr().err


def test_what_a_killed_training_has_left_beside_a_finished_student_is_deleted(copied: Path) -> None:
    folder = copied / "seed-0" / "plain"
    before = {path.name for path in (folder / "student").iterdir()}
    for name in ("student/checkpoint.pt", "student/training.json", "cache-16-0123456789ab.bin"):
        (folder / name).write_bytes(b"")
    remains = [path.name for path in folder.iterdir()]
    assert main(["distill", "--out", str(copied)]) == 0
    assert {path.name for path in (folder / "student").iterdir()} == before
    assert {path.name for path in folder.iterdir()} == set(remains) - {"cache-16-0123456789ab.bin"}


def test_a_lost_shard_is_drawn_again_bit_for_bit(finished: Path, copied: Path) -> None:
    images = copied / "seed-0" / "prism" / "images"
    before = digests(images)
    for name in ("shard-000001.tar", "ledger/shard-000001.json"):
        (images / name).unlink()
    assert main(["synthesize", "--config", str(finished.parent / "tiny.toml"), "--out", str(copied)]) == 0
    assert digests(images) == before


def test_another_configuration_is_refused(
    finished: Path, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "other.toml"
    config.write_text((finished.parent / "tiny.toml").read_text().replace("num_views = 1", "num_views = 2"))
    assert main(["run", "--config", str(config), "--out", str(copied)]) == 2
    assert "another guidance.num_views" in capsys.readouterr().err


def test_a_damaged_shard_stops_the_training(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tar = copied / "seed-0" / "plain" / "images" / "shard-000000.tar"
    (copied / "seed-0" / "plain" / "student" / "log.json").unlink()
    tar.write_bytes(tar.read_bytes()[:-2000])
    assert main(["distill", "--out", str(copied)]) == 2
    assert "shard-000000.tar" in capsys.readouterr().err


def test_stages_in_the_wrong_order_say_what_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synthesize", "--out", str(tmp_path / "run")]) == 2
    assert "or stage by stage with `prismkd prompts`" in capsys.readouterr().err


def test_the_survival_test_writes_its_rows_and_prints_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    enough = ["--generator.num-inference-steps", "8", "--guidance.strength", "1.6"]  # for a sure sign on few images
    arguments = ["--config", str(tmp_path / "tiny.toml"), "--out", str(tmp_path / "out"), *enough]
    assert main(["survival", *arguments]) == 0
    found = json.loads((tmp_path / "out" / "survival.json").read_text())
    assert {(row["variant"], row["treatment"], row["viewer"]) for row in found["rows"]} == {
        (variant, treatment, viewer)
        for variant in ("unguided", "guided", "ascending")
        for treatment in ("none", "resize", "jpeg", "re-encode", "all")
        for viewer in ("teacher", "judge")
    }
    gain = {(row["treatment"], row["viewer"]): row["label_gain"] for row in found["guided"]}
    control = {(row["treatment"], row["viewer"]): row["label_gain"] for row in found["ascending"]}
    assert gain["none", "teacher"] > 0 > control["none", "teacher"]
    assert "negative control" in capsys.readouterr().out


def test_strength_zero_has_nothing_to_survive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["survival", "--out", str(tmp_path / "out"), "--guidance.strength", "0"]) == 2
    assert "expected guidance to test" in capsys.readouterr().err


def test_senses_are_a_command_with_a_table_and_probes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    assert main(["senses", "--config", str(tmp_path / "tiny.toml"), "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "senses.json").read_text())
    assert found["images"] == 48 and len(found["senses"]) == 24
    assert all(wording["score"] for sense in found["senses"] for wording in sense["wordings"])
    assert verify(tmp_path / "out" / "probes" / "senses") == 48
    assert "lightning" in capsys.readouterr().out


def test_after_a_pilot_coverage_decides_and_a_resumed_run_equals_the_uninterrupted_one(tmp_path: Path) -> None:
    prompts = "num_probes = 0\npilot_share = 0.5"
    config = TINY.replace("num_probes = 1", prompts).replace("images_per_class = 1", "images_per_class = 2")
    (tmp_path / "tiny.toml").write_text(config)
    out = tmp_path / "out"
    command = ["synthesize", "--config", str(tmp_path / "tiny.toml"), "--out", str(out), "--methods", "dpe"]
    assert main(["prompts", *command[1:]]) == 0
    assert main(command) == 0
    folder = tmp_path / "out" / "seed-0" / "dpe"
    found = json.loads((folder / "allocation.json").read_text())
    assert found["pilot"] == 24 and len(found["class_shares"]) == 24
    samples = list(read_samples(folder / "images"))
    plan = PromptPlan.from_dict(json.loads((folder / "prompts.json").read_text())["plan"])
    plan = plan.allocated(24, found["class_shares"], found["style_factors"])
    assert [(s.index, s.label, s.metadata["prompt"]) for s in samples] == [
        (i, plan[i].label, plan[i].text) for i in range(48)
    ]
    before = digests(folder / "images")
    assert len([name for name in before if name.endswith(".tar")]) == 4  # a shard ends with the pilot: 16, 8, 16, 8
    (folder / "allocation.json").unlink()
    for name in ("shard-000003.tar", "ledger/shard-000003.json"):
        (folder / "images" / name).unlink()
    assert main(command) == 0
    assert digests(folder / "images") == before
    again = json.loads((folder / "allocation.json").read_text())
    assert again | {"seconds": 0} == found | {"seconds": 0}


def test_a_dead_language_model_is_a_warning_and_the_built_in_contents_serve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TINY.replace("num_probes = 1", "num_probes = 0")
    config += '[prompts.language_model]\nurl = "http://127.0.0.1:9/v1"\nmodel = "none"\nmax_tries = 1\n'
    (tmp_path / "tiny.toml").write_text(config)
    arguments = ["--config", str(tmp_path / "tiny.toml"), "--out", str(tmp_path / "out"), "--methods", "dpe"]
    assert main(["prompts", *arguments]) == 0
    shown = capsys.readouterr().err
    assert "24 class names leave this machine, nothing else" in shown
    assert "no connection to the server; the built-in contents serve" in shown
    assert len(json.loads((tmp_path / "out" / "contents.json").read_text())["contents"]) == 24


def test_a_changed_class_list_does_not_meet_old_senses(
    few_icons: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = [asdict(item) for item in load_classes("pictograms-24")]
    path = tmp_path / "classes.json"
    path.write_text(json.dumps(classes))
    unjudged = ["--prompts.num-probes", "0", "--prompts.num-content-probes", "0"]
    arguments = ["--classes", str(path), "--out", str(tmp_path / "out"), *unjudged,
                 "--evaluation.source", str(few_icons / "test.parquet")]  # fmt: skip
    assert main(["prompts", *arguments]) == 0
    classes[0]["definition"] = "a doorbell"
    path.write_text(json.dumps(classes))
    assert main(["prompts", *arguments]) == 2
    assert "content of the class list" in capsys.readouterr().err


def test_a_run_killed_between_the_probes_goes_on_with_the_same_candidates(tmp_path: Path) -> None:
    config = TINY.replace("num_content_probes = 0", "num_content_probes = 1")
    config = config.replace("num_inference_steps = 4", "num_inference_steps = 2")
    (tmp_path / "tiny.toml").write_text(config)
    out = tmp_path / "out"
    command = ["prompts", "--config", str(tmp_path / "tiny.toml"), "--out", str(out), "--methods", "dpe"]
    assert main(command) == 0
    assert verify(out / "probes" / "contents") == json.loads((out / "contents.json").read_text())["images"] > 24
    before = digests(out / "probes") | digests(out / "seed-0")
    for name in ("senses.json", "probes/senses/shard-000001.tar", "probes/senses/ledger/shard-000001.json",
                 "contents.json", "probes/contents/shard-000001.tar", "probes/contents/ledger/shard-000001.json",
                 "seed-0/dpe/prompts.json"):  # fmt: skip
        (out / name).unlink()
    assert main(command) == 0
    assert digests(out / "probes") | digests(out / "seed-0") == before
