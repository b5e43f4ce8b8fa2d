"""The command line: quick help, one-line errors, exit codes."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm

from prismkd.classes import load_classes
from prismkd.classifiers import save_classifier
from prismkd.cli import main
from prismkd.commands import plan, predict, run
from prismkd.commands.parsing import parse
from prismkd.errors import UserError
from prismkd.files.write import disk_error
from prismkd.records.directory import run_folder


def test_help_does_not_import_torch() -> None:
    code = "import sys; from prismkd.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "synthesize" in done.stdout


@pytest.mark.parametrize("out", ["/dev/null/run", "x" * 300])
def test_a_path_that_no_disk_takes_is_one_line(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ["prompts", "--out", out],
        ["status", "--out", out],
        ["export", "--out", out, "--to", "hf", "--dest", out],
    ):
        assert main(arguments) == 2
        shown = capsys.readouterr().err
        assert shown.startswith("error: expected ") and shown.count("\n") == 1


def test_a_name_that_is_not_utf_8_is_refused_before_a_record_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c\udcff.toml").write_text("seeds = [1]")
    for words in (
        ["--out", "r\udcff"],
        ["--out", "out", "--synthesis.storage", "s\udcff"],
    ):
        assert main(["prompts", *words]) == 2
        assert " in UTF-8, got " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["c\udcff.toml"]
    words = ["--config", "c\udcff.toml", "--out", "out"]  # which is read only, and named by the record
    assert parse(run.Arguments, "run", words).command_line == r"prismkd run --config c\udcff.toml --out out"
    with pytest.raises(UserError, match="expected the run's folder in UTF-8"):
        run_folder("r\udcff")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_the_locale_can_not_say_is_printed_as_an_escape(encoding: str) -> None:
    program = (
        "import sys; import prismkd.cli as cli\n"
        "cli._do = lambda words: print('\u2192', '\\udcff')\nsys.exit(cli.main())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False,
                          env={**os.environ, "PYTHONIOENCODING": encoding})  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.rstrip().endswith(b" \\udcff")


@pytest.mark.parametrize(
    ("price", "code"), [(".5", 0), ("2.", 0), ("2.50", 0), (".", 2), ("-1", 2), ("", 2), ("1e3", 2)]
)
def test_a_price_is_a_plain_number(price: str, code: int) -> None:
    words = ["--dry-run", "--price", price]
    if code == 0:
        assert float(parse(plan.Arguments, "plan", words).price) == float(price)
    else:
        with pytest.raises(UserError, match="expected a number for --price"):
            parse(plan.Arguments, "plan", words)


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, num_classes = tmp_path / "out", len(load_classes("pictograms"))
    few, judge = write(tmp_path / "few.txt", "cat\ndog\n"), tmp_path / "judge"
    save_classifier(judge, timm.create_model("test_convnext", num_classes=num_classes),
                    {"architecture": "test_convnext", "num_classes": num_classes, "in_channels": 3})  # fmt: skip
    cases = [
        (["rnu"], "perhaps run"),
        (["run", "--config", str(tmp_path / "none.toml"), "--out", str(out)], "expected a configuration file"),
        (["run"], "expected --out DIR"),
        (["run", "--out"], "expected a value after --out"),
        (["run", "--config", write(tmp_path / "a.toml", "seed = [1]"), "--out", str(out)], "perhaps seeds"),
        (["run", "--config", write(tmp_path / "b.toml", f"classes = '{few}'"), "--out", str(out)],
         f"expected a class list with {num_classes} names"),
        (["run", "--config", write(tmp_path / "c.toml", f"teacher = '{tmp_path}'"), "--out", str(out)],
         "expected a classifier folder"),
        (["run", "--config", write(tmp_path / "d.toml", "methods = ['more']"), "--out", str(out)],
         "expected plain and prism beside more"),
        (["run", "--config", write(tmp_path / "e.toml", "[guidance]\nenergy = 'fre'"), "--out", str(out)],
         "perhaps free"),
        (["run", "--config", write(tmp_path / "f.toml", "[guidance]\nlog_snr_min = 1.0"), "--out", str(out)],
         "expected guidance.log_snr_min below log_snr_max"),
        (["run", "--config", write(tmp_path / "g.toml", "[generator]\ndevice = 'cuda:99'"), "--out", str(out)],
         "expected a device of this machine"),
        (["run", "--config", write(tmp_path / "h.toml", "[guidance]\nstrength = inf"), "--out", str(out)],
         "expected a finite number as guidance.strength"),
        (["run", "--config", write(tmp_path / "i.toml", "[guidance]\ndiversity_weight = 1.0\n[synthesis]\n"
                                   "shard_size = 24"), "--out", str(out)], f"shard_size of at least {2 * num_classes}"),
        (["run", "--config", write(tmp_path / "j.toml", f"[evaluation]\nimage_size = 16\njudge = '{judge}'"),
          "--out", str(out)], "Kernel size can't be greater than actual input size; raise evaluation.image_size"),
        (["bench"], "which is a program of the repository now; `python -m benchmarks.cost`"),
        (["bench", "guidance", "--steps", "0"], "expected"),
    ]  # fmt: skip
    for arguments, message in cases:
        assert main(arguments) == 2, arguments
        error = capsys.readouterr().err
        assert message in error
        assert error.startswith("error: expected")
        assert error.count("\n") == 1
    assert not out.exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    assert main(["run", "--out", str(tmp_path)]) == 2
    assert "choose another --out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("redirection", [">/dev/full", "2>/dev/full", "2>&-", ">&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", ["--version", "status --out nowhere"])
def test_streams_that_take_nothing_end_in_no_traceback(redirection: str, words: str, tmp_path: Path) -> None:
    command = f"{sys.executable} -m prismkd {words} {redirection}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode == 0) == (words == "--version" and redirection != ">/dev/full")
    assert "Traceback" not in done.stderr and "ignored" not in done.stderr and done.stderr.count("\n") <= 1


def test_too_few_file_handles_are_no_fault_of_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = OSError(errno.EMFILE, "Too many open files", str(tmp_path))
    monkeypatch.setattr("prismkd.cli._dispatch", lambda words: (_ for _ in ()).throw(error))
    assert main(["run"]) == 2
    remedy = "Too many open files; allow more open files (ulimit -n)"
    assert capsys.readouterr().err == f"error: expected {tmp_path}, got: {remedy}\n"
    assert f"{remedy}; what is committed stays" in str(disk_error(error, str(tmp_path)))


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    program = (
        "import sys; from prismkd.cli import main; sys.argv[1:] = ['--version']; main();"
        " print(open('file', 'w').fileno() > 2)"
    )
    done = subprocess.run(["sh", "-c", f'{sys.executable} -c "{program}" 2>&-'], capture_output=True, text=True,
                          cwd=tmp_path, check=False)  # fmt: skip
    assert done.stdout.endswith("True\n")


def test_an_image_to_predict_may_have_any_name() -> None:
    assert parse(predict.Arguments, "predict", ["student", "a\udcff.png"]).files == (Path("a\udcff.png"),)
