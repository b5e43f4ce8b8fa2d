"""The icons that Pictograms is made of: the npm package ``@iconify/json`` at a pinned version, as named SVG icons."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.pictograms.families import Role, role_of, split_name

PACKAGE = "@iconify/json"
VERSION = "2.2.535"
INTEGRITY = "sha512-nAV60ACUSHwnsb6fsp+letHlNkrwO4vzBtcC6B4EDHErQQfezk7E3nJdnwJjve6OCfMNO0uVT5Vrgna9/NCmXw=="


class SourceError(RuntimeError):
    """The icon archive can't be had or isn't the pinned one."""


@dataclass(frozen=True)
class Icon:
    """One icon: where it comes from, what its name says it shows, and how it is drawn."""

    prefix: str
    name: str
    role: Role
    thing: str
    style: str | None
    category: str | None
    svg: str


def download_archive(cache: Path) -> Path:
    """Return the pinned npm archive in ``cache``, downloading it once with the ``npm`` client."""
    archive = cache / f"iconify-json-{VERSION}.tgz"
    if not archive.exists():
        if shutil.which("npm") is None:
            raise SourceError("expected the npm client on PATH, found none; install Node.js to rebuild Pictograms")
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", f"{PACKAGE}@{VERSION}", "--silent"], cwd=cache, check=True, capture_output=True)
    digest = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if digest != INTEGRITY:
        raise SourceError(f"expected {archive} to have {INTEGRITY[:20]}..., got {digest[:20]}...; delete it and rerun")
    return archive


def read_sets(archive: Path) -> Iterator[tuple[str, dict, dict]]:
    """Yield ``(prefix, info, icon set)`` of every set whose role allows reading it, sorted by prefix."""
    with tarfile.open(archive) as tar:
        collections = _read_member(tar, "package/collections.json")
        for prefix in sorted(collections):
            if role_of(prefix, collections[prefix]).role in ("reserved", "excluded"):
                continue
            yield prefix, collections[prefix], _read_member(tar, f"package/json/{prefix}.json")


def _read_member(tar: tarfile.TarFile, name: str) -> dict:
    member = tar.extractfile(name)
    if member is None:
        raise SourceError(f"expected {name} in the archive, found none; delete the archive and rerun")
    return json.load(member)


def icons_of(prefix: str, info: dict, icon_set: dict) -> Iterator[Icon]:
    """Yield the visible icons of one set, one per thing and style (sizes and weights of one drawing count once)."""
    role = role_of(prefix, info)
    category_of = {name: category for category, names in icon_set.get("categories", {}).items() for name in names}
    seen: set[tuple[str, str | None]] = set()
    for name, body in icon_set["icons"].items():
        thing, style = split_name(prefix, name)
        if body.get("hidden") or not thing or (role.role == "generator" and (thing, style) in seen):
            continue
        seen.add((thing, style))
        yield Icon(prefix, name, role, thing, style, category_of.get(name), svg_of(body, icon_set))


def svg_of(body: dict, icon_set: dict) -> str:
    """The icon as a square SVG document in black: the view box grows to a square round the drawing's center."""
    width = body.get("width", icon_set.get("width", 16))
    height = body.get("height", icon_set.get("height", 16))
    left, top = body.get("left", icon_set.get("left", 0)), body.get("top", icon_set.get("top", 0))
    side = max(width, height)
    box = f"{left - (side - width) / 2} {top - (side - height) / 2} {side} {side}"
    drawing = body["body"].replace("currentColor", "#000")
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}">{drawing}</svg>'
