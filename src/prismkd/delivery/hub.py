"""A delivered student or an exported data set goes to the Hugging Face hub, when that is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from prismkd.delivery.student_folder import CONFIG, GRAPH, WEIGHTS
from prismkd.errors import UserError
from prismkd.files import check_no_link_out
from prismkd.files.write import UNFINISHED

HIDDEN = [".*", "*/.*"]  # patterns of what stays here
REPOSITORY = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
TOKEN = re.compile(r"hf_[A-Za-z0-9]{4,}")


@dataclass(frozen=True)
class Upload:
    """What would go where: files with their bytes, below ``folder``."""

    folder: Path
    repository: str
    kind: str
    private: bool
    files: dict[str, int]


def plan_upload(folder: Path, repository: str, private: bool) -> Upload:
    """What an upload would send; asks nobody.

    Raises:
        UserError: the folder is neither a delivered student nor an exported data set, a link leads out of it, or the
            name is no repository's.
    """
    from huggingface_hub.utils import filter_repo_objects

    if not re.fullmatch(REPOSITORY, repository, re.ASCII) or len(repository) > 96:
        raise UserError(f"expected --repo org/name, got {repository[:100]!r}; correct it")
    kind = _kind(folder)
    check_no_link_out(folder)  # the hub's client would send what a link leads to
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = {name: (folder / name).stat().st_size for name in filter_repo_objects(names, ignore_patterns=HIDDEN)}
    return Upload(folder, repository, kind, private, files)


def _kind(folder: Path) -> str:
    if (folder / UNFINISHED).exists():
        raise UserError(f"expected a finished export, got {folder}, whose export was stopped; give its command again")
    if (folder / CONFIG).is_file() and any((folder / name).is_file() for name in (WEIGHTS, GRAPH)):
        return "model"
    exported = any((folder / name).is_file() for name in ("_info.json", "provenance.jsonl"))
    if (exported or any(folder.glob("data/*.parquet"))) and not (folder / "dataset.json").is_file():
        return "dataset"
    raise UserError(
        f"expected a delivered student or an exported data set, got {folder}; make one with `prismkd export`"
    )


def upload(plan: Upload) -> str:
    """Send it, with the token that ``hf auth login`` or HF_TOKEN holds; returns the address.

    Raises:
        UserError: the hub refuses, or a private repository is asked for and the one that is there is public.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="prismkd")
    try:
        address = api.create_repo(plan.repository, repo_type=plan.kind, private=plan.private, exist_ok=True)
        open_to_all = plan.private and not api.repo_info(plan.repository, repo_type=plan.kind).private
        if not open_to_all:
            api.upload_folder(
                repo_id=plan.repository, repo_type=plan.kind, folder_path=plan.folder, ignore_patterns=HIDDEN,
                commit_message="Upload with prismkd",
            )  # fmt: skip
    except Exception as error:  # of the hub's client, of its HTTP library, of the disk
        reason = TOKEN.sub("hf_...", " ".join(str(error).split())[:300]) or type(error).__name__
        raise UserError(
            f"expected to upload to {plan.repository}, the hub's client said: {reason}; log in with `hf auth login`, "
            "or check the name and your rights"
        ) from None
    if open_to_all:  # an existing repository keeps its visibility, whatever is asked for
        raise UserError(f"expected {plan.repository} to be private, got a public one; nothing was sent, use another")
    return str(address)
