"""What rows of ``benchmarks.beyond`` cost: images, steps and all that comes before, from prices of the parts."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.beyond import Measurements, Row, measurements
from benchmarks.cells import Cells

IMAGES = {"plain": 1.0, "dpe": 2.0, "prism": 3.0, "adapted": 2.0, "adapted-prism": 3.0, "with a guide": 7.0}


@pytest.fixture
def priced(tmp_path: Path) -> Measurements:
    found = replace(measurements(all_classes=False), cells=Cells(tmp_path))
    found.cells.path("prices").parent.mkdir()
    prices = {"images": {name: [price, price] for name, price in IMAGES.items()}, "step": 10.0, "adapter": 5000.0}
    found.cells.path("prices").write_text(json.dumps({**prices, "probes": 100}))
    return found


def test_a_row_costs_its_images_its_steps_and_what_comes_before(priced: Measurements) -> None:
    images = priced.session.config.guidance.num_calibration_images
    assert priced.seconds(Row("plain", 40, 600)) == 40 * 24 * 1 + 6000
    assert priced.seconds(Row("prism", 40, 600)) == 40 * 24 * 3 + 6000 + (100 + images) * 2
    assert priced.seconds(Row("adapted", 40, 600)) == 40 * 24 * 2 + 6000 + 100 * 2 + 5000


def test_rounds_cost_a_guide_and_half_of_the_images_with_it(priced: Measurements) -> None:
    without = priced.seconds(Row("prism", 80, 1200))
    assert priced.seconds(Row("prism-rounds", 80, 1200)) == without + 600 * 10 + 40 * 24 * 4
