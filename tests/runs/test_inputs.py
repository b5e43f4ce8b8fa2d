"""What lies outside of a run's folder may be moved, but not exchanged: each stage compares contents, by digest."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import PixArtTransformer2DModel
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from prismkd.assets import asset
from prismkd.classifiers import Classifier, save_classifier
from prismkd.cli import main
from prismkd.config.load import load_config
from prismkd.errors import UserError
from prismkd.progress import silent
from prismkd.records.digests import check_digests, differing_inputs, note_digests, recorded_digests
from prismkd.runs.open import open_run
from prismkd.runs.workers import OpenShards

TINY = """
classes = "pictograms-24"
teacher = "{folder}/teacher"
methods = ["plain", "real"]
[prompts]
num_probes = 0
num_content_probes = 0
[generator]
source = "{folder}/generator"
lora = ["{folder}/adapter@0.5"]
num_inference_steps = 2
[synthesis]
images_per_class = 1
shard_size = 24
[distillation]
architecture = "small-resnet-4"
num_steps = 2
batch_size = 8
[evaluation]
source = "{folder}/test.parquet"
real = "{folder}/real.parquet"
judge = ""
"""


@dataclass(frozen=True)
class World:
    """A run, and beside it what it uses, each a copy that a test may change."""

    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def do(self, command: str, *flags: str) -> int:
        return main([command, "--config", str(self.folder / "tiny.toml"), "--out", str(self.out), *flags])

    def document(self, name: str) -> Any:
        return json.loads((self.out / name).read_text())

    def write_settings(self) -> None:
        (self.folder / "tiny.toml").write_text(TINY.format(folder=self.folder))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, few_icons: Path, teacher: Classifier) -> World:
    """A finished run; to be copied."""
    world = World(tmp_path_factory.mktemp("inputs"))
    save_classifier(world.folder / "teacher", teacher.network, teacher.config)
    shutil.copytree(asset("generator"), world.folder / "generator")
    transformer = PixArtTransformer2DModel.from_pretrained(world.folder / "generator" / "transformer")
    get_peft_model(transformer, LoraConfig(r=2, target_modules=["to_q"])).save_pretrained(str(world.folder / "adapter"))
    for name in ("test.parquet", "real.parquet"):
        shutil.copy(few_icons / name, world.folder)
    world.write_settings()
    assert world.do("run") == 0
    return world


@pytest.fixture
def moved(finished: World, tmp_path: Path) -> World:
    """A copy of the run and of all that it uses, at another place."""
    copied = World(shutil.copytree(finished.folder, tmp_path / "moved"))
    copied.write_settings()
    return copied


@pytest.fixture
def world(finished: World, moved: World) -> World:
    """The same as if it had begun at its place."""
    for path in [path for path in moved.out.rglob("*.json") if path.name != "dataset.json"]:
        path.write_text(path.read_text().replace(str(finished.folder), str(moved.folder)))
    return moved


def exchange_weights(path: Path) -> None:
    """Change one weight of a network a little."""
    state = load_file(path)
    name = next(name for name, tensor in sorted(state.items()) if tensor.is_floating_point() and tensor.ndim > 1)
    state[name] = state[name] + 0.01
    save_file(state, path)


def exchange_image(path: Path) -> None:
    """Show another picture under the label of the first one of its domain."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[0]["image"], rows[-1]["image"] = rows[-1]["image"], rows[0]["image"]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)


def without_digests(world: World) -> None:
    """Make the run what an earlier version has left."""
    (world.out / "digests.json").unlink()
    for path in [*world.out.rglob("log.json"), *world.out.rglob("evaluation.json"), world.out / "references.json"]:
        found = json.loads(path.read_text())
        path.write_text(json.dumps({key: found[key] for key in found if key not in ("inputs", "digest", "version")}))


# --- moved -----------------------------------------------------------------------------------------------------------


def test_a_run_goes_on_where_everything_was_moved_and_nothing_is_made_again(
    moved: World, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = [path for pattern in ("*.tar", "*.safetensors", "evaluation.json") for path in moved.out.rglob(pattern)]
    before = {path: path.read_bytes() for path in kept}
    assert len(before) == 5 and moved.do("run") == 0
    assert {path: path.read_bytes() for path in before} == before
    assert "kept in" not in capsys.readouterr().err
    changed = {name for change in moved.document("run.json")["changes"] for name in change["settings"]}
    assert changed == {"teacher", "generator.source", "generator.lora", "evaluation.source", "evaluation.real"}
    assert moved.do("synthesize", "--synthesis.images-per-class", "2") == 0
    assert moved.document("seed-0/plain/synthesis.json")["num_images"] == 48


def test_another_teacher_at_another_place_is_another_setting(moved: World, capsys: pytest.CaptureFixture[str]) -> None:
    exchange_weights(moved.folder / "teacher" / "model.safetensors")
    assert moved.do("distill") == 2
    error = capsys.readouterr().err
    assert "got another teacher; choose another --out" in error and error.count("\n") == 1


def test_a_run_of_an_earlier_version_goes_on_and_gains_the_record(world: World) -> None:
    without_digests(world)
    weights = (world.out / "seed-0/plain/student/model.safetensors").read_bytes()
    assert world.do("run") == 0
    assert (world.out / "seed-0/plain/student/model.safetensors").read_bytes() == weights
    assert {name.partition(" ")[0] for name in recorded_digests(world.out)} == {"teacher", "generator"}


def test_the_page_says_what_its_figures_rest_on(finished: World) -> None:
    inputs, page = finished.document("metrics.json")["inputs"], (finished.out / "report.html").read_text()
    assert f"teacher: {inputs['teacher'][:8]}" in page and f"id: {inputs['test']['id'][:8]}" in page


def test_the_record_says_since_which_command_and_version(finished: World) -> None:
    for name, entry in recorded_digests(finished.out).items():
        assert entry["since"] == "prismkd run" and len(entry["digest"]) >= 16 and entry["version"], name
    assert {"teacher weights", "teacher preprocessing", "teacher network", "generator transformer",
            "generator scheduler", "generator tiny_vae",
            "generator lora 0"} <= recorded_digests(finished.out).keys()  # fmt: skip


# --- exchanged -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", ["0.5", "0.6"])
def test_no_image_is_added_with_another_adapter(weight: str, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    if weight == "0.5":
        exchange_weights(world.folder / "adapter" / "adapter_model.safetensors")
    adapter = f"{world.folder / 'adapter'}@{weight}"
    assert world.do("synthesize", "--generator.lora", adapter, "--synthesis.images-per-class", "2") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: expected the ") and error.count("\n") == 1


@pytest.mark.parametrize("digests", [True, False])
def test_an_adapter_that_is_added_is_refused_before_anything_is_written(
    digests: bool, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the run has noted no digests, and nothing says what its generator was."""
    if not digests:
        without_digests(world)
    before, adapter = (world.out / "run.json").read_bytes(), f"{world.folder / 'adapter'}@0.5"
    assert world.do("synthesize", "--generator.lora", adapter, adapter, "--synthesis.images-per-class", "2") == 2
    assert "got another generator.lora; choose another --out" in capsys.readouterr().err
    assert (world.out / "run.json").read_bytes() == before and (world.out / "digests.json").is_file() == digests
    assert world.do("synthesize", "--synthesis.images-per-class", "2") == 0


@pytest.mark.parametrize("command", ["prompts", "synthesize", "distill", "evaluate", "report", "run", "survival"])
def test_no_stage_goes_on_with_another_teacher(command: str, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    exchange_weights(world.folder / "teacher" / "model.safetensors")
    before = {path: path.read_bytes() for path in world.out.rglob("*.json") if ".locks" not in path.parts}
    assert world.do(command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "expected the teacher weights that" in error
    assert "bring it back, or choose another --out" in error
    assert {path: path.read_bytes() for path in before} == before


def test_another_teacher_under_the_old_name_is_named_with_what_changed(
    finished: World, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    exchange_weights(world.folder / "teacher" / "model.safetensors")
    capsys.readouterr()
    assert main(["distill", "--out", str(world.out)]) == 2
    error = capsys.readouterr().err
    assert "expected the teacher weights that" in error and "since `prismkd run` of" in error
    assert "got another (digest " in error and str(world.folder / "teacher") in error and error.count("\n") == 1
    shutil.copy(finished.folder / "teacher" / "model.safetensors", world.folder / "teacher")
    config = world.folder / "teacher" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"mean": [0.4], "std": [0.2]}))
    assert main(["evaluate", "--out", str(world.out)]) == 2
    assert "expected the teacher preprocessing that" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["transformer", "tiny_vae", "scheduler", "tokenizer"])
def test_another_part_of_the_generator_draws_nothing_more(
    part: str, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    path = next(path for path in sorted((world.folder / "generator" / part).rglob("*")) if path.suffix == ".json")
    path.write_text(path.read_text() + " ")
    capsys.readouterr()
    assert main(["synthesize", "--out", str(world.out), "--seeds", "0", "7"]) == 2
    error = capsys.readouterr().err
    assert f"expected the generator {part} that" in error and error.count("\n") == 1
    assert not list(world.out.glob("seed-7/*/images"))
    assert main(["evaluate", "--out", str(world.out)]) == 0  # which doesn't use it


def test_a_worker_draws_nothing_with_another_teacher_or_generator(finished: World, world: World) -> None:
    opened = OpenShards(world.out, 0, "plain", 0, trust=False)
    opened("cpu")
    exchange_weights(world.folder / "teacher" / "model.safetensors")
    with pytest.raises(UserError, match="expected the teacher weights"):
        opened("cpu")
    shutil.copy(finished.folder / "teacher" / "model.safetensors", world.folder / "teacher")
    exchange_weights(world.folder / "generator" / "transformer" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(UserError, match="expected the generator transformer"):
        opened("cpu")


def test_other_test_images_are_measured_again_for_all_rows(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    old = world.document("metrics.json")
    exchange_image(world.folder / "test.parquet")
    capsys.readouterr()
    assert main(["evaluate", "--out", str(world.out)]) == 0
    assert "another content of test than in" in capsys.readouterr().err
    assert world.document("earlier-results/metrics.json") == old
    names = ("references.json", "seed-0/plain/evaluation.json", "seed-0/real/evaluation.json", "metrics.json")
    tests = [world.document(name)["inputs"]["test"] for name in names]
    assert all(test == tests[0] != old["inputs"]["test"] for test in tests)


def test_a_table_whose_rows_are_of_two_test_sets_makes_no_page(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    path = world.out / "seed-0/plain/evaluation.json"
    found = json.loads(path.read_text())
    found["inputs"]["test"]["id"] = "0" * 64
    path.write_text(json.dumps(found))
    assert main(["report", str(world.out)]) == 2
    error = capsys.readouterr().err
    assert "got another test; run `prismkd evaluate` again" in error and error.count("\n") == 1


def test_a_student_of_other_real_images_is_set_aside(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    exchange_image(world.folder / "real.parquet")
    capsys.readouterr()
    assert main(["evaluate", "--out", str(world.out)]) == 2
    assert "run `prismkd distill --out" in capsys.readouterr().err
    assert main(["distill", "--out", str(world.out)]) == 0
    assert "another content of images than when the student of real (seed 0)" in capsys.readouterr().err
    assert (world.out / "seed-0/real/student-other-images/evaluation.json").is_file()
    assert not (world.out / "seed-0/plain/student-other-images").exists()


def test_a_student_of_images_that_were_drawn_again_otherwise_is_set_aside(world: World) -> None:
    record = world.out / "seed-0/plain/images/ledger/shard-000000.json"
    before = json.loads((world.out / "seed-0/plain/student/log.json").read_text())["inputs"]["images"]
    from prismkd.shards import Storage, drop_shard, read_manifest, read_samples, write_shard

    storage = Storage(record.parents[1])
    manifest, samples = read_manifest(storage), list(read_samples(storage))
    assert manifest is not None
    drop_shard(storage, 0)
    write_shard(storage, 0, samples[::-1], manifest.plan_hash)
    assert main(["distill", "--out", str(world.out)]) == 0
    assert world.document("seed-0/plain/student/log.json")["inputs"]["images"] != before
    assert world.document("seed-0/plain/student-other-images/log.json")["inputs"]["images"] == before


@pytest.mark.parametrize("use", ["evaluate", "report", "export", "compare"])
def test_a_student_that_was_exchanged_has_no_figures(
    use: str, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exchange_weights(world.out / "seed-0/plain/student/model.safetensors")
    commands: dict[str, Callable[[], int]] = {
        "evaluate": lambda: world.do("evaluate"),
        "report": lambda: main(["report", str(world.out)]),
        "export": lambda: main(["export", "--out", str(world.out), "--to", "safetensors", "--method", "plain",
                                "--dest", str(tmp_path / "student")]),
        "compare": lambda: main(["compare", str(world.out), "--methods", "plain", "real"]),
    }  # fmt: skip
    assert commands[use]() == 2
    error = capsys.readouterr().err
    assert "as `prismkd distill` wrote it" in error and error.count("\n") == 1
    assert not (tmp_path / "student").exists()


def test_a_shard_whose_bytes_changed_is_not_learned_from(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    tar = world.out / "seed-0/plain/images/shard-000000.tar"
    content = bytearray(tar.read_bytes())
    content[-1] ^= 1  # in what fills the tar up, where no reader of tars looks
    tar.write_bytes(content)
    (world.out / "seed-0/plain/student/log.json").unlink()
    capsys.readouterr()
    assert main(["distill", "--out", str(world.out)]) == 2
    error = capsys.readouterr().err
    assert "shard-000000.tar" in error and "`prismkd repair` draws it again" in error and error.count("\n") == 1


# --- the record ------------------------------------------------------------------------------------------------------


def test_a_part_that_is_missing_or_new_is_another_one(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    note_digests(tmp_path, {"teacher 1 weights": "a", "teacher 2 weights": "b"}, "prismkd prompts --out x")
    note_digests(tmp_path, {"generator transformer": "c"}, "prismkd synthesize --out x")
    check_digests(tmp_path, {"teacher 1 weights": "a", "teacher 2 weights": "b"}, "x")
    check_digests(tmp_path, {}, "a model on the hub")
    with pytest.raises(UserError, match=r"expected the teacher 2 weights that .* since `prismkd prompts`"):
        check_digests(tmp_path, {"teacher 1 weights": "a"}, "x")
    with pytest.raises(UserError, match="expected the teacher 2 weights"):
        check_digests(tmp_path, {"teacher 1 weights": "a", "teacher 2 weights": "c"}, "x")


def test_inputs_differ_where_one_has_more_and_records_without_any_pass() -> None:
    assert differing_inputs({"test": {"id": "a"}}, {"test": {"id": "a"}, "judge": "b"}) == ["judge"]
    assert differing_inputs({"test": {"id": "a"}, "judge": "b"}, {"test": {"id": "c"}}) == ["judge", "test"]
    assert differing_inputs(None, {"test": "a"}) == differing_inputs({}, {"test": "a"}) == []


def test_a_damaged_record_is_one_line(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    (world.out / "digests.json").write_text('{"teacher weights": 3}')
    assert world.do("distill") == 2
    error = capsys.readouterr().err
    assert "digests.json" in error and error.count("\n") == 1


def test_a_module_in_bfloat16_has_a_digest() -> None:
    from prismkd.classifiers import Classifier, weights_digest

    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 2))
    config = {"num_classes": 2, "in_channels": 3}
    first = weights_digest(Classifier(network, config))
    assert weights_digest(Classifier(network.bfloat16(), config)) != first


def test_settings_of_a_run_that_nobody_claims_are_compared_with_nothing(world: World) -> None:
    exchange_weights(world.folder / "teacher" / "model.safetensors")
    before = (world.out / "digests.json").read_bytes()
    run = open_run(load_config(world.folder / "tiny.toml"), world.out, "prismkd plan", silent, claim=False)
    assert run.generator is not None and (world.out / "digests.json").read_bytes() == before
