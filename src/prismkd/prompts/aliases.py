"""What test sets may call a class: its name, its synset id, its synonyms, and WordNet's words for its synset."""

from __future__ import annotations

from collections.abc import Sequence

from prismkd.prompts.class_files import NO_SYNSET, ClassName
from prismkd.prompts.wordnet import find_synset


def names_of(classes: Sequence[ClassName]) -> list[tuple[str, ...]]:
    """All names of each class, its own first."""
    return [(item.name, *filter(None, (item.synset, *item.synonyms, *_lemmas(item.synset)))) for item in classes]


def _lemmas(synset: str) -> tuple[str, ...]:
    return find_synset(synset).lemmas if synset and synset != NO_SYNSET else ()
