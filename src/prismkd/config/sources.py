"""How settings name a classifier or a generator; imports no torch."""

from __future__ import annotations

import re
from os.path import exists, isdir  # a name that no file system would take is none that exists
from pathlib import Path

LIBRARIES = ("timm", "torchvision", "transformers", "exported", "torchscript")


def library_of(source: str) -> tuple[str, str]:
    """The library of LIBRARY:REST, and the rest; an empty library for a folder, which may have a colon in its name."""
    library, _, rest = source.partition(":")
    return (library, rest) if library in LIBRARIES and rest else ("", source)


def needs_the_web(source: str) -> bool:
    """Whether a library fetches weights for this source."""
    library, rest = library_of(source)
    return library in ("timm", "torchvision", "transformers") and "@" not in rest and not isdir(rest)


def is_hub_model(source: str) -> bool:
    """Whether ``source`` names a pipeline on the hub: org/name, and no folder of that name is here."""
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source)) and not exists(source)


def adapter_of(entry: str) -> tuple[Path, float]:
    """Path and weight of an entry of ``generator.lora``, such as style.safetensors@0.8; a path may have an @ itself."""
    found = re.fullmatch(r"(?s)(.+)@(-?\d*\.?\d+(?:e-?\d+)?)", entry)
    if found and not exists(entry):
        return Path(found[1]), float(found[2])
    return Path(entry), 1.0


def file_of(source: str) -> Path | None:
    """The file or folder that has to be there for this source; None where it is the package's or the hub's.

    Of programs nothing is said either: whether they are trusted comes first.
    """
    library, rest = library_of(source)
    if source in ("", "auto", "pictograms") or library in ("exported", "torchscript") or needs_the_web(source):
        return None
    return Path(rest.partition("@")[2] if library and "@" in rest else rest)
