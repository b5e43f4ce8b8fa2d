"""Tables of images: Parquet files, and data sets that Hugging Face's ``save_to_disk`` wrote."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from prismkd.classes.matching import ClassLabels
from prismkd.data.labels import check_labels
from prismkd.data.listing import Listing, expand_pattern, file_opener
from prismkd.errors import UserError

IMAGES, LABELS, DOMAINS = ("image", "img"), ("label", "labels", "fine_label"), ("domain",)


def list_parquet(pattern: str, classes: ClassLabels) -> Listing:
    """The images of Parquet files with the columns image, label and, where there are several, domain.

    An image is encoded bytes, or a struct of bytes and path as Hugging Face writes it. A label is a number; where the
    file's Hugging Face metadata name the labels, it is what its name says.

    Raises:
        UserError: no such file, no such columns, unknown classes, or files of several splits.
    """
    paths = expand_pattern(pattern)
    splits = sorted({path.name.split("-")[0] for path in paths})
    if len(paths) > 1 and len(splits) > 1:
        raise UserError(
            f"expected the Parquet files of one split, got {', '.join(splits)}; name one, such as "
            f"{paths[0].parent}/{splits[0]}-*.parquet"
        )
    listing = Listing()
    for path in paths:
        try:
            schema = pq.read_schema(path)
            # Of a file with further columns only these: the table is kept in memory, images and all
            columns = [name for name in schema.names if name in (*IMAGES, *LABELS, *DOMAINS)]
            table = pq.read_table(path, columns=columns)
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(f"expected a Parquet file, got {path}: {error}; make it again") from None
        info = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        _add_table(listing, table, info.get("info", {}).get("features", {}), classes, str(path))
    return listing


def list_saved_dataset(folder: Path, classes: ClassLabels) -> Listing:
    """The images of a data set that Hugging Face's ``save_to_disk`` wrote: one split's folder.

    Raises:
        UserError: it holds several splits, a damaged file, no such columns, or unknown classes.
    """
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(child.name for child in folder.iterdir() if child.is_dir())
        raise UserError(
            f"expected one split, got {folder} with {', '.join(splits)}; name one, such as {folder / splits[-1]}"
        )
    listing = Listing()
    try:
        features = json.loads((folder / "dataset_info.json").read_text())["features"]
        files = [row["filename"] for row in json.loads((folder / "state.json").read_text())["_data_files"]]
        # Mapped, not read: the pictures stay on the disk until they are decoded
        tables = [pa.ipc.open_stream(pa.memory_map(str(folder / name))).read_all() for name in files]
    except (OSError, ValueError, KeyError, pa.ArrowInvalid) as error:
        raise UserError(f"expected a saved Hugging Face data set, got {folder}: {error}; save it again") from None
    for name, table in zip(files, tables, strict=True):
        _add_table(listing, table, features, classes, str(folder / name))
    return listing


def _add_table(listing: Listing, table: pa.Table, features: dict[str, Any], classes: ClassLabels, source: str) -> None:
    """Every row of a table; the encoded bytes stay in it until they are decoded."""
    image_column, label_column = _column(table, IMAGES, source), _column(table, LABELS, source)
    names = features.get(label_column, {}).get("names")
    labels = _labels(table[label_column].to_pylist(), names, classes, source)
    domains = table["domain"].to_pylist() if "domain" in table.column_names else ["id"] * len(labels)
    images = table[image_column]
    for row, (label, domain) in enumerate(zip(labels, domains, strict=True)):
        listing.add(f"row {row} of {source}", _opener(images, row, source), label, str(domain))


def _column(table: pa.Table, names: Sequence[str], source: str) -> str:
    for name in names:
        if name in table.column_names:
            return name
    raise UserError(f"expected a column {names[0]} in {source}, got {', '.join(table.column_names) or 'none'}; add it")


def _labels(values: list[Any], names: list[str] | None, classes: ClassLabels, source: str) -> list[int]:
    """Labels of the run: of named ones by their names, of texts as names, else the numbers themselves."""
    if values and all(isinstance(value, str) for value in values):
        names = sorted(set(values))  # from here on as if the file had numbers with names
        index = {name: place for place, name in enumerate(names)}
        values = [index[value] for value in values]
    if not all(isinstance(value, int) for value in values):
        raise UserError(f"expected whole numbers or names as labels in {source}, got {values[:3]}; write them so")
    # ImageNet calls two classes "crane": names in the run's own order need not be looked up one by one
    if not names or classes.are_in_order(names):
        return check_labels(values, len(classes), source)
    present = sorted(set(check_labels(values, len(names), source)))
    label_of = dict(zip(present, classes.of([names[value] for value in present], source), strict=True))
    return [label_of[value] for value in values]


def _opener(images: pa.ChunkedArray, row: int, source: str) -> Callable[[], BinaryIO]:
    """How the image of a row is opened: its bytes, or the file that it names."""

    def _open() -> BinaryIO:
        value = images[row].as_py()
        if isinstance(value, dict) and value.get("bytes") is None and value.get("path"):
            return file_opener(Path(source).parent / value["path"])()
        return io.BytesIO(value["bytes"] if isinstance(value, dict) else value)

    return _open
