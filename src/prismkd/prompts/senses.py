"""Semantic disambiguation: which wording of a class makes the generator draw what the teacher means.

The teacher is the judge (our design, beyond the paper): a few images of each candidate wording are drawn, and the
wording whose images the teacher gives the class most surely is kept. No real image is looked at.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from prismkd.classes import wordnet
from prismkd.classes.files import NO_SYNSET, ClassName
from prismkd.errors import UserError
from prismkd.prompts.suggestions import SenseSuggestion

MAX_GLOSS_WORDS = 12
MEANT = 0.25  # share of probes that agree, for a sense to be what a bare name means
CLEAR = 2.0  # standard errors by which a wording has to beat the name alone
SURE = 0.75  # a class with this probability is recognized, whichever of its wordings is used
ANY_OF = re.compile(
    r"^(?:any|either|one|kind|type|trade name) (?:of|for) "
    r"(?:(?:various|several|numerous|many|two|the|a variety of|a number of) )?(?:kinds of )?"
)
BREAKS = set("that which who whose when having consisting used with for to in by and resembling containing".split())
OPEN_ENDS = set(
    "a an the of in on with to and or that which for by from as at having its used typically but not usually very is "
    "are be other whose can some more than between into resembling especially often one two any".split()
)


@dataclass(frozen=True)
class Score:
    """What the teacher says of a wording's probe images: means over them.

    Attributes:
        log_probability: of the class; what wordings are compared by.
        error: its standard error.
        energy: the free energy.
        agreement: share of images that the teacher takes for the class.
    """

    log_probability: float
    error: float
    energy: float
    agreement: float


@dataclass(frozen=True)
class Wording:
    """One way to say what a class means.

    Attributes:
        text: takes the place of the class name in prompts.
        source: name, definition, synset (the user's), wordnet or language model.
        synset: WordNet id of the sense, where known.
        contents: a language model's contents of this sense.
        score: the teacher's, where it was asked.
    """

    text: str
    source: str
    synset: str = ""
    contents: tuple[str, ...] = ()
    score: Score | None = None


@dataclass(frozen=True)
class Sense:
    """The wordings of a class, and the place of the chosen one."""

    class_name: str
    wordings: tuple[Wording, ...]
    chosen: int = 0

    @property
    def wording(self) -> Wording:
        """The chosen one."""
        return self.wordings[self.chosen]

    @property
    def text(self) -> str:
        """The chosen one's text."""
        return self.wording.text

    @property
    def meaning(self) -> tuple[Wording, ...]:
        """The chosen wording; a bare name is followed by its only sense, or the one that the teacher knows best."""
        if self.wording.source != "name" or len(self.wordings) == 1:
            return (self.wording,)
        others = [w for w in self.wordings if w is not self.wording]
        if self.wording.score is None:
            return (self.wording, *(others if len(others) == 1 else ()))
        best = max(others, key=lambda w: w.score.log_probability if w.score else -math.inf)
        return (self.wording, best) if best.score and best.score.agreement >= MEANT else (self.wording,)

    @property
    def synset(self) -> str:
        """WordNet id of what is meant, where known."""
        return next((w.synset for w in self.meaning if w.synset and w.synset != NO_SYNSET), "")

    @property
    def unlisted(self) -> bool:
        """Whether what is meant is none of WordNet's senses of the name."""
        return self.wording.synset == NO_SYNSET

    @property
    def contents(self) -> tuple[str, ...]:
        """A language model's contents of what is meant, if any."""
        return next((w.contents for w in self.meaning if w.contents), ())

    @property
    def margin(self) -> float | None:
        """Nats of log probability between the chosen wording and the next one; None without a rival."""
        rivals = [w.score.log_probability for i, w in enumerate(self.wordings) if w.score and i != self.chosen]
        return self.wording.score.log_probability - max(rivals) if self.wording.score and rivals else None

    @property
    def tie(self) -> bool:
        """Whether the class isn't sure, and a rival is as good within one standard error of the difference."""
        best = self.wording.score
        return (
            best is not None
            and best.log_probability < math.log(SURE)
            and any(
                best.log_probability - w.score.log_probability <= math.hypot(best.error, w.score.error)
                for i, w in enumerate(self.wordings)
                if w.score and i != self.chosen
            )
        )

    @property
    def lost(self) -> bool:
        """Whether the teacher takes no probe image of any wording for the class."""
        scores = [w.score for w in self.wordings if w.score]
        return bool(scores) and max(score.agreement for score in scores) == 0


def candidates(item: ClassName, suggestions: Sequence[SenseSuggestion] = (), max_senses: int = 4) -> list[Wording]:
    """Wordings to try: the name alone, and what the user says is meant; else WordNet's and a language model's senses.

    Args:
        item: the class.
        suggestions: a language model's senses.
        max_senses: of WordNet, the most frequent ones first.
    """
    listed = item.synset and item.synset != NO_SYNSET
    gloss = wordnet.find_synset(item.synset).definition if listed else ""
    meant = _nearest(f"{item.definition} {gloss}", suggestions) if item.definition or gloss else ()
    found = [Wording(item.name.replace("_", " "), "name", item.synset, meant)]
    if gloss:
        found.append(Wording(f"{item.name}, {short_gloss(gloss)}", "synset", item.synset, meant))
    if item.definition:
        found.append(Wording(_without_article(item.definition).rstrip(" ."), "definition", item.synset, meant))
    if not item.definition and not gloss:
        senses = [] if item.synset == NO_SYNSET else _senses_of_all(item)
        for sense in senses[:max_senses]:
            found.append(Wording(f"{item.name}, {short_gloss(sense.definition)}", "wordnet", sense.id))
        for suggestion in suggestions:
            text = f"{item.name}, {short_gloss(suggestion.gloss)}"
            found.append(Wording(text, "language model", contents=suggestion.contents))
    return list({wording.text: wording for wording in reversed(found)}.values())[::-1]


def _nearest(meaning: str, suggestions: Sequence[SenseSuggestion]) -> tuple[str, ...]:
    """The contents of the suggestion that shares most words with what is meant (Lesk 1986); none where none does."""
    wanted = _words(meaning)
    if len(suggestions) == 1:
        return suggestions[0].contents
    shared = [len(wanted & _words(suggestion.gloss)) for suggestion in suggestions]
    return suggestions[shared.index(max(shared))].contents if any(shared) else ()


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower())) - OPEN_ENDS


def _senses_of_all(item: ClassName) -> list[wordnet.Synset]:
    """WordNet's senses of the name, then those of its synonyms."""
    found = [sense for name in (item.name, *item.synonyms) for sense in wordnet.senses_of(name)]
    found.sort(key=lambda sense: wordnet.kind(sense.id) == "person")  # slang for people comes last
    return list({sense.id: sense for sense in found}.values())


def short_gloss(gloss: str) -> str:
    """The first clause of a definition, without brackets and article, at most ``MAX_GLOSS_WORDS`` words.

    A longer clause ends before the last phrase that begins within that length.
    """
    clause = re.split(r"[;:]", re.sub(r"\([^)]*\)", "", gloss))[0].strip()
    words = re.sub(ANY_OF, "", clause).split()
    if len(words) > MAX_GLOSS_WORDS:
        breaks = [i for i in range(3, MAX_GLOSS_WORDS + 1) if words[i] in BREAKS or words[i - 1].endswith(",")]
        words = words[: breaks[-1] if breaks else MAX_GLOSS_WORDS]
    while len(words) > 1 and words[-1].lower() in OPEN_ENDS:
        words.pop()
    return _without_article(" ".join(words).strip(" ,."))


def _without_article(text: str) -> str:
    first, _, rest = text.partition(" ")
    return rest if first.lower() in ("a", "an", "the") and rest else text


def given_senses(
    classes: Sequence[ClassName], suggestions: Mapping[str, Sequence[SenseSuggestion]], max_senses: int
) -> list[Sense]:
    """Every class's wordings, none judged; chosen is the user's definition, else the synset, else the name."""
    senses = []
    for item in classes:
        wordings = candidates(item, suggestions.get(item.name, ()), max_senses)
        given = [i for i, wording in enumerate(wordings) if wording.source in ("name", "definition", "synset")]
        senses.append(Sense(item.name, tuple(wordings), given[-1]))
    return senses


def choose(senses: Sequence[Sense], score: Callable[[int, str], Score]) -> list[Sense]:
    """Give every wording its score, and pick each class's best, or the name alone where none is clearly better.

    Args:
        senses: with candidates.
        score: of a class index and a wording's text.
    """
    judged = []
    for label, sense in enumerate(senses):
        wordings = tuple(replace(wording, score=score(label, wording.text)) for wording in sense.wordings)
        judged.append(replace(sense, wordings=wordings, chosen=_best(wordings)))
    return judged


def _best(wordings: Sequence[Wording]) -> int:
    """The place of the wording that the teacher knows best; the first, the name alone, unless another clearly wins.

    The best of several noisy means wins by chance too often: it has to lead by ``CLEAR`` standard errors.
    """
    scores = [wording.score or Score(-math.inf, 0.0, 0.0, 0.0) for wording in wordings]
    best = max(range(len(scores)), key=lambda i: scores[i].log_probability)
    lead = scores[best].log_probability - scores[0].log_probability
    return best if lead > CLEAR * math.hypot(scores[best].error, scores[0].error) else 0


def names_alone(classes: Sequence[ClassName]) -> list[Sense]:
    """Names as they are."""
    return [Sense(item.name, (Wording(item.name, "name", item.synset),)) for item in classes]


def senses_to_rows(senses: Sequence[Sense]) -> list[dict[str, Any]]:
    """For JSON and tables: the fields, and what follows from them."""
    return [{**asdict(s), "text": s.text, "margin": s.margin, "tie": s.tie, "lost": s.lost} for s in senses]


def senses_from_rows(rows: Any, place: Path) -> list[Sense]:
    """The inverse of ``senses_to_rows``.

    Args:
        rows: as read from JSON.
        place: the file, for the error.

    Raises:
        UserError: the rows are none of this version's, or damaged.
    """
    try:
        senses = [Sense(row["class_name"], tuple(map(_wording, row["wordings"])), row["chosen"]) for row in rows]
        if not all(isinstance(s.wording.text, str) and isinstance(s.class_name, str) for s in senses):
            raise TypeError
    except (TypeError, KeyError, IndexError):
        raise UserError(f"expected senses of this version in {place}, got others; choose another --out") from None
    return senses


def _wording(row: Mapping[str, Any]) -> Wording:
    score = Score(**row["score"]) if row["score"] else None
    return Wording(**{**row, "contents": tuple(row["contents"]), "score": score})
