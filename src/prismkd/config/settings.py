"""The configuration: frozen dataclasses, one per stage, which hold the only defaults of a run's settings.

Each field's docstring is its ``--help``, and its range stands in its type. Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from prismkd.config.methods import METHODS
from prismkd.config.ranges import AtLeast, Between, OneOf, Positive
from prismkd.config.seeds import MAX_SEED
from prismkd.config.trackers import TRACKERS

IMAGE_FORMATS = ("png", "webp", "jpeg")
EXECUTORS = ("local", "ray")
OPTIMIZERS = ("adamw", "sgd")
TRACKED = ("", *TRACKERS)
PRECISIONS = ("auto", "no", "bf16", "fp16")
MAX_STUDENT_SIDE = 4096  # pixels of a student's images, of which a batch has to fit in memory
MAX_SIDE = 16384  # pixels of what a network is shown
MAX_WORKERS = 1024  # processes or threads of a machine
MAX_PROBES = 10_000  # images by which the teacher judges a wording
FOR_BYTES = "images are in [0, 1]: divide what is for 0 to 255 by 255"
INTERPOLATIONS = ("bilinear", "bicubic", "nearest")
SCHEDULES = ("cosine", "half-cosine")
AUGMENTATIONS = ("auto", "icons", "photos", "none")
GUIDED_DOMAINS = ("all", "own")
OBJECTIVES = ("guided", "energy")
GUIDE_TERMS = ("entropy", "divergence")
MAX_ROUNDS = 100
MAX_GUIDE_WEIGHT = 1e6
MAX_RANK = 256  # of an adapter
ENERGIES = ("hinge", "free", "joint", "conditional", "elucd")


@dataclass(frozen=True)
class LanguageModelConfig:
    """A language model that is asked for senses and contents of the class names; nothing else leaves the machine."""

    url: str = ""
    """Base URL of an OpenAI-compatible server, such as http://localhost:8080/v1; empty: none is asked."""
    model: str = ""
    """The server's name of the model."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key, which is never printed or stored."""
    timeout: Annotated[float, Positive()] = 120.0
    """Seconds for one whole answer."""
    max_tries: Annotated[int, Positive()] = 3
    """Requests per class name before the deterministic contents serve instead."""
    num_phrases: Annotated[int, Positive()] = 12
    """Content phrases asked for per sense."""


@dataclass(frozen=True)
class PromptsConfig:
    """Diversified Prompt Engineering: how class names become prompts."""

    template: str = ""
    """The plain prompt of the methods without DPE; empty: "an icon of a {name}" or "a photo of a {name}"."""
    num_probes: Annotated[int, Between(0, MAX_PROBES)] = 8
    """Images drawn per wording, by which the teacher chooses each class's sense; 0 takes what the class list gives."""
    max_senses: Annotated[int, AtLeast(0)] = 4
    """WordNet senses tried for a bare class name beside the name alone, the most frequent ones first."""
    content: bool = True
    """Vary the content of prompts: sub-kinds, attributes, surroundings."""
    num_content_probes: Annotated[int, Between(0, MAX_PROBES)] = 2
    """Images drawn per content, by which the teacher drops contents that lose the class; 0 keeps them all."""
    domains: tuple[str, ...] = ()
    """Styles to draw in, the teacher's own first: photo, sketch, ..., or "name: a phrase with {}". Empty: chosen for
    the generator."""
    id_share: Annotated[float, Between(0, 1, "it is a share")] = 0.25
    """Share of images in the teacher's own domain; the rest is spread over the others."""
    pilot_share: Annotated[float, Between(0, 1, "0 allocates evenly", open_high=True)] = 0.0
    """Share of the images drawn first, whose coverage decides which classes and styles get the rest; 0 is off."""
    language_model: LanguageModelConfig = field(default_factory=LanguageModelConfig)


@dataclass(frozen=True)
class GeneratorConfig:
    """The text-to-image diffusion model."""

    source: str = "pictograms"
    """``pictograms`` (embedded), the folder of a diffusers pipeline, or a model on the Hugging Face hub (org/name)."""
    revision: str = ""
    """Commit of a hub model; empty takes the newest, which the run then records."""
    variant: str = ""
    """Variant of the weight files, such as fp16."""
    lora: tuple[str, ...] = ()
    """LoRA adapters of this generator, fused into its weights: files or folders of safetensors, each perhaps with its
    weight, as in style.safetensors@0.8."""
    device: str = "auto"
    """Where the pipeline computes: auto (cuda, then mps, then cpu), cpu, cuda, cuda:1, ..."""
    dtype: str = "auto"
    """Precision of the pipeline: auto (bfloat16 on accelerators, else float32), float32, float16 or bfloat16."""
    scheduler: str = ""
    """Name of another diffusers scheduler, made from the pipeline's own settings; empty keeps the pipeline's."""
    tiny_decoder: str = "auto"
    """Small decoder for guidance: auto (the folder's ``tiny_vae``, or the model family's on the hub), none (gradients
    pass the full decoder), or a folder or hub model."""
    image_size: Annotated[int, Between(0, MAX_SIDE)] = 0
    """Pixels per side; 0 is the pipeline's own."""
    num_inference_steps: Annotated[int, Positive()] = 16
    """Denoising steps per image."""
    guidance_scale: float = 3.0
    """Classifier-free guidance in diffusers' meaning; 1 is off."""
    batch_size: Annotated[int, Positive()] = 48
    """Images sampled together; image i does not depend on it."""
    offload: bool = False
    """Keep on the accelerator only the part of the pipeline that is at work."""
    compile: bool = False
    """Compile the denoiser (torch.compile)."""


@dataclass(frozen=True)
class GuidanceConfig:
    """Energy-guided Distribution Alignment: the x0 edit inside the scheduler's step."""

    strength: Annotated[float, AtLeast(0)] = 0.8
    """Length of one edit relative to the root mean square of the x0 prediction; 0 is off."""
    energy: Annotated[str, OneOf(ENERGIES)] = "hinge"
    """Energy that guidance lowers: hinge (free energy down to its target, and the label), free, joint, conditional or
    elucd."""
    domains: Annotated[str, OneOf(GUIDED_DOMAINS)] = "all"
    """Images that are guided: all, or own: of diverse prompts only those in the teacher's own domain, the first of
    prompts.domains. The others keep their style, and the prompt says what they are (distillation.hard_label_weight)."""
    log_snr_min: float = -1.2
    """Guide only where log(alpha / sigma) is above this."""
    log_snr_max: float = 0.2
    """Guide only where log(alpha / sigma) is below this."""
    every: Annotated[int, Positive()] = 1
    """Guide every k-th step of the band."""
    num_views: Annotated[int, Positive()] = 2
    """Differentiable augmented views averaged per gradient."""
    augment: bool = True
    """Augment the views, against adversarial patterns; off is for comparison."""
    margin_weight: Annotated[float, AtLeast(0)] = 1.0
    """Weight of the hinge on the free energy."""
    label_weight: Annotated[float, AtLeast(0)] = 0.5
    """Weight of the cross-entropy with the prompted class."""
    temperature: Annotated[float, Positive()] = 1.0
    """Temperature of the free energy."""
    skip_satisfied: bool = True
    """Spend no gradient on an image that is under its target energy and of its class (hinge only)."""
    diversity_weight: Annotated[float, AtLeast(0)] = 0.0
    """Weight of the repulsion between images of one class; couples the images of a batch."""
    ascend: bool = False
    """Raise the energy instead of lowering it: the negative control."""
    num_calibration_images: Annotated[int, Positive()] = 192
    """Unguided images that set the target energies."""


@dataclass(frozen=True)
class AdaptationConfig:
    """A low-rank adapter of the generator, learned from the teacher without data, for the methods ``adapted`` and
    ``adapted-prism``."""

    objective: Annotated[str, OneOf(OBJECTIVES)] = "guided"
    """What it learns: guided (to predict what guidance makes of the prediction without it) or energy (to lower
    guidance.energy, held in place by the two weights below)."""
    rank: Annotated[int, Between(1, MAX_RANK)] = 16
    """Rank of its matrices."""
    num_steps: Annotated[int, Positive()] = 240
    """Optimizer steps at most."""
    batch_size: Annotated[int, Positive()] = 24
    """Images per step."""
    learning_rate: Annotated[float, Positive()] = 2e-3
    """Peak learning rate, which then falls as a cosine."""
    diversity_weight: Annotated[float, AtLeast(0)] = 0.5
    """Weight of the repulsion between images of one class (energy only)."""
    proximity_weight: Annotated[float, AtLeast(0)] = 3.0
    """Weight of the squared distance from the predictions without the adapter (energy only)."""
    check_every: Annotated[int, Positive()] = 60
    """Steps between two looks of the teacher at images of the adapter; the best of these adapters is kept."""
    num_check_images: Annotated[int, Between(12, MAX_PROBES)] = 192
    """Images that the teacher looks at, 12 of a class."""
    max_diversity_loss: Annotated[float, Between(0, 1, "it is a share")] = 0.1
    """Share of the images' diversity (Vendi score, in the teacher's features) whose loss ends the training."""


@dataclass(frozen=True)
class RoundsConfig:
    """Images in rounds, for the methods ``prism-rounds`` and ``adapted-prism-rounds``: a student of the images so far,
    the guide, takes part in drawing the next ones."""

    num_rounds: Annotated[int, Between(2, MAX_ROUNDS)] = 2
    """Rounds of equally many images, but for rounding; the first one is drawn without a guide. Images that are added
    later are of the last one."""
    guide_term: Annotated[str, OneOf(GUIDE_TERMS)] = "entropy"
    """What guidance is to raise: entropy (the guide's doubt) or divergence (of the guide from the teacher)."""
    guide_weight: Annotated[float, Between(0, MAX_GUIDE_WEIGHT)] = 1.0
    """Weight of that beside the teacher's energy; 0 is off."""
    allocate: bool = False
    """Classes, styles and contents that the guide has learned less of get more of the next round's images."""


@dataclass(frozen=True)
class SynthesisConfig:
    """How many images, and how they are stored."""

    images_per_class: Annotated[int, Positive()] = 80
    """Images per class for every method but ``more``."""
    shard_size: Annotated[int, Positive()] = 480
    """Images per shard, the unit that a crash can lose; best a multiple of the batch size."""
    image_format: Annotated[str, OneOf(IMAGE_FORMATS)] = "png"
    """Format of the stored images: png, webp or jpeg."""
    image_quality: Annotated[int, Between(1, 100)] = 95
    """Quality of webp and jpeg, 1 to 100; webp at 100 loses nothing."""
    storage: str = ""
    """Folder or URL (such as s3://bucket/folder) where the images are stored; empty: the run's folder."""
    executor: Annotated[str, OneOf(EXECUTORS)] = "local"
    """Who draws: local (this machine) or ray (a cluster)."""
    num_workers: Annotated[int, Between(0, MAX_WORKERS)] = 0
    """Worker processes; 0: this process where there is one device, else one per GPU."""
    ray_address: str = ""
    """Address of a running Ray cluster, or auto; empty starts Ray on this machine."""
    max_tries: Annotated[int, Positive()] = 3
    """Tries of a shard before it is given up with the reason."""
    timeout: Annotated[float, Positive()] = 900.0
    """Seconds without an image after which a worker process counts as hung; while it starts, twice that."""


@dataclass(frozen=True)
class DistillationConfig:
    """Training the student: on the teacher's logits, the images' labels, or both."""

    architecture: str = "small-resnet-16"
    """``small-resnet-WIDTH`` or a timm model name (also as ``timm:NAME``)."""
    initial: str = ""
    """Weights to start from: safetensors, a state dict, or a student's folder; empty: untrained."""
    num_steps: Annotated[int, Positive()] = 1500
    """Optimizer steps, the same for every method."""
    batch_size: Annotated[int, Positive()] = 128
    """Images per step, over all processes."""
    optimizer: Annotated[str, OneOf(OPTIMIZERS)] = "adamw"
    """Optimizer: adamw or sgd (with Nesterov's momentum)."""
    learning_rate: Annotated[float, Positive()] = 2e-3
    """Peak learning rate."""
    schedule: Annotated[str, OneOf(SCHEDULES)] = "cosine"
    """How the learning rate falls: cosine (to zero) or half-cosine (its first half, to half the peak)."""
    weight_decay: Annotated[float, AtLeast(0)] = 0.05
    """The optimizer's weight decay."""
    momentum: Annotated[float, Between(0, 1, "0.9 is usual", open_high=True)] = 0.9
    """SGD's momentum."""
    temperature: Annotated[float, Positive()] = 4.0
    """Temperature of the softened distributions (Hinton et al. 2015)."""
    ema_decay: Annotated[float, Between(0, 1, "0 is no average", open_high=True)] = 0.99
    """Decay of the moving average of the weights, which is the student."""
    hard_label_weight: Annotated[float, Between(0, 1, "it is a share")] = 0.0
    """Share of the loss that is cross-entropy with the images' labels; at 1 the teacher's logits aren't used."""
    weight_by_agreement: bool = False
    """The teacher's share, 1 - hard_label_weight, is multiplied for each view by the probability that the teacher gives
    to the image's label, and the label gets the rest."""
    feature_weight: Annotated[float, AtLeast(0)] = 0.0
    """Weight of the distance between the teacher's features and the student's, mapped linearly; 0 is off."""
    image_size: Annotated[int, Between(0, MAX_STUDENT_SIDE)] = 0
    """Pixels per side of what the student sees; 0: the teacher's input size, or the images' own where it takes any."""
    augmentation: Annotated[str, OneOf(AUGMENTATIONS)] = "auto"
    """Views of an image: photos (random resized crop, flip), icons (zoom, shift, rotation, flip, contrast, noise) or
    none. auto: photos where the teacher has an input size or image_size is set, else icons."""
    min_crop_scale: Annotated[float, Between(0, 1, "0.08 is usual", open_low=True)] = 0.08
    """Smallest share of an image's area that a random resized crop shows."""
    mixup: Annotated[float, AtLeast(0)] = 0.0
    """MixUp: parameter of the beta distribution of shares, such as 0.2; 0 is off. The teacher sees the mixture too."""
    cutmix: Annotated[float, AtLeast(0)] = 0.0
    """CutMix: parameter of its beta distribution; 0 is off. With MixUp too, a coin decides for every batch."""
    rand_augment: Annotated[int, Between(0, 30, "9 is usual")] = 0
    """Magnitude of two random operations on each image (RandAugment), 1 to 30; 0 is off."""
    mixed_precision: Annotated[str, OneOf(PRECISIONS)] = "auto"
    """Precision of the training: no (float32), bf16, fp16, or auto: bf16 on a GPU, and on a CPU that computes it
    natively."""
    stored_logits: bool = False
    """Fast mode: the teacher sees every image once, without augmentation, instead of every view."""
    stored_top_k: Annotated[int, Positive()] = 4000
    """Stored logits keep at most this many classes per image; the others share the rest of the mass evenly."""
    real: str = ""
    """Labeled real images to mix in, and to learn from in the method ``real``; empty: those of evaluation.real."""
    real_share: Annotated[float, Between(0, 1, "it is a share")] = 0.0
    """Share of every batch that is drawn from distillation.real, for all methods but ``real``."""
    auxiliary_batch_norm: bool = False
    """With real_share: synthetic images pass batch norms of their own, and the student keeps those of the real ones."""
    memory_gigabytes: Annotated[float, AtLeast(0)] = 4.0
    """Images of the wanted size are kept in memory up to this size, 1 byte per value."""
    cache_gigabytes: Annotated[float, AtLeast(0)] = 100.0
    """Other images are decoded and resized once, into a file of up to this size in the run's folder; beyond it they are
    read from the shards again and again."""
    keep_cache: bool = False
    """Keep that file when the student is trained."""
    num_workers: Annotated[int, Between(0, MAX_WORKERS)] = 2
    """Processes that decode images which are neither in memory nor in the file."""
    tracker: Annotated[str, OneOf(TRACKED)] = ""
    """Where loss, learning rate and results are shown beside the run's own log: tensorboard, wandb, trackio or mlflow;
    empty: nowhere."""


@dataclass(frozen=True)
class EvaluationConfig:
    """Measuring student and images."""

    source: str = "auto"
    """Test images: class folders (or domain/class), split lists, webdataset shards, Parquet or a saved HF set; auto:
    ``pictograms`` for the embedded classes, else none; empty: none."""
    shifted: tuple[str, ...] = ()
    """Further test sets as NAME=PATH, each in one of these layouts; NAME is their domain."""
    id_domain: str = "id"
    """Which of the source's domains is the teacher's own; it is reported as ``id``."""
    image_size: Annotated[int, Between(0, MAX_SIDE)] = 0
    """Pixels per side that real images are cut to before anything sees them, to measure at a lower resolution; 0
    leaves them: each network resizes and cuts files as its own library does."""
    cas: bool = False
    """Train another student per method, on images and labels alone; its top-1 is the classification accuracy score."""
    restrict_below: Annotated[float, AtLeast(0)] = 0.5
    """Domains with less than this share of the classes, as ImageNet-R and -A, are judged among their own; 0 is off."""
    num_held_out: Annotated[int, AtLeast(0)] = 256
    """Without test images: synthetic ones of plain prompts, and as many of diverse ones, that no student learns from
    and on which students are compared with the teacher; 0: none."""
    real: str = "auto"
    """The real reference images, in one of these layouts; auto: as for the source; empty: none."""
    judge: str = "auto"
    """Network that guides nothing and whose features measure the images: a classifier as for ``teacher``, of whatever
    classes, or one without a head (timm:NAME@FILE, or its folder); auto: as for the source; empty: none."""
    nearest_k: Annotated[int, Positive()] = 5
    """Neighbors in precision, recall, density and coverage."""
    max_images: Annotated[int, Positive()] = 10_000
    """Largest number of images of a set, and of real ones, that are compared in the judge's features."""


@dataclass(frozen=True)
class PreprocessingConfig:
    """What the teacher's network wants of an image, where nothing else says it, or says it wrong."""

    resize: tuple[Annotated[int, Between(1, MAX_SIDE)], ...] = ()
    """What the shorter side becomes, or exact height and width, which may squash; empty: as the teacher has it."""
    crop: tuple[Annotated[int, Between(1, MAX_SIDE)], ...] = ()
    """What is then cut from the center: a side, or height and width; empty: as the teacher has it, and nothing where
    resize is exact."""
    interpolation: Annotated[str, OneOf(("auto", *INTERPOLATIONS))] = "auto"
    """bilinear, bicubic (both with antialiasing) or nearest; auto: as the teacher has it."""
    mean: tuple[Annotated[float, Between(-1, 2, FOR_BYTES)], ...] = ()
    """Subtracted from each channel of an image in [0, 1]; empty: as the teacher has it."""
    std: tuple[Annotated[float, Between(0, 2, FOR_BYTES, open_low=True)], ...] = ()
    """Divided by, of each channel; empty: as the teacher has it."""


@dataclass(frozen=True)
class Config:
    """One run: classes, teacher, generator, methods, seeds, and every stage's settings."""

    classes: str = "pictograms"
    """``pictograms`` or some of them (``pictograms-24``), ``teacher`` (the names it carries), a list such as
    imagenet-1k or office-home, or a file."""
    teacher: str = "pictograms"
    """``pictograms``, a classifier folder (config.json, model.safetensors), timm:NAME@FILE, torchvision:NAME@FILE,
    transformers:ORG/NAME, exported:FILE or torchscript:FILE with --trust, or several in a FILE.toml."""
    trust: bool = False
    """Trust whoever made the teacher and the run: teachers that are programs (exported, torchscript) are opened, which
    may run any code, and the run's record may name places and addresses (docs/security.md)."""
    methods: tuple[Annotated[str, OneOf(tuple(METHODS))], ...] = ("plain", "prism")
    """What to run, side by side: plain, more, eda, dpe, prism, adapted, adapted-prism, prism-rounds,
    adapted-prism-rounds, real."""
    seeds: tuple[Annotated[int, Between(0, MAX_SEED)], ...] = (0,)
    """Every method runs once per seed."""
    num_threads: Annotated[int, Between(0, MAX_WORKERS)] = 0
    """CPU threads; 0 leaves torch's own choice."""
    teacher_preprocessing: PreprocessingConfig = field(default_factory=PreprocessingConfig)
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)
    rounds: RoundsConfig = field(default_factory=RoundsConfig)
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
