"""What a run rests on outside of its folder, by content: noted when it is first used, compared at every later use.

``digests.json`` has one entry for each part of the teacher and of the generator, on which all of a run is built. What
single students and evaluations were made with stands in their own records (``inputs`` in ``log.json`` and
``evaluation.json``), as their settings do. Paths are no part of it: what was moved is still the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

from prismkd import __version__
from prismkd.errors import UserError
from prismkd.files import read_document, write_json
from prismkd.records.directory import LABELS_STUDENT, STUDENT, read_json_if_any
from prismkd.records.lock import locked
from prismkd.records.shapes import ShownEvaluation, TrainingLog

DIGESTS = "digests.json"
EVALUATION = "evaluation.json"
STUDENT_FILES = ("config.json", "model.safetensors")  # that determine what a student answers
NUM_SHOWN = 8  # digits of a digest in a message
Parts = Mapping[str, str]  # digest by what it is of, such as ``generator unet``


class Entry(TypedDict):
    """The digest of one part, and which command noted it, when, and with which version of prismkd."""

    digest: str
    since: str
    date: str
    version: str


def recorded_digests(directory: Path) -> dict[str, Entry]:
    """The run's entries, by part; empty for a run that has none yet.

    Raises:
        UserError: the record is damaged.
    """
    try:
        return read_document(directory / DIGESTS, dict[str, Entry], remedy="bring it back from a copy, or delete it")
    except FileNotFoundError:
        return {}


def check_digests(directory: Path, used: Parts, where: str) -> None:
    """Refuse to go on with another content than the run's.

    Args:
        directory: the run's.
        used: what is about to be used.
        where: that is, for the error.

    Raises:
        UserError: names the parts that differ, and since when the run has had its own.
    """
    entries = recorded_digests(directory)
    others = [name for name, digest in used.items() if name in entries and entries[name]["digest"] != digest]
    # Of several teachers, or of a pipeline's parts, one may be missing or new.
    kind = {name.partition(" ")[0] for name in used}
    others += [name for name in entries if name not in used and name.partition(" ")[0] in kind]
    if others:
        entry = entries[others[0]]
        got = used.get(others[0], "none")
        raise UserError(
            f"expected the {' and '.join(others)} that {directory} has been made with since `{entry['since']}` of "
            f"{entry['date']} (digest {entry['digest'][:NUM_SHOWN]}), got another (digest {got[:NUM_SHOWN]}) in "
            f"{where}; bring it back, or choose another --out"
        )


def note_digests(directory: Path, used: Parts, command: str) -> None:
    """Add the entries of parts that the run has none of, as of a new run or one of an earlier version."""
    if used.keys() <= recorded_digests(directory).keys():
        return
    with locked(directory, "digests", wait=True):  # ranks of an array job may begin together
        entries = recorded_digests(directory)
        entry = {"since": " ".join(command.split()[:2]), "date": datetime.now(UTC).isoformat(timespec="seconds"),
                 "version": __version__}  # fmt: skip
        new = {name: {"digest": digest, **entry} for name, digest in used.items() if name not in entries}
        write_json(directory / DIGESTS, {**entries, **new})


# --- students and evaluations ----------------------------------------------------------------------------------------


def differing_inputs(recorded: Mapping[str, Any] | None, now: Mapping[str, Any]) -> list[str]:
    """The inputs that are others now than those that a student or an evaluation was made with, by name.

    A record of an earlier version has none at all (None or empty), and passes.
    """
    names = sorted(recorded.keys() | now.keys()) if recorded else []
    return [name for name in names if recorded and recorded.get(name) != now.get(name)]


def student_digest(folder: Path) -> str:
    """SHA-256 of a student's configuration and weights; empty where it has none."""
    files = [folder / name for name in STUDENT_FILES]
    if not all(path.is_file() for path in files):
        return ""
    return joined(file_digest(path) for path in files)


def check_student(folder: Path) -> None:
    """Refuse a student whose files are others than its training wrote, or than its figures are of.

    Raises:
        UserError: names the folder.
    """
    now = student_digest(folder)
    log = read_json_if_any(folder / "log.json", TrainingLog)
    trained = log.get("digest") if log else None
    if now and trained and now != trained:
        raise UserError(
            f"expected the student in {folder} as `prismkd distill` wrote it (digest {trained[:NUM_SHOWN]}), got other "
            f"files (digest {now[:NUM_SHOWN]}); bring {' and '.join(STUDENT_FILES)} back, or delete the folder and run "
            "`prismkd distill` again"
        )


def check_figures(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Refuse figures that are of other inputs than the table of results, or than the student that is there now.

    Args:
        folder: of a method of a seed.
        metrics: of the run.

    Raises:
        UserError: names what differs.
    """
    for name in (STUDENT, LABELS_STUDENT):
        check_student(folder / name)
    evaluation = read_json_if_any(folder / EVALUATION, ShownEvaluation)
    inputs = dict(evaluation.get("inputs", {})) if evaluation else {}
    measured, now = inputs.pop("student", ""), student_digest(folder / STUDENT)
    others = differing_inputs(inputs, metrics.get("inputs") or inputs)
    if now and measured and now != measured:
        others.append("student")
    if others:
        raise UserError(
            f"expected figures of the same inputs in {folder / EVALUATION} as elsewhere in the run, got another "
            f"{', '.join(others)}; run `prismkd evaluate` again"
        )


# --- digests ---------------------------------------------------------------------------------------------------------


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def joined(digests: Any) -> str:
    """One SHA-256 of several texts, in their order."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
