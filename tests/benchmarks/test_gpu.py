"""The benchmark for GPUs in miniature on a CPU: every part finds something, and none takes another down with it."""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu
from benchmarks.on_gpu import correctness, turns, workers
from benchmarks.on_gpu.drawing import CHECK, FULL, TINY, UNGUIDED, WAYS
from benchmarks.on_gpu.scale import tiny_scale
from prismkd.errors import UserError


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the whole benchmark in miniature writes."""
    path = tmp_path_factory.mktemp("gpu") / "deep" / "gpu.json"
    gpu.main(["--tiny", "--out", str(path)])
    return json.loads(path.read_text())["parts"]


def leaves(data: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with the last key above it."""
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        if isinstance(value, dict | list):
            yield from leaves(value, str(key))
        else:
            yield str(key), value


def test_every_part_ends_well_and_finds_finite_numbers(parts: dict[str, Any]) -> None:
    assert list(parts) == list(gpu.PARTS)
    found = list(leaves(parts))
    assert not {"error", "skipped", "stopped"} & {name for name, _ in found}
    assert all(math.isfinite(value) for _, value in found if isinstance(value, float))
    assert len([value for _, value in found if isinstance(value, float)]) > 100


@pytest.mark.parametrize("name", ["sd-1.5", "sdxl", "dit-xl"])
def test_every_image_takes_every_gradient_or_none(name: str, parts: dict[str, Any]) -> None:
    rows = parts[name]["batch 1"]
    assert {way: row["guided_share"] for way, row in rows.items()} == dict(zip(WAYS, (0, 1, 1, 0), strict=True))
    assert rows[UNGUIDED]["seconds_ratio"] == rows[UNGUIDED]["flops_ratio"] == 1
    assert all(row["finite"] and row["images_per_second"] > 0 for row in rows.values())
    assert all(rows[way]["guided_steps"] > 0 for way in WAYS[1:])
    assert 1 < rows[CHECK]["flops_ratio"] < rows[TINY]["flops_ratio"]


def test_sd15_is_also_drawn_in_another_format_compiled_and_in_batches(parts: dict[str, Any]) -> None:
    assert {"batch 1", "batch 2", "channels_last, batch 2"} < set(parts["sd-1.5"])
    row = parts["compile"]["batch 2"]
    assert set(row) == {"compile_seconds", UNGUIDED, TINY}
    assert row["compile_seconds"] > row[UNGUIDED]["all_seconds"][0]


def test_the_embedded_images_are_right(parts: dict[str, Any]) -> None:
    rows = parts["embedded"]["auto"]
    assert rows["finite"] and rows["strength_0_equals_unguided"]
    assert rows["guided_is_lower"] == (rows["mean_energy"]["guided"] < rows["mean_energy"]["unguided"])
    assert all(row["largest"] == 0 for row in rows["drawn_again"].values())
    assert all(row["largest"] < 1e-4 for row in rows["drawn_alone"].values())


def test_the_workers_draw_the_same_bytes(parts: dict[str, Any]) -> None:
    assert parts["workers"]["same_bytes"]
    assert parts["workers"]["different_shards"] == {"first": 0, "second": 0, "both": 0}
    drawn = {"first": {0: "a", 1: "b"}, "second": {0: "a", 1: "c"}, "both": {0: "a", 1: "b"}}
    found = workers.compare_workers({"first": [1.0, 3.0], "second": [4.0], "both": [6.0]}, drawn)
    assert found["two_over_one"] == 1.5
    assert found["different_shards"] == {"first": 0, "second": 1, "both": 0} and not found["same_bytes"]


def test_the_loop_is_compared_with_the_bare_one(parts: dict[str, Any]) -> None:
    row = parts["distillation"]["batch 2"]
    assert row["share_of_bare"] == pytest.approx(row["loop"][0] / row["bare"][0])
    assert row["whole_seconds"] > 2 * 2 / row["loop"][0]


# --- time, errors and what is written ----------------------------------------------------------------------------


def settings_for(folder: Path, **changes: Any) -> gpu.GpuBench:
    return gpu.GpuBench(**{"out": folder / "gpu.json", "tiny": True, **changes})


def part_of(function: Any, needs: float = 0.0, gets: float = 60.0) -> gpu.Part:
    return gpu.Part(lambda scale, found, until: function(found), needs, gets)


def test_without_time_every_part_is_skipped_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main(["--tiny", "--minutes", "0", "--out", str(tmp_path / "gpu.json")])
    found = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert list(found) == list(gpu.PARTS)
    assert all(set(part) == {"skipped"} for part in found.values())
    assert found["sdxl"]["skipped"] == "needs 25 s, 0 s are left"
    assert "sdxl: skipped, needs 25 s, 0 s are left (0 s in all)" in capsys.readouterr().out


def test_what_was_never_measured_comes_before_what_may_be_left_out() -> None:
    """Compiling takes a minute or more; in an earlier order it was left with too little."""
    names = list(gpu.PARTS)
    assert names.index("compile") < min(names.index(name) for name in ("workers", "embedded", "tests"))
    before = sum(gpu.PARTS[name].gets for name in names[: names.index("compile")])
    assert before + gpu.PARTS["compile"].needs <= 60 * gpu.GpuBench.minutes < 360


def test_only_what_no_longer_fits_is_skipped(tmp_path: Path) -> None:
    parts = {"long": part_of(lambda found: None, needs=61), "short": part_of(lambda found: None, needs=30)}
    found = gpu.measure(settings_for(tmp_path, minutes=1.0), tiny_scale(), parts)["parts"]
    assert "skipped" in found["long"] and "skipped" not in found["short"]


def test_a_part_is_stopped_when_its_time_is_over_and_keeps_what_it_found(tmp_path: Path) -> None:
    def slow(found: dict[str, Any]) -> None:
        found["first"] = 1
        try:
            time.sleep(30)
        except Exception:
            found["swallowed"] = True

    start = time.monotonic()
    found = gpu.measure(settings_for(tmp_path), tiny_scale(), {"slow": part_of(slow, gets=0.2)})["parts"]["slow"]
    assert time.monotonic() - start < 10
    assert found["first"] == 1 and "swallowed" not in found
    assert found["stopped"] == "0 s are over"


def test_an_error_is_recorded_and_the_next_part_goes_on(tmp_path: Path) -> None:
    def wrong(found: dict[str, Any]) -> None:
        found["before"] = 1
        raise ZeroDivisionError("no luck")

    def right(found: dict[str, Any]) -> None:
        found["seen"] = json.loads((tmp_path / "gpu.json").read_text())["parts"]["wrong"]["before"]

    parts = {"wrong": part_of(wrong), "right": part_of(right)}
    found = gpu.measure(settings_for(tmp_path), tiny_scale(), parts)["parts"]
    assert "Traceback" in found["wrong"]["error"] and "no luck" in found["wrong"]["error"]
    assert found["right"]["seen"] == 1  # written after each part
    assert json.loads((tmp_path / "gpu.json").read_text())["parts"] == found


def test_a_way_that_runs_out_of_memory_leaves_the_others(tmp_path: Path) -> None:
    def too_large(num_steps: int) -> None:
        raise torch.OutOfMemoryError("no room")

    rows: dict[str, Any] = {}
    draws = {UNGUIDED: lambda num_steps: None, FULL: too_large}
    turns.time_in_turns(rows, draws, 2, replace(tiny_scale(), num_rounds=3), time.monotonic() + 60)
    assert rows[FULL]["error"] == "OutOfMemoryError: no room" and rows[FULL]["all_seconds"] == []
    assert len(rows[UNGUIDED]["all_seconds"]) == 3
    assert rows[UNGUIDED]["seconds_ratio"] == 1


def test_rounds_end_with_the_time_but_one_is_always_timed() -> None:
    rows: dict[str, Any] = {}
    draws = {UNGUIDED: lambda num_steps: time.sleep(0.01)}
    turns.time_in_turns(rows, draws, 1, replace(tiny_scale(), num_rounds=9), time.monotonic())
    assert len(rows[UNGUIDED]["all_seconds"]) == 1


def test_ratios_are_medians_of_ratios_within_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"a": iter([1.0, 4.0, 2.0]), "b": iter([2.0, 8.0, 3.0])}
    monkeypatch.setattr(turns, "time_once", lambda work: (next(seconds[work()]) if work.args[0] == 3 else 9.0, 0.5))
    scale, rows = replace(tiny_scale(), num_rounds=3, num_warm_up_steps=1), dict[str, Any]()
    turns.time_in_turns(rows, {UNGUIDED: lambda steps: "a", TINY: lambda steps: "b"}, 2, scale, math.inf)
    row = rows[TINY]
    assert row["all_seconds"] == [2, 8, 3] and row["warm_up_seconds"] == 9
    assert row["seconds_ratio"] == 2 and row["seconds_per_image"] == 1.5 and row["memory_gib"] == 0.5


def test_single_parts_are_added_to_the_file(tmp_path: Path) -> None:
    parts = {name: part_of(lambda found, name=name: found.update(name=name)) for name in ("one", "two")}
    gpu.measure(settings_for(tmp_path), tiny_scale(), {"one": parts["one"]})
    found = gpu.measure(settings_for(tmp_path, part=("two",)), tiny_scale(), parts)["parts"]
    assert {name: part["name"] for name, part in found.items()} == {"one": "one", "two": "two"}
    found = gpu.measure(settings_for(tmp_path), tiny_scale(), {"two": parts["two"]})["parts"]
    assert set(found) == {"two"}


def test_a_device_that_no_longer_answers_is_left_with_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An illegal access makes every later call of its process fail, so the rest is measured in a new one."""

    def no_answer() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    commands = list[list[str]]()

    def execv(path: str, command: list[str]) -> None:
        commands.append(command)
        raise SystemExit

    monkeypatch.setattr(torch.cuda, "synchronize", no_answer)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(gpu.os, "execv", execv)
    scale = replace(tiny_scale(), device=torch.device("cuda"))
    parts = {name: part_of(lambda found: None) for name in ("one", "two", "three")}
    with pytest.raises(SystemExit):
        gpu.measure(settings_for(tmp_path, tiny=False, minutes=2.0), scale, parts)
    assert commands[0][1:3] == ["-m", "benchmarks.gpu"]
    assert commands[0][-3:] == ["--part", "two", "three"]
    assert 1.9 < float(commands[0][commands[0].index("--minutes") + 1]) <= 2.0


def test_tests_that_need_a_gpu_are_run_and_their_outcome_is_kept(tmp_path: Path) -> None:
    marked = ".".join(["@pytest", "mark", "gpu"])  # not this file, where those are looked for
    (tmp_path / "test_one.py").write_text(f"import pytest\n{marked}\ndef test_that():\n    assert 1 == 2\n")
    (tmp_path / "test_two.py").write_text("def test_other():\n    assert False\n")
    found: dict[str, Any] = {}
    correctness.marked_tests(replace(tiny_scale(), tests=tmp_path), found, time.monotonic() + 60)
    assert found["files"] == ["test_one.py"] and found["exit_code"] == 1
    assert "1 failed" in found["outcome"]


def test_bad_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected --part among machine, .*, got sd-3"):
        gpu.main(["--tiny", "--out", str(tmp_path / "gpu.json"), "--part", "sd-3"])
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="expected a CUDA device, got none; --tiny"):
            gpu.main(["--out", str(tmp_path / "gpu.json")])
    assert not list(tmp_path.iterdir())
