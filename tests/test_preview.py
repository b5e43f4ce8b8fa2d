"""``prismkd prompts --dry-run``."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from prismkd.cli import main
from prismkd.config import Config
from prismkd.preview import preview
from prismkd.prompts import load_classes
from prismkd.prompts.senses import given_senses, senses_to_rows


def test_ten_million_prompts_cost_what_a_thousand_cost() -> None:
    """No torch, no list of size N: a process of its own, measured at its peak."""
    code = (
        "import resource, sys; from prismkd.cli import main; "
        "main(['prompts', '--dry-run', '--json', '--num-images', '10000000']); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 'torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["num_images"] == 10_000_000
    assert found["images_per_class"] == {"first 1,000": [41, 42], "all": [416_666, 416_667]}
    assert sum(found["images_per_domain"].values()) == pytest.approx(10_000_000, abs=10)
    kilobytes, torch_loaded = done.stderr.split()
    assert torch_loaded == "False" and int(kilobytes) < 300_000


def test_the_balance_is_that_of_the_plan() -> None:
    found = preview(Config(), 1234)
    labels = [found.plan[i].label for i in range(1234)]
    counts = [labels.count(k) for k in range(24)]
    assert (min(counts), max(counts)) == found.balance(1234)


def test_cost_counts_every_probe() -> None:
    found = preview(Config(), 0)
    assert found.cost.sense_probes == 8 * 2 * 24  # name and definition
    assert found.cost.content_probes == 2 * 6 * 24  # six different contents of an icon
    assert found.cost.images == 80 * 24 and found.cost.requests == 0


def test_a_run_that_has_judged_is_shown_as_it_judged(tmp_path: Path) -> None:
    senses = given_senses(load_classes("pictograms"), {}, 4)
    (tmp_path / "senses.json").write_text(json.dumps({"senses": senses_to_rows(senses)}))
    (tmp_path / "contents.json").write_text(json.dumps({"contents": [["a purple {}"]] * 24}))
    record = tmp_path / "seed-0" / "prism" / "synthesis.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"images_per_second": 2.0}))
    found = preview(Config(), 0, tmp_path)
    assert found.hours == pytest.approx(found.cost.total / 2 / 3600)
    assert found.judged and found.cost.total == found.cost.images
    assert "purple bell" in found.plan[0].text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num-images", "23"], "at least one image per class, 24, got 23"),
        (["--num-images", "many"], "whole number for --num-images, got 'many'"),
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
