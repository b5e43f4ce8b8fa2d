"""What is changed in a valid input: strategies of hypothesis, which know the structure of the common formats.

A case is a dictionary of the files that differ from the valid input: path in its folder -> contents, or None for a file
that is missing.
"""

from __future__ import annotations

import io
import json
import math
import struct
import tarfile
import tomllib
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

Case = dict[str, bytes | None]
Files = Mapping[str, bytes]

DEEP, DIGITS = "@deep@", "@digits@"  # written as 100,000 brackets, and as a number of 5,000 digits
MARKS = {f'"{DEEP}"': "[" * 100_000 + "]" * 100_000, f'"{DIGITS}"': "9" * 5000}
NUMBERS = (
    0, 1, -1, 2, 3, 255, 256, 65536, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30,
    0.0, -0.0, 0.5, 1.5, -0.5, 1e-320, 1e20, 1e308, -1e308, math.nan, math.inf, -math.inf,
)  # fmt: skip
TEXTS = (
    "", " ", "x", "0", "1", "-1", "nan", "1e999", "true", "none", "auto", "é", "\u202e", "\ud800", "\x00", "\x1b[31m",
    "a\nb", "../../outside", "/etc/passwd", "/dev/zero", "~", "{}", "{name}", "{0.__class__}", "%s",
    "http://127.0.0.1:9/", "http://127.0.0.1:9/v1", "file:///etc/passwd", "s3://bucket/key", "org/name",
    "timm/resnet18", "hf-hub:org/name", "builtins.eval", "torch.nn", "__import__('os')", "pictograms", "a" * 5000, DEEP,
    DIGITS,
)  # fmt: skip
SHAPES: tuple[Any, ...] = (
    [], {}, [None], [[]], [0], [1, 2], [-1, 0], [0.5] * 3, ["x"], ["x", "x"], [{}], {"": None}, {"x": 1}, {"0": "x"},
    list(range(2000)), [[[[[[[[1]]]]]]]],
)  # fmt: skip
VALUES: SearchStrategy[Any] = st.one_of(
    st.sampled_from((None, True, False, *NUMBERS)), st.sampled_from(TEXTS), st.sampled_from(SHAPES),
    st.integers(), st.floats(), st.text(max_size=12),
)  # fmt: skip
WIDTHS = {"<H": 2**16, ">H": 2**16, "<I": 2**32, ">I": 2**32, "<Q": 2**64, ">Q": 2**64}


# --- any bytes -------------------------------------------------------------------------------------------------------


@st.composite
def damaged(draw: DrawFn, contents: bytes) -> bytes:
    """Bytes with a few flipped, overwritten, cut, dropped, inserted or repeated, more often near the ends."""
    data = bytearray(contents)
    for _ in range(draw(st.sampled_from((1, 1, 2, 4)))):
        if not data:
            break
        last = len(data) - 1
        low, high = draw(st.sampled_from(((0, min(63, last)), (0, last), (max(0, last - 63), last))))
        at = draw(st.integers(low, high))
        match draw(st.sampled_from(("flip", "byte", "number", "cut", "drop", "insert", "repeat"))):
            case "flip":
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "byte":
                data[at] = draw(st.sampled_from((0, 1, 0x20, 0x22, 0x2C, 0x5B, 0x7B, 0x7F, 0x80, 0xFF)))
            case "number":
                form = draw(st.sampled_from(tuple(WIDTHS)))
                number = draw(st.sampled_from((0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)))
                data[at : at + struct.calcsize(form)] = struct.pack(form, number % WIDTHS[form])
            case "cut":
                del data[at:]
            case "drop":
                del data[at : at + draw(st.integers(1, 16))]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "repeat":
                data[at:at] = data[at : at + draw(st.integers(1, 64))]
    return bytes(data)


# --- documents -------------------------------------------------------------------------------------------------------


@st.composite
def edited(draw: DrawFn, document: Any, values: SearchStrategy[Any] = VALUES) -> Any:
    """Plain data with one to three of its parts replaced, removed, added, copied or repeated."""
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3)))):
        path = _walk(draw, document)
        document = _changed(document, path, lambda parent, key: _one_edit(draw, parent, key, values))
    return document


def _walk(draw: DrawFn, document: Any) -> list[Any]:
    """The keys that lead to a part. Every key of a level is as likely, however much lies below it."""
    path: list[Any] = []
    while isinstance(document, dict | list) and document and (not path or draw(st.integers(0, 4))):
        keys = list(document) if isinstance(document, dict) else range(len(document))
        path.append(keys[draw(st.integers(0, len(keys) - 1))])
        document = document[path[-1]]
    return path


def _changed(document: Any, path: Sequence[Any], edit: Callable[[Any, Any], Any]) -> Any:
    """A copy of what lies on the way, changed at its end."""
    if not path:
        return document
    copy = dict(document) if isinstance(document, dict) else list(document)
    if len(path) == 1:
        return edit(copy, path[0])
    copy[path[0]] = _changed(copy[path[0]], path[1:], edit)
    return copy


def _one_edit(draw: DrawFn, parent: Any, key: Any, values: SearchStrategy[Any]) -> Any:
    actions = ("value", "value", "value", "near", "near", "remove", "add", "copy", "repeat", "wrap")
    action = draw(st.sampled_from(actions))
    if action == "value":
        parent[key] = draw(values)
    elif action == "near":
        parent[key] = _near(draw, parent[key], values)
    elif action == "remove":
        del parent[key]
    elif action == "wrap":
        parent[key] = draw(st.sampled_from(([parent[key]], {"x": parent[key]}, str(parent[key])[:1000])))
    elif isinstance(parent, dict):
        other = draw(st.sampled_from(list(parent)))
        if action == "add":
            parent[draw(st.sampled_from([text for text in TEXTS if not text.startswith("@")]))] = draw(values)
        else:
            parent[key] = parent[other]
    else:
        parent.insert(key, draw(values) if action == "add" else parent[key])
    return parent


def _near(draw: DrawFn, value: Any, values: SearchStrategy[Any]) -> Any:
    """A value of the same type, which gets further into a reader than one of another."""
    match value:
        case bool():
            return not value
        case int() | float():
            return draw(st.sampled_from((value + 1, value - 1, -value, 2 * value, value * 1000, value / 2)))
        case str():
            return draw(st.sampled_from((value.upper(), value + "x", value[:-1], f" {value}", *TEXTS)))
        case list():
            return draw(st.sampled_from((value[:-1], value * 2, value[::-1])))
        case _:
            return draw(values)


def to_json(document: Any) -> bytes:
    """JSON as hostile programs write it: NaN, half characters, 100,000 brackets."""
    text = json.dumps(document)
    for mark, written in MARKS.items():
        text = text.replace(mark, written)
    return text.encode()


def to_toml(table: Mapping[str, Any]) -> bytes:
    """TOML, a line for each key; tables within stand in braces. None becomes a word that TOML doesn't have."""
    lines = [f"{_toml(str(key))} = {_toml(value)}" for key, value in table.items()]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case float():
            return repr(value)
        case int():
            return str(value)
        case str():
            return MARKS.get(f'"{value}"') or json.dumps(value)
        case dict():
            return "{" + ", ".join(f"{_toml(str(key))} = {_toml(part)}" for key, part in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case _:
            return "null"


def json_files(contents: bytes) -> SearchStrategy[bytes]:
    """A JSON file, of which values are changed."""
    return edited(json.loads(contents)).map(to_json)


def toml_files(contents: bytes) -> SearchStrategy[bytes]:
    """A TOML file, of which values are changed."""
    return edited(tomllib.loads(contents.decode())).map(to_toml)


def text_files(contents: bytes) -> SearchStrategy[bytes]:
    """Lines of a text, or cells of a table, replaced, removed, added or repeated."""
    separator = next((mark for mark in ("\t", ",", " ") if mark.encode() in contents), ",")
    rows: list[Any] = [line.split(separator) for line in contents.decode().splitlines()]
    texts = st.sampled_from(TEXTS) | st.text(max_size=12)
    return edited(rows, texts).map(lambda found: _joined(found, separator))


def _joined(rows: Any, separator: str) -> bytes:
    lines = [separator.join(map(str, row)) if isinstance(row, list) else str(row) for row in rows]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


# --- safetensors, tars and PNG ---------------------------------------------------------------------------------------


@st.composite
def safetensors_files(draw: DrawFn, contents: bytes) -> bytes:
    """Weights with another header: names, types, shapes and places; in some the header's length lies."""
    size = struct.unpack("<Q", contents[:8])[0]
    header = to_json(draw(edited(json.loads(contents[8 : 8 + size]))))
    length = len(header) if draw(st.integers(0, 7)) else draw(st.sampled_from((0, 1, size, 2**32, 2**63, 2**64 - 1)))
    return struct.pack("<Q", length) + header + contents[8 + size :]


Member = tuple[str, bytes, bytes]  # name, kind and contents
KINDS = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE,
         tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME)  # fmt: skip


@st.composite
def tar_files(draw: DrawFn, contents: bytes) -> bytes:
    """A tar whose members are changed in contents, name or kind, dropped, repeated or put elsewhere."""
    members = _members(contents)
    for _ in range(draw(st.sampled_from((1, 1, 2)))):
        if not members:
            break
        at = draw(st.integers(0, len(members) - 1))
        name, kind, body = members[at]
        match draw(st.sampled_from(("contents", "contents", "contents", "name", "kind", "drop", "repeat", "move"))):
            case "contents":
                members[at] = name, kind, draw(contents_of(name, body))
            case "name":
                stem, _, suffix = name.partition(".")
                names = (f"{stem}.txt", f"../{name}", f"x{name}", f"{stem}.{suffix}.{suffix}", "a" * 120 + name,
                         f"{'9' * 30}.{suffix}", f"-1.{suffix}", f"/{name}", f".{suffix}", f"{stem}.PNG", "é.cls",
                         )  # fmt: skip
                members[at] = draw(st.sampled_from(names)), kind, body
            case "kind":
                members[at] = name, draw(st.sampled_from(KINDS)), body
            case "drop":
                del members[at]
            case "repeat":
                members.insert(at, members[at])
            case "move":
                members.insert(draw(st.integers(0, len(members) - 1)), members.pop(at))
    return _tar(members)


def _members(contents: bytes) -> list[Member]:
    with tarfile.open(fileobj=io.BytesIO(contents)) as tar:
        return [(member.name, tarfile.REGTYPE, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


def _tar(members: Sequence[Member]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, kind, body in members:
            member = tarfile.TarInfo(name)
            member.type, member.size, member.linkname = kind, len(body), "/etc/passwd"
            tar.addfile(member, io.BytesIO(body))
    return file.getvalue()


@st.composite
def png_files(draw: DrawFn, contents: bytes) -> bytes:
    """A PNG with a changed, dropped or repeated chunk whose checksum fits, such as a size of billions of pixels."""
    chunks, at = [], 8
    while at < len(contents):
        (size,) = struct.unpack(">I", contents[at : at + 4])
        chunks.append((contents[at + 4 : at + 8], contents[at + 8 : at + 8 + size]))
        at += size + 12
    at = draw(st.integers(0, len(chunks) - 1))
    kind, body = chunks[at]
    match draw(st.sampled_from(("body", "body", "size", "kind", "drop", "repeat"))):
        case "body":
            chunks[at] = kind, draw(damaged(body))
        case "size":
            sides = st.sampled_from((0, 1, 7, 9, 1000, 30_000, 65_535, 2**31 - 1, 2**32 - 1))
            chunks[0] = chunks[0][0], struct.pack(">II", draw(sides), draw(sides)) + chunks[0][1][8:]
        case "kind":
            chunks[at] = (
                draw(st.sampled_from((b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"iCCP", b"acTL", b"fdAT", b"IEND"))),
                body,
            )
        case "drop":
            del chunks[at]
        case "repeat":
            chunks.insert(at, chunks[at])
    packed = [struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks]
    return contents[:8] + b"".join(packed)


# --- files by their suffix -------------------------------------------------------------------------------------------

STRUCTURED: dict[str, Callable[[bytes], SearchStrategy[bytes]]] = {
    ".json": json_files, ".toml": toml_files, ".csv": text_files, ".tsv": text_files, ".txt": text_files,
    ".safetensors": safetensors_files, ".tar": tar_files, ".png": png_files,
}  # fmt: skip
LABELS = ("0", "1", "-1", "9" * 30, "1.0", "", "cat", "٣", "²", "\x00", "1 2")


def contents_of(name: str, contents: bytes) -> SearchStrategy[bytes]:
    """A file's contents, changed: by the rules of its format where its suffix has some, and in any way."""
    suffix = PurePosixPath(name).suffix
    anything = st.one_of(damaged(contents), st.sampled_from((b"", b"{}", b"[]", b"null", b"\xff\xfe", b"\x00" * 64)))
    if suffix == ".cls":
        return st.sampled_from([label.encode() for label in LABELS]) | anything
    if suffix not in STRUCTURED or not contents:
        return damaged(contents) | anything
    structured = STRUCTURED[suffix](contents)
    return st.one_of(structured, structured, structured, anything)


@st.composite
def cases(draw: DrawFn, strategies: Mapping[str, SearchStrategy[bytes]]) -> Case:
    """One or two files changed, now and then missing.

    Args:
        draw: of hypothesis.
        strategies: path -> contents.
    """
    names = draw(st.lists(st.sampled_from(sorted(strategies)), min_size=1, max_size=2, unique=True))
    return {name: draw(strategies[name]) if draw(st.integers(0, 24)) else None for name in names}


def one_file(base: Files) -> SearchStrategy[Case]:
    """One file changed and all others away, where each is an input by itself."""
    others = dict.fromkeys(base)

    def alone(name: str) -> SearchStrategy[Case]:
        return contents_of(name, base[name]).map(lambda contents: {**others, name: contents})

    return st.sampled_from(sorted(base)).flatmap(alone)


def by_suffix(base: Files) -> SearchStrategy[Case]:
    """Any file of a valid input changed, by the rules of its format."""
    return cases({name: contents_of(name, contents) for name, contents in base.items()})
