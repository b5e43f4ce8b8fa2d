"""Which class a name stands for: in test sets, in several teachers' outputs; and all that a class may be called."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence

from prismkd.classes.files import NO_SYNSET, ClassName
from prismkd.classes.wordnet import find_synset
from prismkd.errors import UserError

NUM_NAMED = 5  # folders that an error names


class ClassLabels:
    """The run's classes by all that test sets call them.

    Case doesn't matter, and underscores and hyphens are blanks.

    Args:
        names: of each class in the order of its labels: its name first, then other names, such as its synset id and
            synonyms. A class's own name wins over another's other name; what two classes share is nobody's.
    """

    def __init__(self, names: Sequence[Sequence[str]]) -> None:
        self.names = [own[0] for own in names]
        self._forms = [set(map(_form, own)) for own in names]
        owners = Counter(form for own in self._forms for form in own)
        self._labels = {form: label for label, own in enumerate(self._forms) for form in own if owners[form] == 1}
        firsts = Counter(map(_form, self.names))
        self._labels |= {_form(name): label for label, name in enumerate(self.names) if firsts[_form(name)] == 1}
        self._exact = {name: label for label, name in enumerate(self.names)}  # told apart by case or hyphens alone

    def __len__(self) -> int:
        return len(self.names)

    def find(self, name: str) -> int | None:
        """The label of a name; of several names parted by commas (``tench, Tinca tinca``) the first known counts."""
        for part in _parts(name):
            found = self._exact.get(part, self._labels.get(_form(part)))
            if found is not None:
                return found
        return None

    def are_in_order(self, names: Sequence[str]) -> bool:
        """Whether name i is a name of class i, for all of them: ImageNet's words call two classes ``crane``."""
        return len(names) == len(self) and all(
            any(_form(part) in own for part in _parts(name)) for name, own in zip(names, self._forms, strict=True)
        )

    def of(self, names: Sequence[str], source: str) -> list[int]:
        """The labels of different names, such as class folders, that are there together.

        Where all are numbers, and not all are names of classes, they are labels: ``10`` is class 10, wherever it sorts.

        Raises:
            UserError: some stand for no class, or two for the same one; it names a few, and the nearest class names.
        """
        found = self._look_up(names)
        unknown = [name for name, label in zip(names, found, strict=True) if label is None]
        if unknown:
            named = ", ".join(self._offer(name) for name in unknown[:NUM_NAMED])
            more = f" and {len(unknown) - NUM_NAMED} more" if len(unknown) > NUM_NAMED else ""
            raise UserError(
                f"expected classes of the run in {source}, got {len(unknown)} of {len(names)} that are none: "
                f"{named}{more}; rename them, or add the names as synonyms in the class list"
            )
        labels = [label for label in found if label is not None]
        twice = next((label for label, count in Counter(labels).items() if count > 1), None)
        if twice is not None:
            same = [name for name, label in zip(names, labels, strict=True) if label == twice]
            raise UserError(
                f"expected each class once in {source}, got {' and '.join(map(repr, same[:3]))}, which all stand for "
                f"{self.names[twice]!r}; merge or rename them"
            )
        return labels

    def know(self, names: Sequence[str]) -> bool:
        """Whether all of the names, which are there together, stand for classes."""
        return None not in self._look_up(names)

    def _look_up(self, names: Sequence[str]) -> list[int | None]:
        found = [self.find(name) for name in names]
        if None in found and all(re.fullmatch("[0-9]{1,9}", name) for name in names):
            return [int(name) if int(name) < len(self) else None for name in names]
        return found

    def _offer(self, name: str) -> str:
        near = difflib.get_close_matches(_form(name), list(self._labels), n=1, cutoff=0.6)
        return repr(name[:40]) + (f" (perhaps {self.names[self._labels[near[0]]]!r})" if near else "")


def _parts(name: str) -> list[str]:
    """The whole name, then the names in it that are parted by commas."""
    return [part.strip() for part in (name, *name.split(",")) if part.strip()]


def _form(name: str) -> str:
    return " ".join(re.sub("[_-]", " ", name).lower().split())


def names_of(classes: Sequence[ClassName]) -> list[tuple[str, ...]]:
    """All names of each class, its own first."""
    return [(item.name, *filter(None, (item.synset, *item.synonyms, *_lemmas(item.synset)))) for item in classes]


def _lemmas(synset: str) -> tuple[str, ...]:
    return find_synset(synset).lemmas if synset and synset != NO_SYNSET else ()
