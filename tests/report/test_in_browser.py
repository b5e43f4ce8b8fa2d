"""The pages in a real browser, wide and narrow: nothing logged, nothing requested, nothing sticks out, all works."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from prismkd.report import write_comparison, write_report
from tests.report.made import make_run

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --allow-file-access-from-files --enable-logging=stderr --v=0 "
    "--window-size=1400,2000 --virtual-time-budget=20000 --dump-dom"
).split()
WIDTHS = (1280, 400)
Seen = tuple[list[dict[str, Any]], list[str], list[str]]

# The pages in frames as wide as their screens; it clicks, reads what became of it, and asks the server for one picture.
BENCH = """<!doctype html><meta charset="utf-8"><img src="http://127.0.0.1:{port}/control"><pre></pre>
{frames}
<script>
const look = (frame) => {{
  const page = frame.contentDocument, root = page.documentElement;
  const found = {{ width: frame.clientWidth, scrolled: root.scrollWidth, title: page.title }};
  const heading = page.querySelector("th.num"), cells = () =>
    [...heading.closest("table").tBodies[0].rows].map((row) => row.cells[heading.cellIndex].dataset.value);
  found.before = cells();
  heading.firstElementChild.click();
  [found.first, found.down] = [heading.getAttribute("aria-sort"), cells()];
  heading.firstElementChild.click();
  [found.second, found.up] = [heading.getAttribute("aria-sort"), cells()];
  found.said = page.getElementById("said").textContent;
  const copy = page.querySelector(".copy");
  found.copy = copy.hidden;
  const [one, two] = page.querySelectorAll(".strip .zoom"), viewer = page.getElementById("viewer");
  if (one) {{
    found.stops = [one.tabIndex, two.tabIndex];
    one.click();
    found.open = viewer.open;
    found.large = viewer.querySelector("img").src === one.firstElementChild.src;
    found.text = page.getElementById("viewer-text").textContent.endsWith(one.firstElementChild.alt);
    viewer.querySelector("[data-step='1']").click();
    found.next = viewer.querySelector("img").src === two.firstElementChild.src;
    viewer.querySelector("[data-close]").click();
    found.closed = !viewer.open;
  }}
  return found;
}};
addEventListener("load", () => {{
  const found = [...document.querySelectorAll("iframe")].map(look);
  document.querySelector("pre").textContent = JSON.stringify(found);
}});
</script>"""


class Asked(BaseHTTPRequestHandler):
    paths: list[str]

    def do_GET(self) -> None:
        self.paths.append(self.path)
        self.send_error(404)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What the browser found in both pages at both widths, what it logged, and what it asked the server for."""
    folder = tmp_path_factory.mktemp("pages")
    asked = type("AskedHere", (Asked,), {"paths": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), asked)
    Thread(target=server.serve_forever, daemon=True).start()
    beacon = f"http://127.0.0.1:{server.server_port}/planted"
    hostile = f"<img src={beacon}><script>document.title = 'taken'; fetch('{beacon}')</script>" + 40 * "long"
    runs = [make_run(folder / name, classes=("bell", hostile, "mouse")) for name in ("one", "two")]
    pages = [write_report(runs[0]), write_comparison(runs, folder / "both.html")]
    frames = [f'<iframe src="{page.as_uri()}" style="width:{w}px; height:900px; border:0"></iframe>'
              for page in pages for w in WIDTHS]  # fmt: skip
    bench = folder / "bench.html"
    bench.write_text(BENCH.format(port=server.server_port, frames="\n".join(frames)))
    done = subprocess.run([str(BROWSER), *FLAGS, f"--user-data-dir={folder / 'profile'}", bench.as_uri()],
                          capture_output=True, text=True, timeout=120, check=False)  # fmt: skip
    server.shutdown()
    text = re.search(r"<pre>(.+?)</pre>", done.stdout, flags=re.DOTALL)
    if done.returncode:
        pytest.skip(f"the browser does not run here: {done.stderr[-300:]}")
    assert text is not None, f"the pages could not be used: {done.stderr[-3000:]}"
    logged = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(unescape(text[1])), logged, asked.paths


def test_nothing_is_logged_but_the_control(seen: Seen) -> None:
    _, logged, _ = seen
    assert [line for line in logged if "404" not in line] == []


def test_no_request_leaves_the_pages(seen: Seen) -> None:
    found, _, asked = seen
    assert asked == ["/control"]  # what is asked for would be seen
    assert len(found) == 4 and not any("taken" in page["title"] for page in found)


def test_nothing_sticks_out_at_either_width(seen: Seen) -> None:
    found, _, _ = seen
    assert [page["width"] for page in found] == [1280, 400, 1280, 400]
    assert all(page["scrolled"] <= page["width"] for page in found)


def test_tables_sort_and_say_so(seen: Seen) -> None:
    for page in seen[0]:
        assert (page["first"], page["second"]) == ("descending", "ascending")
        assert page["down"] == sorted(page["before"], key=float, reverse=True)
        assert page["up"] == sorted(page["before"], key=float)
        assert page["said"].startswith("sorted by ") and page["said"].endswith(", ascending")


def test_images_enlarge_and_a_row_of_them_is_one_stop(seen: Seen) -> None:
    for page in seen[0][:2]:
        assert page["stops"] == [0, -1]
        assert all(page[step] for step in ("open", "large", "text", "next", "closed")), page
        assert not page["copy"]
