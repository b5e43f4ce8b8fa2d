"""Methods in rounds: a student of the images so far takes part in drawing the next ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import prismkd
from prismkd import Session
from prismkd.classifiers.networks import SmallResNet
from prismkd.cli import main
from prismkd.commands.estimate import Amounts
from prismkd.config.load import check_methods, load_config
from prismkd.errors import UserError
from prismkd.records.digests import student_digest
from prismkd.records.results import load_run
from prismkd.report.tables import rounds_table
from prismkd.runs.run import Run
from prismkd.shards import read_samples, scan

SETTINGS = """
classes = "CLASSES"
teacher = "pictograms"
methods = ["prism", "prism-rounds"]
prompts = {num_probes = 0, num_content_probes = 0, id_share = 0.5}
generator = {num_inference_steps = 4}
guidance = {domains = "own", energy = "conditional", num_calibration_images = 24, num_views = 1}
rounds = {num_rounds = 3, guide_term = "divergence", guide_weight = 3.0}
synthesis = {images_per_class = 3, shard_size = 3}
distillation = {architecture = "small-resnet-4", num_steps = 6, batch_size = 8, hard_label_weight = 0.5}
evaluation = {num_held_out = 4}
"""
PER_ROUND = 4  # images, of as many classes


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("settings")
    (folder / "classes.txt").write_text("bell\nkey\nmouse\nstar\n")
    (folder / "rounds.toml").write_text(SETTINGS.replace("CLASSES", str(folder / "classes.txt")))
    return folder / "rounds.toml"


@pytest.fixture(scope="module")
def run(settings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose images are drawn."""
    out = tmp_path_factory.mktemp("runs") / "rounds"
    for command in ("prompts", "synthesize"):
        assert main([command, "--config", str(settings), "--out", str(out)]) == 0
    return out


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run, tmp_path / "copied")


def dataset(run: Path, method: str = "prism-rounds") -> Path:
    return run / "seed-0" / method


def digests(run: Path, method: str = "prism-rounds") -> dict[int, str]:
    return {shard: record.sha256 for shard, record in scan(dataset(run, method) / "images").records.items()}


def forget(run: Path, rounds: int, *, keep: int = 0) -> None:
    """Take away what came behind the images of the first rounds, but for ``keep`` shards of the next."""
    images = dataset(run) / "images"
    for path in (*images.glob("*.tar"), *images.glob("ledger/*.json")):
        if int(path.stem.partition("-")[2].partition(".")[0]) >= 2 * rounds + keep:
            path.unlink()
    for path in (dataset(run) / "rounds").iterdir():
        if int(path.name) >= rounds + bool(keep):
            shutil.rmtree(path)


def test_each_round_but_the_last_leaves_a_guide_of_the_images_so_far(run: Path) -> None:
    folders = sorted((dataset(run) / "rounds").iterdir())
    assert [folder.name for folder in folders] == ["1", "2"]
    records = [json.loads((folder / "round.json").read_text()) for folder in folders]
    assert [record["num_images"] for record in records] == [PER_ROUND, 2 * PER_ROUND]
    assert [record["digest"] for record in records] == [student_digest(folder) for folder in folders]
    assert not list((dataset(run) / "rounds").rglob("checkpoint*"))
    identity = json.loads((dataset(run) / "images" / "dataset.json").read_text())["identity"]
    assert identity["rounds"]["ends"] == [4, 8] and identity["rounds"]["recipe"]["num_steps"] == 6
    seconds = json.loads((dataset(run) / "synthesis.json").read_text())["seconds"]
    assert seconds > sum(record["seconds"] for record in records)


def test_the_report_shows_the_guides(run: Path) -> None:
    table = rounds_table(load_run(run, finished=False))
    assert table is not None
    assert [row.label for row in table.rows] == [f"PRISM in rounds, seed 0, after round {number}" for number in (1, 2)]
    assert [row.cells[0].text for row in table.rows] == ["4", "8"]


def test_a_dry_run_counts_the_guides(settings: Path) -> None:
    run = Run(load_config(settings), directory=settings.parent / "planned", is_claimed=False)
    # Of 6 steps each, 2 after a third of the images and 4 after two thirds
    assert Amounts.of(run).guide_steps == 6


def test_the_guide_acts_on_guided_images_behind_the_first_round_alone(run: Path) -> None:
    ours, plain = (
        {sample.index: sample for sample in read_samples(dataset(run, method) / "images")}
        for method in ("prism-rounds", "prism")
    )
    for index, sample in ours.items():
        # Shards end elsewhere, and batches of other sizes round otherwise
        is_same = np.abs(sample.image.astype(float) - plain[index].image).mean() < 0.5
        assert is_same == (index < PER_ROUND or sample.metadata["style"] != "filled"), index
        assert sample.metadata["prompt"] == plain[index].metadata["prompt"]


@pytest.mark.parametrize(("rounds", "keep"), [(0, 0), (1, 0), (1, 1), (2, 1)])
def test_a_run_that_was_stopped_anywhere_draws_the_same_bytes(run: Path, copied: Path, rounds: int, keep: int) -> None:
    forget(copied, rounds, keep=keep)
    assert len(digests(copied)) == 2 * rounds + keep
    assert main(["synthesize", "--out", str(copied)]) == 0
    assert digests(copied) == digests(run)


def test_a_guide_that_was_stopped_goes_on_to_the_same_bytes(
    run: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(copied, 1)
    monkeypatch.setattr("prismkd.distillation.loop.CHECKPOINT_EVERY", 1)
    steps = iter(range(1))

    def stop(self: object, *args: object) -> None:
        if next(steps, None) is None:
            raise UserError("stopped")
        return own(self, *args)

    own = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", stop)
    assert main(["synthesize", "--out", str(copied)]) == 2
    assert list((dataset(copied) / "rounds" / "1").glob("checkpoint-*.pt"))
    monkeypatch.setattr(torch.optim.AdamW, "step", own)
    assert main(["synthesize", "--out", str(copied)]) == 0
    assert digests(copied) == digests(run)


def test_several_workers_draw_the_same(run: Path, copied: Path) -> None:
    forget(copied, 2, keep=1)
    assert main(["synthesize", "--out", str(copied), "--synthesis.num-workers", "2"]) == 0
    assert digests(copied) == digests(run)


def test_another_guide_is_refused_before_anything_is_drawn(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    forget(copied, 1, keep=1)
    weights = dataset(copied) / "rounds" / "1" / "model.safetensors"
    other = bytearray(weights.read_bytes())
    other[-1] ^= 1
    weights.write_bytes(other)
    before = digests(copied)
    assert main(["synthesize", "--out", str(copied)]) == 2
    assert "as it was trained, got other files" in capsys.readouterr().err
    assert digests(copied) == before


def test_a_lost_guide_of_later_images_is_missed_and_one_of_other_images_is_trained_anew(
    run: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forget(copied, 1, keep=1)
    record = dataset(copied) / "rounds" / "1" / "round.json"
    whole = record.read_text()
    record.write_text(json.dumps({**json.loads(whole), "plan_hash": "of another plan"}))
    assert main(["synthesize", "--out", str(copied)]) == 2
    assert "expected the guide in" in capsys.readouterr().err
    forget(copied, 1)
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({**json.loads(whole), "plan_hash": "of another plan"}))
    assert main(["synthesize", "--out", str(copied)]) == 0
    assert digests(copied) == digests(run)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("batch_size", -1, "distillation.batch_size"), ("temperature", "hot", "distillation.temperature")],
)
def test_a_recipe_that_no_guide_can_have_is_refused(
    copied: Path, name: str, value: object, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    forget(copied, 0)
    path = dataset(copied) / "images" / "dataset.json"
    manifest = json.loads(path.read_text())
    manifest["identity"]["rounds"]["recipe"][name] = value
    path.write_text(json.dumps(manifest))
    assert main(["synthesize", "--out", str(copied)]) == 2
    error = capsys.readouterr().err
    assert message in error and "in the guides' recipe of" in error


def test_two_ranks_draw_the_same(run: Path, copied: Path) -> None:
    forget(copied, 0)
    command = [sys.executable, "-m", "prismkd", "synthesize", "--out", str(copied), "--world", "2", "--rank"]
    ranks = [subprocess.Popen([*command, str(rank)]) for rank in range(2)]
    assert [rank.wait() for rank in ranks] == [0, 0]
    assert digests(copied) == digests(run)


def test_a_student_of_the_users_own_is_refused(settings: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a student by name for methods in rounds"):
        prismkd.run(load_config(settings), tmp_path / "out", student=lambda: SmallResNet(4, 4, 3))


def test_rounds_may_be_chosen_when_a_method_in_rounds_is_added(settings: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "before.toml", tmp_path / "out"
    before = settings.read_text().replace(', "prism-rounds"', "")
    path.write_text(before.replace("num_rounds = 3", "num_rounds = 2"))
    assert main(["plan", "--config", str(path), "--out", str(out)]) == 0
    added = ["--methods", "prism", "prism-rounds", "--rounds.num-rounds", "3"]
    assert main(["plan", "--out", str(out), *added]) == 0
    assert main(["plan", "--out", str(out), *added[:3], "--rounds.num-rounds", "2"]) == 2


def test_students_may_have_another_recipe_and_the_images_stay(run: Path, copied: Path) -> None:
    forget(copied, 1)  # a guide that is still to be trained has the recipe of the beginning, too
    changed = ["--distillation.num-steps", "9", "--distillation.image-size", "32"]
    assert main(["synthesize", "--out", str(copied), *changed]) == 0
    assert digests(copied) == digests(run)


def test_more_images_are_of_the_last_round(copied: Path) -> None:
    before = digests(copied)
    assert main(["synthesize", "--out", str(copied), "--synthesis.images-per-class", "4"]) == 0
    after = digests(copied)
    assert len(after) > len(before) and {shard: after[shard] for shard in before} == before
    assert len(list((dataset(copied) / "rounds").iterdir())) == 2


@pytest.mark.parametrize(
    ("settings_of", "message"),
    [({"rounds.guide-weight": "2"}, "rounds.guide_weight"), ({"rounds.num-rounds": "2"}, "rounds.num_rounds")],
)
def test_other_rounds_are_refused_once_there_are_images(
    copied: Path, settings_of: dict[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [part for name, value in settings_of.items() for part in (f"--{name}", value)]
    assert main(["synthesize", "--out", str(copied), *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("images_per_class = 2", "expected an image per class in each of 3 rounds, got 2"),
        ("[prompts]\npilot_share = 0.5", "expected prompts.pilot_share 0 beside methods in rounds, got 0.5"),
    ],
)
def test_settings_that_leave_no_rounds_are_refused(tmp_path: Path, changed: str, message: str) -> None:
    path = tmp_path / "refused.toml"
    text = 'methods = ["prism-rounds"]\n'
    path.write_text(text + ("[rounds]\nnum_rounds = 3\n[synthesis]\n" if "per_class" in changed else "") + changed)
    with pytest.raises(UserError, match=message):
        check_methods(load_config(path))


def test_the_guide_decides_which_classes_styles_and_contents_come_next(settings: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "allocate.toml", tmp_path / "allocate"
    path.write_text(settings.read_text().replace("guide_weight = 3.0", "guide_weight = 0.0, allocate = true"))
    for command in ("prompts", "synthesize"):
        assert main([command, "--config", str(path), "--out", str(out)]) == 0
    record = json.loads((dataset(out) / "rounds" / "1" / "round.json").read_text())
    assert sum(record["class_shares"]) == pytest.approx(1) and record["disagreement"] > 0
    assert len(set(record["class_shares"])) > 1 and len(set(record["content_factors"].values())) > 1
    samples = list(read_samples(dataset(out) / "images"))
    assert set(Counter(sample.label for sample in samples[:PER_ROUND]).values()) == {1}
    decided = [sample.metadata["prompt"] for sample in samples[PER_ROUND:]]
    even = [sample.metadata["prompt"] for sample in read_samples(dataset(out, "prism") / "images")][PER_ROUND:]
    assert decided != even


def test_in_memory_rounds_are_refused(settings: Path) -> None:
    with pytest.raises(UserError, match="expected a method without rounds in memory, got prism-rounds"):
        Session(load_config(settings)).draw("prism-rounds", 4)
