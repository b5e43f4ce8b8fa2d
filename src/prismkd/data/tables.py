"""Tables of images: Parquet files, and data sets that Hugging Face's ``save_to_disk`` wrote."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypedDict

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prismkd.classes.matching import ClassLabels
from prismkd.data.labels import check_labels
from prismkd.data.listing import Listing, expand_pattern, file_opener
from prismkd.errors import UserError
from prismkd.files.documents import as_shape, parse_document, read_document
from prismkd.text import shortened

MAX_ROWS = 1024  # that are unpacked at a time
MAX_UNPACKED, MAX_RATIO = 2**28, 100  # bytes of a Parquet file, and of its own size: pictures are compressed already
IMAGES, LABELS, DOMAINS = ("image", "img"), ("label", "labels", "fine_label"), ("domain",)


class Info(TypedDict, total=False):
    """What Hugging Face says of a data set; its features may have any form."""

    features: dict[str, Any] | None


class Metadata(TypedDict, total=False):
    """The metadata of a Parquet file under ``huggingface``."""

    info: Info | None


class Feature(TypedDict, total=False):
    """What Hugging Face says of a column of labels."""

    names: list[str] | None


class DataFile(TypedDict):
    """A file of a saved data set."""

    filename: str


class State(TypedDict):
    """``state.json`` of a saved data set."""

    _data_files: list[DataFile]


def list_parquet(pattern: str, classes: ClassLabels) -> Listing:
    """The images of Parquet files with the columns image, label and, where there are several, domain.

    An image is encoded bytes, or a struct of bytes and path as Hugging Face writes it; a path is of a file in the same
    folder or below. A label is a number; where the
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
        table = _read_parquet(path)
        contents = (table.schema.metadata or {}).get(b"huggingface", b"{}")
        metadata = parse_document(contents, Metadata, f"the metadata of {path}", remedy="make it again")
        features = (metadata.get("info") or {}).get("features") or {}
        _add_table(listing, table, features, classes, path)
    return listing


def _read_parquet(path: Path) -> pa.Table:
    """The columns of images, labels and domains."""
    try:
        with pq.ParquetFile(path) as file:
            # Of a file with further columns only these: the table is kept in memory, images and all
            columns = [name for name in file.schema_arrow.names if name in (*IMAGES, *LABELS, *DOMAINS)]
            return pa.Table.from_batches(_batches(file, columns, path), _schema(file.schema_arrow, columns))
    except (OSError, KeyError, pa.ArrowException) as error:
        raise UserError(f"expected a Parquet file, got {path}: {_reason(error)}; make it again") from None


def _batches(file: pq.ParquetFile, columns: list[str], path: Path) -> Iterator[pa.RecordBatch]:
    """A file's rows, as long as they unpack to what pictures may: a few bytes can stand for any number of any size."""
    size, limit = 0, max(MAX_UNPACKED, MAX_RATIO * path.stat().st_size)
    groups = [file.metadata.row_group(number).total_byte_size for number in range(file.metadata.num_row_groups)]
    # A value that many rows share is stored once. So few rows are unpacked at a time that they stay within the limit
    for batch in file.iter_batches(min(MAX_ROWS, max(1, limit // max(1, *groups, 1))), columns=columns):
        size += batch.nbytes
        if size > limit:
            raise UserError(
                f"expected pictures, which hardly shrink, in {path}, got more than {limit:,} bytes packed into "
                f"{path.stat().st_size:,}; make it again"
            )
        yield batch


def _schema(schema: pa.Schema, columns: list[str]) -> pa.Schema:
    return pa.schema([schema.field(name) for name in columns], schema.metadata)


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0][:200]


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
        features = read_document(folder / "dataset_info.json", Info, remedy="save it again").get("features") or {}
        state = read_document(folder / "state.json", State, remedy="save it again")
        paths = [_inside(folder, row["filename"]) for row in state["_data_files"]]
        # Mapped, not read: the pictures stay on the disk until they are decoded
        tables = [pa.ipc.open_stream(pa.memory_map(str(path))).read_all() for path in paths]
        for table in tables:
            table.validate(full=True)  # pyarrow takes offsets as they are, and reads wherever a damaged one leads
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(
            f"expected a saved Hugging Face data set, got {folder}: {_reason(error)}; save it again"
        ) from None
    for path, table in zip(paths, tables, strict=True):
        _add_table(listing, table, features, classes, path)
    return listing


def _add_table(listing: Listing, table: pa.Table, features: dict[str, Any], classes: ClassLabels, path: Path) -> None:
    """Every row of a table; the encoded bytes stay in it until they are decoded."""
    source = str(path)
    image_column, label_column = _column(table, IMAGES, source), _column(table, LABELS, source)
    feature = as_shape(features.get(label_column) or {}, Feature, f"the labels' description in {source}",
                       remedy="make it again")  # fmt: skip
    labels = _labels(table[label_column].to_pylist(), feature.get("names"), classes, source)
    domains = table["domain"].to_pylist() if "domain" in table.column_names else ["id"] * len(labels)
    images = table[image_column]
    _refuse_elsewhere(images, path)
    for row, (label, domain) in enumerate(zip(labels, domains, strict=True)):
        listing.add(f"row {row} of {source}", _opener(images, row, path.parent), label, str(domain))


def _column(table: pa.Table, names: Sequence[str], source: str) -> str:
    for name in names:
        if name in table.column_names:
            return name
    raise UserError(f"expected a column {names[0]} in {source}, got {', '.join(table.column_names) or 'none'}; add it")


def _labels(values: list[Any], names: list[str] | None, classes: ClassLabels, source: str) -> list[int]:
    """Labels of the run: of named ones by their names, of texts as names, else the numbers themselves.

    They are the numbers too where all that is known of the run's classes is how many there are.
    """
    is_text = bool(values) and all(isinstance(value, str) for value in values)
    if is_text:
        names = sorted(set(values))  # from here on as if the file had numbers with names
        index = {name: place for place, name in enumerate(names)}
        values = [index[value] for value in values]
    if not all(isinstance(value, int) for value in values):
        raise UserError(f"expected whole numbers or names as labels in {source}, got {values[:3]}; write them so")
    if names:
        check_labels(values, len(names), source)
    # ImageNet calls two classes "crane": names in the run's own order need not be looked up one by one
    if not names or classes.are_in_order(names) or (not is_text and _are_numbers(classes)):
        return check_labels(values, len(classes), source)
    present = sorted(set(values))
    label_of = dict(zip(present, classes.of([names[value] for value in present], source), strict=True))
    return [label_of[value] for value in values]


def _are_numbers(classes: ClassLabels) -> bool:
    """Whether the classes have no other names than "0", "1", ..."""
    return classes.names == [str(label) for label in range(len(classes))]


def _opener(images: pa.ChunkedArray, row: int, folder: Path) -> Callable[[], BinaryIO]:
    """How the image of a row is opened: its bytes, or the file in the table's folder that it names."""

    def _open() -> BinaryIO:
        value = images[row].as_py()
        contents, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        if contents is None and path:
            return file_opener(_inside(folder, path))()
        if not isinstance(contents, bytes):
            raise ValueError("no encoded image")
        return io.BytesIO(contents)

    return _open


def _refuse_elsewhere(images: pa.ChunkedArray, path: Path) -> None:
    """Refuse a table that names pictures outside of its folder, which may be somebody else's idea of your disk."""
    is_struct = pa.types.is_struct(images.type) and {"bytes", "path"} <= {field.name for field in images.type}
    if not is_struct or not pa.types.is_string(images.type.field("path").type):
        return
    is_apart = pc.is_null(pc.struct_field(images, "bytes"))
    names = [name for name in pc.struct_field(images, "path").filter(is_apart).to_pylist() if name]
    elsewhere = [name for name in names if not Path(os.path.normpath(path.parent / name)).is_relative_to(path.parent)]
    if elsewhere:
        raise UserError(
            f"expected pictures in {path}, or in files of its folder, got {len(elsewhere)} elsewhere, such as "
            f"{shortened(elsewhere[0])}; save the data set with save_to_disk, which puts them in"
        )


def _inside(folder: Path, name: Any) -> Path:
    """A file in a folder, by the name that a table gives it: one that somebody else made may name no other files.

    Raises:
        ValueError: it is no name, or of a file elsewhere.
    """
    if not isinstance(name, str) or "\0" in name or not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{str(name)[:40]} is no file in {folder}")
    return folder / name
