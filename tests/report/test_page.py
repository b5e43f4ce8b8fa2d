"""The page is one safe file that anyone can read: no request, no foreign script, usable by ear, by key and on paper."""

from __future__ import annotations

import base64
import hashlib
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from importlib import resources
from itertools import pairwise
from pathlib import Path

import pytest

from prismkd.report import write_comparison, write_report
from tests.report.made import HOSTILE, Page, make_run, write_json

PAIRS = re.compile(r"--([\w-]+): (#[0-9a-f]{6})")
STYLE = (resources.files("prismkd.report") / "report.css").read_text(encoding="utf-8")


@pytest.fixture(scope="module", params=["one run", "two runs", "least"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Page:
    folder = tmp_path_factory.mktemp("runs")
    if request.param == "one run":
        return Page(
            write_report(make_run(folder, methods=("plain", "eda", "dpe", "prism", HOSTILE, "real", "teacher")))
        )
    if request.param == "two runs":
        runs = [make_run(folder / name) for name in ("one", HOSTILE.replace("/", "|"))]
        return Page(write_comparison(runs, folder / "both.html"))
    write_json(folder / "metrics.json", {"schema": 1, "results": []})
    return Page(write_report(folder))


def test_the_page_loads_nothing(page: Page) -> None:
    loads = [a[key] for _, a in page.elements for key in ("src", "href", "srcset", "data", "action") if key in a]
    assert loads and all(link.startswith(("data:image/", "#")) for link in loads)
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.elements}
    assert "@import" not in page.source and "url(" not in page.source
    assert "http://" not in page.source and "https://" not in page.source


def test_the_policy_lets_no_request_out_and_no_script_run_but_the_page_s_own(page: Page) -> None:
    script = page.source.split("<script>")[-1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    content = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    policy = dict(rule.split(" ", 1) for rule in content.split("; "))
    assert policy["default-src"] == policy["form-action"] == policy["base-uri"] == "'none'"
    assert policy["img-src"] == "data:" and policy["script-src"] == f"'sha256-{digest}'"
    assert policy.keys() <= {"default-src", "img-src", "style-src", "script-src", "base-uri", "form-action"}


def test_hostile_names_are_text(page: Page) -> None:
    assert [len(page.all(tag)) for tag in ("script", "style", "title")][:2] == [1, 1]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert all(image["src"].startswith("data:image/") for image in page.all("img"))


def test_every_reference_has_its_target_and_no_id_is_twice(page: Page) -> None:
    ids = Counter(attributes["id"] for _, attributes in page.elements if "id" in attributes)
    assert set(ids.values()) == {1}
    links = [a["href"][1:] for a in page.all("a")]
    links += [a[key] for _, a in page.elements for key in ("aria-labelledby", "aria-describedby", "for") if key in a]
    assert set(links) <= ids.keys()


def test_elements_are_closed_in_the_order_they_were_opened(page: Page) -> None:
    assert page.unclosed == []


def test_the_page_can_be_read_without_seeing_it(page: Page) -> None:
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(figure.get("aria-label") or figure.get("aria-hidden") for figure in page.all("svg"))
    *shown, enlarged = page.all("img")
    assert all(image["alt"] for image in shown) and enlarged["alt"] == ""  # the dialog's text speaks for it
    assert all("scope" in heading for heading in page.all("th"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in pairwise(levels))


def test_every_scrolling_part_and_every_command_is_reached_by_key(page: Page) -> None:
    tags = [tag for tag, _ in page.elements]
    assert tags.index("a") < tags.index("h1")  # the link past the header
    scrolling = [a for _, a in page.elements if a.get("class", "").split()[:1] == ["scroll"]]
    assert all(a.get("tabindex") == "0" and a["aria-label"] for a in scrolling)
    assert all(a.get("type") == "button" or "data-close" in a for a in page.all("button"))


def test_figures_are_well_formed(page: Page) -> None:
    for figure in re.findall(r"<svg.*?</svg>", page.source, flags=re.DOTALL):
        ElementTree.fromstring(figure)
        assert "nan" not in figure and "inf" not in figure.replace("information", "")


def test_the_names_of_a_hostile_run_are_shown_as_they_are(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path)))
    assert HOSTILE in page.text
    assert any(image["alt"].startswith(f'plain "{HOSTILE}" 1') for image in page.all("img"))


def colors(theme: str) -> dict[str, str]:
    """The color variables of a theme, what they refer to included."""
    light, dark = re.findall(r":root \{(.*?)\}", STYLE, flags=re.DOTALL)
    found = dict(PAIRS.findall(light)) | (dict(PAIRS.findall(dark)) if theme == "dark" else {})
    return found | {name: found[other] for name, other in re.findall(r"--([\w-]+): var\(--([\w-]+)\)", light)}


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Contrast ratio of two colors in [0, 1] (WCAG 2.2, relative luminance)."""

    def luminance(color: tuple[float, ...]) -> float:
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in color]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def rgb(color: str) -> tuple[float, ...]:
    return tuple(int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))


def test_contrast_is_the_standard_s() -> None:
    assert contrast(rgb("#000000"), rgb("#ffffff")) == pytest.approx(21)
    assert contrast(rgb("#777777"), rgb("#ffffff")) == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_marks_stand_out_in_both_themes(theme: str) -> None:
    known = {name: rgb(color) for name, color in colors(theme).items()}
    for name in ("ink", "muted", "accent", "good", "bad"):  # text: 4.5 to 1
        for ground in ("paper", "card", "field"):
            assert contrast(known[name], known[ground]) >= 4.5, (name, ground)
    for name in ("good", "bad"):  # a pill is 12% its own color
        pill = tuple(0.12 * a + 0.88 * b for a, b in zip(known[name], known["card"], strict=True))
        assert contrast(known[name], pill) >= 4.5, name
    assert contrast(known["accent"], known["accent-soft"]) >= 4.5
    for name in (
        "plain",
        "more",
        "eda",
        "dpe",
        "prism",
        "adapted",
        "adapted-prism",
        "reference",
        "other",
        "edge",
    ):  # dots and edges: 3 to 1
        assert contrast(known[name], known["paper"]) >= 3, name


def test_every_color_that_is_used_is_defined() -> None:
    used = set(re.findall(r"var\(--([\w-]+)", STYLE))
    assert used <= colors("light").keys() | {"c", "share"}


def rules() -> list[tuple[str, str, dict[str, str]]]:
    """(media query or empty, selector, declarations) of every rule of the style sheet."""
    found, text = list[tuple[str, str, dict[str, str]]](), STYLE
    for media, block in re.findall(r"@media ([^{]+) \{((?:[^{}]|\{[^{}]*\})*)\}", STYLE):
        found += [(media, *rule) for rule in rules_of(block)]
        text = text.replace(f"@media {media} {{{block}}}", "")
    return [("", *rule) for rule in rules_of(text)] + found


def rules_of(text: str) -> list[tuple[str, dict[str, str]]]:
    pairs = [(selectors.strip(), body) for selectors, body in re.findall(r"([^{}]+)\{([^{}]*)\}", text)]
    return [(selector.strip(), dict(part.strip().split(": ", 1) for part in body.split(";") if part.strip()))
            for selectors, body in pairs for selector in selectors.split(",")]  # fmt: skip


def test_paper_is_never_dark() -> None:
    """Whatever theme the reader prefers: ink on black paper is not to be read."""
    dark = [media for media, selector, _ in rules() if selector == ":root" and "dark" in media]
    assert dark and all("screen" in media for media in dark)


def test_what_scrolls_on_a_screen_is_whole_on_paper() -> None:
    printed = {selector: own for media, selector, own in rules() if media == "print"}
    scrolling = [(selector, own) for media, selector, own in rules()
                 if media != "print" and {"auto", "scroll"} & {own.get(f"overflow{axis}") for axis in ("", "-x", "-y")}
    ]  # fmt: skip
    assert len(scrolling) >= 3
    for selector, own in scrolling:
        assert printed[selector]["overflow"] == "visible", selector
        assert "max-height" not in own or printed[selector]["max-height"] == "none", selector
    assert printed["figure"]["break-inside"] == printed["tr"]["break-inside"] == "avoid"


def test_on_paper_no_heading_stands_alone_and_no_row_either() -> None:
    printed = [(selector, own) for media, selector, own in rules() if media == "print"]
    kept = {selector for selector, own in printed if own.get("break-after") == "avoid"}
    assert {"h2", "h3", "summary", "caption", "thead", "h2 + p", "h3 + p", "thead tr", "tbody tr:first-child"} <= kept
    assert ("tbody tr:nth-last-child(-n + 3)", {"break-before": "avoid"}) in printed
    assert (".together", {"display": "inline-block", "width": "100%"}) in printed  # which is never torn apart


def test_what_a_section_begins_with_goes_with_its_heading(tmp_path: Path) -> None:
    source = write_report(make_run(tmp_path)).read_text()
    headed = set(re.findall(r'<div class="together">\s*<h2 id="([\w-]+)"', source))
    assert headed == {"shortfalls", "reasons", "accuracy", "training", "image-metrics", "energy", "timings"}


def test_long_tables_are_cut_on_paper_and_say_so(tmp_path: Path) -> None:
    hidden = [selector for media, selector, own in rules() if media == "print" and own == {"display": "none"}]
    assert ".tall tbody tr:nth-child(n + 41)" in hidden
    few, many = (write_report(make_run(tmp_path / str(count), classes=[f"class {n}" for n in range(count)]))
                 for count in (40, 41))  # fmt: skip
    assert "The first 40; the page on a screen shows" not in few.read_text()
    assert "The first 40; the page on a screen shows 41." in many.read_text()


def test_what_moves_stands_still_where_that_is_asked_for() -> None:
    still = {(selector, key) for media, selector, own in rules() if "reduced-motion: reduce" in media for key in own}
    moving = {(selector, key) for media, selector, own in rules() for key, value in own.items()
              if value == "smooth" or key.split("-")[0] in ("animation", "transition")}  # fmt: skip
    assert moving and moving <= still


def test_what_has_the_focus_is_always_outlined() -> None:
    outlined = {selector for _, selector, own in rules() if own.get("outline", "none") not in ("none", "0")}
    bare = {
        selector for _, selector, own in rules() if own.get("all") == "unset" or own.get("outline") in ("none", "0")
    }
    assert ":focus-visible" in outlined
    assert {f"{selector}:focus-visible" for selector in bare} <= outlined
