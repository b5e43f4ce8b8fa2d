"""The matrix: every stage under every kind of fault, round by round, and what came of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

from benchmarks.faults.commands import GRACE, Command, Ended, call, start
from benchmarks.faults.events import Watch, kill, once, refuse, sites
from benchmarks.faults.folders import compared, contents
from benchmarks.faults.stages import MAX_WORKER_ROUNDS, Stage
from benchmarks.faults.world import make_world

NEXT_KILL = 0.85  # share of kills after which the command that goes on is killed, too
# How a command ends: the exit code, and how its last line begins
KILLED, TERMINATED, REFUSED = (-signal.SIGKILL, ""), (128 + signal.SIGTERM, "interrupted"), (2, "error: ")
MAX_TRIES = 3  # of a command after a fault; the first is expected to end well


@dataclass
class Row:
    """What became of one stage under one kind of fault.

    Attributes:
        rounds: from the folder before the stage to a comparison with the undisturbed one.
        faults: kills, signals, refused files that did strike.
        wrong_endings: commands that ended otherwise than on one line and with the right code, or seconds too late.
        strays: processes that were left some seconds after their driver.
        stuck: commands that could not go on when they were given again.
        differing: rounds with a file that is missing or has other bytes.
        leftovers: files too many.
        findings: rounds after which ``verify`` found something.
        problems: what was wrong, in words.
    """

    stage: str
    fault: str
    rounds: int = 0
    faults: int = 0
    wrong_endings: int = 0
    strays: int = 0
    stuck: int = 0
    differing: int = 0
    leftovers: int = 0
    findings: int = 0
    problems: list[str] = field(default_factory=list)

    def note(self, counter: str, problem: str, count: int = 1) -> None:
        """Count something that should not be, and say what."""
        setattr(self, counter, getattr(self, counter) + count)
        self.problems.append(f"{counter}: {problem}")
        print(f"  {self.stage} / {self.fault}: {self.problems[-1]}", file=sys.stderr, flush=True)


@dataclass
class Laboratory:
    """The folders: ``disk/work``, in which commands are given, ``world`` and the results of the undisturbed stages.

    Attributes:
        base: the folder of all.
        is_small_disk: whether ``disk`` is a file system of its own, which can be filled.
    """

    base: Path
    is_small_disk: bool
    seconds: dict[str, float] = field(default_factory=dict)
    seen: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    expected: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        """Where commands are given."""
        return self.base / "disk" / "work"

    @property
    def errors(self) -> Path:
        """The stderr of the last command."""
        return self.base / "errors.txt"

    def prepare(self, stages: list[Stage]) -> None:
        """Make the world, and each stage's result without any fault."""
        self.work.mkdir(parents=True, exist_ok=True)
        world = self.base / "disk" / "world"
        call(partial(make_world, world), self.base, self.errors)
        for stage in stages:
            self.restore(stage)
            log = self.base / "events.jsonl"
            began = time.monotonic()
            ended = start(stage.words.split(), self.work, self.errors, Watch(self.work), log).wait()
            if ended.code:
                raise RuntimeError(f"expected {stage.name} to end well, got {ended.code}: {ended.errors[-2000:]}")
            self.seconds[stage.name] = time.monotonic() - began
            self.seen[stage.name] = [tuple(row) for row in json.loads(log.read_text())]
            self.expected[stage.name] = contents(self.work)
            shutil.copytree(self.work, self.base / "results" / stage.name, symlinks=True)
            print(f"{stage.name}: {self.seconds[stage.name]:.1f} s, {len(self.seen[stage.name])} events",
                  file=sys.stderr, flush=True)  # fmt: skip

    def restore(self, stage: Stage) -> None:
        """The working folder as it is before a stage."""
        shutil.rmtree(self.work)
        if stage.before:
            shutil.copytree(self.base / "results" / stage.before, self.work, symlinks=True)
        else:
            self.work.mkdir()
        if stage.prepare is not None:
            stage.prepare(self.work)

    def start(self, stage: Stage, watch: Watch | None = None) -> Command:
        """Give the stage's command."""
        return start(stage.words.split(), self.work, self.errors, watch)

    def is_complete(self, stage: Stage) -> bool:
        """Whether a command that writes once was stopped when all was done: given again, it would refuse the folder."""
        return stage.writes_once and contents(self.work) == self.expected[stage.name]

    def finish(self, stage: Stage, row: Row, place: str) -> None:
        """Give the command again until it ends well, and compare what it leaves with the undisturbed result."""
        for _ in range(0 if self.is_complete(stage) else MAX_TRIES):
            ended = self.start(stage).wait()
            if not ended.code:
                break
            row.note("stuck", f"{place}: {ended.code}, {ended.last_line[-300:]}")
        self.compare(stage, row, place)

    def compare(self, stage: Stage, row: Row, place: str) -> None:
        """Compare the working folder with the undisturbed result, and let ``verify`` read the images."""
        other, more = compared(contents(self.work), self.expected[stage.name])
        if other:
            row.note("differing", f"{place}: {', '.join(other[:5])}")
        if more:
            row.note("leftovers", f"{place}: {', '.join(more[:5])}", len(more))
        for folder in stage.datasets:
            ended = start(["verify", "--out", folder], self.work, self.errors).wait()
            if ended.code:
                row.note("findings", f"{place}: {ended.last_line[-300:]}")


# --- the faults, one round each ----------------------------------------------------------------------------------


def killed_at_event(laboratory: Laboratory, stage: Stage, row: Row, random: Random) -> None:
    """SIGKILL before one file-system event, and mostly others when the command goes on."""
    place, name = _event(laboratory, stage, row, random)
    while True:
        ended = laboratory.start(stage, Watch(laboratory.work, place, kill)).wait()
        _check_ending(ended, *KILLED, row, name)
        if random.random() > NEXT_KILL or laboratory.is_complete(stage):
            break
        place = random.randrange(len(laboratory.seen[stage.name]))
    laboratory.finish(stage, row, name)


def ended_at_event(laboratory: Laboratory, stage: Stage, row: Row, random: Random) -> None:
    """SIGTERM before one file-system event."""
    place, name = _event(laboratory, stage, row, random)
    mark = laboratory.base / "signal"
    mark.unlink(missing_ok=True)
    ended = laboratory.start(stage, Watch(laboratory.work, place, once(signal.SIGTERM, mark))).wait()
    _check_ending(ended, *TERMINATED, row, name)
    if mark.exists():
        _check_seconds(ended.time - mark.stat().st_mtime, row, name)
    laboratory.finish(stage, row, name)


def killed_at_moment(laboratory: Laboratory, stage: Stage, row: Row, random: Random, *, gently: bool = False) -> None:
    """A signal at a random moment, to the driver or, where there are any, to a worker."""
    number, (code, beginning) = (signal.SIGTERM, TERMINATED) if gently else (signal.SIGKILL, KILLED)
    command = laboratory.start(stage)
    moment = random.uniform(0.1, laboratory.seconds[stage.name])
    name = f"after {moment:.2f} s of {laboratory.seconds[stage.name]:.2f}"
    time.sleep(moment)
    workers = command.descendants() if stage.workers else []
    if workers and not gently and random.random() < 0.5:
        os.kill(random.choice(workers), number)
        row.faults += 1
        ended = command.wait()  # the driver starts another worker
        if ended.code:
            row.note("wrong_endings", f"worker killed {name}: {ended.code}, {ended.last_line[-300:]}")
        if ended.strays:
            row.note("strays", name, ended.strays)
    else:
        command.signal(number)
        ended = command.wait()
        _check_ending(ended, code, beginning, row, name)
        if gently:
            _check_seconds(ended.seconds, row, name)
    laboratory.finish(stage, row, name)


def without_room_at_event(laboratory: Laboratory, stage: Stage, row: Row, random: Random) -> None:
    """A disk that takes nothing new from one file-system event on; then there is room again."""
    place, name = _event(laboratory, stage, row, random)
    ended = laboratory.start(stage, Watch(laboratory.work, place, refuse)).wait()
    _check_ending(ended, *REFUSED, row, name)
    laboratory.finish(stage, row, name)


def on_full_disk(laboratory: Laboratory, stage: Stage, row: Row, random: Random) -> None:
    """A small disk that is filled but for some bytes, fewer than the stage adds; then there is room again."""
    needed = _bytes(laboratory.base / "results" / stage.name) - _bytes(laboratory.work)
    if needed <= 0:
        return
    free = random.randrange(needed)
    ballast = laboratory.base / "disk" / "ballast"
    status = os.statvfs(ballast.parent)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, status.f_bavail * status.f_bsize - free))
    ended = laboratory.start(stage).wait()
    ballast.unlink()
    name = f"{free} bytes left for {needed}"
    _check_ending(ended, *REFUSED, row, name)
    laboratory.finish(stage, row, name)


def undisturbed(laboratory: Laboratory, stage: Stage, row: Row, random: Random) -> None:
    """No fault: what two undisturbed commands leave is the same, or comparing it would mean nothing."""
    laboratory.finish(stage, row, "undisturbed")


def moved(laboratory: Laboratory, stage: Stage, row: Row, random: Random) -> None:
    """All folders lie elsewhere when the stage begins."""
    elsewhere = laboratory.work.with_name("elsewhere")
    laboratory.work.rename(elsewhere)
    ended = start(stage.words.split(), elsewhere, laboratory.errors).wait()
    elsewhere.rename(laboratory.work)
    row.faults += 1
    if ended.code:
        row.note("stuck", f"moved: {ended.code}, {ended.last_line[-300:]}")
    laboratory.compare(stage, row, "moved")


Fault = Callable[[Laboratory, Stage, Row, Random], None]
FAULTS: dict[str, Fault] = {
    "none": undisturbed,
    "SIGKILL at an event": killed_at_event,
    "SIGKILL at a moment": killed_at_moment,
    "SIGTERM at an event": ended_at_event,
    "SIGTERM at a moment": partial(killed_at_moment, gently=True),
    "no room from an event on": without_room_at_event,
    "full disk": on_full_disk,
    "folder moved": moved,
}
ONCE = ("none", "folder moved")  # nothing is left to chance
AT_EVENTS = ("SIGKILL at an event", "SIGTERM at an event", "no room from an event on")


def _event(laboratory: Laboratory, stage: Stage, row: Row, random: Random) -> tuple[int, str]:
    """The number of an event, and what it is: one of each kind of site first, then any."""
    found = sites(laboratory.seen[stage.name])
    order = list(dict.fromkeys(found))
    Random(f"{stage.name} {row.fault}").shuffle(order)
    wanted = order[row.rounds] if row.rounds < len(order) else random.choice(order)
    place = random.choice([number for number, site in enumerate(found) if site == wanted])
    kind, path = laboratory.seen[stage.name][place]
    return place, f"event {place}, {kind} {Path(path).relative_to(laboratory.work)}"


def _check_ending(ended: Ended, code: int, beginning: str, row: Row, name: str) -> None:
    """Count the fault, where it has struck, and what was wrong with the command's end."""
    if ended.strays:
        row.note("strays", name, ended.strays)
    if ended.code == 0:  # it was too late, or did not need what it was refused
        return
    row.faults += 1
    if not ended.says(code, beginning):
        row.note("wrong_endings", f"{name}: {ended.code}, {ended.last_line[-300:]}")


def _check_seconds(seconds: float, row: Row, name: str) -> None:
    if seconds > GRACE:
        row.note("wrong_endings", f"{name}: {seconds:.1f} s after the signal")


def _bytes(folder: Path) -> int:
    """What a folder takes on a disk of pages."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file())


# --- all of them -------------------------------------------------------------------------------------------------


def attack(laboratory: Laboratory, stages: list[Stage], rounds: int, seed: int, seconds: float) -> Iterator[Row]:
    """Rounds of every fault in every stage, in turns, so that they are as many in each whenever the time is over.

    Yields:
        Every row, when all is done.
    """
    random, began = Random(seed), time.monotonic()
    rows = {(stage.name, fault): Row(stage.name, fault) for stage in stages for fault in FAULTS}
    for number in range(rounds):
        for stage in stages:
            if time.monotonic() - began > seconds:
                break
            for fault in _faults_of(laboratory, stage, number):
                row = rows[stage.name, fault]
                laboratory.restore(stage)
                FAULTS[fault](laboratory, stage, row, random)
                row.rounds += 1
            print(f"{time.monotonic() - began:.0f} s, round {number + 1}: {stage.name}", file=sys.stderr, flush=True)
    yield from (row for row in rows.values() if row.rounds)


def _faults_of(laboratory: Laboratory, stage: Stage, number: int) -> list[str]:
    """The faults that a stage is to meet in the round of this number."""
    absent = {"full disk"} if not laboratory.is_small_disk else set()
    absent |= set(ONCE) if number else set()
    absent |= set(AT_EVENTS) if not laboratory.seen[stage.name] or (stage.workers and number) else set()
    return [] if stage.workers and number >= MAX_WORKER_ROUNDS else [fault for fault in FAULTS if fault not in absent]
