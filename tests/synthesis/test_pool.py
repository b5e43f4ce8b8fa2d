"""The pool: every unit is done once, whatever workers do."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from prismkd.errors import UserError
from prismkd.synthesis.workers import Policy, Pool, check_rank, units_of_rank
from prismkd.synthesis.workers.inline import InlineWorker
from prismkd.synthesis.workers.pool import Event

QUICK = Policy(max_tries=3, timeout=0.2, start_timeout=0.2, backoff=0.01)


class Scripted:
    """A worker that says what a script lets it say of each try of a unit; an empty list: silence."""

    def __init__(self, script: Callable[[int], list[Event]], stopped: list[int]) -> None:
        self.script, self.stopped, self.waiting = script, stopped, list[Event]()

    def is_ready(self) -> bool:
        return True

    def begin(self, unit: int) -> None:
        self.waiting = self.script(unit)

    def events(self) -> list[Event]:
        waiting, self.waiting = self.waiting, []
        return waiting

    def ask_to_end(self) -> None: ...

    def stop(self) -> None:
        self.stopped.append(1)


def run(script: Callable[[int], list[Event]], units: int = 4, workers: int = 2):
    warnings, stopped, counts = list[str](), list[int](), list[int]()
    pool = Pool([lambda: Scripted(script, stopped)] * workers, QUICK, warnings.append, pause=0.001)
    return pool.run(range(units), counts.append), warnings, len(stopped), sum(counts)


DONE = [Event("progress", count=5), Event("done")]


def test_all_units_are_done_once() -> None:
    begun = list[int]()
    failed, warnings, stopped, images = run(lambda unit: begun.append(unit) or DONE)  # type: ignore[func-returns-value]
    assert (failed, warnings, sorted(begun), stopped, images) == ({}, [], [0, 1, 2, 3], 2, 20)


def test_a_worker_that_dies_after_its_unit_is_done_is_replaced() -> None:
    failed, warnings, stopped, images = run(lambda unit: [*DONE, Event("lost", "its process ended")], workers=1)
    assert (failed, warnings, stopped, images) == ({}, [], 4, 20)


@pytest.mark.parametrize(
    ("answer", "reason", "restarts"),
    [
        ([Event("progress", count=2), Event("failed", "a cosmic ray")], "a cosmic ray", 0),
        ([Event("lost", "its process ended (SIGKILL)")], "its process ended (SIGKILL)", 1),
        ([], "no sign of life for 0 s", 0),  # the other worker may have done all else
    ],
)
def test_a_failed_unit_is_tried_again_and_the_progress_taken_back(answer, reason: str, restarts: int) -> None:
    tries = list[int]()

    def script(unit: int) -> list[Event]:
        tries.append(unit)
        return answer if unit == 1 and tries.count(1) == 1 else DONE

    failed, warnings, stopped, images = run(script)
    assert failed == {} and tries.count(1) == 2 and images == 20
    assert warnings == [f"shard 1 failed and is tried again in 0.01 s: {reason}"]
    assert stopped >= 2 + restarts


def test_it_is_given_up_after_the_last_try_and_the_others_are_done() -> None:
    begun = list[int]()

    def script(unit: int) -> list[Event]:
        begun.append(unit)
        return [Event("failed", "cursed")] if unit == 2 else DONE

    failed, warnings, _, images = run(script)
    assert failed == {2: "cursed"} and begun.count(2) == 3 and images == 15
    assert warnings[-1] == "shard 2 is given up after 3 tries: cursed"


def test_bad_input_ends_all_work_at_once_and_stops_the_workers() -> None:
    stopped = list[int]()
    answers = {0: [Event("progress", count=1)], 1: [Event("bad input", "expected room")]}
    pool = Pool([lambda: Scripted(lambda unit: answers[unit], stopped)] * 2, QUICK, print, 0.001)
    with pytest.raises(UserError, match="expected room"):
        pool.run(range(9), lambda count: None)
    assert len(stopped) == 2


def test_tries_wait_twice_as_long_each_time() -> None:
    times = list[float]()

    def script(unit: int) -> list[Event]:
        times.append(time.monotonic())
        return [Event("failed", "")]

    pool = Pool([lambda: Scripted(script, [])], replace(QUICK, backoff=0.05), lambda text: None, pause=0.001)
    pool.run([0], lambda count: None)
    assert times[1] - times[0] >= 0.05 and times[2] - times[1] >= 0.1


def test_inline_work_survives_its_own_errors_but_not_bad_input() -> None:
    counts, tries = list[int](), list[int]()

    def unit(number: int, progress) -> None:
        tries.append(number)
        progress(3)
        if number == 1 and tries.count(1) < 3:
            raise RuntimeError("flaky\nand long-winded")
        if number == 9:
            raise UserError("expected sense")

    warnings = list[str]()
    pool = Pool([lambda: InlineWorker(unit, counts.append)], QUICK, warnings.append, pause=0)
    assert pool.run([0, 1, 2], counts.append) == {} and sum(counts) == 9
    assert warnings[0] == "shard 1 failed and is tried again in 0.01 s: RuntimeError: flaky"
    with pytest.raises(UserError, match="expected sense"):
        pool.run([9], counts.append)


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_ranks_share_all_units_and_none_twice(world: int) -> None:
    shares = [units_of_rank(range(20), rank, world) for rank in range(world)]
    assert sorted(unit for share in shares for unit in share) == list(range(20))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all(set(units_of_rank(range(9, 20), rank, world)) <= set(share) for rank, share in enumerate(shares))


@pytest.mark.parametrize(("rank", "world"), [(2, 2), (-1, 2), (0, 0)])
def test_a_rank_outside_the_world_is_refused(rank: int, world: int) -> None:
    with pytest.raises(UserError, match="expected --rank from 0 to below --world"):
        check_rank(rank, world)


def test_a_worker_that_never_starts_takes_no_unit_from_the_others() -> None:
    class Pending(Scripted):
        def is_ready(self) -> bool:
            return False

    begun, stopped = list[int](), list[int]()

    def script(unit: int) -> list[Event]:
        begun.append(unit)
        return DONE

    starters = [lambda: Pending(script, stopped), lambda: Scripted(script, stopped)]
    assert Pool(starters, QUICK, print, pause=0.001).run(range(5), lambda count: None) == {}
    assert begun == [0, 1, 2, 3, 4] and len(stopped) == 2


def test_where_no_worker_starts_it_says_so() -> None:
    class Pending(Scripted):
        def is_ready(self) -> bool:
            return False

    with pytest.raises(UserError, match="expected a worker to start within 0 s, got none; check that the cluster"):
        Pool([lambda: Pending(lambda unit: DONE, [])], QUICK, print, pause=0.001).run([0], lambda count: None)
