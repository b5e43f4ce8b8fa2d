"""``prismkd prompts --dry-run``."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from prismkd.classes import load_classes
from prismkd.cli import main
from prismkd.commands.preview import preview
from prismkd.config import Config, PromptsConfig, RoundsConfig
from prismkd.errors import UserError
from prismkd.prompts.senses import senses_to_rows, unjudged_senses

SOME = Config(classes="pictograms-24")


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the peak is read from Linux's /proc")
def test_ten_million_prompts_cost_what_a_thousand_cost() -> None:
    """No torch, no list of size N: a process of its own, measured at its peak."""
    code = (
        "import sys; from prismkd.cli import main; "
        "main(['prompts', '--dry-run', '--json', '--num-images', '10000000']); "
        "peak = [line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0]; "
        "print(peak, 'torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["num_images"] == 10_000_000
    assert found["images_per_class"] == {"first 1,000": [10, 11], "all": [103_092, 103_093]}
    assert sum(found["images_per_domain"].values()) == pytest.approx(10_000_000, abs=10)
    kilobytes, torch_loaded = done.stderr.split()
    assert torch_loaded == "False" and int(kilobytes) < 300_000


def test_the_balance_is_that_of_the_plan() -> None:
    found = preview(SOME, 1234)
    labels = [found.plan[i].label for i in range(1234)]
    counts = [labels.count(k) for k in range(24)]
    assert (min(counts), max(counts)) == found.balance(1234)


def test_cost_counts_every_probe() -> None:
    found = preview(SOME, 0)
    assert found.cost.sense_probes == 8 * 2 * 24  # name and definition
    assert found.cost.content_probes == 2 * 5 * 24  # five different contents of an icon
    assert found.cost.images == 80 * 24 and found.cost.requests == 0


def test_a_run_that_has_judged_is_shown_as_it_judged(tmp_path: Path) -> None:
    senses = unjudged_senses(load_classes(SOME.classes), {}, 4)
    (tmp_path / "senses.json").write_text(json.dumps({"senses": senses_to_rows(senses)}))
    (tmp_path / "contents.json").write_text(json.dumps({"contents": [["a purple {}"]] * 24}))
    record = tmp_path / "seed-0" / "prism" / "synthesis.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"num_images": 30, "planned": 30, "seconds": 15.0, "complete": True}))
    unfinished = tmp_path / "seed-0" / "plain" / "synthesis.json"
    unfinished.parent.mkdir(parents=True)
    unfinished.write_text(json.dumps({"num_images": 30, "planned": 30, "seconds": 1.0, "complete": False}))
    found = preview(SOME, 0, tmp_path)
    assert found.hours == pytest.approx(found.cost.total / 2 / 3600)
    assert found.judged and found.cost.total == 2 * found.cost.images  # plain and prism
    assert "purple bell" in found.plan[0].text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num-images", "96"], "at least one image per class, 97, got 96"),
        (["--num-images", "many"], "for --num-images, got 'many'"),
        (["--num-images", "9" * 400], "a whole number from 1 to 10**15"),
        (["--num-images"], "a value after --num-images"),
        (["--prompts.domains", "foto"], "perhaps photo"),
        (["--classes", "imagenete"], "imagenette"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prompts", "--dry-run", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_tables_show_prompts_styles_and_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prompts", "--dry-run", "--classes", "imagenette", "--generator.source", "some/model"]) == 0
    shown = capsys.readouterr().out
    assert "tench" in shown and "infographic" in shown and "probe images for senses" in shown


def test_the_decisions_of_a_run_of_other_classes_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    senses = unjudged_senses(load_classes("pictograms"), {}, 4)
    (tmp_path / "senses.json").write_text(json.dumps({"senses": senses_to_rows(senses)}))
    arguments = ["prompts", "--dry-run", "--classes", "imagenette", "--out", str(tmp_path)]
    assert main(arguments) == 2
    assert "expected the classes of the run in" in capsys.readouterr().err


def test_seeds_and_a_pilot_are_counted() -> None:
    found = preview(replace(SOME, seeds=(0, 1), prompts=PromptsConfig(pilot_share=0.25)), 2400)
    assert found.cost.plans == 4 and found.cost.pilot == 600
    by_guide = replace(SOME, methods=("prism-rounds",), rounds=RoundsConfig(num_rounds=4, allocate=True))
    assert preview(by_guide, 2400).cost.pilot == 600


@pytest.mark.parametrize("senses", [None, 5, "abc", [{}], [{"class_name": "a", "wordings": [], "chosen": 0}]])
def test_damaged_decisions_are_refused(tmp_path: Path, senses: object) -> None:
    (tmp_path / "senses.json").write_text(json.dumps({"senses": senses}))
    with pytest.raises(UserError, match=r"expected .*senses.* in|expected .* in .*senses\.json, got .* at senses"):
        preview(SOME, 0, tmp_path)


@pytest.mark.parametrize("contents", [None, [], ["a {}"] * 24, [["a {}"]] * 23, [[]] * 24, [[5]] * 24, {}])
def test_damaged_contents_are_refused(tmp_path: Path, contents: object) -> None:
    senses = unjudged_senses(load_classes(SOME.classes), {}, 4)
    (tmp_path / "senses.json").write_text(json.dumps({"senses": senses_to_rows(senses)}))
    (tmp_path / "contents.json").write_text(json.dumps({"contents": contents}))
    with pytest.raises(UserError, match=r"contents for each of 24 classes|contents\.json, got .* at contents"):
        preview(SOME, 0, tmp_path)
