"""Does anything that breaks a command lose work? Kills, signals, full disks and moved folders, in every command.

Usage: python -m benchmarks.faults [--rounds 8] [--stage NAME]... [--seconds N] [--seed 0]
       python -m benchmarks.faults --executor local|array|ray [--rounds 200]

Each round takes the folder that the commands before a stage leave, lets one fault strike the stage's command, gives the
same command again, and compares every file with that of an undisturbed run. With ``--executor`` it kills the workers
and drivers of synthesis alone, many times over, with noise for images (``executors.py``).

Linux only: processes are found in /proc, and disks are filled in a mount namespace of its own, where ``unshare`` may
make one. It writes ``benchmarks/results/faults.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.faults.commands import ENVIRONMENT, warm_up
from benchmarks.publish import RESULTS, write_results

DISK = "PRISMKD_SMALL_DISK"  # set in the mount namespace
MEGABYTES = 256  # of the small disk
EXECUTORS = ("local", "array", "ray")


def main() -> None:
    """Attack what is asked for, and record what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, help="per stage and fault, default 8; per executor, default 200")
    parser.add_argument("--stage", action="append", help="default: all")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="at most, beside the preparation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--executor", choices=EXECUTORS, action="append", help="kill synthesis with noise instead")
    parser.add_argument("--no-record", action="store_true", help="print only")
    parser.add_argument("--drive", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.drive or arguments.executor:
        from benchmarks.faults import executors

        if arguments.drive:
            executor, folder, rank, address = arguments.drive
            executors.drive(executor, folder, int(rank), address)
            return
        with executors.cluster("ray" in arguments.executor) as address:
            for executor in arguments.executor:
                row = executors.attack(executor, arguments.rounds or 200, address)
                print(json.dumps(row), flush=True)
                _record(arguments, rows=[row])
        return
    _attack_stages(arguments)


def _attack_stages(arguments: argparse.Namespace) -> None:
    if DISK not in os.environ:
        _begin_again_with_small_disk()
    from benchmarks.faults.matrix import Laboratory, attack
    from benchmarks.faults.stages import BY_NAME, STAGES, needed

    names = arguments.stage or [stage.name for stage in STAGES]
    if unknown := [name for name in names if name not in BY_NAME]:
        sys.exit(f"expected a stage of {', '.join(BY_NAME)}, got {', '.join(unknown)}; use one of them")
    base = Path(tempfile.mkdtemp(prefix="prismkd-faults-"))
    laboratory = Laboratory(base, is_small_disk=_mounted(base / "disk"))
    try:
        warm_up()
        laboratory.prepare(needed(names))
        rows = list(attack(laboratory, [BY_NAME[name] for name in names], arguments.rounds or 8, arguments.seed,
                           arguments.seconds))  # fmt: skip
    finally:
        if laboratory.is_small_disk:
            subprocess.run(["umount", "--lazy", str(base / "disk")], check=False)
        shutil.rmtree(base)
    for row in rows:
        print(json.dumps(asdict(row)), flush=True)
    _record(arguments, matrix=[asdict(row) for row in rows])


def _begin_again_with_small_disk() -> None:
    """Replace this process by one in a mount namespace; without such a thing, one whose disk is never full."""
    environment = os.environ | ENVIRONMENT
    command = [sys.executable, "-m", "benchmarks.faults", *sys.argv[1:]]
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode == 0:
        os.execvpe("unshare", ["unshare", "-rm", *command], environment | {DISK: "1"})
    print("no mount namespace here: disks are not filled", file=sys.stderr)
    os.execvpe(command[0], command, environment | {DISK: ""})


def _mounted(folder: Path) -> bool:
    """Mount the small disk, where that is allowed."""
    folder.mkdir()
    if not os.environ[DISK]:
        return False
    mount = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "none", str(folder)]
    return subprocess.run(mount, check=False).returncode == 0


def _record(arguments: argparse.Namespace, **parts: list[dict[str, Any]]) -> None:
    """Put rows in the place of their last ones among those that are recorded."""
    if arguments.no_record:
        return
    path = RESULTS / "faults.json"
    recorded = json.loads(path.read_text()) if path.is_file() else {}
    data: dict[str, Any] = {}
    for name, keys in (("rows", ("executor",)), ("matrix", ("stage", "fault"))):
        found = {tuple(row[key] for key in keys): row for row in recorded.get(name, [])}
        found |= {tuple(row[key] for key in keys): row for row in parts.get(name, [])}
        data[name] = list(found.values())
    write_results("faults", "python -m benchmarks.faults", [arguments.seed], data)


if __name__ == "__main__":
    main()
