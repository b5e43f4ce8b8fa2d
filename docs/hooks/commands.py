"""MkDocs hook: what every command says of itself with --help, from the command line itself."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from typing import Any
from unittest import mock

from prismkd.cli import main

MARK = "<!-- all commands -->"
WIDTH = "82"  # characters, as many as fit beside the table of contents
BOX = re.compile(r"^╭─ (?P<title>.*?) ─*╮\n.*?^╰─*╯\n?", flags=re.DOTALL | re.MULTILINE)
SETTINGS = re.compile(r"(prompts|generator|guidance|synthesis|distillation|evaluation)\b.*options")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the help texts where the page asks for them."""
    return markdown.replace(MARK, "\n\n".join(sections())) if MARK in markdown else markdown


def sections() -> Iterator[str]:
    """A section of Markdown per command; the boxes of settings are left out, which have a page of their own."""
    for name in commands():
        text = BOX.sub(lambda box: "" if SETTINGS.search(box["title"]) else box[0], help_of(name))
        yield f"## prismkd {name}\n\n```text\n{text.strip()}\n```"


def commands() -> list[str]:
    """The names that `prismkd --help` lists."""
    _, _, listed = help_of().partition("\ncommands:\n")
    return re.findall(r"^  ([a-z-]+) ", listed.partition("\n\n")[0], flags=re.MULTILINE)


def help_of(*words: str) -> str:
    """What ``prismkd WORDS --help`` prints."""
    printed = io.BytesIO()
    with io.TextIOWrapper(printed, encoding="utf-8") as stdout:  # in another encoding tyro draws no boxes
        with mock.patch.dict(os.environ, COLUMNS=WIDTH), redirect_stdout(stdout), suppress(SystemExit):
            main([*words, "--help"])
        stdout.flush()
        return re.sub(r"\x1b\[[0-9;]*m", "", printed.getvalue().decode())
