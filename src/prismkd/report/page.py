"""A page: one HTML file that loads nothing, rendered from a template."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from prismkd.text import visible


def render(template: str, values: dict[str, Any]) -> str:
    """The page as text. Names and prompts are escaped, and the page's policy runs no script but its own."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("prismkd.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,  # a name that a template misspells is an error, not an empty place
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (resources.files("prismkd.report") / "report.js").read_text(encoding="utf-8")
    # The policy names the script by its digest, so that no text of a run can become one
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    page = environment.get_template(template).render(**values, script=Markup(script), script_hash=f"sha256-{digest}")
    # A name with a mark that turns the writing direction would otherwise rearrange the text around it
    return visible(page, keep="\t\r\n\u200c\u200d")  # and the joiners of Persian words and emoji
