"""Signals end a command: one line, in seconds, with the exit code of shells, wherever the command may be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from prismkd.cli import main

TERM = "interrupted by SIGTERM; give the same command again to continue\n"
PROGRAM = """
import hashlib, os, select, subprocess, sys, threading, time
from prismkd import cli, signals
from prismkd.errors import UserError

def ready():
    print("ready", flush=True)

def command(words):
{body}

signals.GRACE_SECONDS, signals.SAME_SECONDS = {grace}, 0.2
cli._dispatch = command
sys.exit(cli.main())
"""


@pytest.fixture(autouse=True)
def listening() -> Iterator[None]:
    """Ctrl-C is not ignored, as it is in tests that run in a shell's background, and in what they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def started(
    folder: Path, body: str, *, grace: float = 4.0, before: Sequence[str] = (), waits: bool = True
) -> subprocess.Popen[str]:
    """The command line with ``body`` as its command, once that says ``ready()``; in a process group of its own."""
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    (folder / "program.py").write_text(PROGRAM.format(body=lines, grace=grace))
    command = [*before, sys.executable, str(folder / "program.py")]
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert not waits or process.stdout.readline() == "ready\n"
    return process


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str, float]:
    """Exit code, the rest of stdout, stderr, and seconds until the process and all that share its output had ended."""
    start = time.monotonic()
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err, time.monotonic() - start


SLEEP = "ready()\ntime.sleep(60)"


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (signal.SIGINT, "interrupted; give the same command again to continue\n"),
        (signal.SIGTERM, TERM),
        (signal.SIGHUP, TERM.replace("TERM", "HUP")),
    ],
)
def test_a_signal_is_one_line_and_its_own_exit_code(tmp_path: Path, number: int, line: str) -> None:
    process = started(tmp_path, SLEEP)
    process.send_signal(number)
    code, out, err, seconds = ended(process)
    assert (code, out, err) == (128 + number, "", line) and seconds < 5


WAITS = {
    "another program": 'child = subprocess.Popen(["sleep", "60"])\nready()\nchild.wait()',
    "a pipe": "ready()\nselect.select([os.pipe()[0]], [], [])",
    "a thread": "thread = threading.Thread(target=time.sleep, args=(60,), daemon=True)\nthread.start()\nready()\n"
    "thread.join()",
    "a lock": "import fcntl\nfrom pathlib import Path\nfrom prismkd.records.lock import locked\n"
    'os.mkdir("run")\nos.mkdir("run/.locks")\nfile = open("run/.locks/prepare.lock", "w")\n'
    "fcntl.flock(file, fcntl.LOCK_EX)\nready()\n"
    'with locked(Path("run"), "prepare", wait=True):\n    pass',
    "a queue": "import queue\nready()\nqueue.Queue().get()",
    "forked readers": "import multiprocessing\n"
    'process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)\n'
    "process.start()\nready()\nprocess.join()",
}


@pytest.mark.parametrize("body", WAITS.values(), ids=WAITS)
def test_whatever_the_command_waits_for_all_processes_end(tmp_path: Path, body: str) -> None:
    process = started(tmp_path, body)
    os.killpg(process.pid, signal.SIGTERM)
    code, out, err, seconds = ended(process)
    assert (code, out, err) == (143, "", TERM) and seconds < 5


def test_ctrl_c_reaches_a_whole_terminal_and_is_said_once(tmp_path: Path) -> None:
    process = started(tmp_path, WAITS["forked readers"])
    os.killpg(process.pid, signal.SIGINT)
    assert ended(process)[:3] == (130, "", TERM.replace(" by SIGTERM", ""))


def test_a_signal_while_the_handlers_are_being_set_is_no_traceback(tmp_path: Path) -> None:
    program = """
import os, signal, sys, time
from prismkd import cli

class Late(cli.EndingSignals):
    def __init__(self):
        super().__init__()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)

cli.EndingSignals = Late
cli._dispatch = lambda words: print("begun", flush=True)
sys.exit(cli.main())
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert (done.returncode, done.stdout, done.stderr) == (143, "", TERM)


STUBBORN = {
    "a long call of compiled code": 'ready()\nhashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)',
    "a library that swallows it": "ready()\nwhile True:\n    try:\n        time.sleep(60)\n"
    "    except BaseException:\n        pass",
    "a pool of threads": "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor() as pool:\n"
    "    pool.submit(time.sleep, 60)\n    ready()",
}


@pytest.mark.parametrize("body", STUBBORN.values(), ids=STUBBORN)
def test_a_command_that_does_not_end_by_itself_is_ended_and_leaves_no_file(tmp_path: Path, body: str) -> None:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    writing = f'from pathlib import Path\nfrom prismkd.files.write import writing\nwith writing(Path("a")):\n{lines}'
    process = started(tmp_path, writing, grace=0.5)
    process.send_signal(signal.SIGTERM)
    code, out, err, seconds = ended(process)
    assert (code, out, err) == (143, "", TERM) and seconds < 5
    assert [path.name for path in tmp_path.iterdir()] == ["program.py"]


CAUGHT = "ready()\ntry:\n    time.sleep(60)\nexcept BaseException:\n    "
HIDDEN = {
    "another error": f'{CAUGHT}raise OSError("Unable to load")',
    "bad input": f'{CAUGHT}raise UserError("Unable to load weights")',
    "an exit code": f"{CAUGHT}sys.exit(7)",
    "nothing": f"{CAUGHT}pass",
    "a destructor's error": "class Bad:\n    def __del__(self):\n        raise ValueError\n"
    "bad = Bad()\nready()\ntime.sleep(60)",
}


@pytest.mark.parametrize("body", HIDDEN.values(), ids=HIDDEN)
def test_what_a_library_makes_of_the_interruption_is_not_what_is_said(tmp_path: Path, body: str) -> None:
    process = started(tmp_path, body)
    process.send_signal(signal.SIGTERM)
    assert ended(process)[:3] == (143, "", TERM)


@pytest.mark.parametrize("seconds", [0.3, 1.0])
def test_a_signal_while_torch_is_imported(tmp_path: Path, seconds: float) -> None:
    process = started(tmp_path, "ready()\nimport torch\ntime.sleep(60)")
    time.sleep(seconds)
    process.send_signal(signal.SIGTERM)
    assert ended(process)[:3] == (143, "", TERM)


CLOSING = """try:
    ready()
    time.sleep(60)
finally:
    ready()
    time.sleep({})
    print("closed", flush=True)"""


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    process = started(tmp_path, CLOSING.format(60), grace=60)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    code, out, _, seconds = ended(process)
    assert (code, out) == (130, "") and seconds < 5


def test_a_signal_that_is_sent_twice_at_once_as_timeout_does_is_one(tmp_path: Path) -> None:
    process = started(tmp_path, f"signals.SAME_SECONDS = 30\n{CLOSING.format(0.5)}")  # where the machine is slow
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.02)
    assert ended(process)[:3] == (143, "ready\nclosed\n", TERM)


def test_timeout_ends_a_command_with_the_line(tmp_path: Path) -> None:
    process = started(tmp_path, SLEEP, before=("timeout", "1"))
    code, _, err, _ = ended(process)
    assert (code, err) == (124, TERM)  # timeout's own code


def test_nohup_and_background_jobs_keep_what_they_ignore(tmp_path: Path) -> None:
    shell = ("sh", "-c", "trap '' HUP INT; exec \"$@\"", "sh")
    process = started(tmp_path, SLEEP, before=shell)
    for number in (signal.SIGHUP, signal.SIGINT):
        process.send_signal(number)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert ended(process)[:3] == (143, "", TERM)


def test_a_rank_of_torchrun_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    process = started(tmp_path, SLEEP, before=("sh", "-c", '"$@" & wait', "sh"))
    process.kill()
    code, out, err, seconds = ended(process)
    assert (code, out, err) == (-9, "", "") and seconds < 5


READING = """
import torch
from prismkd.distillation.tar_images import TarImages

class Slow(TarImages):
    def __getitem__(self, indices):
        ready()
        time.sleep(60)

next(Slow(None, None, (3, 8, 8), num_workers=1).batches([torch.zeros(1)]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_reads_images_ends_with_the_training(tmp_path: Path, number: int) -> None:
    process = started(tmp_path, READING, grace=1.0)
    process.send_signal(number)
    code, out, err, seconds = ended(process)
    assert (code, out, err) == ((143, "", TERM) if number == signal.SIGTERM else (-9, "", "")) and seconds < 5


def test_errors_without_a_signal_are_as_ever(tmp_path: Path) -> None:
    assert ended(started(tmp_path, 'raise UserError("expected a, got b; c")', waits=False))[:3] == (
        2, "", "error: expected a, got b; c\n",
    )  # fmt: skip
    code, _, err, _ = ended(started(tmp_path, 'raise ValueError("a bug")', waits=False))
    assert code == 1 and "Traceback" in err and err.endswith("ValueError: a bug\n")
    assert ended(started(tmp_path, "ready()"))[:3] == (0, "", "")


def test_the_library_leaves_signals_alone(capsys: pytest.CaptureFixture[str]) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert main(["--version"]) == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    assert capsys.readouterr().err == ""
