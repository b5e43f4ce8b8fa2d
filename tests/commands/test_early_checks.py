"""What is said before torch is imported, and what the environment of torch is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from prismkd.classes import load_classes
from prismkd.commands.early_checks import check_classifier
from prismkd.commands.opening import stay_offline
from prismkd.config import Config
from prismkd.errors import UserError

NUM_CLASSES = len(load_classes("pictograms"))
TOO_LONG = "a" * 300  # for a file's name
MISTAKES = {
    f"--teacher {TOO_LONG}": "expected a file or folder for teacher, got aaa",
    f"--generator.source {TOO_LONG}": "expected a file or folder for generator.source, got aaa",
    f"--evaluation.judge timm:resnet18@{TOO_LONG}": "expected a file or folder for evaluation.judge, got aaa",
    f"--evaluation.source {TOO_LONG}": "expected a file or folder for evaluation.source, got aaa",
    "--teacher nosuch": "expected a file or folder for teacher, got nosuch",
    "--teacher timm:resnet18@nosuch.pt": "expected a file or folder for teacher, got nosuch.pt",
    "--classes nosuch.csv": "got nosuch.csv",
    "--generator.source ./nosuch": "expected a file or folder for generator.source",
    "--evaluation.source nosuch": "expected a file or folder for evaluation.source",
    "--evaluation.shifted sketch=nosuch": "expected a file or folder for evaluation.shifted",
    "--evaluation.real nosuch": "expected a file or folder for evaluation.real",
    "--evaluation.judge nosuch": "expected a file or folder for evaluation.judge",
    "--distillation.real nosuch": "expected a file or folder for distillation.real",
    "--distillation.initial nosuch": "expected a file or folder for distillation.initial",
    "--prompts.domains nosuch": "expected a style domain",
    "--methods more": "expected plain and prism beside more",
    "--seeds 1 1": "expected seeds, each once",
    "--guidance.diversity-weight 1 --synthesis.shard-size 24": f"synthesis.shard_size of at least {2 * NUM_CLASSES}",
    "--config nosuch.toml": "expected a configuration file",
}


def test_what_needs_no_torch_is_refused_before_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    cases = [["run", "--out", "new", *words.split()] for words in MISTAKES]
    cases += [["doctor", "--teacher", "nosuch"], ["run", "--out", "full"], ["report", "--out", "nosuch"],
              ["evaluate", "--out", "nosuch"], ["report", "nosuch"], ["compare", "nosuch"]]  # fmt: skip
    expected = [*MISTAKES.values(), "expected a file or folder for teacher", "expected a new folder or one of prismkd",
                "got nosuch, where there is nothing", "got nosuch, where there is nothing", "where there is none",
                "expected a run directory"]  # fmt: skip
    code = f"""
import sys
from prismkd.cli import main
for words in {json.dumps(cases)}:
    assert main(words) == 2, words
    assert "torch" not in sys.modules, words
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(expected)
    for line, message in zip(lines, expected, strict=True):
        assert line.startswith("error: expected") and message in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


@pytest.mark.parametrize(("given", "policy"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_wait_passively_unless_the_user_says_otherwise(given: str | None, policy: str) -> None:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    }
    if given:
        environment["OMP_WAIT_POLICY"] = given
    code = "import os; from prismkd.cli import main; main(['report', 'x']); print(os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == policy


@pytest.mark.parametrize(("teacher", "is_terminal", "quiet"), [
    ("pictograms", True, True), ("timm:resnet18", True, False), ("timm:resnet18", False, True),
])  # fmt: skip
def test_libraries_show_bars_only_of_downloads_and_on_a_terminal(
    teacher: str, is_terminal: bool, quiet: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_OFFLINE", "TRANSFORMERS_VERBOSITY"):
        monkeypatch.setenv(name, "")  # so that it is restored afterwards
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    stay_offline(Config(teacher=teacher))
    assert ("HF_HUB_DISABLE_PROGRESS_BARS" in os.environ) == quiet


def test_a_file_that_was_moved_is_asked_for_by_its_flag(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"isn't there; say where it is by --teacher$"):
        check_classifier("teacher", str(tmp_path / "moved"))
