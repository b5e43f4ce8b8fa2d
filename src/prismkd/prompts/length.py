"""How long a prompt may be: what a generator's text encoder reads, counted by its own tokenizer. Imports no torch.

Text encoders cut what is too long and say nothing. So prompts have the class and the style first and what explains the
class last (``grammar.compose``), and what is too long all the same is counted before anything is drawn.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prismkd.files import open_plain
from prismkd.prompts.plan import PromptPlan

CLIP_TOKENS = 77  # of Stable Diffusion's encoder, its two marks included
# What these pipelines' own calls read at most with their T5 or Gemma, whatever its tokenizer says
PIPELINE_TOKENS = {"StableDiffusion3Pipeline": 256, "FluxPipeline": 512, "PixArtAlphaPipeline": 300,
                   "PixArtSigmaPipeline": 300, "SanaPipeline": 300}  # fmt: skip
TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")
CLIP_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"  # Radford et al. 2021, its published tokenizer
LETTERS_PER_TOKEN = 6  # of longer words; on prompts of ImageNet-1k CLIP's own number differs by 5 % on average
MAX_LOOKED_AT = 4000  # prompts
MAX_JSON = 2**24  # bytes of a tokenizer's settings


@dataclass(frozen=True)
class TooLong:
    """The prompts of a plan whose end no text encoder reads.

    Attributes:
        max_tokens: that are read.
        count, looked_at: prompts that are longer, of how many, spread over the plan.
        longest: tokens of the longest one.
        example: its text.
        is_estimate: whether tokens were guessed from words, since the tokenizer isn't at hand.
    """

    max_tokens: int
    count: int
    looked_at: int
    longest: int
    example: str
    is_estimate: bool

    def __str__(self) -> str:
        about = "by an estimate from their words " if self.is_estimate else ""
        example = self.example if len(self.example) <= 160 else f"{self.example[:157]}..."
        return (
            f"{self.count:,} of {self.looked_at:,} prompts are {about}longer than the {self.max_tokens} tokens that "
            f"the generator's text encoder reads, and their end is not drawn: {example!r} ({self.longest} tokens); "
            "shorten the definition, the name or the phrase of prompts.domains"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def too_long(plan: PromptPlan, num_images: int, source: Path | str, revision: str = "") -> TooLong | None:
    """The prompts among the first ``num_images`` of a plan that are too long; None where there are none.

    Args:
        plan: of prompts.
        num_images: of the plan; at most ``MAX_LOOKED_AT`` are looked at, spread over it.
        source: the folder of a diffusers pipeline, or a model on the hub, which is looked for on this disk only.
        revision: of a hub model.
    """
    looked_at = min(num_images, MAX_LOOKED_AT)
    texts = list(dict.fromkeys(plan[i * num_images // looked_at].text for i in range(looked_at)))
    max_tokens, counted = _count(_folder(source, revision), texts)
    lengths = counted or estimated_tokens(texts)
    places = [place for place, length in enumerate(lengths) if length > max_tokens]
    if not places:
        return None
    worst = max(places, key=lengths.__getitem__)
    return TooLong(max_tokens, len(places), len(texts), lengths[worst], texts[worst], counted is None)


def estimated_tokens(texts: Sequence[str]) -> list[int]:
    """About how many tokens CLIP makes of each text: one for a short word, more for a long or foreign one."""
    return [2 + sum(_pieces(word) for word in re.findall(r"\w+|[^\w\s]+", text)) for text in texts]


def _pieces(word: str) -> int:
    # Other scripts come as bytes, two or three a letter, which are seldom joined
    foreign = sum(ord(letter) > 0x24F for letter in word)
    return max(1, math.ceil((len(word) - foreign) / LETTERS_PER_TOKEN - 0.5)) + 2 * foreign


# --- tokenizers ------------------------------------------------------------------------------------------------------


def _folder(source: Path | str, revision: str) -> Path | None:
    """Where a pipeline's files are on this disk; None for a model that isn't here."""
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import try_to_load_from_cache

    try:
        index = try_to_load_from_cache(str(source), "model_index.json", revision=revision or None)
    except ValueError:  # the hub's client refuses what can't be a name
        return None
    return Path(index).parent if isinstance(index, str) else None


def _count(folder: Path | None, texts: list[str]) -> tuple[int, list[int] | None]:
    """The most tokens that any of a pipeline's encoders reads, and those of each text; None where words have to do."""
    if folder is None:
        return CLIP_TOKENS, None
    limits = {name: _max_tokens(folder, name) for name in TOKENIZERS if (folder / name).is_dir()}
    if not limits:
        return CLIP_TOKENS, None
    name = max(limits, key=lambda known: limits[known])
    try:
        return limits[name], _tokens(folder / name, texts)
    except Exception:  # of tokenizers, whose errors have no other type; loading the pipeline will say what is wrong
        return limits[name], None


def _max_tokens(folder: Path, name: str) -> int:
    """What one encoder reads: its tokenizer's own limit, and that of the pipeline's call."""
    given = _json(folder / name / "tokenizer_config.json").get("model_max_length", CLIP_TOKENS)
    limit = int(given) if isinstance(given, int | float) and 0 < given < 10**6 else 10**6  # 10**30 stands for none
    kind = str(_json(folder / "model_index.json").get("_class_name"))
    return limit if limit <= CLIP_TOKENS else min(limit, PIPELINE_TOKENS.get(kind, limit))


def _tokens(folder: Path, texts: list[str]) -> list[int] | None:
    """As a tokenizer's folder counts them; None for kinds that only transformers opens (sentencepiece)."""
    from tokenizers import Tokenizer

    if (folder / "tokenizer.json").is_file():
        tokenizer, marks = Tokenizer.from_file(str(folder / "tokenizer.json")), 0
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        tokenizer, marks = _clip_tokenizer(folder), 2
    else:
        return None
    tokenizer.no_truncation()
    return [len(encoding.ids) + marks for encoding in tokenizer.encode_batch(texts)]


def _clip_tokenizer(folder: Path) -> Any:
    """CLIP's tokenizer from its vocabulary and merges, without the marks at both ends."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"),
                                               end_of_word_suffix="</w>", unk_token="<|endoftext|>"))  # fmt: skip
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(CLIP_PIECES), "removed", invert=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )  # fmt: skip
    return tokenizer


def _json(path: Path) -> dict[str, Any]:
    """A small JSON file of the pipeline; empty where it is missing, and loading the pipeline will say what is wrong."""
    try:
        with open_plain(path) as file:
            # By Python itself, as tokenizers write 10**30
            found = json.loads(file.read(MAX_JSON))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
