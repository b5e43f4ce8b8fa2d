"""Does any input make a reader fail? Valid inputs with parts of them changed, for as long as you like.

Usage: python -m benchmarks.fuzz [--seconds 1800] [--family config]... [--seed 0]

The inputs and their readers are those of the tests (``tests/fuzz/targets.py``). Each family has a process, two families
at a time, with a thread and a limit of memory; one that crashes, or doesn't come back from an input within 10 seconds,
is started again. An input that a reader fails on is made smaller and kept in ``tests/fuzz/corpus``, where the tests
replay it. A run of all families writes ``benchmarks/results/fuzz.json``.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks.publish import ROOT, write_results

NUM_PROCESSES = 2
ROUND = 400  # inputs of one seed
SHRINK_SECONDS = 10.0  # spent on making one failing input smaller
MEMORY = 6 * 2**30  # bytes that a process may take beyond those of its libraries
PATIENCE = 120.0  # seconds that a process may take for its start and its last input
IN_MEMORY = Path("/dev/shm")  # a disk takes longer for each input than its reader
NUMBERS = ("inputs", "accepted", "refused", "traceback", "outside")
HANGING = 1  # exit status of faulthandler


class _TimeIsUp(BaseException):
    """Leaves a round of hypothesis, which goes on after any Exception."""


class _FaultError(Exception):
    """An input failed in a way that isn't known yet."""


# --- one family, in a process of its own -----------------------------------------------------------------------------


@dataclass
class Fuzzer:
    """One family's inputs, one after the other.

    Attributes:
        name: of the family.
        folder: for the input, for the one at work (``case``), and for what was found (``found``).
        seconds: of inputs, after the first.
        counts: of the inputs, each counted once, and of what came of them.
        faults: each in one line, as ``Outcome`` has it; those that were known before are not kept again.
    """

    name: str
    folder: Path
    seconds: float
    counts: Counter[str] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)
    _seen: set[bytes] = field(default_factory=set)
    _reported: float = 0.0
    _parent: int = field(default_factory=os.getppid)

    def run(self, seed: int) -> None:
        """Rounds of inputs until the time is up."""
        from tests.fuzz.trying import Workspace

        self.workspace = Workspace(self.name, self.folder / "input")
        self.cases = self.workspace.cases()
        self._deadline = time.monotonic() + self.seconds
        limit_memory()
        faulthandler.enable()
        try:
            if (self.folder / "again").is_file():
                again = (self.folder / "again").read_bytes()
                self._try(pickle.loads(again), again, b"")  # noqa: S301 -- our own process wrote it
            while True:
                self._round(seed)
                seed += 1
        except _TimeIsUp:
            return

    def _round(self, seed_of_round: int) -> None:
        """Inputs of one seed; they end at the first new fault, whose input is made smaller."""
        from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

        from tests.fuzz.corpus import keep

        hunted, smallest, failing, since = "", {}, set[bytes](), 0.0

        @seed(seed_of_round)
        @settings(
            max_examples=ROUND, deadline=None, database=None, phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck), verbosity=Verbosity.quiet, report_multiple_bugs=False,
        )  # fmt: skip
        @given(self.cases)
        def attempt(case: Any) -> None:
            nonlocal hunted, smallest, since
            if time.monotonic() > self._deadline or os.getppid() != self._parent:
                raise _TimeIsUp
            packed = pickle.dumps(case)
            digest = sha256(packed).digest()[:16]
            if since and time.monotonic() > since + SHRINK_SECONDS:  # no smaller ones; the smallest fails once more
                if digest in failing:
                    raise _FaultError
                return
            fault = self._try(case, packed, digest)
            if fault and fault not in self.faults and fault == (hunted or fault):
                hunted, smallest, since = fault, case, since or time.monotonic()
                failing.add(digest)
                raise _FaultError

        try:
            with suppress(_FaultError):
                attempt()
        finally:  # the time may be up before the input is as small as it gets
            if hunted:
                path = keep(self.name, smallest, self.workspace.base, hunted)
                self.faults[hunted] = str(path.relative_to(ROOT)) if path else ""
            self._report()

    def _try(self, case: Any, packed: bytes, digest: bytes) -> str:
        """Read an input and count it; returns its fault, if any."""
        from tests.fuzz.trying import HANG

        (self.folder / "case").write_bytes(packed)
        faulthandler.dump_traceback_later(HANG, exit=True)
        outcome = self.workspace.read(case)
        faulthandler.cancel_dump_traceback_later()
        if digest not in self._seen:
            self._seen.add(digest)
            self.counts.update(("inputs", outcome.kind))
            if time.monotonic() > self._reported + 1:
                self._report()
        return "" if outcome.good else f"{outcome.kind}: {outcome.text}"

    def _report(self) -> None:
        """Keep the counts where a process that crashes leaves them."""
        self._reported = time.monotonic()
        temporary = self.folder / "found.new"
        temporary.write_text(json.dumps({"counts": self.counts, "faults": self.faults}))
        temporary.replace(self.folder / "found")


def limit_memory() -> None:
    """Let this process take ``MEMORY`` more than it has; what asks for more is refused."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + MEMORY,) * 2)


# --- who watches -----------------------------------------------------------------------------------------------------


def fuzz(name: str, seconds: float, seed: int) -> dict[str, Any]:
    """A row of the results: what came of a family's inputs in ``seconds``."""
    row: dict[str, Any] = {"family": name, **dict.fromkeys(NUMBERS, 0), "hangs": 0, "crashes": 0, "faults": {}}
    start = time.monotonic()
    while (left := seconds - (time.monotonic() - start)) > 1:
        with tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as folder:
            status = _run(name, Path(folder), left, seed)
            _add(row, Path(folder), status)
        seed += 10_000
        if status and row["inputs"] == 0:  # it can't even begin
            break
    print(json.dumps(row), flush=True)
    return row


def _run(name: str, folder: Path, seconds: float, seed: int) -> int:
    """Fuzz a family in a process of its own, and return the status with which it ended."""
    single = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", "benchmarks.fuzz", "--child", name, str(folder), str(seconds), str(seed)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | single, stdout=log, stderr=log)
    try:
        return process.wait(seconds + PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _add(row: dict[str, Any], folder: Path, status: int) -> None:
    """Add what a process has found; the input on which it crashed or hung is kept."""
    found = folder / "found"
    if found.is_file():
        read = json.loads(found.read_text())
        row["faults"] |= read["faults"]
        for number in NUMBERS:
            row[number] += read["counts"].get(number, 0)
    if status and not (folder / "case").is_file():
        row["faults"][f"it did not start: {_end_of_log(folder)}"] = ""
    elif status and (status != HANGING or _hangs_again(row["family"], folder)):
        kind = "hangs" if status == HANGING else "crashes"
        log = (folder / "log").read_text(errors="replace").splitlines()
        place = next((_short(line) for line in log if "/src/prismkd/" in line), _end_of_log(folder))
        row[kind] += 1
        fault = f"{kind}: status {status} in {place}"
        row["faults"][fault] = _keep_last(row["family"], folder, fault)
        print(f"{row['family']}: {fault}", file=sys.stderr, flush=True)


def _hangs_again(name: str, folder: Path) -> bool:
    """Whether the input on which a process hung takes as long once more: the machine may have been at other work."""
    with tempfile.TemporaryDirectory() as other:
        shutil.copy(folder / "case", Path(other) / "again")
        return _run(name, Path(other), 0, 0) == HANGING


def _end_of_log(folder: Path) -> str:
    return (folder / "log").read_text(errors="replace").strip()[-200:]


def _short(line: str) -> str:
    """A line of faulthandler's without the folder and the number of the line."""
    file, _, function = line.strip().removeprefix('File "').partition('", line ')
    return f"{file.rpartition('/prismkd/')[2]}:{function.rpartition(' ')[2]}"


def _keep_last(name: str, folder: Path, fault: str) -> str:
    from tests.fuzz.corpus import keep

    if not (folder / "case").is_file():
        return ""
    case = pickle.loads((folder / "case").read_bytes())  # noqa: S301 -- our own process wrote it
    path = keep(name, case, {}, fault)  # the valid input lies changed in the folder
    return str(path.relative_to(ROOT)) if path else ""


def main() -> None:
    """Fuzz the families that are asked for, two at a time; publish a run of all."""
    from tests.fuzz.targets import FAMILIES

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1800, help="in all")
    parser.add_argument("--family", choices=FAMILIES, action="append", help="default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, folder, seconds, seed = arguments.child
        Fuzzer(name, Path(folder), float(seconds)).run(int(seed))
        return
    rows = fuzz_all(arguments.family or list(FAMILIES), arguments.seconds, arguments.seed)
    total = {name: sum(row[name] for row in rows) for name in (*NUMBERS, "hangs", "crashes")}
    print(json.dumps(total))
    if not arguments.family:
        command = f"python -m benchmarks.fuzz --seconds {arguments.seconds:g}"
        write_results("fuzz", command, [arguments.seed], {"rows": rows, "total": total})
    sys.exit(any(row["faults"] for row in rows))


def fuzz_all(names: Sequence[str], seconds: float, seed: int) -> list[dict[str, Any]]:
    """A row for each family; together they take ``seconds``, with their starts a little more."""
    share = seconds * min(NUM_PROCESSES, len(names)) / len(names)
    with ThreadPoolExecutor(NUM_PROCESSES) as pool:
        return list(pool.map(lambda name: fuzz(name, share, seed), names))


if __name__ == "__main__":
    main()
