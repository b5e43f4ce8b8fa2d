"""Reading the checkpoint of a training, which may be damaged or somebody else's, and setting it aside then."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prismkd.errors import UserError, warn


class DamagedCheckpointError(Exception):
    """A checkpoint that is damaged, or of another training; says why."""


def read_checkpoint(path: Path) -> Any:
    """What ``torch.save`` wrote to the file: plain data and tensors, every byte as it was written.

    Raises:
        DamagedCheckpointError: the file is no such checkpoint.
        UserError: the machine couldn't read it.
    """
    if not path.is_file():  # opening a pipe would wait for its other end
        raise DamagedCheckpointError("a folder or a device")
    try:
        with path.open("rb") as file:
            _check_archive(file)
            file.seek(0)
            # weights_only: a checkpoint is data, and loading it runs no code. By way of the CPU, as the device that
            # wrote it may be another one.
            return torch.load(file, "cpu", weights_only=True)
    except (DamagedCheckpointError, MemoryError):
        raise
    except pickle.UnpicklingError:
        raise DamagedCheckpointError("something else than plain data and tensors") from None
    except Exception as error:  # whatever damage does to an archive and what is in it
        if isinstance(error, OSError) and error.errno:
            raise UserError(f"expected to read {path}, got: {error.strerror}; give the same command again") from None
        raise DamagedCheckpointError((str(error).strip() or type(error).__name__).splitlines()[0][:160]) from None


def _check_archive(file: Any) -> None:
    """Refuse an archive with other bytes than were written: torch doesn't look at its checksums."""
    with zipfile.ZipFile(file) as archive:
        # torch packs nothing, and would unpack it to any size
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise DamagedCheckpointError("a compressed archive")
        if damaged := archive.testzip():
            raise DamagedCheckpointError(f"other bytes than were written in {damaged}")


def check_alike(found: Any, own: Any, name: str) -> None:
    """Refuse a value of another form than our own: its keys, shape or type.

    Raises:
        DamagedCheckpointError: says where.
    """
    if isinstance(own, Mapping):
        if not isinstance(found, Mapping) or found.keys() != own.keys():
            raise DamagedCheckpointError(f"other keys of {name}")
        for key, value in own.items():
            check_alike(found[key], value, f"{name}, {key}")
    elif isinstance(own, Tensor):
        is_plain = isinstance(found, Tensor) and found.layout == torch.strided
        if not is_plain or (found.shape, found.dtype) != (own.shape, own.dtype):
            raise DamagedCheckpointError(f"another shape or type of {name}")
    elif type(found) is not type(own):
        raise DamagedCheckpointError(f"another type of {name}")


def set_aside(path: Path, reason: str) -> None:
    """Rename a checkpoint that is of no use, so that it is kept, and say so."""
    kept, number = path.with_name(f"{path.stem}-damaged{path.suffix}"), 1
    while os.path.lexists(kept):
        number += 1
        kept = path.with_name(f"{path.stem}-damaged-{number}{path.suffix}")
    path.rename(kept)
    warn(f"expected a checkpoint of this training in {path}, got {reason}; it is kept as {kept.name}, and the training "
         "begins anew")  # fmt: skip
