"""What a log says of long work, by a clock that the test moves; and what a bar shows."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import pytest
from rich.console import Console

from prismkd import progress
from prismkd.errors import warn
from prismkd.progress import Rate, StageLog, duration, speed


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def begun(total: int) -> tuple[StageLog, list[str], Clock]:
    lines, clock = list[str](), Clock()
    return StageLog("images plain (seed 0)", total, lines.append, clock), lines, clock


def test_a_log_has_a_line_every_half_minute_with_count_rate_and_time_left() -> None:
    log, lines, clock = begun(1000)
    for _ in range(50):  # 20 images every 2 seconds
        clock.wait(2)
        log.count(20)
    log.end()
    assert lines == [
        "images plain (seed 0): begins (1,000 to do)",
        "images plain (seed 0): 300 of 1,000, 10 per second, about 1 min 10 s left",
        "images plain (seed 0): 600 of 1,000, 10 per second, about 40 s left",
        "images plain (seed 0): 900 of 1,000, 10 per second, about 10 s left",
        "images plain (seed 0): done, all 1,000, after 1 min 40 s",
    ]


def test_a_stage_without_a_sign_of_life_says_so() -> None:
    log, lines, clock = begun(96)
    clock.wait(31)
    log.look()
    log.count(48)
    clock.wait(60)
    log.look()
    assert lines[1:] == [
        "images plain (seed 0): 0 of 96 after 31 s",
        "images plain (seed 0): 48 of 96, nothing new for 1 min",
    ]


def test_a_batch_that_takes_minutes_is_no_silence() -> None:
    log, lines, clock = begun(40)
    for _ in range(3):
        clock.wait(240)
        log.count(4)
    clock.wait(200)
    log.look()
    assert lines[-1] == "images plain (seed 0): 12 of 40, 1 min each, about 28 min left"
    clock.wait(300)
    log.look()
    assert lines[-1] == "images plain (seed 0): 12 of 40, nothing new for 8 min 20 s"


def test_the_time_left_knows_nothing_of_what_was_there_before_or_of_the_loading_of_models() -> None:
    clock = Clock()
    rate = Rate(900, clock)
    rate.count(480)  # of an earlier command
    clock.wait(60)  # models are loaded
    rate.count(20)
    assert rate.seconds_left is None
    for _ in range(5):
        clock.wait(10)
        rate.count(20)
    assert rate.per_second == 2 and rate.seconds_left == (900 - 600) / 2


def test_workers_that_come_in_together_do_not_pass_for_a_fast_one() -> None:
    clock = Clock()
    rate = Rate(10_000, clock)
    clock.wait(60)
    for _ in range(20):  # eight workers a second apart, 48 images each, 30 seconds a batch
        for _ in range(8):
            rate.count(48)
            clock.wait(1)
            assert rate.per_second is None or rate.per_second < 1.3 * 8 * 48 / 30
        clock.wait(22)
    assert rate.per_second == pytest.approx(8 * 48 / 30, rel=0.05)


def test_the_rate_is_the_recent_one() -> None:
    clock = Clock()
    rate = Rate(100_000, clock)
    for seconds in [1] * 600 + [4] * 100:
        clock.wait(seconds)
        rate.count(10)
    assert rate.per_second == pytest.approx(2.5, rel=0.02)


def test_what_is_taken_back_is_not_shown() -> None:
    log, lines, clock = begun(900)
    clock.wait(2)
    log.count(480)
    clock.wait(2)
    log.count(-96)  # a shard that failed
    log.end(stopped=True)
    assert lines[-1] == "images plain (seed 0): stopped at 384 of 900, after 4 s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.7, "1 min"), (61, "1 min 1 s"), (754, "12 min"), (3600, "1 h"), (7500, "2 h 5 min"),
     (200_000, "2.3 days")],
)  # fmt: skip
def test_durations_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_slow_units_have_their_seconds() -> None:
    assert speed(1234.5) == "1,234 per second" and speed(1.5) == "1.5 per second"
    assert speed(0.05) == "20 s each"


def test_a_warning_in_a_log_has_the_time_of_day(capsys: pytest.CaptureFixture[str]) -> None:
    warn("the disk is slow")
    assert re.fullmatch(r"\d\d:\d\d:\d\d warning: the disk is slow\n", capsys.readouterr().err)


def test_a_stage_that_is_interrupted_says_where() -> None:
    code = """
from prismkd.progress import bars
with bars("images", 9) as progress:
    progress(4)
    raise KeyboardInterrupt
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    first, second = done.stderr.splitlines()[:2]
    assert re.fullmatch(r"\d\d:\d\d:\d\d images: begins \(9 to do\)", first)
    assert re.fullmatch(r"\d\d:\d\d:\d\d images: stopped at 4 of 9, after \d s", second)


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_a_bar_shows_its_count_at_any_width(width: int) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=width, color_system=None)
    with progress._bar(console, "images plain (seed 0)", 600) as count:
        count(144)
    assert "144/600" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.getvalue())


@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_is_done_commands_no_terminal(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder's name may stand in it, which rich would take for its own markup."""
    monkeypatch.setattr(Console, "is_terminal", is_terminal)
    with progress.bars("reading [/x] \x1b]0;title\x07 [red]", 2) as count:
        count(2)
    shown = capsys.readouterr().err
    assert "\x1b]" not in shown and r"reading [/x] \x1b]0;title\x07 [red]" in shown
