"""The command line: one command per stage, and ``run`` for all of them. torch is imported inside the commands."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prismkd import __version__
from prismkd.commands import console
from prismkd.config import Config
from prismkd.errors import UserError
from prismkd.progress import bars

if TYPE_CHECKING:
    from prismkd.runs.run import Run

COMMANDS = {
    "run": "all stages: prompts, synthesize, distill, evaluate, report",
    "senses": "which wording of each class the teacher recognizes, as a table",
    "prompts": "class names to a prompt plan; `prompts --dry-run` shows it and what it costs, and draws nothing",
    "synthesize": "prompts to images, guided by the teacher where the method says so",
    "plan": "all decisions before the images; `plan --dry-run` measures a few images: hours, GB, cost",
    "status": "how far a run is, from another terminal too",
    "verify": "read every byte of the images again",
    "repair": "draw again what is damaged, missing or was given up",
    "export": "the images as imagefolder, hf (Parquet) or webdataset; a student as safetensors, ONNX or both",
    "merge": "several data sets as one",
    "distill": "images to students",
    "evaluate": "students and images to metrics.json",
    "report": "the run directory to one HTML page; `report RUN RUN ... --dest FILE` shows several side by side",
    "doctor": "is the teacher what it seems? outputs, preprocessing, gradients, speed; before any image is drawn",
    "compare": "two runs, or two methods of one, on the same test images: which is better, and could it be chance?",
    "predict": "what a student sees on image files",
    "push-to-hub": "an exported student or data set to the Hugging Face hub, only with --yes",
    "survival": "does the guidance's energy gain survive resize, JPEG and re-encoding, and convince the judge?",
}
SEQUENCES = {
    "run": ("prompts", "synthesize", "distill", "evaluate", "report"),
    "plan": ("prompts", "plan"),
}
DATASET_COMMANDS = {
    "status": "status",
    "verify": "verify",
    "export": "export_",
    "merge": "merge_",
    "compare": "compare_",
}
STUDENT_COMMANDS = {"predict": "predict", "push-to-hub": "push_to_hub"}
WHOLE, NUMBER = "[0-9]{1,6}", r"(?=\.?[0-9])[0-9]{0,9}(\.[0-9]{0,9})?"
FLAGS = {"plan": ("--dry-run", "--json"), "doctor": ("--json",)}
NUMBERS = {"plan": {"--price": NUMBER}, "synthesize": {"--rank": WHOLE, "--world": WHOLE}}
OPTIONS = {
    "prompts": ", and with --dry-run also --num-images N and --json",
    "plan": ", --dry-run, --price PER_DEVICE_HOUR and --json",
    "doctor": ", --json",
    "synthesize": ", for array jobs --rank R --world W",
    "report": ", or instead of all that RUN ... --dest FILE",
}
HELP = f"""prismkd {__version__}: data-free knowledge distillation with guided text-to-image diffusion

usage: prismkd COMMAND [--config FILE] --out DIR [settings]

commands:
{chr(10).join(f"  {name:11s} {text}" for name, text in COMMANDS.items())}

Every stage skips what is done already: to resume, give the same command again, or --out alone.
`prismkd COMMAND --help` lists all settings. Example:

  prismkd run --config configs/demo.toml --out runs/demo
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0 done, 2 bad input, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if arguments[0] in ("-V", "--version"):
        print(__version__)
        return 0
    try:
        _run_command(arguments[0], arguments[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a path that no disk takes, or no room
        if not error.filename and error.errno != errno.ENOSPC:
            raise
        print(
            f"error: expected {error.filename or 'room on the disk'}, got: {error.strerror}; check the path",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("interrupted; give the same command again to continue", file=sys.stderr)
        return 130
    return 0


def _run_command(command: str, arguments: list[str]) -> None:
    if command == "bench":
        raise UserError(
            "expected a command, got bench, which is a program of the repository now; `python -m benchmarks.cost`"
        )
    if command not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"perhaps {near[0]}" if near else f"use one of {', '.join(COMMANDS)}"
        raise UserError(f"expected a command, got {command!r}; {hint}")
    if command == "prompts" and "--dry-run" in arguments:
        _dry_run([argument for argument in arguments if argument != "--dry-run"])
        return
    if command == "report" and ((arguments[:1] and arguments[0][:1] != "-") or "--dest" in arguments):
        _report(arguments)
        return
    if command in DATASET_COMMANDS:
        from prismkd.commands import dataset_commands

        getattr(dataset_commands, DATASET_COMMANDS[command])(arguments, bars)
        return
    if command in STUDENT_COMMANDS:
        from prismkd.commands import student_commands

        getattr(student_commands, STUDENT_COMMANDS[command])(arguments)
        return
    options, arguments = _take_options(command, arguments)
    file, out, rest = _split_off(arguments)
    if command == "repair" and out is not None:
        config = _own_config(out, file, rest)
    else:
        config = _parse_settings(command, file, rest, out)
    if command == "doctor":
        _doctor(config, as_json="--json" in options)
        return
    if out is None and "--dry-run" not in options:
        raise UserError("expected --out DIR, got none; name the run's folder")
    _execute(command, config, out or Path("."), options)


def _take_options(command: str, arguments: list[str]) -> tuple[dict[str, float], list[str]]:
    """A command's own options, which are no settings of the run, as numbers; and the other arguments."""
    found = {name: 1.0 for name in FLAGS.get(command, ()) if name in arguments}
    arguments = [argument for argument in arguments if argument not in found]
    for name, pattern in NUMBERS.get(command, {}).items():
        text, arguments = _take(name, arguments)
        if text is not None:
            if not re.fullmatch(pattern, text):
                raise UserError(f"expected a number for {name}, got {text[:40]!r}; mend it")
            found[name] = float(text)
    return found, arguments


def _own_config(out: Path, file: str | None, rest: list[str]) -> Config:
    """The settings that a run was started with, and no others."""
    from prismkd.records.directory import recorded_config

    others = [argument for argument in rest if argument != "--trust"]
    if file is not None or others:
        given = " ".join(["--config"] * (file is not None) + others)
        raise UserError(f"expected --out DIR only, since the run's own settings hold, got {given}; leave them out")
    return replace(recorded_config(out), trust="--trust" in rest)


def _doctor(config: Config, *, as_json: bool) -> None:
    """Examine the teacher and print what was found; a failed check is an error."""
    _stay_offline(config)
    from prismkd.classes.lists import classes_of
    from prismkd.commands import doctor
    from prismkd.generators import resolve_device

    named = config.teacher == "pictograms" or config.classes != "pictograms"  # else no list was given
    names = [item.name for item in classes_of(config)] if named else None
    checks = doctor.examine(config.teacher, names, resolve_device(config.generator.device), trust=config.trust)
    if as_json:
        print(json.dumps([check.to_dict() for check in checks], indent=1))
    else:
        console.print_checks(checks)
    doctor.verdict(checks)


def _stay_offline(config: Config) -> None:
    """Nothing but a hub model ever needs the network; has to be said before the libraries are imported."""
    from prismkd.classifiers import needs_the_web

    named = (config.generator.source, config.generator.tiny_decoder)
    if not any("/" in name and not Path(name).exists() for name in named) and not needs_the_web(config.teacher):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def _dry_run(arguments: list[str]) -> None:
    """Show a prompt plan and what it costs; imports no torch."""
    as_json = "--json" in arguments
    file, out, rest = _split_off([argument for argument in arguments if argument != "--json"])
    number, rest = _take("--num-images", rest)
    if number is not None and not re.fullmatch("0*[1-9][0-9]{0,14}", number):
        raise UserError(f"expected a whole number from 1 to 10**15 for --num-images, got {number[:40]!r}; mend it")
    config = _parse_settings("prompts", file, rest, out)
    from prismkd.commands.preview import preview

    found = preview(config, int(number or 0), out)
    if as_json:
        print(json.dumps(found.to_dict(len(found.senses)), indent=1))
    else:
        console.print_preview(found)


def _report(arguments: list[str]) -> None:
    """The page of one finished run, or of several side by side; needs no configuration."""
    dest, folders = _take("--dest", arguments)
    wrong = [folder for folder in folders if folder.startswith("-")]
    if wrong or (dest is None and len(folders) != 1):
        got = " ".join(arguments)
        raise UserError(f"expected a run, or several and --dest FILE, got {got}; give folders of runs and a file")
    from prismkd.report import write_comparison, write_report

    if dest is None:
        print(f"report: {write_report(Path(folders[0]))}")
    else:
        print(f"report: {write_comparison([Path(folder) for folder in folders], Path(dest))}")


def _take(name: str, arguments: list[str]) -> tuple[str | None, list[str]]:
    """One setting's value, the last one given, and the other arguments."""
    value, rest, pending = None, [], list(arguments)
    while pending:
        argument = pending.pop(0)
        if argument == name and not pending:
            raise UserError(f"expected a value after {name}, got none; give one")
        if argument == name:
            value = pending.pop(0)
        elif argument.startswith(f"{name}="):
            value = argument.partition("=")[2]
        else:
            rest.append(argument)
    return value, rest


def _split_off(arguments: list[str]) -> tuple[str | None, Path | None, list[str]]:
    """Take --config and --out out of the arguments; what remains are settings."""
    from prismkd.records.directory import run_folder

    file, rest = _take("--config", arguments)
    out, rest = _take("--out", rest)
    return file, run_folder(out) if out is not None else None, rest


def _parse_settings(command: str, file: str | None, arguments: list[str], out: Path | None) -> Config:
    """The file's settings, or those of the run in ``out``; then the command line's on top: the last one wins."""
    from prismkd.config.load import check_config, load_config
    from prismkd.records.directory import is_run, recorded_config

    if file is not None:
        config = load_config(Path(file))
    else:
        config = recorded_config(out) if out is not None and is_run(out) else Config()
    if arguments:
        import tyro

        more = OPTIONS.get(command, "")
        description = (
            f"{COMMANDS[command]}\n\n"
            f"Takes --config FILE (TOML) and --out DIR (the run's folder){more}, and these settings."
        )
        config = tyro.cli(Config, default=config, args=arguments, prog=f"prismkd {command}", description=description)
        check_config(config)
    return config


def _execute(command: str, config: Config, out: Path, options: dict[str, float]) -> None:
    """Import torch, open the run directory, and do the stage or all of them."""
    _stay_offline(config)
    from prismkd.records.directory import lasting
    from prismkd.runs.drawing import Share, claim_datasets, repair, synthesize
    from prismkd.runs.open import held, open_run
    from prismkd.runs.planning import choose_senses
    from prismkd.runs.stages import STAGES
    from prismkd.runs.survival import survival

    lasting(config.synthesis.storage)
    if ("--rank" in options) != ("--world" in options):
        raise UserError("expected --rank and --world together, got one of them; give both")
    share = Share(int(options.get("--rank", 0)), int(options.get("--world", 1)))
    steps: dict[str, Callable[[Run], Any]] = {
        **STAGES,
        "senses": choose_senses,
        "plan": claim_datasets,
        "synthesize": partial(synthesize, share=share),
        "repair": repair,
        "survival": survival,
    }
    helps = command == "distill" and int(os.environ.get("RANK", 0)) > 0  # of torchrun: the first one writes
    shown = "prismkd " + " ".join([command, *sys.argv[2:]])
    run = open_run(config, out, shown, bars, claim="--dry-run" not in options and not helps)
    if helps:
        steps[command](run)
        return
    if command == "plan":
        _estimate(run, options)
        if "--dry-run" in options:
            return
    with held(run, "run" if share.world == 1 else f"rank-{share.rank}-of-{share.world}"):
        for name in SEQUENCES.get(command, (command,)):
            steps[name](run)
    if command == "senses":
        console.print_senses(out)
    if command in ("run", "evaluate"):
        console.print_students(out)
    if command == "survival":
        console.print_survival(out)
    if command in ("run", "report"):
        print(f"report: {out / 'report.html'}")


def _estimate(run: Run, options: dict[str, float]) -> None:
    from prismkd.commands.estimating import estimate

    found = estimate(run, options.get("--price", 0.0))
    if "--json" in options:
        print(json.dumps(found.to_dict(), indent=1))
    else:
        console.print_estimate(found)
