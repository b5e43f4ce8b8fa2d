"""What the pages say is so: commands, settings, links, paths and Python parse or exist, and the notebook runs."""

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import prismkd
from docs.hooks import commands, docstrings, settings
from prismkd.cli import COMMANDS
from prismkd.commands.parsing import parse
from prismkd.config import Config
from prismkd.config.load import config_from_dict
from prismkd.errors import UserError

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOTEBOOK = ROOT / "docs" / "notebooks" / "teacher_to_report.ipynb"
RECORDED = re.compile(r"<!-- \w+:\w+ -->\n.*?<!-- end -->", flags=re.DOTALL)  # what was done then, at a commit
BLOCK = re.compile(r"^ *```(?P<language>\w*).*?\n(?P<text>.*?)^ *```$", flags=re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)\s]*)\)")
FOLDERS = ("src/", "docs/", "tests/", "benchmarks/", "configs/", "examples/")


def read(page: Path) -> str:
    """A page without its published figures."""
    return RECORDED.sub("", page.read_text())


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks in a language."""
    return [block["text"] for block in BLOCK.finditer(read(page)) if block["language"] == language]


def spans(page: Path) -> list[str]:
    """What stands in backticks in the running text."""
    return SPAN.findall(BLOCK.sub("", read(page)))


def of_the_pages(pages: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=lambda page: str(page.relative_to(ROOT)))


# --- commands --------------------------------------------------------------------------------------------------------


def command_lines(page: Path) -> Iterator[list[str]]:
    """The words behind ``prismkd`` of every command line on a page, in code blocks and in the running text."""
    lines = [line for block in blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *spans(page)]:
        for part in line.split("&&"):
            words = shlex.split(part, comments=True) if "prismkd" in part and not part.startswith("#") else []
            if "-m" in words and words[words.index("-m") + 1 :][:1] == ["prismkd"]:
                words = words[words.index("-m") + 1 :]
            if len(words) > 1 and words[0] == "prismkd":
                yield words[1:]


def problem(words: list[str]) -> str:
    """What the command line says to these words before it does anything; nothing where it takes them.

    Files of a reader's own aren't there, so their settings are left out.
    """
    command, *rest = words
    if command.startswith("-") or command == "COMMAND" or "--help" in rest:
        return ""
    if command not in COMMANDS:
        return f"no command {command}"
    rest = [word for last, word in pairwise([command, *rest]) if word != "..." or last.startswith("--")]
    if "--config" in rest and not Path(rest[rest.index("--config") + 1]).is_file():
        del rest[rest.index("--config") : rest.index("--config") + 2]
    module = import_module(f"prismkd.commands.{command.replace('-', '_')}")
    try:
        parse(module.Arguments, command, rest)
    except UserError as error:
        return str(error)
    return ""


@of_the_pages(PAGES)
def test_every_command_line_parses(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)  # where no run is
    lines = [words for words in command_lines(page) if len(words) > 1 or words[0] not in COMMANDS]  # else a name alone
    assert {tuple(words): found for words in lines if (found := problem(words))} == {}


def test_command_lines_are_found_and_wrong_ones_are_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("""
`prismkd status --out runs/a --wacht 3` and `prismkd.run`

```bash
prismkd run --config a.toml --guidance.strength 0.3 \\
    --out runs/a   # and so on
torchrun --nproc-per-node 2 -m prismkd distil --out runs/a && prismkd export --out a --too hf --dest b
```

<!-- a:provenance -->
`prismkd bench guidance`
<!-- end -->
""")
    lines = list(command_lines(page))
    assert [words[0] for words in lines] == ["run", "distil", "export", "status"]
    problems = [problem(words) for words in lines]
    assert problems[:2] == ["", "no command distil"]
    assert "perhaps --to" in problems[2] and "perhaps --watch" in problems[3]


# --- settings --------------------------------------------------------------------------------------------------------


@of_the_pages(PAGES)
def test_every_toml_block_is_a_configuration(page: Path) -> None:
    for block in blocks(page, "toml"):
        if "[[" not in block and "--8<--" not in block:  # a list of teachers or classes, or a file of the repository
            config_from_dict(tomllib.loads(block))


def leaves(config: dict[str, Any]) -> list[Any]:
    """The values of nested dictionaries."""
    return [leaf for value in config.values() for leaf in (leaves(value) if isinstance(value, dict) else [value])]


def test_the_table_of_settings_has_every_setting_with_default_and_meaning() -> None:
    shown = "\n".join(settings.tables(Config))
    assert "| `strength` | `0.8` | Length of one edit relative to the root mean square" in shown
    assert '| `methods` | `["plain", "prism"]` |' in shown and "| `content` | `true` |" in shown
    assert "|  |" not in shown
    assert shown.count("\n| `") == len(leaves(asdict(Config())))


def test_every_configuration_of_the_repository_is_shown() -> None:
    page = (ROOT / "docs" / "reference" / "recipes.md").read_text()
    files = [path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*.toml")]
    assert [file for file in files if f'--8<-- "{file}"' not in page] == []


# --- links, paths and Python -----------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def broken_links(page: Path) -> list[str]:
    """Links to files or headings that aren't there."""
    broken = []
    for link in LINK.findall(BLOCK.sub("", page.read_text())):
        path, _, anchor = link.partition("#")
        target = page if not path else (page.parent / path)
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    return broken


@of_the_pages(PAGES)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def test_broken_links_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Where it pays, and where not\n")
    page = tmp_path / "page.md"
    page.write_text("[a](other.md#where-it-pays-and-where-not) [b](other.md#where) [c](no.md) [d](https://example.org)")
    assert broken_links(page) == ["other.md#where", "no.md"]


@of_the_pages(PAGES)
def test_every_path_in_backticks_is_there(page: Path) -> None:
    paths = [span for span in spans(page) if span.startswith(FOLDERS) and " " not in span]
    assert [path for path in paths if not list(ROOT.glob(path))] == []


@of_the_pages(PAGES)
def test_every_python_block_compiles(page: Path) -> None:
    for block in blocks(page, "python"):
        ast.parse(block)


@of_the_pages(PAGES)
def test_every_public_name_on_a_page_is_there(page: Path) -> None:
    names = {
        name for block in [*blocks(page, "python"), *spans(page)] for name in re.findall(r"\bprismkd\.([\w.]+)", block)
    }
    assert {name for name in names if not found(name)} == set()


def found(name: str) -> bool:
    """Whether ``prismkd.NAME`` can be reached, as an attribute or a module."""
    owner: Any = prismkd
    for part in name.split("."):
        try:
            owner = getattr(owner, part) if hasattr(owner, part) else import_module(f"{owner.__name__}.{part}")
        except (ImportError, AttributeError):
            return False
    return True


def test_the_architecture_names_every_room_and_only_those() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page[page.index("| room") : page.index("## How do I add")]
    named = set(re.findall(r"`([\w.]+/?)`", "".join(line.split("|")[1] for line in table.splitlines() if "|" in line)))
    package = [path for path in (ROOT / "src" / "prismkd").iterdir() if not path.name.startswith(("_", "py."))]
    assert named == {path.name + "/" * path.is_dir() for path in package}


# --- the site --------------------------------------------------------------------------------------------------------


def test_help_texts_stand_on_a_page_without_the_settings() -> None:
    sections = list(commands.sections())
    assert sections[0].startswith("## prismkd run\n") and len(sections) == len(commands.commands())
    assert "--methods" in sections[0] and "--guidance.strength" not in sections[0]
    assert "--guidance.strength" in commands.help_of("run")


def test_indices_in_docstrings_are_no_links() -> None:
    assert docstrings.escape("counts [true][predicted], ``a[i][j]``") == "counts [true]\\[predicted], ``a[i][j]``"


def test_columns_in_docstrings_stay_columns() -> None:
    assert docstrings.columns_as_code("Two.\n\na    one\nbc   two") == "Two.\n\n    a    one\n    bc   two"


def test_the_site_builds_without_a_warning_and_its_pages_fetch_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("mkdocstrings", reason="pip install -e '.[docs]'")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.chdir(ROOT)
    config = load_config("mkdocs.yml", site_dir=str(tmp_path), strict=True)
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    assert [record.message for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []
    pages = {page: page.read_text() for page in tmp_path.rglob("*.html")}
    fetched = re.compile(r"""<(?:script|img|link|iframe)[^>]+(?:src|href)=["']?(?:https?:)?//[^>]*>""")
    assert {page.name: found for page, text in pages.items() if (found := fetched.findall(text))} == {}
    assert "download>This page as a notebook" in pages[tmp_path / "notebooks" / "teacher_to_report.html"]
    assert (tmp_path / "notebooks" / NOTEBOOK.name).is_file() and (tmp_path / "repository/examples/slurm.sh").is_file()


def test_the_notebook_runs(tmp_path: Path, few_icons: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="pip install nbclient")
    nbformat = pytest.importorskip("nbformat", reason="pip install nbformat")
    pytest.importorskip("ipykernel", reason="pip install ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    few = f'source="{few_icons / "test.parquet"}", real="{few_icons / "real.parquet"}"'
    for cell in notebook.cells:  # what is checked below needs neither a trained student nor all test images
        steps = "distillation=prismkd.DistillationConfig(num_steps=60)"
        fewer = f"{steps.replace('60', '2')}, evaluation=settings.EvaluationConfig({few})"
        cell["source"] = cell["source"].replace(steps, fewer)
    assert any(few in cell["source"] for cell in notebook.cells)
    nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert (tmp_path / "runs" / "notebook" / "report.html").is_file()
    printed = "".join(str(output.get("text", "")) for cell in notebook.cells for output in cell.get("outputs", []))
    energies = {name: float(energy) for name, energy in re.findall(r"(plain|guided) +free energy +(-[\d.]+)", printed)}
    assert energies["guided"] < energies["plain"]
