"""What a command's words become, what its help says, and the one line that a wrong word gets."""

import ast
import inspect
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import asdict, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from prismkd.cli import COMMANDS, main
from prismkd.commands import merge, prompts, report, run, synthesize
from prismkd.commands.parsing import flags_of, parse
from prismkd.commands.run_arguments import RunArguments
from prismkd.config import Config
from prismkd.config.ranges import OneOf, typed_fields, without_extras
from prismkd.errors import UserError

HEAVY = "torch timm transformers diffusers pandas rich numpy".split()
ARGUMENTS = {name: import_module(f"prismkd.commands.{name.replace('-', '_')}").Arguments for name in COMMANDS}


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines that ``--help`` prints, without frames."""
    assert main([command, "--help"]) == 0
    frames = r"[\u2500-\u257f]|\x1b\[[0-9;]*m|--{2,}|^\+|\+$|^\||\|$"
    lines = (re.sub(frames, " ", line).strip() for line in capsys.readouterr().out.splitlines())
    return [line for line in lines if line]


# --- help ------------------------------------------------------------------------------------------------------------


def test_the_help_of_a_command_is_its_dataclass(capsys: pytest.CaptureFixture[str]) -> None:
    assert " ".join(" ".join(help_of("merge", capsys)).split()) == (
        "usage: prismkd merge [-h] --dest STR [--from FOLDER...] "
        "Several finished data sets of the same classes as one, numbered anew. "
        "options -h, --help show this help message and exit "
        "--dest STR A new folder or URL. (required) "
        "--from FOLDER... Folders of shards, such as runs/a/seed-0/prism/images. (default: )"
    )


def test_the_help_lists_every_command_with_the_first_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main(["help"]) == main(["-h"]) == 0
    shown = capsys.readouterr().out
    for name in COMMANDS:
        assert f"\n  {name:11s} {(ARGUMENTS[name].__doc__ or '').splitlines()[0]}\n" in shown


def test_every_command_is_a_file_and_a_function() -> None:
    names = [path.stem for path in Path(prompts.__file__).parent.glob("*.py")]
    modules = {name: import_module(f"prismkd.commands.{name}") for name in names}
    commands = {name for name, module in modules.items() if hasattr(module, "Arguments")}
    assert commands == {name.replace("-", "_") for name in COMMANDS}
    assert all(callable(getattr(modules[name], name)) for name in commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_errors_know_the_flags_that_tyro_takes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Line beginnings of the help are flags; ``--x, --no-x`` are two."""
    lines = [f" {line}" for line in help_of(command, capsys) if line.startswith(("--", "-h"))]
    found = {flag for line in lines for flag in re.findall(r"(?<=\s)--[a-z0-9.-]+", line)}
    assert found - {"--help"} == set(flags_of(ARGUMENTS[command]))


def documented(kind: type) -> dict[str, str]:
    """Fields of a class body and the string below each."""
    body = ast.parse(inspect.getsource(kind)).body[0].body  # type: ignore[attr-defined]
    found = {}
    for node, below in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else ""
            found[node.target.id] = " ".join(str(text).split())
    return found


def dataclasses_in(kind: Any) -> Iterator[type]:
    yield from (base for base in kind.__mro__ if is_dataclass(base))
    for hint in typed_fields(kind).values():
        if is_dataclass(inner := without_extras(hint)[0]):
            yield from dataclasses_in(inner)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_field_of_a_command_says_what_it_is(command: str) -> None:
    for kind in dataclasses_in(ARGUMENTS[command]):
        texts, inherited = (
            documented(kind),
            {f.name for base in kind.__bases__ if is_dataclass(base) for f in fields(base)},
        )
        for name, hint in typed_fields(kind).items():
            plain, extras = without_extras(hint)
            if name in inherited or is_dataclass(plain):
                continue
            assert texts[name].endswith((".", "...")), f"{kind.__name__}.{name}"
            for choices in (extra.choices for extra in extras if isinstance(extra, OneOf)):
                missing = [word for word in choices if not re.search(rf"\b{word}\b", texts[name])]
                assert not missing, f"{kind.__name__}.{name} doesn't name {missing}"


@pytest.mark.parametrize("columns", ["1", "20", "400"])
def test_a_narrow_terminal_breaks_nothing(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["export", "--help"]) == 0 and main(["prompts", "--help"]) == 0
    assert capsys.readouterr().out
    assert main(["prompts", "--dry-run"]) == 0
    assert capsys.readouterr().out
    for words in (["export"], ["synthesize", "--out"], ["synthesize", "--generator.batchsize", "x" * 200]):
        assert main(words) == 2
        assert capsys.readouterr().err.count("\n") == 1


# --- what is typed ---------------------------------------------------------------------------------------------------


def test_flags_go_before_the_file_and_the_last_one_wins(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("seeds = [4]\n[guidance]\nstrength = 0.1\nevery = 3\n")
    words = ["--guidance.strength", "0.2", "--config", str(tmp_path / "a.toml"), "--out=x", "--guidance.strength=0.3",
             "--out", "y"]  # fmt: skip
    arguments = parse(run.Arguments, "run", words)
    assert arguments.out == "y" and arguments.config == tmp_path / "a.toml"
    guidance = arguments.settings.guidance
    assert (arguments.settings.seeds, guidance.strength, guidance.every) == ((4,), 0.3, 3)
    assert arguments.command_line == " ".join(["prismkd", "run", *words])


def test_every_setting_is_a_flag() -> None:
    """The defaults, typed out, are the defaults."""
    words = list[str]()
    for name, value in flattened(asdict(Config())):
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            before, _, last = flag.rpartition(".") if "." in flag else ("--", "", flag[2:])
            words.append(flag if value else f"{before}.no-{last}" if before != "--" else f"--no-{last}")
        elif isinstance(value, tuple):
            words += [flag, *map(str, value)]
        else:
            words.append(f"{flag}={value}")
    assert parse(synthesize.Arguments, "synthesize", words).settings == Config()
    assert len(words) > 90


def flattened(data: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def test_underscores_negative_numbers_and_lists() -> None:
    words = ["--generator.batch_size", "3", "--guidance.log-snr-min", "-2.5", "--methods", "plain", "eda", "--trust",
             "--seeds", "1", "2", "--rank", "0", "--world", "2"]  # fmt: skip
    found = parse(synthesize.Arguments, "synthesize", words)
    settings = found.settings
    assert (settings.generator.batch_size, settings.guidance.log_snr_min, settings.trust) == (3, -2.5, True)
    assert (settings.methods, settings.seeds, found.rank, found.world) == (("plain", "eda"), (1, 2), 0, 2)


def test_positions_and_names_that_are_words_of_python() -> None:
    assert parse(merge.Arguments, "merge", ["--dest", "d", "--from", "a", "b"]).sources == ("a", "b")
    found = parse(report.Arguments, "report", ["a", "b", "--dest", "f"])
    assert (found.runs, found.dest) == ((Path("a"), Path("b")), Path("f"))
    assert parse(prompts.Arguments, "prompts", ["--dry-run", "--num-images", "1" + "0" * 15]).num_images == 10**15


# --- one line --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("rnu", "expected a command, got 'rnu'; perhaps run"),
        ("push_to_hub x", "expected a command, got 'push_to_hub'; perhaps push-to-hub"),
        ("run", "expected --out DIR, got none; name the run's folder"),
        ("run demo.toml", "expected options of `prismkd run`, got demo.toml; see `prismkd run --help`"),
        ("run --batch-size 3 --out x",
         "expected options of `prismkd run`, got --batch-size 3; perhaps --generator.batch-size"),
        ("run --generator.batch_sise=3 --out x",
         "expected options of `prismkd run`, got --generator.batch_sise=3; perhaps --generator.batch-size"),
        ("run --generator.batch-size twelve",
         "expected int for generator.batch_size, got 'twelve' (str); correct the value"),
        ("run --generator.batch-size", "expected a value after --generator.batch-size, got none; give one"),
        ("run --out --generator.batch-size 3", "expected a value after --out, got none; give one"),
        ("run --generator.guidance-scale nan", "expected a finite generator.guidance_scale, got nan; give a number"),
        ("run --guidance.strength -1", "expected a finite guidance.strength of at least 0, got -1.0; correct it"),
        ("run --guidance.energy hing",
         "expected guidance.energy to be one of hinge, free, joint, conditional, elucd, got 'hing'; perhaps hinge"),
        ("run --methods plain prsm",
         "expected methods to be one of plain, more, eda, dpe, prism, adapted, adapted-prism, prism-rounds, "
         "adapted-prism-rounds, real, got 'prsm'; "
         "perhaps prism"),
        ("run --seeds 9223372036854775808",
         "expected seeds from 0 to 9223372036854775807, got 9223372036854775808; correct it"),
        ("run --seeds -1", "expected seeds from 0 to 9223372036854775807, got -1; correct it"),
        ("synthesize --rank 1 --out x", "expected --rank and --world together, got one of them; give both"),
        ("synthesize --rank -1 --world 2",
         "expected a whole number from 0 to 999999 for --rank, got -1; correct it"),
        ("status", "expected --out, got none; `prismkd status --help` says what it is"),
        ("status --out x --watch soon", "expected float for --watch, got 'soon' (str); correct the value"),
        ("export --dest x --out y", "expected --to, got --dest x --out y; `prismkd export --help` says what it is"),
        ("export --out x --dest y --to onx",
         "expected --to to be one of imagefolder, hf, webdataset, safetensors, onnx, student, got 'onx'; perhaps onnx"),
        ("predict", "expected STUDENT FILES, got none; `prismkd predict --help` says what it is"),
        ("predict x y --top three", "expected int for --top, got 'three' (str); correct the value"),
        ("prompts --json", "expected --dry-run beside --num-images and --json, got none; add it"),
    ],
)  # fmt: skip
def test_a_wrong_word_is_one_line(words: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    shown = capsys.readouterr()
    assert shown.err == f"error: {line}\n" and not shown.out


@pytest.mark.parametrize(
    "words", [["status", "--out"], ["predict", "--top"], ["merge", "--dest=", "--sources", "x\ny"]]
)
def test_whatever_is_wrong_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: expected ") and error.count("\n") == 1 and "\u2500" not in error


def test_more_than_a_parse_can_say_is_tyros_own_words_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unforeseen refusal of tyro, whose box it is, still is one line."""

    def refuse(*_: object, **__: object) -> None:
        print("\u256d\u2500 Parsing error \u2500\u256e\n\u2502 That is \u2502\n\u2502 not so. \u2502", file=sys.stderr)
        sys.exit(2)

    monkeypatch.setattr("tyro.cli", refuse)
    with pytest.raises(
        UserError, match=r"expected what `prismkd run --help` lists, got: Parsing error That is not so\."
    ):
        parse(run.Arguments, "run", [])


# --- what is imported ------------------------------------------------------------------------------------------------


def test_help_and_errors_import_no_libraries(tmp_path: Path) -> None:
    """Nor do the checks of settings, in any command."""
    (tmp_path / "a.toml").write_text("[guidance]\nstrenght = 1")
    cases = [(["--help"], 0), (["synthesize", "--help"], 0), (["export", "--help"], 0), (["rnu"], 2),
             (["run", "--config", str(tmp_path / "a.toml")], 2),
             *(([name, "--guidance.strength", "nan"], 2) for name in COMMANDS)]  # fmt: skip
    code = (
        "import sys; from prismkd.cli import main\n"
        f"for words, code in {cases!r}: assert main(words) == code, words\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert lines[-1] == "[]" and len(lines) == 3 + len(COMMANDS), done.stderr


def test_settings_of_a_run_are_a_part_of_the_arguments() -> None:
    """So that a command can be called from Python with a configuration."""
    config = Config(classes="pictograms-24", seeds=(3,))
    with redirect_stdout(io.StringIO()) as shown:
        prompts.prompts(prompts.Arguments(settings=config, dry_run=True, num_images=48, json=True))
    assert '"num_images": 48' in shown.getvalue()
    assert {name for name, kind in ARGUMENTS.items() if issubclass(kind, RunArguments)} == {
        "run", "senses", "prompts", "plan", "adapt", "synthesize", "distill", "evaluate", "report", "doctor",
        "survival",
    }  # fmt: skip
