"""Files on a disk: the one way to write and delete, and the one way to read what somebody else may have touched."""

from prismkd.files.documents import parse_document, read_document, read_toml
from prismkd.files.plain import open_plain
from prismkd.files.write import (
    as_user_error,
    check_no_link,
    check_no_link_out,
    is_temporary,
    is_used,
    make_folder,
    making_folder,
    remove,
    remove_leftovers,
    remove_temporary_files,
    rename,
    write,
    write_json,
    writing,
)

__all__ = [
    "as_user_error",
    "check_no_link",
    "check_no_link_out",
    "is_temporary",
    "is_used",
    "make_folder",
    "making_folder",
    "open_plain",
    "parse_document",
    "read_document",
    "read_toml",
    "remove",
    "remove_leftovers",
    "remove_temporary_files",
    "rename",
    "write",
    "write_json",
    "writing",
]
