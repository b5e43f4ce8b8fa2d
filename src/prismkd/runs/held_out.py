"""The held-out images of a run: two small data sets in ``held-out/``, drawn once, from which no student learns.

held-out/plain.json, held-out/diverse.json    the plans; null where the generator can't draw such prompts
held-out/plain/, held-out/diverse/            the images, in shards
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from prismkd.errors import warn
from prismkd.files import write_json
from prismkd.prompts import PromptPlan
from prismkd.records.directory import HELD_OUT, held_out_folder, read_json, remedy_of
from prismkd.records.shapes import HeldOutPlan
from prismkd.runs.inputs import generator_identity
from prismkd.shards import (
    Manifest,
    Sample,
    Storage,
    claim,
    discard_broken,
    drop_shard,
    inspect,
    is_begun,
    read_manifest,
    read_samples,
    scan,
)
from prismkd.shards.manifest import MANIFEST
from prismkd.synthesis.synthesizer import Synthesizer, run_shard

if TYPE_CHECKING:
    # A run draws its held-out images, so its module imports this one.
    from prismkd.runs.run import Run


def stored_held_out(run: Run, kind: str) -> Callable[[], Iterable[Sample]] | None:
    """Draw what is missing of a kind of held-out images.

    Returns:
        What reads them all, anew at each call; None where there is no plan of them.

    Raises:
        UserError: not one image of a shard is finite, or the disk is full.
    """
    plan, storage = _plan(run, kind), Storage(held_out_folder(run.directory, kind))
    if plan is None:
        return None
    indices = [prompt.index for prompt in run.held_out_prompts(plan)]
    manifest = _claim(run, storage, plan, len(indices))
    ledger = scan(storage, manifest.plan_hash)
    missing = manifest.missing(ledger.records)
    if missing:
        synthesizer = Synthesizer(run.generator, run.teacher)
        with run.track(f"held-out images ({kind} prompts)", len(indices)) as progress:
            progress(ledger.num_images)
            for shard in missing:
                places = manifest.ranges[shard]
                own = indices[places.start : places.stop]
                run_shard(storage, shard, plan, own, synthesizer, manifest.plan_hash, progress)
    return partial(read_samples, storage)


def repair_held_out(run: Run) -> None:
    """Read every byte of held-out images again, and draw again what is not as it should be."""
    for kind in HELD_OUT:
        folder = held_out_folder(run.directory, kind)
        if is_begun(folder):
            dropped = discard_broken(folder, inspect(folder)[0])
            if dropped:
                warn(f"{dropped} shards of {folder} are drawn again")
            stored_held_out(run, kind)


def _plan(run: Run, kind: str) -> PromptPlan | None:
    """The plan of a kind, as it was decided once or is now: senses may be chosen anew afterwards."""
    folder = held_out_folder(run.directory, kind)
    path = folder.with_name(f"{folder.name}.json")
    if not path.is_file():
        decided = run.held_out_plan(kind)
        write_json(path, {"plan": decided and decided.to_dict()})
    plan, names = read_json(path, HeldOutPlan)["plan"], [item.name for item in run.classes]
    return PromptPlan.from_dict(plan, names, str(path), remedy=remedy_of(path)) if plan else None


def _claim(run: Run, storage: Storage, plan: PromptPlan, num_images: int) -> Manifest:
    """The manifest, written or found again; images of other settings or models make way for new ones."""
    run.inputs.check_generator()
    old = read_manifest(storage)
    identity = {
        "prompts": plan.hash(),
        "teacher": run.teacher_digest,
        "generator": generator_identity(run.config, old),
        "num_images": num_images,  # which says at which indices of the plan they are
    }
    names = tuple(item.name for item in run.classes)
    wanted = Manifest(identity, (num_images,), run.config.synthesis.shard_size, names)
    if old is not None and old.plan_hash != wanted.plan_hash:
        # Nobody has learned from them, and what was measured on them has their fingerprint beside it.
        storage.remove(MANIFEST)
        for shard in scan(storage).records:
            drop_shard(storage, shard)
    return claim(storage, wanted)
