"""MkDocs hook: files of the repository that pages link to (examples, configurations) come with the site."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

LINK = re.compile(r"\]\((?P<target>(?:\.\./)+[\w./-]+)\)")
FOLDER = "repository"  # of the site


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Take along every file outside of the docs that a page links to."""
    root = Path(config.docs_dir).parent
    pages = [file for file in files.documentation_pages() if file.abs_src_path]
    for target in sorted({target for page in pages for target in _targets(page.content_string, page.src_uri)}):
        files.append(File.generated(config, f"{FOLDER}/{target}", abs_src_path=str(root / target)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let the links lead there."""

    def moved(link: re.Match[str]) -> str:
        target = _in_the_repository(link["target"], page.file.src_uri)
        here = posixpath.dirname(page.file.src_uri)
        return f"]({posixpath.relpath(f'{FOLDER}/{target}', here or '.')})" if target else link[0]

    return LINK.sub(moved, markdown)


def _targets(markdown: str, page: str) -> list[str]:
    found = (_in_the_repository(link["target"], page) for link in LINK.finditer(markdown))
    return [target for target in found if target]


def _in_the_repository(link: str, page: str) -> str:
    """A link's path from the root of the repository; empty where it stays within the docs."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    return "" if path.startswith("docs/") else path
