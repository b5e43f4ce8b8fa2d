"""English enough for prompts: a class's noun put into a content, and that into a style.

``a {}`` becomes ``an {}`` before a vowel, and plurals have no article; ``{s}`` is the plural.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Any

from prismkd.classes.wordnet import is_word

# Plurals without a singular, or with one that is another thing; WordNet has some of them as words of their own.
ALWAYS_PLURAL = set(
    "glasses sunglasses goggles binoculars spectacles scissors shears pliers tweezers tongs jeans trousers pants "
    "shorts tights leggings overalls pajamas pyjamas trunks clothes headphones earphones flops".split()
)
AFTER_THE_HEAD = re.compile(
    r",| (?:of|with|for|in|that|which|who|whose|used|to|from|on|at|by|near|without|having|des|de) |-of-", re.IGNORECASE
)
DETERMINED = re.compile(r"(?:the|a|an) ", re.IGNORECASE)


@lru_cache(maxsize=65536)
def compose(phrase: str, content: str, sense: str) -> str:
    """A style's phrase with a content of the class in it; what explains the noun, behind a comma, comes last."""
    noun, comma, explanation = sense.partition(",")
    if not noun.strip():
        noun, comma, explanation = sense, "", ""
    if "{" not in content:  # a sub-kind, which is explained by what it is a kind of
        content, comma, explanation = content.partition(",")
    return phrase.replace("{}", fill(content, noun)) + comma + explanation


def fill(content: str, noun: str) -> str:
    """A content with the class's noun in it."""
    if is_plural(noun) or DETERMINED.match(noun):
        content = re.sub(r"\ban? (?=((?!an? )[\w,'\u2019-]+ )*\{\})", "", content)
    if "{s}" in content:
        content = content.replace("{s}", plural(noun))
    content = re.sub(r"\ban? \{\}", lambda _: with_article(noun), content)
    return content.replace("{}", noun)


def with_article(noun: str) -> str:
    """``a`` or ``an`` before a noun, nothing before a plural or where there is an article already."""
    return noun if is_plural(noun) or DETERMINED.match(noun) else str(_inflect().a(noun))


@lru_cache(maxsize=65536)
def is_plural(noun: str) -> bool:
    """Whether a noun such as "reading glasses" or "mice" is a plural: no word of its own, but its singular is."""
    head = head_noun(noun).lower()
    if head in ALWAYS_PLURAL:
        return True
    if not head or is_word(AFTER_THE_HEAD.split(noun)[0]) or is_word(noun) or is_word(head):
        return False
    singular = _inflect().singular_noun(head)
    return bool(singular) and is_word(str(singular))


def head_noun(phrase: str) -> str:
    """The noun that a phrase such as "large machine for lifting" is about."""
    return AFTER_THE_HEAD.split(phrase)[0].strip().split(" ")[-1]


def plural(noun: str) -> str:
    """The plural of a noun."""
    head = AFTER_THE_HEAD.split(noun)[0]
    if is_plural(noun) or not head:
        return noun
    return (f"{head}s" if head.isupper() else str(_inflect().plural_noun(head))) + noun[len(head) :]


@cache
def _inflect() -> Any:
    import inflect  # slow to import

    return inflect.engine()
