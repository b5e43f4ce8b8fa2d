"""Trainings and results in TensorBoard, W&B, trackio or MLflow, through accelerate's trackers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from prismkd.config.trackers import check_tracker
from prismkd.errors import UserError, warn
from prismkd.files import check_no_link, make_folder
from prismkd.files.write import DISK_FULL
from prismkd.records.directory import TRACKER

Row = Mapping[str, float]  # one moment: ``step``, and what is tracked
PROJECT = "prismkd"


@contextmanager
def tracked(
    name: str, directory: Path, title: str, settings: Mapping[str, Any] | None = None
) -> Iterator[Callable[[Row], None]]:
    """What takes the rows of a log to a tracker while the block runs.

    Args:
        name: of the tracker; empty: none, and the rows go nowhere.
        directory: the run's, whose name the tracker shows; TensorBoard's files are in ``tracker`` below it.
        title: of this part of the run.
        settings: that are shown with it.

    Raises:
        UserError: the tracker isn't installed, or doesn't start for another reason than a full disk.
    """
    if not name:
        yield lambda row: None
        return
    trackers, failed = list[Any](), False

    def attempt(action: Callable[[], object]) -> None:
        nonlocal failed
        try:
            action()
        except UserError:
            raise
        except Exception as error:  # a server that is gone, or a full disk, must not end a training
            if not failed:
                warn(f"{name} takes no more of {title}: {_reason(error)}; the run's own log has it all")
            failed = True

    def log(row: Row) -> None:
        values = {key: value for key, value in row.items() if key != "step"}
        for tracker in () if failed else trackers:
            attempt(partial(tracker.log, values, step=int(row["step"])))

    attempt(lambda: trackers.extend(_started(name, directory, title, settings)))
    try:
        yield log
    finally:
        for tracker in trackers:
            attempt(tracker.finish)


def _started(name: str, directory: Path, title: str, settings: Mapping[str, Any] | None) -> Sequence[Any]:
    check_tracker(name)
    folder, shown = directory / TRACKER, f"{directory.absolute().name}: {title}"
    make_folder(folder, below=directory)
    for path in folder.iterdir():
        check_no_link(path, below=directory)
    names = {"wandb": {"name": shown, "dir": str(folder)}, "trackio": {"name": shown}, "mlflow": {"run_name": shown}}
    accelerator = Accelerator(mixed_precision="no", log_with=name, project_dir=folder)
    try:
        if name == "tensorboard":  # a folder per part; its table of settings would need one more for each
            accelerator.init_trackers(title)
        else:
            accelerator.init_trackers(PROJECT, dict(settings or {}), {name: names[name]})
    except Exception as error:  # each service has errors of its own
        if getattr(error, "errno", None) in DISK_FULL:
            raise
        raise UserError(
            f"expected {name} to start, got: {_reason(error)}; log in there, or leave distillation.tracker out"
        ) from None
    return accelerator.trackers


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def track_results(name: str, directory: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Show a finished evaluation: a value per metric, method, domain and seed."""
    with tracked(name, directory, "results") as log:
        log({"step": 0, **{_key(row): float(row["value"]) for row in results if row["value"] is not None}})


def _key(row: Mapping[str, Any]) -> str:
    return f"{row['metric']}/{row['domain']}/{row['method']}/seed-{row['seed']}"
