"""The files that other tools read beside the shards: timm's ``_info.json``, and the Hugging Face hub's data set card.

With them the folder that a run writes can be uploaded, and read by timm and ``datasets``, as it is.
"""

from __future__ import annotations

import json
from typing import Any

from huggingface_hub import DatasetCardData

from prismkd import __version__
from prismkd.shards import FORMATS, Manifest, Scan, Storage
from prismkd.shards.ledger import tar_name
from prismkd.text import visible


def write_card(images: Storage, manifest: Manifest, ledger: Scan, name: str) -> None:
    """Write ``README.md`` and ``_info.json`` of a finished data set.

    Args:
        images: the data set.
        manifest: its manifest.
        ledger: its ledger, with all shards committed.
        name: the method that made the images, as the card calls it.
    """
    files = {
        "_info.json": json.dumps(timm_info(manifest, ledger), indent=1) + "\n",
        "README.md": card(manifest, ledger, name, "shard-*.tar"),
    }
    for file, text in files.items():
        # Only where something changed: a run that finds all done must not touch what somebody may be uploading
        if not images.exists(file) or images.read(file) != text.encode():
            images.remove_leftovers(file)
            images.write(file, text.encode())


def timm_info(manifest: Manifest, ledger: Scan) -> dict[str, Any]:
    """The contents of ``_info.json``, by which timm's webdataset reader knows the split's files and their lengths."""
    lengths = [record.count for record in ledger.records.values()]
    split = {"name": "train", "filenames": [tar_name(shard) for shard in ledger.records], "shard_lengths": lengths,
             "num_samples": sum(lengths)}  # fmt: skip
    return {"splits": {"train": split}, "num_classes": len(manifest.classes), "class_names": list(manifest.classes)}


def card(manifest: Manifest, ledger: Scan, name: str, files: str) -> str:
    """The data set card as Markdown. The YAML at its head tells ``datasets.load_dataset`` which ``files`` to read."""
    count = ledger.num_images
    head = DatasetCardData(
        task_categories=["image-classification"],
        tags=["synthetic", "knowledge-distillation", "prismkd"],
        size_categories=[_size_category(count)],
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": files}]}],
    )
    generator = manifest.identity.get("generator", {})  # a merged data set has none, but its sources' plans
    extension = FORMATS[manifest.encoding.format]
    rows = {
        "images": f"{count:,} of {len(manifest.classes):,} classes",
        "method": name,
        "generator": f"{generator.get('source', '?')} {generator.get('revision', '')}".strip(),
        "guided by a teacher": "yes" if "guidance" in manifest.identity else "no",
        "plan": manifest.plan_hash,
        "made with": f"prismkd {__version__}",
    }
    table = "\n".join(f"| {key} | {escaped(value)} |" for key, value in rows.items())
    classes = "\n".join(f"| {label} | {escaped(text)} |" for label, text in enumerate(manifest.classes))
    return (
        f"---\n{head.to_yaml()}\n---\n\n"
        "# Synthetic images for knowledge distillation\n\n"
        f"| | |\n|---|---|\n{table}\n\n"
        f"Each sample is an image (`{extension}`), its label (`cls`) and its provenance (`json`: prompt, sense, "
        "style, seed, energies, the teacher's answer, sha256). All images were drawn by a text-to-image model; "
        "the licence of that model's output applies.\n\n"
        f"| label | class |\n|---:|---|\n{classes}\n"
    )


def escaped(text: str) -> str:
    """A text for a cell of a Markdown table, in which neither Markdown nor HTML has an effect.

    Class names and folders come from users and from other people's models, and the card is shown on a website.
    """
    escaped = visible(" ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")
    for mark in "\\`*_[]":  # the backslash first, or it would escape the others' own
        escaped = escaped.replace(mark, "\\" + mark)
    return escaped


def _size_category(count: int) -> str:
    """The bracket of a number of images, in the words that the hub's search knows."""
    for limit, low, high in ((10**3, "n<", "1K"), (10**4, "1K<n<", "10K"), (10**5, "10K<n<", "100K"),
                             (10**6, "100K<n<", "1M"), (10**7, "1M<n<", "10M")):  # fmt: skip
        if count < limit:
            return f"{low}{high}"
    return "10M<n<100M"
