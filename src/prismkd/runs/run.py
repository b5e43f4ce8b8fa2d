"""A run: a session with a folder, in which every decision, image and student is written once and found again."""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from prismkd import __version__
from prismkd.adaptation.loop import CHECKPOINT
from prismkd.config import METHODS
from prismkd.errors import UserError, warn
from prismkd.files import remove, write_json
from prismkd.files.documents import as_shape
from prismkd.generators import TextToImage
from prismkd.generators.load import identity
from prismkd.generators.lora import Adapter
from prismkd.guidance import Calibration
from prismkd.prompts import Prompt
from prismkd.prompts.dpe import ContentsRecord, contents_from_record
from prismkd.prompts.language_model import ask_about
from prismkd.prompts.plan import PROBE_SEED
from prismkd.prompts.senses import Sense, SensesRecord, senses_from_record, senses_to_rows, unjudged_senses
from prismkd.prompts.suggestions import SenseSuggestion
from prismkd.records.digests import file_digest, joined
from prismkd.records.directory import (
    ADAPTATION,
    adapter_folder,
    dataset_keys,
    is_run,
    read_json,
    recorded_config,
    remedy_of,
)
from prismkd.records.shapes import AdaptationRecord, CalibrationRecord
from prismkd.runs.dataset import Dataset, DrawnImages, RealImages
from prismkd.runs.held_out import stored_held_out
from prismkd.runs.inputs import PATHS_OF_GENERATOR, Inputs
from prismkd.runs.session import Session
from prismkd.shards import Sample, drop_shard, is_committed, read_samples, scan, write_shard
from prismkd.synthesis.synthesizer import Synthesizer

PROBE_SIDE = 96  # pixels; probes are kept small, to be looked at
NUM_WARNED = 5  # classes that a warning names


@dataclass(frozen=True)
class Run(Session):
    """A session whose decisions and results are in ``directory``. ``open_run`` (``runs/open.py``) makes one."""

    directory: Path = field(kw_only=True)
    command: str = field(default="", kw_only=True)  # that opened it, for the record
    is_claimed: bool = field(default=True, kw_only=True)  # else the folder is only a name, and nothing is written there

    @property
    def datasets(self) -> list[Dataset]:
        """Every method of every seed in the order of work: ``more`` last, since it spends what PRISM's images cost."""
        return [self.dataset(seed, method) for seed, method in dataset_keys(self.config)]

    @property
    def drawn(self) -> list[DrawnImages]:
        """Those whose images are drawn: all but the method ``real``."""
        return [dataset for dataset in self.datasets if isinstance(dataset, DrawnImages)]

    def dataset(self, seed: int, method: str) -> Dataset:
        """One method of one seed."""
        return DrawnImages(self, seed, method) if METHODS[method].draws_images else RealImages(self, seed, method)

    @cached_property
    def inputs(self) -> Inputs:
        """Digests of what it uses."""
        return Inputs(self)

    @cached_property
    def generator(self) -> TextToImage:
        """The text-to-image model, the same as when the run first needed it."""
        if self.is_claimed:
            self.inputs.check_generator()
        return super().generator

    # --- what is decided once and recorded ---------------------------------------------------------------------------

    @cached_property
    def senses(self) -> list[Sense]:
        """What each class means, from ``senses.json`` or decided now."""
        path = self.directory / "senses.json"
        if path.is_file():
            return senses_from_record(read_json(path, SensesRecord), len(self.classes), path)
        start = time.monotonic()
        senses = self.choose_senses()
        # The seconds are part of what PRISM costs (``more`` may spend them), so they are kept with the decision.
        write_json(path, {"seconds": time.monotonic() - start, "images": self._num_probes["senses"],
                          "senses": senses_to_rows(senses)})  # fmt: skip
        return senses

    @cached_property
    def contents(self) -> list[list[str]]:
        """What may be drawn of each class, from ``contents.json`` or decided now."""
        path = self.directory / "contents.json"
        if path.is_file():
            return contents_from_record(read_json(path, ContentsRecord), len(self.senses), path)
        start = time.monotonic()
        contents, dropped = self.choose_contents()
        write_json(path, {"seconds": time.monotonic() - start, "images": self._num_probes["contents"],
                          "contents": contents, "dropped": [asdict(row) for row in dropped]})  # fmt: skip
        return contents

    @cached_property
    def calibration(self) -> Calibration:
        """What unguided samples look like to the teacher, from ``calibration.json`` or measured now."""
        path = self.directory / "calibration.json"
        if not path.is_file():
            start = time.monotonic()
            calibration, energies = self.measure_calibration(self.config.guidance)
            write_json(path, {**asdict(calibration), "num_images": len(energies), "energies": energies,
                              "seconds": time.monotonic() - start})  # fmt: skip
        # From the file even when just measured: a resumed run then has the same numbers to the last digit.
        found = read_json(path, CalibrationRecord)
        num_classes = len(self.classes)
        if {len(found["energy_target"]), len(found["per_class_count"])} != {num_classes}:
            raise UserError(
                f"expected targets of {num_classes} classes in {path}, got another number; {remedy_of(path)}"
            )
        names = [field.name for field in fields(Calibration)]
        return as_shape({name: value for name, value in found.items() if name in names}, Calibration, str(path))

    @cached_property
    def adapter(self) -> Adapter:
        """The generator's adapter, from the folder ``adapter`` or trained now."""
        _ = self.adapter_digest
        return Adapter.of(str(adapter_folder(self.directory)))

    @cached_property
    def adapter_digest(self) -> str:
        """Which adapter this is; taken once, since its bytes are read.

        Raises:
            UserError: its file is another one than was trained.
        """
        folder = adapter_folder(self.directory)
        path = folder / ADAPTATION
        if path.is_file():
            file, recorded = Adapter.of(str(folder)).file, read_json(path, AdaptationRecord)["digest"]
            if file_digest(file) != recorded:
                raise UserError(
                    f"expected the adapter in {file} as it was trained, got another file; bring it back, or choose "
                    "another --out"
                )
            remove(folder / CHECKPOINT)  # of a training that was killed at its end
            return recorded
        outcome = self.train_adapter(folder, self._adapter_identity)
        digest = file_digest(Adapter.of(str(folder)).file)
        write_json(path, {**asdict(outcome), "digest": digest, "version": __version__})
        # Last: a kill before this costs a look at the checkpoint, one after it nothing.
        remove(folder / CHECKPOINT)
        return digest

    @property
    def _adapter_identity(self) -> str:
        """A digest of what decides about the adapter."""
        config = self.config
        settings = [asdict(config.adaptation), asdict(config.guidance), asdict(self.prompts)]
        return joined([json.dumps(settings, sort_keys=True), self.teacher_digest, *self.inputs.generator.values()])

    def candidates(self) -> list[Sense]:
        """Every class's wordings; kept before any is judged, since a language model may answer otherwise next time."""
        path = self.directory / "candidates.json"
        if not path.is_file():
            candidates = unjudged_senses(self.classes, self.suggestions(), self.prompts.max_senses)
            write_json(path, {"senses": senses_to_rows(candidates)})
        return senses_from_record(read_json(path, SensesRecord), len(self.classes), path)

    def judged(self, senses: Sequence[Sense], seed: int = PROBE_SEED) -> list[Sense]:
        """The teacher's choice, with a warning about the classes that it recognizes in no wording."""
        judged = super().judged(senses, seed)
        lost = [sense.class_name for sense in judged if sense.lost]
        if lost:
            warn(
                f"the teacher takes no probe image for {', '.join(lost[:NUM_WARNED])}"
                + (f" and {len(lost) - NUM_WARNED} more" if len(lost) > NUM_WARNED else "")
                + "; a definition or a synset in the class list may help (start a new --out then)"
            )
        return judged

    def suggestions(self) -> Mapping[str, Sequence[SenseSuggestion]]:
        """A language model's senses, where one is named; its answers are kept, and classes without one get none."""
        config, names = self.config.prompts.language_model, [item.name for item in self.classes]
        if not config.url:
            self._check_no_recorded_server()
            return {}
        with self.track("language model", len(names)) as progress:
            answers = ask_about(names, config, self.directory / "language-model", progress)
        problems = {name: answer.problem for name, answer in answers.items() if answer.problem}
        # A server that is down fails for every class, which three lines say as well as a thousand.
        for name, problem in list(problems.items())[:3]:
            warn(f"the language model gave nothing for {name!r}: {problem}; the built-in contents serve")
        if len(problems) > 3:
            warn(f"the language model gave nothing for {len(problems)} of {len(names)} classes in all")
        return {name: answer.senses for name, answer in answers.items()}

    def _check_no_recorded_server(self) -> None:
        """A record may not name the server that a key is sent to, and without its answers the prompts are others."""
        if is_run(self.directory) and recorded_config(self.directory, trust=True).prompts.language_model.url:
            raise UserError(
                "expected the address of the language model from this command, got one from the record of "
                f"{self.directory} alone; give --prompts.language-model.url again, or --trust if you trust whoever "
                "made the run"
            )

    def draw_probes(self, name: str, prompts: list[Prompt]) -> Iterable[Sample]:
        """Probe images, kept small and in shards, so that they can be looked at and a crash loses few of them."""
        self._num_probes[name] += len(prompts)
        folder, size = self.directory / "probes" / name, self.config.synthesis.shard_size
        # Probes of other texts, or of other models, must not be taken for these.
        settings = identity(self.config.generator) | dict.fromkeys(PATHS_OF_GENERATOR)
        drawn = [[prompt.text for prompt in prompts], settings, self.inputs.generator, self.inputs.teacher]
        digest = hashlib.sha256(json.dumps(drawn).encode()).hexdigest()[:16]
        for shard in scan(folder, digest).damaged:
            drop_shard(folder, shard)
        synthesizer = Synthesizer(self.generator, self.teacher)
        with self.track(f"{name} (teacher as judge)", len(prompts)) as progress:
            # In shards as the datasets' images: a crash loses one, and whoever doubts a choice can look at them.
            for shard, start in enumerate(range(0, len(prompts), size)):
                batch = prompts[start : start + size]
                if is_committed(folder, shard, digest):
                    progress(len(batch))
                else:
                    write_shard(folder, shard, map(_shrunk, synthesizer.samples(batch, progress)), digest)
        return read_samples(folder)

    def draw_held_out(self, kind: str) -> Callable[[], Iterable[Sample]] | None:
        """Held-out images in shards, of which only missing ones are drawn."""
        return stored_held_out(self, kind)

    @cached_property
    def _num_probes(self) -> defaultdict[str, int]:
        """Images asked for by this process, by what they were to decide."""
        return defaultdict(int)


def _shrunk(sample: Sample) -> Sample:
    picture = Image.fromarray(sample.image)
    picture.thumbnail((PROBE_SIDE, PROBE_SIDE), Image.Resampling.LANCZOS)
    return replace(sample, image=np.asarray(picture))
