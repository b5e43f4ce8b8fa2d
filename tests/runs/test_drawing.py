"""The synthesize stage through the command line, on the embedded world: every executor gives the same bytes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from prismkd.cli import main
from prismkd.config import Config, GeneratorConfig, SynthesisConfig
from prismkd.config.retired import RETIRED_GUIDANCE
from prismkd.errors import UserError
from prismkd.files import write_json
from prismkd.guidance import Calibration
from prismkd.records.lock import locked
from prismkd.records.status import status_of
from prismkd.runs import drawing
from prismkd.runs.dataset import DrawnImages
from prismkd.runs.drawing import planned_images
from prismkd.runs.run import Run
from prismkd.shards import Storage, drop_shard, inspect, read_manifest, read_samples, scan, write_shard

TINY = """
classes = "pictograms-24"
methods = ["plain"]
num_threads = 1
[prompts]
num_probes = 0
num_content_probes = 0
[generator]
num_inference_steps = 2
[guidance]
num_calibration_images = 24
num_views = 1
[synthesis]
images_per_class = 2
shard_size = 12
[distillation]
architecture = "small-resnet-4"
num_steps = 2
batch_size = 8
[evaluation]
judge = ""
"""


@pytest.fixture(scope="session")
def settings(few_icons: Path) -> str:
    """A run of one method, as small as it gets."""
    return f'{TINY}source = "{few_icons / "test.parquet"}"\nreal = ""\n'


def start(folder: Path, settings: str) -> list[str]:
    """A run with its prompts; returns the arguments that go on with it."""
    (folder / "tiny.toml").write_text(settings)
    arguments = ["--config", str(folder / "tiny.toml"), "--out", str(folder / "out")]
    assert main(["prompts", *arguments]) == 0
    return arguments


def images(folder: Path, method: str = "plain") -> Path:
    return folder / "seed-0" / method / "images"


def tars(folder: Path, method: str = "plain") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(images(folder, method).glob("*.tar"))}


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, settings: str) -> Iterator[Path]:
    """A run whose images are drawn; to be read only."""
    folder = tmp_path_factory.mktemp("finished")
    assert main(["synthesize", *start(folder, settings)]) == 0
    before = tars(folder / "out")
    yield folder / "out"
    assert tars(folder / "out") == before, "a test has changed the run that all of them share"


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> list[str]:
    """The arguments that go on with a copy of it, ``out`` in the test's own folder."""
    shutil.copytree(finished.parent, tmp_path, dirs_exist_ok=True)
    return ["--config", str(tmp_path / "tiny.toml"), "--out", str(tmp_path / "out")]


def test_a_data_set_is_whole_and_described(finished: Path) -> None:
    assert inspect(images(finished)) == ([], 48)
    assert {path.name for path in images(finished).iterdir()} == {
        "README.md", "_info.json", "dataset.json", "ledger", *(f"shard-00000{i}.tar" for i in range(4))
    }  # fmt: skip
    manifest = json.loads((images(finished) / "dataset.json").read_text())
    assert set(manifest["identity"]) == {"prompts", "teacher", "generator", "pilot"}
    summary = json.loads((finished / "seed-0" / "plain" / "synthesis.json").read_text())
    assert summary["complete"] and summary["num_images"] == 48


def test_other_tools_load_the_runs_data_set_as_it_is(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets, webdataset = pytest.importorskip("datasets"), pytest.importorskip("webdataset")
    from timm.data import create_dataset

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    folder = images(finished)
    expected = sorted((sample.image.tobytes(), sample.label) for sample in read_samples(folder))
    urls = sorted(map(str, folder.glob("*.tar")))
    found = {
        "datasets": [(row["png"], row["cls"]) for row in
                     datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path))],
        "webdataset": [(row["png"], row["cls"]) for row in
                       webdataset.WebDataset(urls, shardshuffle=False).decode("pil")],
        "timm": list(create_dataset("wds/", root=str(folder), split="train", is_training=False, batch_size=4)),
    }  # fmt: skip
    for tool, rows in found.items():
        assert sorted((picture.convert("RGB").tobytes(), label) for picture, label in rows) == expected, tool


def test_a_worker_process_gives_the_same_bytes(finished: Path, tmp_path: Path, settings: str) -> None:
    """One, since each takes seconds to import its models; several share the work in tests/synthesis."""
    assert main(["synthesize", *start(tmp_path, settings), "--synthesis.num-workers", "1"]) == 0
    assert tars(tmp_path / "out") == tars(finished)


def test_ranks_of_an_array_job_give_the_same_bytes(
    finished: Path, tmp_path: Path, settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = start(tmp_path, settings)
    assert main(["synthesize", *arguments, "--rank", "1", "--world", "2"]) == 0
    assert sorted(scan(images(tmp_path / "out")).records) == [1, 3]
    assert "2 of 4 shards of" in capsys.readouterr().err
    assert main(["distill", *arguments]) == 2
    assert "expected 4 shards in" in capsys.readouterr().err
    assert main(["synthesize", *arguments, "--rank", "0", "--world", "2"]) == 0
    assert tars(tmp_path / "out") == tars(finished)
    assert (tmp_path / "out" / "seed-0" / "plain" / "synthesis.json").is_file()


def test_a_ray_cluster_gives_the_same_bytes(
    finished: Path, tmp_path: Path, settings: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="needs ray: pip install 'prismkd[ray]'")
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    on_ray = ["--synthesis.executor", "ray", "--synthesis.num-workers", "1"]
    try:
        assert main(["synthesize", *start(tmp_path, settings), *on_ray]) == 0
    finally:
        ray.shutdown()
    assert tars(tmp_path / "out") == tars(finished)


def test_images_are_appended_and_a_new_student_is_trained(
    finished: Path, copied: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = copied
    assert main(["run", *arguments]) == 0
    folder = tmp_path / "out" / "seed-0" / "plain"
    write_json(folder / "student-48-images" / "notes.json", "of the user's own")
    more = [*arguments, "--synthesis.images-per-class", "3"]
    assert main(["run", *more]) == 0
    assert "the student of 48 is now in" in capsys.readouterr().err
    assert tars(finished).items() < tars(tmp_path / "out").items()
    assert [sample.index for sample in read_samples(images(tmp_path / "out"))] == list(range(72))
    assert json.loads((folder / "student" / "log.json").read_text())["images"] == 72
    assert json.loads((folder / "student-48-images-2" / "log.json").read_text())["images"] == 48
    assert main(["run", *arguments]) == 2, "fewer images than there are"
    assert "another synthesis.images_per_class" in capsys.readouterr().err


def test_guided_images_of_an_earlier_version_are_kept_and_added_to(
    tmp_path: Path, settings: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its records name settings that are no more, and a threshold that went with one of them."""
    arguments = start(tmp_path, settings.replace('"plain"', '"eda"').replace("steps = 2", "steps = 4", 1))
    with monkeypatch.context() as earlier:
        of_now = drawing.asdict
        earlier.setattr(drawing, "asdict", lambda found: of_now(found) | (
            {"react_threshold": None} if isinstance(found, Calibration) else RETIRED_GUIDANCE))  # fmt: skip
        assert main(["synthesize", *arguments]) == 0
    path = tmp_path / "out" / "run.json"
    record = json.loads(path.read_text())
    record["config"]["guidance"] |= RETIRED_GUIDANCE
    write_json(path, record)
    before = tars(tmp_path / "out", "eda")
    assert len(before) == 4 and main(["synthesize", *arguments, "--synthesis.images-per-class", "3"]) == 0
    after = tars(tmp_path / "out", "eda")
    assert after.items() >= before.items() and len(after) == 6
    manifest = images(tmp_path / "out", "eda") / "dataset.json"
    identity = json.loads(manifest.read_text())["identity"]
    assert identity["guidance"].items() >= RETIRED_GUIDANCE.items() and "react_threshold" in identity["calibration"]
    manifest.write_text(manifest.read_text().replace('"adam": false', '"adam": true'))
    assert main(["synthesize", *arguments, "--synthesis.images-per-class", "3"]) == 2
    assert "to hold images of this plan, got another guidance.adam; " in capsys.readouterr().err


def test_images_can_be_stored_elsewhere(finished: Path, tmp_path: Path, settings: str) -> None:
    settings = settings.replace("shard_size = 12", f'shard_size = 12\nstorage = "file://{tmp_path}/elsewhere"')
    assert main(["run", *start(tmp_path, settings)]) == 0
    found = sorted((tmp_path / "elsewhere" / "seed-0" / "plain").glob("*.tar"))
    assert [path.read_bytes() for path in found] == list(tars(finished).values())
    assert not images(tmp_path / "out").exists()


def test_a_damaged_run_is_verified_and_repaired(
    finished: Path, copied: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["verify", "--out", str(out)]) == 0
    assert "48 images read and right; whole" in capsys.readouterr().out.replace("\n", " ")
    tar = images(out) / "shard-000002.tar"
    data = bytearray(tar.read_bytes())
    data[3000] ^= 1
    tar.write_bytes(data)
    assert main(["distill", *copied]) == 2
    assert "`prismkd repair` draws it again" in capsys.readouterr().err
    assert main(["verify", "--out", str(out)]) == 2
    shown = capsys.readouterr()
    assert "1 damaged" in shown.out and f"`prismkd repair --out {out}`" in shown.err
    assert main(["repair", "--out", str(out)]) == 0
    assert f"next: `prismkd run --out {out}` does what is left" in capsys.readouterr().out  # it may have its students
    assert main(["verify", "--out", str(out)]) == 0
    assert tars(out) == tars(finished)


def test_a_run_whose_manifest_is_lost_is_verified_and_repaired(
    finished: Path, copied: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    manifest = images(out) / "dataset.json"
    before = manifest.read_bytes()
    manifest.unlink()
    assert main(["verify", "--out", str(out)]) == 2
    assert f"`prismkd repair --out {out}`" in capsys.readouterr().err
    assert main(["repair", "--out", str(out)]) == 0
    assert main(["verify", "--out", str(out)]) == 0
    assert manifest.read_bytes() == before and tars(out) == tars(finished)


def test_a_folder_without_a_run_is_verified_but_not_repaired(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(images(finished), tmp_path / "copy")
    (tmp_path / "copy" / "shard-000001.tar").unlink()
    assert main(["verify", "--out", str(tmp_path / "copy")]) == 2
    assert "got 1 findings; repair its run, or copy it again" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"config": 3, "classes": [], "command": "", "started": ""}'])
@pytest.mark.parametrize("command", ["status", "verify", "repair", "synthesize", "report"])
def test_a_damaged_record_of_the_run_is_one_line(
    tmp_path: Path, text: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "run.json").write_text(text)
    assert main([command, "--out", str(out)]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: expected ") and f"{out}/run.json" in shown and shown.count("\n") == 1
    assert (out / "run.json").read_text() == text


def test_more_waits_for_the_images_of_now(tmp_path: Path) -> None:
    """Ranks that append may reach the last method while others still draw plain or PRISM."""
    config = Config(
        classes="pictograms-24", methods=("plain", "prism", "more"), synthesis=SynthesisConfig(images_per_class=3)
    )
    run = Run(config, directory=tmp_path)
    for method, planned, seconds in (("plain", 72, 2.0), ("prism", 48, 5.0)):
        summary = {"num_images": 72, "planned": planned, "seconds": seconds}
        write_json(run.dataset(0, method).folder / "synthesis.json", summary)
    more = run.dataset(0, "more")
    assert isinstance(more, DrawnImages)
    with pytest.raises(UserError, match=r"expected the 72 images of prism \(seed 0\) before more.* got 48; wait for"):
        planned_images(more)
    write_json(run.dataset(0, "prism").folder / "synthesis.json", {"num_images": 72, "planned": 72, "seconds": 5.0})
    assert planned_images(more) == 180


@pytest.mark.parametrize(("num_workers", "expected"), [(0, 216), (1, 216), (2, 252)])
def test_more_gets_the_preparation_at_the_price_of_the_workers_that_share_the_device(
    num_workers: int, expected: int, tmp_path: Path
) -> None:
    """A second of preparation is that of the whole device, in which two workers spend two."""
    synthesis, on_cpu = SynthesisConfig(images_per_class=3, num_workers=num_workers), GeneratorConfig(device="cpu")
    config = Config("pictograms-24", methods=("plain", "prism", "more"), generator=on_cpu, synthesis=synthesis)
    run = Run(config, directory=tmp_path)
    for method, seconds in (("plain", 2.0), ("prism", 5.0)):
        summary = {"num_images": 72, "planned": 72, "seconds": seconds}
        write_json(run.dataset(0, method).folder / "synthesis.json", summary)
    write_json(tmp_path / "senses.json", {"seconds": 1.0, "senses": []})
    more = run.dataset(0, "more")
    assert isinstance(more, DrawnImages)
    assert planned_images(more) == expected


def test_repair_takes_no_settings(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["repair", "--out", str(finished), "--seeds", "3"]) == 2
    assert "expected --out DIR only, since the run's own settings hold, got --seeds 3" in capsys.readouterr().err


def test_a_shard_that_fails_every_time_is_given_up_and_tried_again_by_the_next_command(
    finished: Path, copied: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from prismkd.runs import workers

    arguments, draw = copied, workers.run_shard
    drop_shard(images(tmp_path / "out"), 1)

    def cursed(folder: Storage, shard: int, *rest: object) -> None:
        if shard == 1:
            raise ValueError("cursed")
        draw(folder, shard, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(workers, "run_shard", cursed)
    monkeypatch.setattr("prismkd.synthesis.workers.pool.time.sleep", lambda seconds: None)
    assert main(["synthesize", *arguments, "--synthesis.max-tries", "2"]) == 2
    shown = capsys.readouterr().err
    assert "shard 1 is given up after 2 tries: ValueError: cursed" in shown
    assert "got 1 of 1 given up (shard 1: ValueError: cursed); give the same command again" in shown
    assert main(["status", "--out", str(tmp_path / "out")]) == 0
    assert "1 given up" in capsys.readouterr().out

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(workers, "run_shard", interrupted)
    assert main(["synthesize", *arguments]) == 130
    assert scan(images(tmp_path / "out")).failed == {}, "other ranks don't take an old failure for a new one"
    monkeypatch.undo()
    assert main(["synthesize", *arguments]) == 0
    assert tars(tmp_path / "out") == tars(finished)


def test_status_of_a_run_that_is_at_work(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with locked(finished):
        assert main(["status", "--out", str(finished)]) == 0
    shown = capsys.readouterr().out
    assert "4/4" in shown and "48/48" in shown and "all images are drawn" in shown
    assert "at work: run: process" in shown
    assert main(["status", "--out", str(finished), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["jobs"][0]["images"] == 48 and found["workers"] == [] and found["seconds_left"] == 0


def test_a_shard_beyond_the_plan_stands_for_none_of_it(copied: list[str], tmp_path: Path) -> None:
    folder, copy = images(tmp_path / "out"), tmp_path / "out"
    manifest, samples = read_manifest(folder), list(read_samples(folder, [0]))
    assert manifest is not None
    write_shard(folder, 99, samples, manifest.plan_hash)
    drop_shard(folder, 0)
    found = status_of(copy)
    assert not found.finished and min(dataset.shards for dataset in found.datasets) == 3


def test_status_imports_no_torch(finished: Path) -> None:
    code = "import sys; from prismkd.cli import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, "status", "--out", str(finished)], check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr


def test_a_second_command_on_a_run_says_who_is_at_work(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with locked(finished):
        assert main(["repair", "--out", str(finished)]) == 2
    error = capsys.readouterr().err
    assert "for this command alone, got one that is in use by process" in error and error.count("\n") == 1


def test_a_plan_is_measured_and_nothing_is_written(
    tmp_path: Path, settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings.replace('"plain"', '"plain", "eda"').replace(
        "steps = 2\n[gui", "steps = 4\nbatch_size = 12\n[gui"
    )
    (tmp_path / "tiny.toml").write_text(settings)
    before = sorted(tmp_path.rglob("*"))
    out = ["--out", str(tmp_path / "out")]
    assert main(["plan", "--config", str(tmp_path / "tiny.toml"), *out, "--dry-run", "--price", "3.50", "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    ends = [line for line in shown.err.splitlines() if "measuring" in line and "done, " in line]
    assert len(ends) == 4 and all("done, all " in line for line in ends)  # not "done, 96 of 10,000"
    assert sorted(tmp_path.rglob("*")) == before
    rows = {(row["stage"], row["method"]): row for row in found["stages"]}
    assert [name for name, method in rows if not method] == [
        "loading the models", "calibration", "distillation", "evaluation"
    ]  # fmt: skip
    plain, eda = rows["images", "plain"], rows["images", "eda"]
    assert plain["count"] == eda["count"] == 48 and plain["seconds_each"] > 0
    assert plain["gigabytes"] == pytest.approx(48 * plain["bytes_each"] / 1e9)
    assert rows["distillation", ""]["count"] == 2 * 2 and rows["distillation", ""]["seconds_each"] > 0
    assert found["minutes"] == pytest.approx(sum(row["minutes"] for row in found["stages"]))
    assert found["cost"] == pytest.approx(3.5 * found["device_minutes"] / 60)
    assert found["measured"]["unguided images"] <= 0.1 * 96 and found["measured"]["guided images"] <= 0.1 * 48
    assert main(["plan", "--config", str(tmp_path / "tiny.toml"), "--dry-run", "--price", "dear"]) == 2
    assert "expected a number for --price, got 'dear'" in capsys.readouterr().err


def test_a_plan_decides_everything_before_the_images(
    finished: Path, tmp_path: Path, settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.toml").write_text(settings)
    arguments = ["--config", str(tmp_path / "tiny.toml"), "--out", str(tmp_path / "out")]
    assert main(["plan", *arguments]) == 0
    written, following = capsys.readouterr().out.replace("\n", " ").split("next: ")
    assert f"written in {tmp_path / 'out'}: seed-0/plain/prompts.json" in written
    assert following.startswith(f"`prismkd synthesize --out {tmp_path / 'out'}` draws the images")
    assert (images(tmp_path / "out") / "dataset.json").read_bytes() == (images(finished) / "dataset.json").read_bytes()
    assert tars(tmp_path / "out") == {}


def test_the_exported_run_is_one_of_its_methods(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = ["--to", "imagefolder", "--dest", str(tmp_path / "folder")]
    assert main(["export", "--out", str(finished), *to]) == 2
    assert "got method prism and seed 0; use one of --method plain --seed 0" in capsys.readouterr().err
    assert main(["export", "--out", str(finished), "--method", "plain", *to]) == 0
    assert len(list((tmp_path / "folder" / "train").iterdir())) == 24
    sources = ["--from", str(images(finished)), str(tmp_path / "none")]
    assert main(["merge", "--dest", str(tmp_path / "merged"), *sources]) == 2
    assert "expected a data set of prismkd" in capsys.readouterr().err


def test_keys_in_a_url_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--out", str(tmp_path / "out"), "--synthesis.storage", "s3://key:secret@bucket/x"]) == 2
    shown = capsys.readouterr().err
    assert "expected synthesis.storage without user and password" in shown and "secret@" not in shown


@pytest.mark.parametrize("command", ["status", "verify", "repair"])
def test_a_folder_of_something_else_is_one_line(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: expected a run") and error.count("\n") == 1


@pytest.mark.parametrize("command", ["run", "synthesize", "plan", "repair"])
def test_a_run_is_a_folder_on_a_disk(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([command, "--out", "s3://bucket/x"]) == 2
    error = capsys.readouterr().err
    assert "expected a folder on a disk for a run, got s3://bucket/x" in error and "synthesis.storage" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("s3://", "expected synthesis.storage such as s3://bucket/folder, got s3://"),
        ("://x", "expected synthesis.storage such as s3://bucket/folder, got ://x"),
        ("memory://x", "which ends with this command"),
    ],
)
def test_a_storage_that_is_no_place_or_does_not_last_is_refused(
    storage: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["prompts", "--out", "out", "--synthesis.storage", storage]) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_data_set_is_verified_exported_and_merged_by_its_url(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"memory://{tmp_path.name}"
    for path in images(finished).rglob("*"):
        if path.is_file():
            Storage(url).write(path.relative_to(images(finished)).as_posix(), path.read_bytes())
    assert main(["verify", "--out", url]) == 0
    assert "48 images read and right; whole" in capsys.readouterr().out
    assert main(["export", "--out", url, "--to", "webdataset", "--dest", str(tmp_path / "copy")]) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "copy").glob("*.tar")} == tars(finished)
    for arguments in (["export", "--out", url, "--to", "hf"], ["merge", "--from", url, str(images(finished))]):
        assert main([*arguments, "--dest", "memory://gone"]) == 2
        assert "which ends with this command" in capsys.readouterr().err
    Storage(url).write("shard-000001.tar", b"")
    assert main(["verify", "--out", url]) == 2
    assert "expected whole data sets in memory://" in capsys.readouterr().err


def test_an_interrupted_stage_counts_what_is_kept(
    copied: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drop_shard(images(tmp_path / "out"), 2)
    (tmp_path / "out" / "seed-0" / "plain" / "synthesis.json").unlink()

    def interrupted(*arguments: object) -> None:
        progress = arguments[6]
        progress(6)  # type: ignore[operator]
        raise KeyboardInterrupt

    monkeypatch.setattr("prismkd.runs.workers.run_shard", interrupted)
    assert main(["synthesize", *copied]) == 130
    assert "images plain (seed 0): stopped at 36 of 48, after" in capsys.readouterr().err


def test_each_stage_says_what_it_wrote_and_what_comes_next(
    copied: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    for stage, wrote, following in [("prompts", "prompts of plain (seed 0): ", "synthesize"),
                                    ("synthesize", "images: 48 of plain (seed 0), in ", "distill"),
                                    ("distill", "students of plain (seed 0): ", "evaluate"),
                                    ("evaluate", "results: ", "report")]:  # fmt: skip
        assert main([stage, "--out", out]) == 0
        shown = capsys.readouterr().out
        assert wrote in shown and f"next: `prismkd {following} --out {out}`" in shown
    assert main(["report", "--out", out]) == 0
    assert f"report: {out}/report.html" in capsys.readouterr().out
    assert main(["run", "--out", out]) == 0  # all is done, and still it ends with the table and the page
    shown = capsys.readouterr()
    assert "stage 5 of 5: report" in shown.err
    assert "plain" in shown.out and f"report: {out}/report.html" in shown.out and "done in " in shown.out
    assert f"next: `prismkd export --out {out} --to student --dest FOLDER --method plain`" in shown.out


@pytest.mark.parametrize(("stage", "message"), [
    ("distill", "expected images of plain (seed 0) in"), ("evaluate", "expected the student of plain (seed 0)"),
])  # fmt: skip
def test_a_stage_whose_input_is_missing_names_the_command(
    stage: str, message: str, tmp_path: Path, settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = start(tmp_path, settings)
    capsys.readouterr()
    assert main([stage, *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("stage", ["synthesize", "distill", "evaluate", "report"])
def test_a_stage_begins_no_run_in_a_mistyped_folder(
    stage: str, tmp_path: Path, settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.toml").write_text(settings)
    nowhere = tmp_path / "mistyped"
    assert main([stage, "--config", str(tmp_path / "tiny.toml"), "--out", str(nowhere)]) == 2
    assert "where there is nothing; check --out" in capsys.readouterr().err and not nowhere.exists()
