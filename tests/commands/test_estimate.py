"""What ``plan --dry-run`` measures, and what it makes of it."""

import time

import pytest

from prismkd.commands.estimate import SHARE, Estimate, StageCost, timed


@pytest.mark.parametrize("planned", [1, 10, 84, 120, 1920, 10_000, 10_000_000])
def test_measuring_is_a_tenth_of_the_work_at_most(planned: int) -> None:
    batches: list[int] = []

    def work(count: int) -> float:
        batches.append(count)
        return 100.0 * count

    found = timed(work, planned, largest=48)
    assert found.measured == sum(batches) <= max(1, SHARE * planned) and max(batches) <= 48
    assert found.size == 100


def test_a_large_plan_is_measured_at_its_own_batch_size_once_it_is_warm() -> None:
    batches: list[int] = []
    timed(lambda count: batches.append(count) or 0.0, 100_000, largest=48)
    assert batches == [48, 48]


def test_the_last_batch_counts_and_not_the_one_that_warms_up() -> None:
    calls: list[int] = []

    def work(count: int) -> float:
        calls.append(count)
        time.sleep(0.2 if len(calls) == 1 else 0.001 * count)
        return 0.0

    assert timed(work, 400, largest=8).seconds == pytest.approx(0.001, abs=0.004)


def test_devices_share_the_images_alone_and_are_paid_for_as_they_work() -> None:
    stages = [StageCost("calibration", "", 60, "images", 1.0), StageCost("images", "plain", 600, "images", 1.0, 1e6, 4)]
    found = Estimate(stages, {}, 1.0, 4, price=6.0)
    assert (found.minutes, found.device_minutes) == (1 + 2.5, 1 + 10)
    assert found.cost == pytest.approx(11 / 60 * 6) and found.gigabytes == pytest.approx(0.6)
