"""Files on a disk: the one way to write them, and the one way to read what somebody else may have touched."""

from prismkd.files.documents import parse_document, read_document, read_toml
from prismkd.files.write import (
    as_user_error,
    is_temporary,
    make_folder,
    remove_leftovers,
    remove_temporary_files,
    write,
    write_json,
    writing,
)

__all__ = [
    "as_user_error",
    "is_temporary",
    "make_folder",
    "parse_document",
    "read_document",
    "read_toml",
    "remove_leftovers",
    "remove_temporary_files",
    "write",
    "write_json",
    "writing",
]
