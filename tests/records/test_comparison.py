"""Two methods on the same images: what is said is what the numbers say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from prismkd.cli import main
from prismkd.config import Config
from prismkd.errors import UserError
from prismkd.metrics.hits import pack_hits, unpack_hits
from prismkd.records.comparison import compare

NUM_IMAGES = 400


def hits(share: float, seed: int = 0) -> np.ndarray:
    """The same images are easy for everybody: with a larger share more are right, none fewer."""
    noise = np.random.default_rng(7).random(NUM_IMAGES) + 0.02 * np.random.default_rng(seed).random(NUM_IMAGES)
    return (noise < share).astype(int)


def make_run(
    folder: Path, shares: Mapping[str, Mapping[str, float]], seeds: tuple[int, ...] = (0,), images: str = "same",
    classes: tuple[str, ...] = ("a", "b"),
) -> Path:  # fmt: skip
    """A run directory as far as `compare` reads it: method -> domain -> share of images that are right."""
    config = replace(Config(), methods=tuple(shares), seeds=seeds)
    folder.mkdir()
    record = {"config": asdict(config), "classes": [{"name": name} for name in classes], "command": "", "started": ""}
    (folder / "run.json").write_text(json.dumps(record))
    for method, domains in shares.items():
        for seed in seeds:
            path = folder / f"seed-{seed}" / method / "evaluation.json"
            path.parent.mkdir(parents=True)
            found = {
                domain: {"n": NUM_IMAGES, "hits": pack_hits(hits(share, seed)), "images": f"{images} {domain}"}
                for domain, share in domains.items()
            }
            path.write_text(json.dumps({"domains": found}))
    return folder


def test_two_methods_of_a_run(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "run", {"plain": {"id": 0.6, "sketch": 0.5}, "prism": {"id": 0.7, "sketch": 0.5}}, (0, 1, 2)
    )
    found = compare([run], ["plain", "prism"])
    own, sketch = found.domains
    assert (own.domain, sketch.domain) == ("id", "sketch") and found.seeds == (0, 1, 2)
    assert own.difference == pytest.approx(own.top1_b - own.top1_a)
    assert own.interval[0] < own.difference < own.interval[1] and own.significant
    assert own.p < 0.001 and own.p_holm == min(1, 2 * own.p) and own.a_better == 0
    assert sketch.difference == 0 and sketch.p == 1 and not sketch.significant
    assert found.sentence().startswith("prism is better than plain on id by ")
    assert found.sentence().endswith("p < .001); no significant difference on sketch.")


def test_the_other_way_round_is_the_negative_and_says_the_same(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"plain": {"id": 0.6}, "prism": {"id": 0.7}})
    there, back = compare([run], ["plain", "prism"]), compare([run], ["prism", "plain"])
    assert back.domains[0].difference == -there.domains[0].difference
    assert back.domains[0].p == there.domains[0].p
    assert back.sentence().startswith("prism is better than plain on id by ")
    assert "interval -" not in back.sentence()


def test_two_runs_are_compared_by_prism_or_by_the_methods_that_are_named(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one", {"plain": {"id": 0.6}, "prism": {"id": 0.6}})
    two = make_run(tmp_path / "two", {"plain": {"id": 0.7}, "prism": {"id": 0.65}}, (0, 1))
    found = compare([one, two])
    assert (found.a.method, found.b.method, found.a.name, found.b.name) == ("prism", "prism", "one", "two")
    assert found.seeds == (0,)
    assert compare([one, two], ["plain"]).b.method == "plain"
    assert (
        compare([one, two], ["prism", "plain"]).sentence().startswith("plain of two is better than prism of one on id")
    )


def test_chance_is_called_no_significant_difference(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"plain": {"id": 0.6}, "prism": {"id": 0.605}})
    found = compare([run], ["plain", "prism"])
    assert found.domains[0].difference > 0
    assert found.sentence() == "No significant difference on id."


def test_other_test_images_classes_or_seeds_are_refused(tmp_path: Path) -> None:
    both = {"prism": {"id": 0.6, "sketch": 0.5}}
    run = make_run(tmp_path / "run", both)
    for other, message in (
        (make_run(tmp_path / "images", both, images="new"), "others of id, sketch"),
        (make_run(tmp_path / "domains", {"prism": {"id": 0.6}}), "others of sketch"),
        (make_run(tmp_path / "classes", both, classes=("a", "c")), "same classes"),
        (make_run(tmp_path / "seeds", both, (5,)), "a seed that"),
    ):
        with pytest.raises(UserError, match=message):
            compare([run, other])


def test_the_mean_of_shifted_domains_weighs_each_domain_the_same(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "run",
        {"plain": {"id": 0.6, "sketch": 0.5, "cartoon": 0.5}, "prism": {"id": 0.6, "sketch": 0.53, "cartoon": 0.53}},
    )
    for method in ("plain", "prism"):  # half as many sketches
        path = run / "seed-0" / method / "evaluation.json"
        document = json.loads(path.read_text())
        sketch = document["domains"]["sketch"]
        sketch |= {"n": 200, "hits": pack_hits(unpack_hits(sketch["hits"], 400)[:200])}
        path.write_text(json.dumps(document))
    comparison = compare([run], ["plain", "prism"])
    cartoon, sketch = comparison.domains[1:]
    mean = comparison.shifted
    assert mean is not None and mean.num_images == 600
    assert mean.difference == pytest.approx((cartoon.difference + sketch.difference) / 2)
    assert mean.top1_a == pytest.approx((cartoon.top1_a + sketch.top1_a) / 2)
    assert mean.interval[1] - mean.interval[0] < sketch.interval[1] - sketch.interval[0]
    assert mean.b_better == cartoon.b_better + sketch.b_better and mean.a_better == 0
    assert mean.significant, "both domains together tell apart"
    assert "prism is better than plain on the mean of shifted domains by" in comparison.sentence()
    assert comparison.to_dict()["shifted"]["significant"] is True


def test_with_one_shifted_domain_there_is_no_mean_of_them(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"plain": {"id": 0.6, "sketch": 0.5}, "prism": {"id": 0.7, "sketch": 0.5}})
    comparison = compare([run], ["plain", "prism"])
    assert comparison.shifted is None and len(comparison.rows) == 2


def test_a_domain_of_one_image_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"plain": {"id": 0.6}, "prism": {"id": 0.7}})
    for path in run.glob("seed-0/*/evaluation.json"):
        document = json.loads(path.read_text())
        document["domains"]["id"] |= {"n": 1, "hits": pack_hits(np.ones(1))}
        path.write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"expected at least 2 test images.*got none of id"):
        compare([run], ["plain", "prism"])


def test_a_damaged_evaluation_is_one_error(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"plain": {"id": 0.6}, "prism": {"id": 0.7}})
    (run / "seed-0" / "prism" / "evaluation.json").write_text('{"domains": {"id": {"hits": "AAAA"}}}')
    with pytest.raises(UserError, match=r"prism/evaluation\.json.*missing required field `n` at domains"):
        compare([run], ["plain", "prism"])


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"plain": {"id": 0.6}, "eda": {"id": 0.6}})
    for runs, methods, message in (
        ([run], [], "it has plain, eda"),
        ([run], ["plain", "prism"], "got 'prism'; it has plain, eda"),
        ([tmp_path], ["plain", "eda"], "expected a run directory"),
        ([], [], "one or two runs"),
    ):
        with pytest.raises(UserError, match=message):
            compare(runs, methods)
    (run / "seed-0" / "eda" / "evaluation.json").write_text('{"results": []}')
    with pytest.raises(UserError, match="older version; delete the file"):
        compare([run], ["plain", "eda"])


def test_the_command_prints_a_table_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", {"plain": {"id": 0.6}, "prism": {"id": 0.7}})
    assert main(["compare", str(run), "--methods", "plain", "prism"]) == 0
    assert "prism is better than plain on id by" in capsys.readouterr().out
    assert main(["compare", str(run), "--methods", "plain", "prism", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["domains"][0]["significant"] is True and found["sentence"].startswith("prism is better")
    assert main(["compare", str(run)]) == 2
    assert "got one run and no methods; add `--methods plain prism`" in capsys.readouterr().err
