"""Trainings and results in TensorBoard, W&B, trackio or MLflow, through accelerate's trackers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from prismkd.config.trackers import check_tracker
from prismkd.errors import UserError, warn

Row = Mapping[str, float]  # one moment: ``step``, and what is tracked
PROJECT = "prismkd"
FOLDER = "tracker"  # of a run, for trackers that write files


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
        UserError: the tracker isn't installed, or doesn't start.
    """
    if not name:
        yield lambda row: None
        return
    trackers = _started(name, directory, title, settings)
    failed = False

    def log(row: Row) -> None:
        nonlocal failed
        values = {key: value for key, value in row.items() if key != "step"}
        try:
            for tracker in () if failed else trackers:
                tracker.log(values, step=int(row["step"]))
        except Exception as error:  # a server that is gone must not end a training
            failed = True
            warn(f"{name} takes no more of {title}: {str(error).splitlines()[0]}; the run's own log has it all")

    try:
        yield log
    finally:
        for tracker in trackers:
            tracker.finish()


def _started(name: str, directory: Path, title: str, settings: Mapping[str, Any] | None) -> Sequence[Any]:
    check_tracker(name)
    folder, shown = directory / FOLDER, f"{directory.absolute().name}: {title}"
    folder.mkdir(parents=True, exist_ok=True)
    names = {"wandb": {"name": shown, "dir": str(folder)}, "trackio": {"name": shown}, "mlflow": {"run_name": shown}}
    accelerator = Accelerator(mixed_precision="no", log_with=name, project_dir=folder)
    try:
        if name == "tensorboard":  # a folder per part; its table of settings would need one more for each
            accelerator.init_trackers(title)
        else:
            accelerator.init_trackers(PROJECT, dict(settings or {}), {name: names[name]})
    except Exception as error:  # each service has errors of its own
        raise UserError(
            f"expected {name} to start, got: {str(error).splitlines()[0]}; log in there, or leave "
            "distillation.tracker out"
        ) from None
    return accelerator.trackers


def track_results(name: str, directory: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Show a finished evaluation: a value per metric, method, domain and seed."""
    with tracked(name, directory, "results") as log:
        log({"step": 0, **{_key(row): float(row["value"]) for row in results if row["value"] is not None}})


def _key(row: Mapping[str, Any]) -> str:
    return f"{row['metric']}/{row['domain']}/{row['method']}/seed-{row['seed']}"
