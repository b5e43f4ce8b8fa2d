"""The tables on the pages are what the recorded results say."""

import pytest

from benchmarks.publish import PAGES, fill
from benchmarks.tables import student_table


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_agree_with_the_results(page) -> None:
    text = page.read_text()
    assert text.count("<!-- end -->") >= 1
    assert fill(text) == text


def test_a_table_shows_mean_and_spread() -> None:
    rows = [{"method": "plain", "domain": "id", "metric": "top1", "value": v} for v in (0.5, 0.7)]
    assert "| plain prompts | 0.600 ± 0.141 |" in student_table({"results": rows})
