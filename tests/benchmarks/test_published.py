"""The tables on the pages are what the recorded results say."""

import pytest

from benchmarks.publish import PAGES, fill
from benchmarks.tables import gpu_drawing_table, student_table


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_agree_with_the_results(page) -> None:
    text = page.read_text()
    assert text.count("<!-- end -->") >= 1
    assert fill(text) == text


def test_a_table_shows_mean_and_spread() -> None:
    rows = [{"method": "plain", "domain": "id", "metric": "top1", "value": v} for v in (0.5, 0.7)]
    assert "| plain prompts | 0.600 ± 0.141 |" in student_table({"results": rows})


def test_the_gpu_table_has_other_layouts_and_compiled_networks_where_they_were_measured() -> None:
    row = {"images_per_second": 2.0, "seconds_ratio": 1.5, "memory_gib": 3.0}
    ways = {"unguided": row, "x0, tiny decoder": row, "compile_seconds": 60.0}
    parts = {"sd-1.5": {"channels_last, batch 8": ways, "part_seconds": 1.0}, "sdxl": {}, "dit-xl": {}}
    table = gpu_drawing_table({"parts": parts | {"compile": {"batch 4": ways, "batch 8": {}, "stopped": "late"}}})
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert [line[:2] for line in rows] == [["SD 1.5 at 512, channels-last", "8"], ["SD 1.5 at 512, compiled", "4"]]
