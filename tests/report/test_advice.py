"""What holds a student back, and the command that follows from it: the larger part of its distance to the teacher."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from prismkd.cli import main
from prismkd.records.results import load_run
from prismkd.records.scores import SHIFTED
from prismkd.records.verdict import DomainComparison
from prismkd.report import write_report
from prismkd.report.advice import Standing, advice, advice_for, rounded
from prismkd.report.margins import Margin
from prismkd.report.training import Training, trainings_of
from tests.report.made import LOG, Page, make_run, row, without_test_images, write_json

GOOD = Standing(
    "runs/mine",
    num_steps=1000,
    num_images=1200,
    images_per_class=50,
    architecture="small-resnet-16",
    learning_rate=2e-3,
    on_training=0.97,
    on_new=0.93,
    new_images="test images of the original domain",
    last_fall=0.02,
)
SHORT = replace(GOOD, num_steps=100, on_training=0.55, on_new=0.45, last_fall=0.13)


def titles(standing: Standing) -> list[str]:
    return [item.title for item in advice_for(standing)]


def flags(standing: Standing) -> str:
    return " ".join(advice_for(standing)[0].command.replace("\\\n", "").split())


def test_a_student_of_a_hundred_steps_is_to_be_trained_longer() -> None:
    assert titles(SHORT) == ["Train longer"]
    assert "55% of the very images" in advice_for(SHORT)[0].text and "13% of its fall" in advice_for(SHORT)[0].text
    assert flags(SHORT) == "prismkd distill --out runs/mine --distillation.num-steps 400"


def test_a_student_whose_loss_has_leveled_off_is_too_small() -> None:
    small = replace(SHORT, last_fall=0.01)
    assert titles(small) == ["A larger student"]
    assert flags(small) == "prismkd distill --out runs/mine --distillation.architecture small-resnet-32"
    assert "--distillation.architecture small-resnet-32x2" in flags(replace(small, architecture="small-resnet-16x2"))
    of_timm = replace(small, architecture="resnet18")
    assert flags(of_timm) == "prismkd distill --out runs/mine --distillation.learning-rate 0.004"


def test_a_student_of_labels_is_measured_by_labels() -> None:
    taught = replace(GOOD, hard_label_weight=0.8, on_training=0.94, on_new=0.7, new_images="test images")
    assert titles(taught) == ["More images"]
    text = advice_for(taught)[0].text
    assert "gives the class of 94% of its own 1,200 training images and of 70% of the test images" in text
    assert "its images rather than its classes" in text
    short = replace(taught, on_training=0.6, on_new=0.55, last_fall=0.3)
    assert "It gives the class of only 60% of the very images" in advice_for(short)[0].text


def test_a_student_of_labels_that_is_past_its_teacher_is_not_held_back_by_it() -> None:
    wrong = (("id", 0.3, 0.2), (SHIFTED, 0.45, 0.58))
    taught = replace(GOOD, hard_label_weight=0.8, wrong=wrong)
    (held_back,) = [item for item in advice_for(taught) if item.title == "The teacher is the limit"]
    assert "80%" in held_back.text and "42%" not in held_back.text
    (both,) = [item for item in advice_for(replace(taught, hard_label_weight=0.3)) if item.title == held_back.title]
    assert "42%" in both.text


def test_a_loss_that_hardly_fell_asks_for_another_rate() -> None:
    stuck = replace(SHORT, last_fall=0.3, plateaued=True)
    assert titles(stuck) == ["It stopped learning early"]
    assert flags(stuck) == "prismkd distill --out runs/mine --distillation.learning-rate 0.0005"


def test_a_student_that_knows_its_own_images_alone_needs_more_of_them() -> None:
    narrow = replace(GOOD, on_new=0.8)
    assert titles(narrow) == ["More images"]
    assert "97% of its own 1,200 training images" in advice_for(narrow)[0].text
    assert flags(narrow) == "prismkd run --out runs/mine --synthesis.images-per-class 150"
    assert "more diverse ones" in advice_for(replace(narrow, method="plain"))[0].text
    assert "more diverse ones" not in advice_for(narrow)[0].text


@pytest.mark.parametrize(("on_training", "on_new", "title"), [
    (0.80, 0.75, "A larger student"), (0.80, 0.59, "More images"), (0.95, 0.88, "Nothing stands out"),
])  # fmt: skip
def test_the_larger_part_decides(on_training: float, on_new: float, title: str) -> None:
    assert titles(replace(GOOD, on_training=on_training, on_new=on_new)) == [title]


def test_a_falling_loss_alone_asks_for_more_steps() -> None:
    assert titles(replace(GOOD, last_fall=0.08)) == ["Train longer"]
    unknown = replace(GOOD, on_training=None, last_fall=0.08)
    assert flags(unknown) == "prismkd distill --out runs/mine --distillation.num-steps 2000"


def test_a_teacher_that_errs_as_often_is_the_limit() -> None:
    behind = replace(GOOD, wrong=(("id", 0.15, 0.11), (SHIFTED, 0.37, 0.31)))
    assert titles(behind) == ["The teacher is the limit"]
    found = advice_for(behind)[0]
    assert "reaches 69% on shifted domains" in found.text and "original domain" not in found.text
    assert flags(behind) == "prismkd distill --out runs/mine --distillation.hard-label-weight 0.5"
    assert advice_for(replace(behind, hard_label_weight=0.5))[0].command == ""
    assert titles(replace(behind, wrong=((SHIFTED, 0.7, 0.31),))) == ["Nothing stands out"]


def test_images_of_other_classes_are_named() -> None:
    found = advice_for(replace(GOOD, prompted=0.62))[0]
    assert found.title == "Images of other classes" and "only 62%" in found.text and "guidance.strength" in found.text
    assert "method prism or eda" in advice_for(replace(GOOD, prompted=0.62, method="dpe"))[0].text


def test_without_test_images_some_are_asked_for() -> None:
    blind = replace(GOOD, has_test=False, weak_classes=("bell", "bus"))
    assert titles(blind) == ["Give it test images", "Look at single classes"]
    assert flags(blind) == "prismkd run --out runs/mine --evaluation.source FOLDER"
    assert "bell, bus" in advice_for(blind)[1].text


def test_a_student_that_nothing_holds_back_may_leave() -> None:
    assert titles(GOOD) == ["Nothing stands out"]
    assert flags(GOOD) == "prismkd export --out runs/mine --to student --dest student"
    assert advice_for(Standing("runs/mine")) == []  # nothing is known of it


def test_more_seeds_are_those_that_the_run_lacks() -> None:
    row = DomainComparison("id", 81, 0.4, 0.486, 0.086, (-0.012, 0.185), 12, 5, 0.14, 0.14)
    open_ = replace(GOOD, undecided=(("id", Margin(0.086, row)),), seeds=(0, 2))
    assert flags(open_) == "prismkd run --out runs/mine --seeds 0 2 1 3"
    assert "+8.6 points on the original domain, \u22121.2 to +18.5, on 81 images, 2 seeds" in advice_for(open_)[0].text


@pytest.mark.parametrize(("count", "expected"), [(3, 3), (36, 35), (400, 400), (1480, 1500), (6000, 6000)])
def test_counts_are_rounded_to_what_one_would_type(count: float, expected: int) -> None:
    assert rounded(count) == expected


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([4.0] * 10 + [3.0] * 10 + [2.0] * 10 + [1.0] * 10, 1 / 3),
        ([5.0] * 10 + [1.0] * 30, 0.0),
        ([1.0] * 40, None),
        ([3.0, 2.0, 1.0], None),
    ],
)
def test_the_last_fall_is_a_share_of_the_whole_fall(curve: list[float], expected: float | None) -> None:
    found = Training("prism", 400, 30, tuple(curve), None, None).last_fall
    assert found == (None if expected is None else pytest.approx(expected))


def set_log(run: Path, **values: object) -> None:
    for path in run.glob("seed-*/*/student/log.json"):
        write_json(path, LOG | values)


def test_the_page_says_what_to_do_with_the_run_s_own_folder_and_settings(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a run")
    set_log(run, train_agreement=0.5, curve=[40.0 - part for part in range(40)])
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["results"].append(row("prism", 0, "id", "agreement", 0.4))
    write_json(run / "metrics.json", metrics)
    text = Page(write_report(run)).text
    assert "What to do next Train longer" in text
    assert f"prismkd distill --out '{run}' \\ --distillation.num-steps 1500" in text
    assert f"prismkd run --out '{run}' then measures the new students" in text


def test_the_commands_are_ones_that_the_command_line_knows(capsys: pytest.CaptureFixture[str]) -> None:
    """Against the help of each command: a setting that is renamed would be advised for ever."""
    states = [SHORT, replace(SHORT, last_fall=0.01), replace(SHORT, plateaued=True), replace(GOOD, on_new=0.8),
              replace(GOOD, wrong=((SHIFTED, 0.3, 0.3),)), replace(GOOD, has_test=False), GOOD]  # fmt: skip
    given = {tuple(flags(state).split()[1:]) for state in states}
    assert len(given) == len(states)
    for command, *words in given:
        assert main([command, "--help"]) == 0
        known = capsys.readouterr().out
        assert all(word in known for word in words if word.startswith("--"))


def test_the_mean_over_seeds_is_what_counts(tmp_path: Path) -> None:
    run = make_run(tmp_path, seeds=(0, 1))
    for seed, share in ((0, 0.9), (1, 0.7)):
        write_json(run / f"seed-{seed}" / "prism" / "student" / "log.json", LOG | {"train_agreement": share})
    assert trainings_of(load_run(run))["prism"].train_agreement == pytest.approx(0.8)


def test_advice_of_a_run_without_test_images_follows_held_out_images_of_the_student_s_kind(tmp_path: Path) -> None:
    run = without_test_images(make_run(tmp_path))
    set_log(run, train_agreement=0.95)
    found = advice(load_run(run))
    assert (
        found[0].title == "More images" and "held-out diverse images" in found[0].text
    )  # .97 of its own, .73 of these
    assert "Give it test images" in [item.title for item in found]
