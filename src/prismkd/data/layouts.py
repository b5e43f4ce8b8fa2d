"""Which layout labeled images lie in, and what is in it: the one entrance to test sets and other real images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from prismkd.classes.matching import ClassLabels
from prismkd.data.class_folders import list_class_folders
from prismkd.data.decode import common_form
from prismkd.data.images import LabeledImages
from prismkd.data.listing import Listing
from prismkd.data.lists import list_split_lists
from prismkd.data.tables import list_parquet, list_saved_dataset
from prismkd.data.tars import list_tars
from prismkd.errors import UserError

ID = "id"  # the teacher's own domain
LAYOUTS = (
    "class folders, domain folders with class folders, shards of webdataset (*.tar), Parquet files, a data set that "
    "Hugging Face saved, or split lists (*.txt)"
)


def load_labeled_images(
    source: str | Path, classes: ClassLabels | int, image_size: int = 0, usual_size: int | None = None
) -> LabeledImages:
    """Find labeled images; they are decoded when they are needed.

    Args:
        source: a folder of class folders, of domain folders with class folders (PACS, Office-Home, DomainNet), of
            webdataset shards (or a pattern such as ``test-{000..009}.tar``), of Parquet files (or one, or a pattern),
            or one that Hugging Face's ``save_to_disk`` wrote; or a split list (``*.txt``). Images without a domain of
            their own are ``id``.
        classes: the run's classes; or how many there are, where labels are numbers: names in a table aren't asked.
        image_size: pixels per side, 0 as they are.
        usual_size: where images differ in size and ``image_size`` is 0.

    Raises:
        UserError: nothing there, another layout, classes that aren't the run's, or images without a readable header.
    """
    if isinstance(classes, int):
        classes = ClassLabels([[str(label)] for label in range(classes)])
    listing = _list_in_its_layout(str(source), classes)
    if not listing.encoded:
        raise UserError(f"expected images in {source}, got none; check the path")
    form = common_form(listing.encoded, str(source), image_size, usual_size)
    labels = torch.tensor(listing.labels, dtype=torch.int64)
    return LabeledImages(listing.encoded, labels, np.array(listing.domains), form, str(source))


def load_domains(
    source: str | Path,
    shifted: Sequence[str],
    classes: ClassLabels,
    id_domain: str = ID,
    image_size: int = 0,
    usual_size: int | None = None,
) -> LabeledImages:
    """The test images of ``source``, and each of ``shifted`` (NAME=PATH) as the domain NAME.

    Args:
        source: as in ``load_labeled_images``.
        shifted: further sets, each of one domain.
        classes: the run's.
        id_domain: which domain of ``source`` is the teacher's own; it is called ``id`` from here on.
        image_size: as in ``load_labeled_images``.
        usual_size: as in ``load_labeled_images``.

    Raises:
        UserError: as ``load_labeled_images``; no such ``id_domain``; or entries that aren't NAME=PATH with new names.
    """
    parts = [_with_id_domain(load_labeled_images(source, classes, image_size, usual_size), id_domain)]
    for entry in shifted:
        name, separator, path = entry.partition("=")
        taken = {str(domain) for part in parts for domain in part.domains}
        if not (name and separator and path) or name in taken | {"images"}:
            raise UserError(
                f"expected NAME=PATH with a new name in evaluation.shifted, got {entry[:80]!r}; "
                f"the domains so far are {', '.join(sorted(taken))}"
            )
        part = load_labeled_images(path, classes, image_size, usual_size)
        # Whatever domains the set has of its own: the user's name is for all of it
        parts.append(replace(part, domains=np.full(len(part), name)))
    return _joined(parts, image_size, usual_size) if len(parts) > 1 else parts[0]


def _with_id_domain(images: LabeledImages, id_domain: str) -> LabeledImages:
    """The images, with the teacher's own domain under the name ``id``."""
    present = sorted(set(images.domains.tolist()))
    if id_domain not in present or (id_domain != ID and ID in present):
        raise UserError(
            f"expected test images of the domain {id_domain} in {images.source}, got {', '.join(present)}; name the "
            "teacher's own domain in evaluation.id_domain, or one of the folders as the source"
        )
    return replace(images, domains=np.array([ID if name == id_domain else name for name in images.domains.tolist()]))


def _joined(parts: Sequence[LabeledImages], image_size: int, usual_size: int | None) -> LabeledImages:
    encoded = [image for part in parts for image in part.encoded]
    source = ", ".join(part.source for part in parts)
    return LabeledImages(
        encoded,
        torch.cat([part.labels for part in parts]),
        np.concatenate([part.domains for part in parts]),
        common_form(encoded, source, image_size, usual_size),  # anew: each part may have had another size
        source,
    )


def _list_in_its_layout(source: str, classes: ClassLabels) -> Listing:
    """The images at a path, in whichever layout they are."""
    path = Path(source)
    if source.endswith(".tar"):
        return list_tars(source, classes)
    if source.endswith(".txt"):
        return list_split_lists(source, classes)
    if source.endswith(".parquet"):
        return list_parquet(source, classes)
    if path.is_dir():
        # Before the others: a folder that Hugging Face saved may hold Parquet files too
        if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
            return list_saved_dataset(path, classes)
        if any(path.glob("*.tar")):
            return list_tars(str(path / "*.tar"), classes)
        if any(path.glob("*.parquet")):
            return list_parquet(str(path / "*.parquet"), classes)
        return list_class_folders(path, classes)
    raise UserError(f"expected {LAYOUTS}, got {source}; check the path")
