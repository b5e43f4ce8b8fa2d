"""MkDocs hook: a notebook becomes a page with its outputs as they were stored, and stays beside it to be downloaded."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

LINK = re.compile(r"(\]\([^):]+)\.ipynb(\)|#)")


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add a page for every notebook."""
    for file in list(files):
        if file.src_uri.endswith(".ipynb") and file.abs_src_path:
            page = file.src_uri.removesuffix(".ipynb") + ".md"
            files.append(File.generated(config, page, content=as_markdown(Path(file.abs_src_path))))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to notebooks lead to their pages, except where they say ``download``."""
    return LINK.sub(lambda link: f"{link[1]}.md{link[2]}", markdown)


def as_markdown(notebook: Path) -> str:
    """Cells and outputs in order; the link to the file itself comes behind the title."""
    cells = json.loads(notebook.read_text())["cells"]
    parts = [part for cell in cells for part in _cell(cell)]
    note = f'<a href="{posixpath.basename(notebook.as_posix())}" download>This page as a notebook</a>'
    return "\n\n".join([parts[0], note, *parts[1:]]) + "\n"


def _cell(cell: dict[str, Any]) -> Iterator[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    yield f"```python\n{source}\n```"
    for output in cell["outputs"]:
        data = output.get("data", {})
        text = "".join(output.get("text", data.get("text/plain", "")))
        if "image/png" in data:
            yield f"![output](data:image/png;base64,{''.join(data['image/png'].split())})"
        elif output.get("name") != "stderr" and text.strip():
            yield f"```text\n{text.rstrip()}\n```"
