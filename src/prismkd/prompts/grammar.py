"""English for prompts: the one place where a class name becomes words, and a noun gets its article and its plural.

A noun goes into a content (``a {}`` becomes ``an {}`` before a vowel sound, a plural has no article, and ``{s}`` is the
plural), and the content into a style. The rules are few, since they only have to serve names of things that can be
pictured; the library inflect does more, but takes seconds to import.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from prismkd.classes.teacher_labels import WORDNET_ID
from prismkd.classes.wordnet import is_word, senses_of, singulars

# Nouns that are plural although WordNet's list has them as words of their own, or lacks their singular
PLURAL_NOUNS = set(
    "glasses eyeglasses sunglasses goggles binoculars spectacles scissors shears pliers tweezers tongs jeans trousers "
    "pants shorts tights leggings overalls pajamas pyjamas trunks clothes headphones earphones flops flipflops "
    "rollerskates clipboards stitches notes bars "
    # Of food, mostly: WordNet has them as dishes, or not at all
    "eggs noodles fries chips cookies pancakes waffles escargots churros macarons beignets rings shoes bones eyes "
    "tires lilies rails dice".split()
)
# Nouns without article and plural, of those in the built-in class lists
MASS_NOUNS = set(
    "asparagus bread broccoli chess corn equipment furniture grass guacamole hay lightning luggage mail rain sauce "
    "tissue trash velvet wifi wool".split()
)
# What follows the noun that a phrase is about: "machine | that lifts loads", "hen | -of-the-woods"
AFTER_THE_HEAD = re.compile(
    r",| (?:of|with|for|in|that|which|who|whose|used|to|from|on|at|by|near|without|having|des|de) "
    r"|-(?:of|in|on|at|built)-",
    re.IGNORECASE,
)
# A name and what stands in parentheses behind it
PARENTHESES = re.compile(r"(.*?\S)(?: ?\(([^()]+)\))?", re.DOTALL)
CAMEL_CASE = re.compile(r"(?:[A-Z][a-z]{2,}){2,}")  # AnnualCrop; neither iPhone nor McDonald
MAX_ABBREVIATION = 4  # letters of a word in capitals that may be spelled out
DETERMINED = re.compile(r"(?:the|a|an) ", re.IGNORECASE)
# An article before a noun's place, with adjectives at most in between: not the first one of "a photo of {}"
ARTICLE_OF_THE_NOUN = re.compile(r"\ban? (?=(?:(?!(?:an?|of|with|in|on|at|from|by|near) )[\w,'\u2019-]+ )*\{\})")

# The article follows the sound and not the letter: an hour, a unicorn, a European, a one-way street, an X-ray
SILENT_H = re.compile(r"hour(?!i)|heir|hono|honest", re.IGNORECASE)
LIKE_YOU_OR_WON = re.compile(
    r"e[uw]|u(?:ni(?:[^nmd]|mo)|kr|[bcfghjkqrst][aeiou])|oui|(?:one|once)(?![a-z])", re.IGNORECASE
)
VOWEL = re.compile(r"[aeiou]|y[^aeiou]|(?:8|1[18](?!\d))", re.IGNORECASE)
SPELLED_OUT = re.compile(
    r"[A-Z][A-Z0-9.]{0,3}$|[a-z](?:[a-z]?\d\w*)?$"
)  # up to four capitals: MRI, TV; x of x-ray, mp3
LETTER_LIKE_A_VOWEL = re.compile(r"[AEFHILMNORSXaefhilmnorsx]")  # ay, ee, ef, aitch, ...; but U is "you"
SPOKEN_AS_A_WORD = re.compile(r"(?!SUV|LED|HIV)(?:F[LR]?|[HLMNX]|RH?|S[CHKLMNPQTVW]?R?)[AEIOUY]")  # NASA, SHIP

# The end of a noun and of its plural; the first that fits counts
PLURAL_RULES = tuple(
    (re.compile(end), plural_end)
    for end, plural_end in (
        (r"(fish|sheep|deer|moose|bison|craft|offspring|salmon|trout|cod|[^aeiou]ese|ois|chassis)$", r"\1"),
        (r"((?:^|[ -])ox)$", r"\1en"),
        (r"(?<!b)([lm])ouse$", r"\1ice"),  # no blouse
        (r"(?<!mon)goose$", "geese"),
        (r"((?:Dober|Ger|Nor|Ro|[Oo]tto|[Bb]rah|cai|ceri|dol|hu|sha|talis)man)$", r"\1s"),
        (r"man$", "men"),
        (r"tooth$", "teeth"),
        (r"foot$", "feet"),
        (r"child$", "children"),
        (r"person$", "people"),
        (r"(lea|loa|shea|thie|el|hal|cal|wol|scar|whar)f$", r"\1ves"),  # leaf, loaf, shelf, wolf
        (r"(kni|wi|li)fe$", r"\1ves"),
        (r"((?:potat|tomat|mosquit|torped|tornad|volcan|buffal|ding|flaming|mang|domin|banj|junc|geck)o)$", r"\1es"),
        (r"(\b(?:her|ech)o)$", r"\1es"),
        (r"([sx])is$", r"\1es"),  # oasis, axis
        (r"(lens)$", r"\1es"),
        (r"((?<![suiao])s)$", r"\1"),  # a plural already, or foreign: triceratops
        (r"(fez|quiz)$", r"\1zes"),
        (r"((?:mon|patri|matri|hier)arch|stomach|loch)$", r"\1s"),
        (r"(s|x|z|ch|sh)$", r"\1es"),
        (r"([^aeiou]|qu)y$", r"\1ies"),
        (r"$", "s"),
    )
)


def to_words(name: str) -> str:
    """A class name as words: ``traffic_light`` and ``traffic-light`` are a traffic light.

    Hyphens stay where WordNet spells the word with them (``three-toed sloth``, ``T-shirt``). ``AnnualCrop`` is two
    words; of a name in capitals only abbreviations keep them (``hourglass``, ``MRI SCAN``). What stands in
    parentheses behind the name explains it: ``crane (bird)`` is a ``crane, bird``, and an id there says nothing.
    """
    words, explanation = PARENTHESES.fullmatch(name.replace("_", " ")).groups()  # type: ignore[union-attr]
    if explanation and not WORDNET_ID.fullmatch(explanation):
        return f"{to_words(words)}, {explanation}"
    if CAMEL_CASE.fullmatch(words) and not is_word(words):
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", words)
    if words.isupper():
        words = " ".join(_without_capitals(word) for word in words.split(" "))
    if "-" not in words:
        return words
    spellings = {lemma.lower() for sense in senses_of(words) for lemma in sense.lemmas}
    return words if words.lower() in spellings else words.replace("-", " ")


def _without_capitals(word: str) -> str:
    """A word of a name in capitals, in lower case unless it is short and not WordNet's: it may be spelled out."""
    is_word_of_its_own = any(word.lower() in sense.lemmas for sense in senses_of(word))
    return word.lower() if len(word) > MAX_ABBREVIATION or (len(word) > 2 and is_word_of_its_own) else word


@lru_cache(maxsize=65536)
def compose(phrase: str, content: str, sense: str) -> str:
    """A prompt: a style's phrase with a content, and in it the class.

    Args:
        phrase: with ``{}`` for the content.
        content: with ``{}`` for the noun or ``{s}`` for its plural; or without, where it names a sub-kind.
        sense: the class as a noun. What explains it, behind a comma, comes last in the prompt: "a photo of a crane
            beside water, wading bird".
    """
    noun, comma, explanation = sense.partition(",")
    if not noun.strip():
        noun, comma, explanation = sense, "", ""
    if "{" not in content:  # a sub-kind, which is explained by what it is a kind of
        content, comma, explanation = content.partition(",")
    return phrase.replace("{}", fill(content, noun)) + comma + explanation


def fill(content: str, noun: str) -> str:
    """A content with the class's noun in it, in the right number and with the right article."""
    if _takes_no_article(noun):
        content = ARTICLE_OF_THE_NOUN.sub("", content)
    if "{s}" in content:
        content = content.replace("{s}", plural(noun))
    content = re.sub(r"\ban? \{\}", lambda _: with_article(noun), content)
    return content.replace("{}", noun)


def with_article(noun: str) -> str:
    """A noun with ``a`` or ``an``; a plural, a mass noun, or one with an article of its own, as it is."""
    if _takes_no_article(noun):
        return noun
    return f"{'an' if _begins_with_vowel_sound(noun) else 'a'} {noun}"


def _takes_no_article(noun: str) -> bool:
    return is_plural(noun) or _is_mass_noun(noun) or DETERMINED.match(noun) is not None


def _is_mass_noun(noun: str) -> bool:
    return head_noun(noun).lower() in MASS_NOUNS


def _begins_with_vowel_sound(phrase: str) -> bool:
    """Whether a phrase is spoken with a vowel first; only its first word up to a hyphen counts."""
    word = re.split(r"[\s-]", unicodedata.normalize("NFKD", phrase), maxsplit=1)[0]  # takes the accent off an "é"
    if SPELLED_OUT.match(word) and not SPOKEN_AS_A_WORD.match(word):
        return bool(LETTER_LIKE_A_VOWEL.match(word))
    if SILENT_H.match(word):
        return True
    return bool(VOWEL.match(word)) and not LIKE_YOU_OR_WON.match(word)


@lru_cache(maxsize=65536)
def is_plural(noun: str) -> bool:
    """Whether a noun such as "reading glasses" or "mice" is a plural: not a word of WordNet's, but its singular is."""
    head = head_noun(noun).lower()
    if head in PLURAL_NOUNS:
        return True
    if not head or is_word(AFTER_THE_HEAD.split(noun)[0]) or is_word(noun) or is_word(head):
        return False
    return any(map(is_word, singulars(head)))


def head_noun(phrase: str) -> str:
    """The noun that a phrase such as "large machine for lifting" is about."""
    return AFTER_THE_HEAD.split(phrase)[0].strip().split(" ")[-1]


def plural(noun: str) -> str:
    """The plural of a noun, which may have adjectives before it and an explanation behind it.

    A plural stays, and so does a mass noun.
    """
    head = AFTER_THE_HEAD.split(noun)[0]
    if is_plural(noun) or _is_mass_noun(noun) or not head:
        return noun
    if head.isupper():  # an abbreviation: TVs
        return f"{head}s{noun[len(head) :]}"
    end, plural_end = next(rule for rule in PLURAL_RULES if rule[0].search(head))
    return end.sub(plural_end, head, count=1) + noun[len(head) :]
