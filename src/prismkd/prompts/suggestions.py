"""What a language model is asked about a class name, and what of its answer can be used.

Answers are untrusted text: they are checked phrase by phrase for form, script, markup and the class name, since they go
into prompts, files and an HTML report. Whether they are true is left to the teacher, who judges the senses and contents
that come of them.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

VERSION = 1  # of the text and the rules below: with another one, cached answers don't count
MAX_SENSES = 6  # each is drawn num_probes times, and no classifier means a rarer one
GLOSS_LENGTH = (3, 200)  # characters, at least and at most
PHRASE_LENGTH = (3, 120)
# Tags, code fences, our own braces, HTML entities, addresses
MARKUP = re.compile(r"[<>`\[\]{}]|&#?\w+;|://|http|www\.", re.IGNORECASE)
# The name comes last: a small model copies the example otherwise, and servers reuse their work on what names share.
PROMPT = """\
I write prompts for a text-to-image model. List the meanings of a class name that look different in a picture, the \
most common first, at most {num_senses}. Give each meaning
- a gloss: what it is, in 3 to 15 words that someone who does not know the name could draw;
- contents: {num_phrases} short and varied phrases of what a picture could show (kinds, parts, colors, poses, \
surroundings; no art styles, no lettering), with articles. Each contains the class name exactly once.
Write English. Answer only with JSON.

Class name: "bat"
{"senses": [\
{"gloss": "a small flying mammal with leathery wings", "contents": ["a brown bat", "a bat asleep in a cave"]}, \
{"gloss": "a wooden club for hitting a ball", "contents": ["a long wooden bat", "a bat on green grass"]}]}

Class name: "{name}"
"""


@dataclass(frozen=True)
class SenseSuggestion:
    """One meaning of a class name, as a language model suggests it.

    Attributes:
        gloss: what it is, a short definition.
        contents: what pictures of it show: phrases with one ``{}`` in place of the name, or ``{s}`` of its plural.
    """

    gloss: str
    contents: tuple[str, ...]


@dataclass(frozen=True)
class _Reply:
    """The JSON that the model is asked for; pydantic derives the schema from it."""

    senses: tuple[SenseSuggestion, ...]


class ContentError(Exception):
    """An answer, or a part of it, can't be used; the message says why."""


def question(name: str, num_phrases: int) -> str:
    """The text that the model gets about a class name, with ``num_phrases`` contents asked for per sense."""
    text = PROMPT.replace("{num_senses}", str(MAX_SENSES)).replace("{num_phrases}", str(num_phrases))
    return text.replace("{name}", name)


def reply_schema(num_phrases: int) -> dict[str, Any]:
    """The JSON schema of a reply. Servers that honor its limits keep a small model from listing without end."""
    from pydantic import TypeAdapter

    schema = TypeAdapter(_Reply).json_schema()
    sense = schema["$defs"]["SenseSuggestion"]
    for node in (schema, sense):
        node["additionalProperties"] = False
        node.pop("description", None)  # the docstrings, which some servers would show to the model
    schema["properties"]["senses"]["maxItems"] = MAX_SENSES
    sense["properties"]["contents"]["maxItems"] = num_phrases
    return schema


def read_senses(text: str, name: str, num_phrases: int) -> tuple[SenseSuggestion, ...]:
    """The usable senses in a model's answer.

    Args:
        text: JSON, perhaps after the model's thoughts, in a code fence, or amid prose.
        name: the class name that was asked about.
        num_phrases: contents that are kept per sense.

    Raises:
        ContentError: no JSON of the asked form, or no usable sense.
    """
    from pydantic import TypeAdapter, ValidationError

    text = text.rpartition("</think>")[2]
    try:
        # From the first brace to the last: what models write around the JSON has none
        reply = TypeAdapter(_Reply).validate_json(text[max(text.find("{"), 0) : text.rfind("}") + 1])
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the answer"
        raise ContentError(f"{place} is not as asked for: {first['msg']}") from None
    return _usable_senses(reply.senses, name, num_phrases)


def _usable_senses(raw: Iterable[SenseSuggestion], name: str, num_phrases: int) -> tuple[SenseSuggestion, ...]:
    """The senses with a valid gloss and at least one valid phrase, at most ``MAX_SENSES``, each gloss once."""
    faults: Counter[str] = Counter()
    pattern = name_pattern(name)
    latin = _is_latin(name)
    senses: dict[str, SenseSuggestion] = {}
    for sense in raw:
        gloss = _usable([sense.gloss], lambda text: _check_gloss(text, pattern, latin), faults)
        contents = _usable(sense.contents, lambda text: _check_phrase(text, pattern, latin), faults)[:num_phrases]
        if gloss and contents:
            senses.setdefault(_letters(gloss[0]), SenseSuggestion(gloss[0], tuple(contents)))
    if not senses:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in faults.most_common())
        raise ContentError(f"no usable sense: {reasons or 'none given'}")
    return tuple(senses.values())[:MAX_SENSES]


def _usable(texts: Iterable[str], check: Callable[[str], str], faults: Counter[str]) -> list[str]:
    """The texts that pass ``check``, each once; the reasons why others don't are counted in ``faults``."""
    kept: dict[str, str] = {}
    for text in texts:
        try:
            checked = check(text.strip().rstrip("."))
        except ContentError as error:
            faults[str(error)] += 1
        else:
            kept.setdefault(_letters(checked), checked)
    return list(kept.values())


def _letters(text: str) -> str:
    """A text as it is compared with the others of one answer: without case and without any blanks.

    Not ``matching.normalize``, which is for names: phrases that differ by blanks alone would be drawn alike.
    """
    return "".join(text.casefold().split())


def _check_gloss(text: str, pattern: re.Pattern[str], latin: bool) -> str:
    """The gloss itself; raises ContentError where it isn't a text that says what the class is."""
    _check_text(text, GLOSS_LENGTH)
    if pattern.fullmatch(re.sub(r"^(?:an?|the) ", "", text.lower())):
        raise ContentError("gloss that only repeats the class name")
    if f'"{text}"' in PROMPT and not pattern.fullmatch("bat"):
        # Seen in models of 135 and 270 million parameters (docs/dpe.md)
        raise ContentError("gloss copied from the example")
    _check_language(text, latin)
    return text


def _check_phrase(text: str, pattern: re.Pattern[str], latin: bool) -> str:
    """The phrase as a content: with ``{}`` or ``{s}`` for the class name, and its first article in lower case.

    Raises ContentError where it isn't one: a phrase without the name says nothing of the class, and one with the name
    twice is mostly two pictures.
    """
    _check_text(text, PHRASE_LENGTH)
    content, count = pattern.subn(lambda match: "{s}" if match["plural"] else "{}", text)
    if count != 1:
        raise ContentError("phrase that names the class twice" if count else "phrase without the class name")
    _check_language(content.replace("{s}", "{}"), latin)
    return re.sub(r"^(?:An?|The) ", lambda article: article[0].lower(), content)


def _check_text(text: str, length: tuple[int, int]) -> None:
    """Refuse a text that isn't safe to show and to encode: with markup, control characters, or of an odd length.

    ``isprintable`` refuses line breaks and invisible marks such as the one that turns the writing direction.
    """
    if not length[0] <= len(text) <= length[1]:
        raise ContentError(f"text outside {length[0]} to {length[1]} characters")
    if not text.isprintable() or "\ufffd" in text:  # U+FFFD stands for bytes that were no UTF-8
        raise ContentError("unprintable characters")
    if MARKUP.search(text):
        raise ContentError("markup or an address")


def _check_language(text: str, latin: bool) -> None:
    """Refuse another script than Latin for a Latin name. Another language passes: telling it would need a model."""
    if latin and not _is_latin(text):
        raise ContentError("another language")


def _is_latin(text: str) -> bool:
    """Whether at least half of the letters are Latin: a word of another script does no harm."""
    letters = [char for char in text if char.isalpha()]
    return 2 * sum(unicodedata.name(char, "").startswith("LATIN") for char in letters) >= len(letters)


def name_pattern(name: str) -> re.Pattern[str]:
    """A pattern that finds a class name as a word in a text, in any case; the group ``plural`` is a plural's ending.

    A name may list synonyms (``tench, Tinca tinca``). Underscores, hyphens and blanks in it match each other, as in
    ``matching.normalize``, which can't search in texts.
    """
    # The longest first, as a pattern's alternatives are tried in their order: "great white shark" before "great white"
    synonyms = sorted((part.strip() for part in name.split(",") if part.strip()), key=len, reverse=True)
    words = (r"[\s_-]+".join(re.escape(word) for word in re.split(r"[\s_-]+", synonym)) for synonym in synonyms)
    return re.compile(rf"(?<![\w-])(?:{'|'.join(words)})(?P<plural>e?s)?(?![\w-])", re.IGNORECASE)
