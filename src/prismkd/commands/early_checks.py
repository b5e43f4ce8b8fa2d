"""What can be said of settings before torch is imported, which takes seconds: names, files, folders, packages."""

from __future__ import annotations

import re
from os.path import exists  # a name that no file system would take is none that exists
from pathlib import Path

from prismkd.config import Config
from prismkd.config.load import check_diversity, check_methods
from prismkd.config.sources import adapter_of, file_of, is_hub_model
from prismkd.config.trackers import check_tracker
from prismkd.errors import UserError

PATTERN = re.compile(r"[*?\[{]|://")  # of names that stand for several files, or for a store's


def check_early(config: Config) -> None:
    """Check the settings of a run as far as that needs no torch.

    Raises:
        UserError: settings that don't go together, a class list or styles that can't be, or a file that isn't there.
    """
    check_methods(config)
    check_tracker(config.distillation.tracker)
    _check_files(config)
    from prismkd.classes.lists import classes_of  # here, for help needs neither
    from prismkd.prompts.dpe import check_styles, with_defaults

    classes = classes_of(config)
    check_styles(classes, with_defaults(config.prompts, config.generator.source))
    check_diversity(config, len(classes))


def check_classifier(setting: str, source: str) -> None:
    """Refuse a classifier whose file or folder isn't there.

    Raises:
        UserError: says which setting.
    """
    path = file_of(source)
    if path is not None and not exists(path):
        raise _missing(setting, path)


def check_unclaimed(folder: Path) -> None:
    """Refuse a folder that holds something else than a run.

    Raises:
        UserError: it does.
    """
    from prismkd.records.directory import check_new, is_run

    if not is_run(folder):
        check_new(folder)


def _check_files(config: Config) -> None:
    evaluation, distillation = config.evaluation, config.distillation
    check_classifier("teacher", config.teacher)
    check_classifier("evaluation.judge", evaluation.judge)
    named = [("evaluation.source", evaluation.source), ("evaluation.real", evaluation.real),
             ("distillation.real", distillation.real), ("distillation.initial", distillation.initial)]  # fmt: skip
    named += [("evaluation.shifted", entry.partition("=")[2]) for entry in evaluation.shifted]
    for setting, path in named:
        if path not in ("", "auto", "pictograms") and not PATTERN.search(path) and not exists(path):
            raise _missing(setting, Path(path))
    generator = config.generator
    for setting, source in (("generator.source", generator.source), ("generator.tiny_decoder", generator.tiny_decoder)):
        known = source in ("pictograms", "auto", "none") or is_hub_model(source)
        if not known and not exists(source):
            raise _missing(setting, Path(source))
    for entry in generator.lora:
        adapter = adapter_of(entry)[0]
        if not entry or not exists(adapter):
            raise _missing("generator.lora", adapter)


def _missing(setting: str, path: Path) -> UserError:
    flag = "--" + setting.replace("_", "-")
    return UserError(
        f"expected a file or folder for {setting}, got {path}, which isn't there; say where it is by {flag}"
    )
