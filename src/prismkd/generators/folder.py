"""The folder of a diffusers pipeline, checked before diffusers sees it.

``model_index.json`` names a class for each part, and diffusers imports whatever module it says, or a Python file beside
the weights. Here only the classes of diffusers and transformers pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from prismkd.errors import UserError
from prismkd.foreign import check_folder, read_description
from prismkd.text import shortened

INDEX = "model_index.json"
LIBRARIES = ("diffusers", "transformers")
REMEDY = "get the folder again, or save the pipeline with save_pretrained"


def check_pipeline_folder(folder: Path) -> None:
    """Refuse a folder that leads diffusers to code or to other folders, or says of a network what can't be.

    Raises:
        UserError: names the file and what is wrong in it.
    """
    path = folder / INDEX
    if not path.is_file():
        raise UserError(f"expected a diffusers pipeline folder with {INDEX}, got {folder}; check the path")
    index = read_description(path)
    import diffusers
    import transformers

    pipeline = index.get("_class_name")
    if not _is_class_of(diffusers, pipeline, diffusers.DiffusionPipeline):
        raise UserError(f"expected a pipeline of diffusers in {path}, got {shortened(pipeline)}; {REMEDY}")
    modules = {"diffusers": diffusers, "transformers": transformers}
    for name, value in index.items():
        # Other entries are settings; null stands for a part that the pipeline does without
        if isinstance(value, list) and not name.startswith("_") and value != [None, None] and _names_a_part(value):
            _check_part(folder, name, value, modules, diffusers.pipelines)


def check_whole(pipeline: Any, source: str) -> None:
    """Refuse a pipeline of which weights are missing; diffusers leaves such tensors without values.

    Raises:
        UserError: names the part and the first of them.
    """
    for part, network in pipeline.components.items():
        tensors = network.state_dict().items() if isinstance(network, nn.Module) else ()
        missing = next((name for name, tensor in tensors if tensor.is_meta), "")
        if missing:
            raise UserError(f"expected all weights of {part} in {source}, got none for {missing}; {REMEDY}")


def _names_a_part(value: list[Any]) -> bool:
    return len(value) == 2 and all(item is None or isinstance(item, str) for item in value)


def _check_part(folder: Path, name: str, value: list[Any], modules: dict[str, Any], pipelines: Any) -> None:
    """One part of a pipeline: the class that the index names for it, and its own description."""
    library, kind = value
    path = folder / name
    module = modules.get(library) or getattr(pipelines, library or "", None)
    # A class that reads its own class from the folder would take it from a Python file there, too
    found = getattr(module, kind or "", None)
    reads_its_own = isinstance(kind, str) and (kind == "AutoModel" or (library == "transformers" and "Auto" in kind))
    if not isinstance(found, type) or reads_its_own:
        raise UserError(
            f"expected a class of {' or '.join(LIBRARIES)} for {name} in {folder / INDEX}, got {shortened(value)}; "
            f"{REMEDY}"
        )
    if (path / f"{library}.py").exists():
        raise UserError(f"expected no code in {path}, got {library}.py, which stands in for {library}; delete it")
    check_folder(path)


def _is_class_of(module: Any, name: Any, base: type) -> bool:
    found = getattr(module, name, None) if isinstance(name, str) else None
    return isinstance(found, type) and issubclass(found, base)
