"""A session: everything that one configuration names, loaded or decided when it is first needed, in memory.

    session = prismkd.Session(prismkd.Config(methods=("plain", "prism")))
    images, labels = session.draw("prism", num_images=480)
    student = session.distill(images, labels)
    session.evaluate(student)

A run (``runs/run.py``) is a session with a folder, in which every decision, image and student is kept.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from prismkd.adaptation import Adaptation, adapt
from prismkd.assets import asset
from prismkd.classes import ClassName
from prismkd.classes.lists import classes_of, load_classes, names_of
from prismkd.classes.matching import ClassLabels
from prismkd.classifiers import Classifier, load_classifier, load_judge, load_teacher, weights_digest
from prismkd.classifiers.networks import size_arguments
from prismkd.config import (
    METHODS,
    Config,
    DistillationConfig,
    GuidanceConfig,
    PromptsConfig,
)
from prismkd.config.embedded import PICTOGRAMS, has_embedded_classes, resolved
from prismkd.config.seeds import check_seed, derive
from prismkd.data import LabeledImages, load_domains, load_labeled_images
from prismkd.distillation import TrainingSet, new_student, train
from prismkd.distillation.student import Factory
from prismkd.distillation.world import World
from prismkd.errors import UserError
from prismkd.evaluation.held_out import HeldOutImages, TaughtImages, ask_teacher, evaluate_on_held_out
from prismkd.evaluation.rows import Row
from prismkd.evaluation.students import evaluate_student
from prismkd.generators import TextToImage, load_generator
from prismkd.generators.load import resolve_device
from prismkd.generators.lora import Adapter
from prismkd.guidance import Calibration
from prismkd.progress import Track, silent
from prismkd.prompts import Prompt, PromptPlan, diversified_plan, plain_plan
from prismkd.prompts.dpe import contents_of_classes, with_defaults
from prismkd.prompts.judge import DroppedContent, judge_contents, judge_senses
from prismkd.prompts.plan import PROBE_SEED, held_out_indices
from prismkd.prompts.senses import Sense, unjudged_senses
from prismkd.prompts.styles import own_styles
from prismkd.prompts.suggestions import SenseSuggestion
from prismkd.records.directory import HELD_OUT
from prismkd.shards import Sample
from prismkd.synthesis.calibrate import measure_calibration
from prismkd.synthesis.synthesizer import Synthesizer, check_channels, quantized


@dataclass(frozen=True)
class Session:
    """Models, test images, prompts and targets of one configuration.

    Attributes:
        config: as a TOML file would give it; each ``auto`` of its evaluation becomes what it stands for.
        track: shows how far long work is.
        new_network: makes the students' networks; None: ``distillation.architecture`` names them.
    """

    config: Config
    track: Track = silent
    new_network: Factory | None = None

    def __post_init__(self) -> None:
        # Whoever reads a session's settings, or records them, sees what they mean.
        object.__setattr__(self, "config", resolved(self.config))

    # --- models ------------------------------------------------------------------------------------------------------

    @cached_property
    def classes(self) -> list[ClassName]:
        """The class list, in the order of the teacher's outputs."""
        return classes_of(self.config)

    @cached_property
    def teacher(self) -> Classifier:
        """The teacher, checked against the class list."""
        config, names = self.config, [item.name for item in self.classes]
        return load_teacher(config.teacher, names, trust=config.trust, preprocessing=config.teacher_preprocessing)

    @cached_property
    def teacher_digest(self) -> str:
        """Which teacher this is; taken once, since all its weights are read."""
        return weights_digest(self.teacher)

    @cached_property
    def generator(self) -> TextToImage:
        """The text-to-image model, whose images the teacher can take."""
        # Checked here, since it takes both models and neither knows of the other.
        generator = load_generator(self.config.generator)
        check_channels(self.teacher, generator)
        return generator

    @cached_property
    def judge(self) -> Classifier | None:
        """The network that guided nothing and whose features the image metrics are computed in."""
        source = self.config.evaluation.judge
        return load_judge(source, [item.name for item in self.classes]) if source else None

    @property
    def device(self) -> torch.device:
        """The generator's, on which networks look at images fastest."""
        return resolve_device(self.config.generator.device)

    def on_device(self, classifier: Classifier) -> Classifier:
        """A copy of a classifier there; on a CPU itself."""
        return classifier if self.device.type == "cpu" else copy.deepcopy(classifier).to(self.device)

    @cached_property
    def teacher_on_device(self) -> Classifier:
        """The teacher there, copied once."""
        return self.on_device(self.teacher)

    @property
    def judge_of_classes(self) -> Classifier | None:
        """The judge where it is a classifier of the run's classes, and not a network of features alone."""
        return self.judge if self.judge is not None and self.judge.num_classes == len(self.classes) else None

    def new_student(self, in_channels: int, seed: int, side: int | None) -> nn.Module:
        """An untrained student of images of ``side`` pixels; the same seed gives the same weights for every method."""
        return new_student(self.config.distillation, len(self.classes), in_channels, seed, self.new_network, side)

    @cached_property
    def world(self) -> World:
        """What the students see of an image, and in which geometry they are measured."""
        return World.of(self.config.distillation, self.teacher)

    def trained_form(self, network: nn.Module, in_channels: int) -> nn.Module:
        """A new student as it is trained: a network of the user's own takes images in [0, 1] as it is."""
        return network if self.new_network else self.world.trained_form(network, len(self.classes), in_channels)

    def student_config(self, in_channels: int, side: int | None) -> dict[str, Any]:
        """What the ``config.json`` of a trained student says, whose images had ``side`` pixels."""
        architecture = self.config.distillation.architecture
        described: dict[str, Any] = {"architecture": architecture, "num_classes": len(self.classes)}
        if arguments := size_arguments(architecture, side):
            described["arguments"] = arguments
        return described | self.world.student_config(in_channels, normalized=self.new_network is None)

    def load_student(self, folder: Path) -> Classifier:
        """A trained student from its folder."""
        return load_classifier(folder, self.new_network and self.new_network())

    # --- real images, which only measure, or serve the reference rows ------------------------------------------------

    @cached_property
    def test(self) -> LabeledImages:
        """The labeled test images of every domain.

        Raises:
            UserError: there are none, or they can't be read.
        """
        config = self.config.evaluation
        if not config.source:
            raise UserError("expected test images in evaluation.source, got none; name them")
        # The embedded world comes with the package, whatever folder one is in.
        source = asset("test.parquet") if config.source == PICTOGRAMS else config.source
        return load_domains(source, config.shifted, self._labels, config.id_domain, *self._test_size)

    @cached_property
    def real(self) -> LabeledImages | None:
        """The teacher's real training images, for the reference rows only; None where there are none."""
        return self._labeled(self.config.evaluation.real)

    @cached_property
    def real_training(self) -> LabeledImages | None:
        """Real images that students learn from: of the method ``real``, and of a mixture."""
        source = self.config.distillation.real
        # evaluation.real serves where no other is named, so that one setting is enough for both uses.
        return self._labeled(source) if source else self.real

    def _labeled(self, source: str) -> LabeledImages | None:
        if not source:
            return None
        path = asset("real.parquet") if source == PICTOGRAMS else source
        image_size, usual_size = self._test_size
        # A student's own size is given to its images when they are read, whatever size they have here.
        usual_size = usual_size or self.world.side or self.config.generator.image_size or None
        return load_labeled_images(path, self._labels, image_size, usual_size)

    @cached_property
    def _labels(self) -> ClassLabels:
        """The classes by all that test sets may call them; the embedded sets have more than some runs."""
        every = load_classes(PICTOGRAMS) if has_embedded_classes(self.config) else []
        return ClassLabels(names_of(self.classes), left_out=[item.name for item in every])

    @property
    def _test_size(self) -> tuple[int, int | None]:
        """The wanted size of real images, and the size where none is wanted but they differ."""
        return self.config.evaluation.image_size, self.teacher.input_size

    # --- DPE: senses, contents, plans --------------------------------------------------------------------------------

    @property
    def prompts(self) -> PromptsConfig:
        """The settings of DPE, with the template and the domains that suit the generator."""
        return with_defaults(self.config.prompts, self.config.generator.source)

    @cached_property
    def senses(self) -> list[Sense]:
        """What each class means."""
        return self.choose_senses()

    @cached_property
    def contents(self) -> list[list[str]]:
        """What may be drawn of each class, without the contents that lose it."""
        return self.choose_contents()[0]

    def choose_senses(self) -> list[Sense]:
        """Every class's sense; the teacher judges the wordings unless ``prompts.num_probes`` is 0."""
        candidates = self.candidates()
        return self.judged(candidates) if self.prompts.num_probes else candidates

    def candidates(self) -> list[Sense]:
        """Every class's wordings before any is judged."""
        return unjudged_senses(self.classes, self.suggestions(), self.prompts.max_senses)

    def suggestions(self) -> Mapping[str, Sequence[SenseSuggestion]]:
        """A language model's senses by class name; only a run asks one, since its answers have to be kept."""
        return {}

    def judged(self, senses: Sequence[Sense], seed: int = PROBE_SEED) -> list[Sense]:
        """The teacher's choice among the wordings of ``senses``, by probe images."""
        return judge_senses(senses, self.prompts, self.draw_probes, seed)

    def choose_contents(self) -> tuple[list[list[str]], list[DroppedContent]]:
        """Every class's contents, and those that were dropped because they lose the class."""
        # Senses first: what may be drawn of a crane depends on which crane it is.
        contents = contents_of_classes(self.senses, self.prompts)
        if not (self.prompts.num_content_probes and self.prompts.content):
            return contents, []
        return judge_contents(self.senses, contents, self.prompts, self.generator.text_features, self.draw_probes)

    def draw_probes(self, name: str, prompts: list[Prompt]) -> Iterable[Sample]:
        """Unguided images by which the teacher judges prompts; ``name`` is senses or contents."""
        with self.track(f"{name} (teacher as judge)", len(prompts)) as progress:
            yield from Synthesizer(self.generator, self.teacher).samples(prompts, progress)

    def plan(self, method: str, seed: int, prompts: PromptsConfig | None = None) -> PromptPlan:
        """A method's prompts: index -> (class, sense, content, style, seed).

        Args:
            method: as in ``config.methods``.
            seed: the run's.
            prompts: other settings of DPE than the session's.

        Raises:
            UserError: a seed out of range.
        """
        check_seed(seed)
        prompts = prompts or self.prompts
        if not METHODS[method].diversified:
            return plain_plan(self.classes, seed, prompts.template)
        return diversified_plan(self.classes, self.senses, self.contents, prompts, seed)

    # --- EDA and images ----------------------------------------------------------------------------------------------

    @cached_property
    def calibration(self) -> Calibration:
        """What unguided samples look like to the teacher: the targets of the configured guidance."""
        return self.calibrate(self.config.guidance)

    def calibrate(self, guidance: GuidanceConfig, teacher: Classifier | None = None) -> Calibration:
        """The targets of another guidance, or of another teacher."""
        return self.measure_calibration(guidance, teacher)[0]

    def measure_calibration(
        self, guidance: GuidanceConfig, teacher: Classifier | None = None
    ) -> tuple[Calibration, list[float]]:
        """Draw unguided images of plain prompts; the targets, and each image's free energy under the teacher."""
        # Plain prompts and a seed of its own: one calibration serves all methods and seeds of a run.
        plan = plain_plan(self.classes, PROBE_SEED, self.prompts.template)
        synthesizer = Synthesizer(self.generator, teacher or self.teacher)
        with self.track("calibration (unguided images)", guidance.num_calibration_images) as progress:
            return measure_calibration(plan, synthesizer, guidance, progress)

    @cached_property
    def adapter(self) -> Adapter:
        """The generator's adapter, trained now; its files are gone with the session."""
        self.train_adapter(Path(self._adapter_folder.name))
        return Adapter.of(self._adapter_folder.name)

    @cached_property
    def _adapter_folder(self) -> TemporaryDirectory[str]:
        return TemporaryDirectory(prefix="prismkd-adapter-")

    def train_adapter(self, folder: Path, identity: str = "") -> Adaptation:
        """Train an adapter of the generator against the teacher, with the prompts of the methods that are adapted.

        Args:
            folder: gets the adapter's files.
            identity: of all that decides about it, for its checkpoint.
        """
        # A seed of its own: one adapter serves all methods and seeds of a run, and learns from no image of theirs.
        plan = self.plan("adapted", derive(PROBE_SEED, "adapter"))
        synthesizer, config = self.synthesizer("prism"), self.config.adaptation
        with self.track("adapter", config.num_steps) as progress:
            return adapt(synthesizer, plan, config, folder, identity=identity, progress=progress)

    def synthesizer(self, method: str) -> Synthesizer:
        """What draws a method's images: guided and by an adapted generator, where the method is."""
        # Logits are computed anyway for the images' records, so keeping them costs their bytes only.
        is_guided, keeps = METHODS[method].guided, self.config.distillation.stored_logits
        guidance, calibration = (self.config.guidance, self.calibration) if is_guided else (None, None)
        in_part = METHODS[method].guides_in_part(self.config.guidance.domains)
        guided_styles = own_styles(self.prompts.domains) if in_part else None
        adapter = self.adapter if METHODS[method].adapted else None
        return Synthesizer(self.generator, self.teacher, guidance, calibration, keeps, guided_styles, adapter)

    def draw(self, method: str, num_images: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """The first images of a method's plan.

        Returns:
            Images (num_images, channels, height, width) float32 in [0, 1], rounded to 8 bits as they would be stored,
            and their intended labels (num_images,) int64.
        """
        if METHODS[method].in_rounds:
            raise UserError(
                f"expected a method without rounds in memory, got {method}; use Run, whose folder keeps the guides"
            )
        plan = self.plan(method, seed)
        prompts = [plan[index] for index in range(num_images)]
        with self.track(f"images {method} (seed {seed})", num_images) as progress:
            images = self.synthesizer(method).draw_all(prompts, progress)
        # Without 8 bits a student would learn from other images here than in a run.
        return quantized(images), torch.tensor([prompt.label for prompt in prompts])

    # --- synthetic images that no student learns from ----------------------------------------------------------------

    @cached_property
    def held_out(self) -> list[HeldOutImages]:
        """Sets of images on which students are compared with the teacher; none where there are test images."""
        if self.config.evaluation.source or not self.config.evaluation.num_held_out:
            return []
        drawn = {domain: self.draw_held_out(kind) for kind, domain in HELD_OUT.items()}
        return [HeldOutImages(domain, read) for domain, read in drawn.items() if read is not None]

    @cached_property
    def taught(self) -> list[TaughtImages]:
        """The held-out images with what the teacher says of them."""
        return [ask_teacher(images, self.teacher) for images in self.held_out]

    def held_out_plan(self, kind: str) -> PromptPlan | None:
        """The prompts of held-out images; None where the generator draws class names alone, and diverse ones are asked.

        Args:
            kind: plain, or diverse: those of DPE. Where no method of the run is diversified the teacher isn't asked
                about senses and contents for them; they are then as the class list gives them.
        """
        # Seeds of their own: no image starts from the noise of one that a student learned from.
        seed = derive(PROBE_SEED, "held-out", kind)
        if kind == "plain":
            return plain_plan(self.classes, seed, self.prompts.template)
        if not self.generator.takes_text:
            return None
        if any(METHODS[method].diversified for method in self.config.methods):
            return diversified_plan(self.classes, self.senses, self.contents, self.prompts, seed)
        senses = unjudged_senses(self.classes, {}, self.prompts.max_senses)
        return diversified_plan(self.classes, senses, contents_of_classes(senses, self.prompts), self.prompts, seed)

    def held_out_prompts(self, plan: PromptPlan) -> list[Prompt]:
        """Those of ``evaluation.num_held_out`` images, spread over the classes."""
        return [plan[index] for index in held_out_indices(self.config.evaluation.num_held_out, len(self.classes))]

    def draw_held_out(self, kind: str) -> Callable[[], Iterable[Sample]] | None:
        """Draw the unguided held-out images of a kind, plain or diverse.

        Returns:
            What gives the samples, again and again; None where there is no plan of them.
        """
        plan = self.held_out_plan(kind)
        if plan is None:
            return None
        prompts = self.held_out_prompts(plan)
        with self.track(f"held-out images ({kind} prompts)", len(prompts)) as progress:
            samples = list(Synthesizer(self.generator, self.teacher).samples(prompts, progress))
        return lambda: samples

    # --- students ----------------------------------------------------------------------------------------------------

    def distill(
        self, images: Tensor | TrainingSet, labels: Tensor | None = None, seed: int = 0,
        recipe: DistillationConfig | None = None, teacher: Classifier | None = None, *, checkpoint: Path | None = None,
        title: str = "student",
    ) -> Classifier:  # fmt: skip
        """A student of these images: a classifier of images in [0, 1], with the network as its ``network``.

        Args:
            images: (n, channels, height, width) uint8, or float in [0, 1]; or a training set.
            labels: (n,) intended labels; needed where the recipe uses them.
            seed: of its initial weights, batches and views.
            recipe: another one than the configured.
            teacher: another one than the session's.
            checkpoint: a file that is written on the way; the same call again goes on from there. None: none.
            title: as progress bars call it.

        Raises:
            UserError: no images, a recipe that doesn't fit them, a seed out of range, or a loss that isn't finite.
        """
        check_seed(seed)
        recipe = recipe or self.config.distillation
        data = images if isinstance(images, TrainingSet) else TrainingSet(images, labels)
        # A copy with the other recipe and teacher: what this session has loaded stays as it is.
        session = replace(self, config=replace(self.config, distillation=recipe))
        session.__dict__["teacher"] = teacher or self.teacher  # where cached_property looks
        channels, _, side = session.world.image_shape(data.images.image_shape)
        network = session.new_student(channels, seed, side)
        trained = session.trained_form(network, channels)
        with self.track(f"{title} (seed {seed})", recipe.num_steps) as progress:
            train(trained, session.teacher, data, recipe, seed, checkpoint, progress)
        return Classifier(network, session.student_config(channels, side)).eval()

    def train_guide(
        self, data: TrainingSet, num_planned: int, number: int, seed: int, recipe: DistillationConfig,
        checkpoint: Path | None = None,
    ) -> Classifier:  # fmt: skip
        """A student of the images so far, which takes part in drawing the next ones.

        Args:
            data: these images, with their labels.
            num_planned: images in all, of whose students' steps it does the share that its images are.
            number: of the round that they end, from 1.
            seed: the run's.
            recipe: of the students.
            checkpoint: as for ``distill``.
        """
        steps = max(1, round(recipe.num_steps * len(data) / num_planned))
        return self.distill(data, seed=derive(seed, "guide", number), recipe=replace(recipe, num_steps=steps),
                            checkpoint=checkpoint, title=f"guide after round {number}")  # fmt: skip

    def evaluate(self, student: nn.Module, seed: int = 0, teacher: Classifier | None = None) -> list[Row]:
        """A student on the test images: accuracy, agreement with the teacher, calibration error, of every domain.

        Without test images it is the agreement with the teacher on held-out synthetic ones.

        Raises:
            UserError: there are neither, or a seed out of range.
        """
        check_seed(seed)
        config = self.config.evaluation
        if config.source:
            asked = self.on_device(teacher) if teacher else self.teacher_on_device
            return evaluate_student(student, asked, self.test, "", seed, restrict_below=config.restrict_below).rows
        if not self.held_out:
            raise UserError(
                "expected test images in evaluation.source, or evaluation.num_held_out above 0, got neither; set one"
            )
        taught = [ask_teacher(images, teacher) for images in self.held_out] if teacher else self.taught
        return evaluate_on_held_out(student, taught, "", seed).rows
