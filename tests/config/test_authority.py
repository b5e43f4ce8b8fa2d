"""What a run's record may decide: never what reaches the network, the environment, code or another place."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from prismkd.classifiers import load_teacher
from prismkd.cli import main
from prismkd.commands.opening import check_reserved, stay_offline
from prismkd.commands.parsing import parse
from prismkd.commands.run_arguments import RunArguments
from prismkd.config import Config
from prismkd.config.authority import LEFT_OUT, RESERVED, check_storage, reserved_in, value_of, without_reserved
from prismkd.config.embedded import resolved
from prismkd.config.load import config_from_dict
from prismkd.config.stages import SETTINGS_WITHOUT_EFFECT_ON_RESULTS
from prismkd.errors import UserError
from prismkd.records.directory import recorded_config
from prismkd.runs.run import Run

HOSTILE: dict[str, Any] = {
    "trust": True,
    "prompts": {"language_model": {"url": "http://evil.example", "model": "m", "key_variable": "AWS_SECRET_KEY"}},
    "synthesis": {"storage": "s3://evil/place", "executor": "ray", "ray_address": "ray://evil.example:10001"},
    "distillation": {"tracker": "wandb"},
    "generator": {"source": "evil/model", "tiny_decoder": "evil/decoder"},
    "teacher": "transformers:evil/teacher",
    "evaluation": {"judge": "timm:evil"},
}  # fmt: skip


@pytest.fixture
def received(tmp_path: Path) -> Path:
    """A run's folder whose record asks for everything."""
    folder = tmp_path / "received"
    folder.mkdir()
    record = {"config": asdict(config_from_dict(HOSTILE)), "classes": [], "command": "", "started": ""}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def test_the_hostile_record_uses_every_reserved_setting() -> None:
    assert reserved_in(config_from_dict(HOSTILE)) == list(RESERVED)


def test_what_a_run_can_do_without_changes_no_result() -> None:
    assert set(LEFT_OUT) <= SETTINGS_WITHOUT_EFFECT_ON_RESULTS and set(LEFT_OUT) <= set(RESERVED)


def test_a_record_alone_decides_nothing_that_reaches_out(received: Path) -> None:
    config, default = recorded_config(received), Config()
    assert all(value_of(config, name) == value_of(default, name) for name in LEFT_OUT)
    assert recorded_config(received, trust=True) == resolved(config_from_dict(HOSTILE))


def test_a_command_that_names_a_setting_decides_it(received: Path) -> None:
    words = ["--out", str(received), "--prompts.language-model.url", "http://mine", "--synthesis.storage=s3://mine/x"]
    arguments = parse(RunArguments, "run", words)
    model = arguments.settings.prompts.language_model
    assert model.url == "http://mine" and model.key_variable == "OPENAI_API_KEY"
    assert not {"prompts.language_model.url", "synthesis.storage"} & set(arguments.from_record)
    assert {"synthesis.executor", "generator.source", "teacher"} <= set(arguments.from_record)


def test_trust_lets_the_record_decide_all(received: Path) -> None:
    arguments = parse(RunArguments, "run", ["--out", str(received), "--trust"])
    assert arguments.settings == resolved(config_from_dict(HOSTILE)) and arguments.from_record == ()


def test_images_elsewhere_are_refused_and_those_inside_are_not(received: Path) -> None:
    arguments = parse(RunArguments, "run", ["--out", str(received)])
    with pytest.raises(UserError, match=r"s3://evil/place from its record alone"):
        check_reserved(arguments, received)
    with pytest.raises(UserError, match="alone"):
        check_storage(str(received / ".." / "elsewhere"), received, trust=False)
    (received / "link").symlink_to(received.parent)
    with pytest.raises(UserError, match="alone"):
        check_storage(str(received / "link"), received, trust=False)
    check_storage(str(received / "images"), received, trust=False)
    check_storage("s3://mine/x", received, trust=True)


@pytest.mark.parametrize(
    ("command", "words"),
    [("status", ["--out"]), ("verify", ["--out"]), ("repair", ["--out"]), ("report", []), ("synthesize", ["--out"]),
     ("export", ["--to", "hf", "--dest", "/nowhere/x", "--out"]),
     ("export", ["--to", "student", "--dest", "/nowhere/x", "--out"])],
)  # fmt: skip
def test_no_command_goes_where_a_record_alone_leads(
    command: str, words: list[str], received: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from prismkd.cli import main

    assert main([command, *words, str(received)]) == 2
    assert "s3://evil/place from its record alone" in capsys.readouterr().err


def test_no_server_is_asked_that_a_record_alone_names(received: Path) -> None:
    with pytest.raises(UserError, match="address of the language model from this command"):
        Run(replace(recorded_config(received), teacher="pictograms"), directory=received).suggestions()


def test_nothing_is_fetched_from_a_hub_that_a_record_alone_names(monkeypatch: pytest.MonkeyPatch) -> None:
    config = without_reserved(config_from_dict(HOSTILE))
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_VERBOSITY"):
        monkeypatch.setenv(name, "0")
    stay_offline(config, ())
    assert os.environ["HF_HUB_OFFLINE"] == "0"
    stay_offline(config, ("generator.source",))
    assert os.environ["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize("words", [["export", "--to", "safetensors", "--dest", "new", "--out"], ["predict"]])
def test_a_command_that_only_opens_a_run_s_student_fetches_nothing(
    words: list[str], received: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = json.loads((received / "run.json").read_text())
    record["config"]["synthesis"]["storage"] = ""
    (received / "run.json").write_text(json.dumps(record))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert main([*words, str(received), *(["a.png"] if words == ["predict"] else [])]) == 2  # there is no student
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_weights_that_no_hub_holds_are_not_fetched_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match="without a network"):
        load_teacher("torchvision:squeezenet1_1", [str(label) for label in range(1000)])


def test_a_list_of_teachers_that_a_record_names_fetches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    config = replace(Config(), teacher="teachers.toml")
    stay_offline(config)  # the command names it, and it may name models of a hub
    assert os.environ["HF_HUB_OFFLINE"] == "0"
    stay_offline(config, reserved_in(config))
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_the_page_on_security_names_every_reserved_setting() -> None:
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    assert all(f"| `{name}` | {row.reaches} | {row.otherwise} |" in page for name, row in RESERVED.items())
