"""Semantic disambiguation: which wording of a class makes the generator draw what the teacher means.

Crane is a bird or a machine, and only the teacher knows which. So the teacher is the judge (our design, beyond the
paper): a few images of each candidate wording are drawn, and the wording in whose images the teacher finds the class
most surely is kept. No real image is looked at.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from msgspec import Meta

from prismkd.classes import wordnet
from prismkd.classes.files import NO_SYNSET, ClassName
from prismkd.errors import UserError
from prismkd.prompts.grammar import to_words
from prismkd.prompts.suggestions import SenseSuggestion

MAX_GLOSS_WORDS = 12  # of a definition in a prompt: CLIP reads 77 tokens, of which content and style need some
MAX_DEFINITION_WORDS = 24  # of a user's definition, who knows best what has to be said
MIN_AGREEMENT = 0.25  # share of a sense's probes that the teacher recognizes, for a bare name to mean this sense
MIN_LEAD = 2.0  # standard errors by which a wording has to beat the name alone
SURE_PROBABILITY = 0.75  # a class with this mean probability is recognized, whichever of its wordings is used
# How WordNet's definitions begin: "any of various ..." says nothing that can be drawn
TAXONOMIC_START = re.compile(
    r"^(?:any|either|one|kind|type|trade name) (?:of|for) "
    r"(?:(?:various|several|numerous|many|two|the|a variety of|a number of) )?(?:kinds of )?"
)
# A long definition is cut before one of these, which begin a phrase
PHRASE_STARTS = set(
    "that which who whose when having consisting used with for to in by and resembling containing".split()
)
# Words that can't end a definition. They also say too little to tell two definitions apart
FUNCTION_WORDS = set(
    "a an the of in on with to and or that which for by from as at having its used typically but not usually very is "
    "are be other whose can some more than between into resembling especially often one two any".split()
)


@dataclass(frozen=True)
class Score:
    """The teacher's verdict on a wording's or content's probes: means over the images.

    Attributes:
        log_probability: log p(class | image) in nats, at most 0. Wordings are compared by it. It falls with every image
            that misses the class, unlike agreement, which has as few values as there are probes.
        error: the standard error of that mean.
        energy: free energy, -T logsumexp(logits / T); lower is more in-distribution.
        agreement: share of images, in [0, 1], whose top-1 is the class.
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
        source: where it is from: name, definition or synset (from the class list), wordnet, or language model.
        synset: WordNet id of the sense; empty where it isn't known.
        contents: a language model's contents for this sense.
        score: the teacher's; None where the wording wasn't judged.
    """

    text: str
    source: str
    synset: str = ""
    contents: tuple[str, ...] = ()
    score: Score | None = None


@dataclass(frozen=True)
class Sense:
    """A class with its candidate wordings, of which one is chosen.

    Attributes:
        class_name: the label's name.
        wordings: at least one; the name alone comes first.
        chosen: the place of the chosen one among the wordings.
    """

    class_name: str
    wordings: tuple[Wording, ...]
    chosen: int = 0

    @property
    def wording(self) -> Wording:
        """The chosen wording."""
        return self.wordings[self.chosen]

    @property
    def text(self) -> str:
        """The chosen wording's text."""
        return self.wording.text

    @property
    def meaning(self) -> tuple[Wording, ...]:
        """The chosen wording and, where that is a bare name, the wording of the sense that the name seems to have.

        That sense is the only other wording; or, of judged ones, the best, if the teacher recognizes enough of its
        probes. It gives the class a synset and contents, which a bare name lacks, and the prompt keeps the bare name.
        """
        if self.wording.source != "name" or len(self.wordings) == 1:
            return (self.wording,)
        others = [wording for wording in self.wordings if wording is not self.wording]
        if self.wording.score is None:
            return (self.wording, *(others if len(others) == 1 else ()))
        best = max(others, key=lambda wording: wording.score.log_probability if wording.score else -math.inf)
        return (self.wording, best) if best.score and best.score.agreement >= MIN_AGREEMENT else (self.wording,)

    @property
    def synset(self) -> str:
        """WordNet id of what is meant; empty where it isn't known."""
        return next((w.synset for w in self.meaning if w.synset and w.synset != NO_SYNSET), "")

    @property
    def unlisted(self) -> bool:
        """Whether the class list says that what is meant is none of WordNet's senses of the name."""
        return self.wording.synset == NO_SYNSET

    @property
    def contents(self) -> tuple[str, ...]:
        """A language model's contents for what is meant; empty where there are none."""
        return next((w.contents for w in self.meaning if w.contents), ())

    @property
    def margin(self) -> float | None:
        """Nats of mean log probability between the chosen wording and its best rival; None without a judged rival.

        It is negative where the name alone was kept although another wording led, but not clearly.
        """
        rivals = [w.score.log_probability for i, w in enumerate(self.wordings) if w.score and i != self.chosen]
        return self.wording.score.log_probability - max(rivals) if self.wording.score and rivals else None

    @property
    def tie(self) -> bool:
        """Whether the user should look: the class isn't recognized surely, and a rival is as good within the error.

        The error is one standard error of the difference of two means, sqrt(s_1^2 + s_2^2).
        """
        best = self.wording.score
        return (
            best is not None
            and best.log_probability < math.log(SURE_PROBABILITY)
            and any(
                best.log_probability - w.score.log_probability <= math.hypot(best.error, w.score.error)
                for i, w in enumerate(self.wordings)
                if w.score and i != self.chosen
            )
        )

    @property
    def lost(self) -> bool:
        """Whether the teacher recognizes no probe of any wording: no image of the class can be expected."""
        scores = [w.score for w in self.wordings if w.score]
        return bool(scores) and max(score.agreement for score in scores) == 0


def candidate_wordings(
    item: ClassName, suggestions: Sequence[SenseSuggestion] = (), *, max_senses: int
) -> list[Wording]:
    """The wordings of a class to choose from, each text once.

    The name alone comes first. Then what the class list says is meant, a synset or a definition; only where it says
    nothing, WordNet's senses of the name and a language model's.

    Args:
        item: the class.
        suggestions: a language model's senses.
        max_senses: of WordNet, the most frequent ones first.
    """
    listed = item.synset and item.synset != NO_SYNSET
    gloss = wordnet.find_synset(item.synset).definition if listed else ""
    contents = _nearest_contents(f"{item.definition} {gloss}", suggestions) if item.definition or gloss else ()
    name = to_words(item.name)
    wordings = [Wording(name, "name", item.synset, contents)]
    if gloss:
        wordings.append(Wording(_explained(name, gloss), "synset", item.synset, contents))
    if item.definition:
        wordings.append(Wording(_defined(name, item.definition), "definition", item.synset, contents))
    if not item.definition and not gloss:
        senses = [] if item.synset == NO_SYNSET else _senses_of_all(item)
        for sense in senses[:max_senses]:
            wordings.append(Wording(_explained(name, sense.definition), "wordnet", sense.id))
        for suggestion in suggestions:
            text = _explained(name, suggestion.gloss)
            wordings.append(Wording(text, "language model", contents=suggestion.contents))
    # Of equal texts the first stays; a dictionary keeps the last, hence the reversals
    return list({wording.text: wording for wording in reversed(wordings)}.values())[::-1]


def _explained(name: str, gloss: str, max_words: int = MAX_GLOSS_WORDS) -> str:
    """A name with a short gloss behind it, in the place of other explanations: ``tench, a fish`` of "tench, Tinca"."""
    noun = name.partition(",")[0]
    return f"{noun if noun.strip() else name}, {short_gloss(gloss, max_words)}"


def _defined(name: str, definition: str) -> str:
    """A user's definition as a noun of its own, such as "a shopping cart"; a long one explains the name instead.

    So what matters stands first: the name and the style, then as much of the explanation as there is room for.
    """
    if len(definition.split()) <= MAX_DEFINITION_WORDS:
        return _without_article(definition).rstrip(" .")
    return _explained(name, definition, MAX_DEFINITION_WORDS)


def _nearest_contents(meaning: str, suggestions: Sequence[SenseSuggestion]) -> tuple[str, ...]:
    """The contents of the suggestion whose gloss shares most words with what is meant (Lesk 1986); else none.

    A model's only suggestion serves without a shared word: it knows no other meaning.
    """
    if len(suggestions) == 1:
        return suggestions[0].contents
    meaning_words = _content_words(meaning)
    num_shared = [len(meaning_words & _content_words(suggestion.gloss)) for suggestion in suggestions]
    return suggestions[num_shared.index(max(num_shared))].contents if any(num_shared) else ()


def _content_words(text: str) -> set[str]:
    """The words of a text without those that carry no meaning of their own."""
    return set(re.findall(r"\w+", text.lower())) - FUNCTION_WORDS


def _senses_of_all(item: ClassName) -> list[wordnet.Synset]:
    """WordNet's senses of the name, then those of its synonyms, each once."""
    senses = [sense for name in (item.name, *item.synonyms) for sense in wordnet.senses_of(name)]
    # Many names of things are slang for people too ("beard"), which hardly any classifier means. The sort is stable:
    # the others keep their order by frequency.
    senses.sort(key=lambda sense: wordnet.kind(sense.id) == "person")
    return list({sense.id: sense for sense in senses}.values())


def short_gloss(gloss: str, max_words: int = MAX_GLOSS_WORDS) -> str:
    """A definition short enough for a prompt: its first clause, without parentheses and article.

    It has at most ``max_words`` words. A longer clause is cut before the last phrase that begins within them.
    """
    clause = re.split(r"[;:]", re.sub(r"\([^)]*\)", "", gloss))[0].strip()
    words = re.sub(TAXONOMIC_START, "", clause).split()
    if len(words) > max_words:
        # At least three words stay: one or two are mostly a "large animal", which says too little
        starts = [i for i in range(3, max_words + 1) if words[i] in PHRASE_STARTS or words[i - 1].endswith(",")]
        words = words[: starts[-1] if starts else max_words]
    while len(words) > 1 and words[-1].lower() in FUNCTION_WORDS:
        words.pop()
    return _without_article(" ".join(words).strip(" ,."))


def _without_article(text: str) -> str:
    """A noun without its article, which a content brings: "a small {}" of "an open book"."""
    first, _, rest = text.partition(" ")
    return rest if first.lower() in ("a", "an", "the") and rest else text


def unjudged_senses(
    classes: Sequence[ClassName], suggestions: Mapping[str, Sequence[SenseSuggestion]], max_senses: int
) -> list[Sense]:
    """Every class with its candidate wordings; chosen is the user's definition, else the synset, else the name.

    Nothing is chosen from WordNet's or a language model's senses, of which only a judge can say which is meant.

    Args:
        classes: in the order of the labels.
        suggestions: a language model's senses by class name; classes may lack them.
        max_senses: of WordNet, per class.
    """
    senses = []
    for item in classes:
        wordings = candidate_wordings(item, suggestions.get(item.name, ()), max_senses=max_senses)
        by_user = [i for i, wording in enumerate(wordings) if wording.source in ("name", "definition", "synset")]
        senses.append(Sense(item.name, tuple(wordings), by_user[-1]))
    return senses


def choose_wordings(senses: Sequence[Sense], score: Callable[[int, str], Score]) -> list[Sense]:
    """Give every wording its score, and choose each class's best; the name alone where none is clearly better.

    Args:
        senses: with candidates, one per class.
        score: the score of a label and a wording's text.
    """
    judged = []
    for label, sense in enumerate(senses):
        wordings = tuple(replace(wording, score=score(label, wording.text)) for wording in sense.wordings)
        judged.append(replace(sense, wordings=wordings, chosen=_best(wordings)))
    return judged


def _best(wordings: Sequence[Wording]) -> int:
    """The place of the wording with the highest score L, if it clearly beats the first one, the name alone; else 0.

    L_best - L_name > MIN_LEAD sqrt(s_best^2 + s_name^2), with the standard errors s. The best of several noisy means
    wins by chance too often: an earlier rule without the lead cost 1.3 points of top-1 on Pictograms (docs/dpe.md).
    """
    scores = [wording.score or Score(-math.inf, 0.0, 0.0, 0.0) for wording in wordings]
    best = max(range(len(scores)), key=lambda i: scores[i].log_probability)
    lead = scores[best].log_probability - scores[0].log_probability
    return best if lead > MIN_LEAD * math.hypot(scores[best].error, scores[0].error) else 0


def names_alone(classes: Sequence[ClassName]) -> list[Sense]:
    """Every class by its name and nothing else, as the plain methods draw it."""
    return [Sense(item.name, (Wording(to_words(item.name), "name", item.synset),)) for item in classes]


def senses_to_rows(senses: Sequence[Sense]) -> list[dict[str, Any]]:
    """Senses as plain data for JSON and the report: the fields of ``Sense``, and text, margin, tie and lost."""
    return [{**asdict(s), "text": s.text, "margin": s.margin, "tie": s.tie, "lost": s.lost} for s in senses]


class ScoreRecord(TypedDict):
    """``Score`` in a record."""

    log_probability: Annotated[float, Meta(ge=-1e100, le=1e100)]
    error: Annotated[float, Meta(ge=0, le=1e100)]
    energy: Annotated[float, Meta(ge=-1e100, le=1e100)]
    agreement: Annotated[float, Meta(ge=0, le=1)]


class WordingRecord(TypedDict):
    """``Wording`` in a record."""

    text: Annotated[str, Meta(min_length=1, max_length=10_000)]
    source: Annotated[str, Meta(max_length=1000)]
    synset: NotRequired[Annotated[str, Meta(max_length=1000)]]
    contents: NotRequired[list[Annotated[str, Meta(max_length=10_000)]]]
    score: NotRequired[ScoreRecord | None]


class SenseRecord(TypedDict):
    """``Sense`` in a record, and what is worth looking at; the first version had a name and its text alone."""

    class_name: Annotated[str, Meta(max_length=1000)]
    chosen: NotRequired[Annotated[int, Meta(ge=0)]]
    wordings: NotRequired[Annotated[list[WordingRecord], Meta(min_length=1)]]
    tie: NotRequired[bool]
    lost: NotRequired[bool]


class SensesRecord(TypedDict):
    """``senses.json``: what each class means, and what deciding it took; ``candidates.json``: before it was judged."""

    senses: list[SenseRecord]
    seconds: NotRequired[Annotated[float, Meta(ge=0, le=1e12)]]
    images: NotRequired[Annotated[int, Meta(ge=0, le=2**53)]]


def senses_from_record(record: SensesRecord, num_classes: int, place: Path) -> list[Sense]:
    """The senses that ``senses_to_rows`` wrote.

    Args:
        record: as read from JSON.
        num_classes: of the run.
        place: the file, for the error.

    Raises:
        UserError: not one of every class, or of another version of prismkd.
    """
    rows = record["senses"]
    if len(rows) != num_classes or not all(row.get("chosen", 0) < len(row.get("wordings", ())) for row in rows):
        raise UserError(
            f"expected senses of {num_classes} classes in {place}, each with a chosen one of its wordings, got others; "
            "bring the file back from a copy, or choose another --out"
        )
    return [Sense(row["class_name"], tuple(map(_wording, row["wordings"])), row.get("chosen", 0)) for row in rows]


def _wording(row: WordingRecord) -> Wording:
    score, contents = row.get("score"), tuple(row.get("contents", ()))
    known = Score(score["log_probability"], score["error"], score["energy"], score["agreement"]) if score else None
    return Wording(row["text"], row["source"], row.get("synset", ""), contents, known)
