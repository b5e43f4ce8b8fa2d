"""Which class a name stands for: in test sets, in the outputs of several teachers, in WordNet.

``normalize`` is the only place that says when two names are the same. Names that are compared anywhere go through it.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from prismkd.errors import UserError

NUM_NAMED = 5  # unknown names that an error lists; ImageNet's folders could be a thousand


def normalize(name: str) -> str:
    """The form in which names are compared: lower case, single blanks for underscores, hyphens and runs of blanks.

    Data sets write one class as ``Alarm_Clock``, ``alarm-clock`` and ``alarm clock``, and a Mac's folders have an ``é``
    as two characters.
    """
    name = unicodedata.normalize("NFC", name)
    # lower() and not casefold(), which would make the German "Masse" and "Maße" one class
    return " ".join(re.sub("[_-]", " ", name).lower().split())


class ClassLabels:
    """The labels of the run's classes, by all names that test sets give them.

    Names are compared in the form of ``normalize``. A class's own name wins over another class's further name; a
    further name that two classes share stands for neither.

    Args:
        names: of each class in the order of the labels: its own name first, then further names, such as its synset id
            and synonyms.
        left_out: names of further classes, whose images a set may hold and the run has no use for.
    """

    def __init__(self, names: Sequence[Sequence[str]], left_out: Iterable[str] = ()) -> None:
        self._left_out = set(map(normalize, left_out))
        self.names = [class_names[0] for class_names in names]
        self._forms = [set(map(normalize, class_names)) for class_names in names]
        num_owners = Counter(form for forms in self._forms for form in forms)
        self._labels = {form: label for label, forms in enumerate(self._forms) for form in forms
                        if num_owners[form] == 1}  # fmt: skip
        # Own names come second and overwrite: "crane" is the class of that name, not the one with that synonym
        num_named = Counter(map(normalize, self.names))
        self._labels |= {normalize(name): label for label, name in enumerate(self.names)
                         if num_named[normalize(name)] == 1}  # fmt: skip
        # Names that only case or hyphens tell apart ("polish", "Polish") are found as they are written
        self._exact = {name: label for label, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    def find(self, name: str) -> int | None:
        """The label of a name, or None.

        Of several names separated by commas, as ImageNet's lists have them (``tench, Tinca tinca``), the first that is
        known counts.
        """
        for part in _parts(name):
            label = self._exact.get(part, self._labels.get(normalize(part)))
            if label is not None:
                return label
        return None

    def nearest(self, name: str) -> str:
        """The own name of the class whose name is spelled most alike; empty where none is near."""
        near = difflib.get_close_matches(normalize(name), list(self._labels), n=1, cutoff=0.6)
        return self.names[self._labels[near[0]]] if near else ""

    def are_in_order(self, names: Sequence[str]) -> bool:
        """Whether name i is a name of class i, for every class.

        Order can tell classes apart where names can't: ImageNet's first words call two classes ``crane``.
        """
        return len(names) == len(self) and all(
            any(normalize(part) in forms for part in _parts(name))
            for name, forms in zip(names, self._forms, strict=True)
        )

    def of(self, names: Sequence[str], source: str) -> list[int]:
        """The labels of different names that occur together, such as the class folders of one test set; -1: left out.

        Where all names are numbers, and not all of them are names of classes, the numbers are labels: the folder ``10``
        is class 10, although a sorted listing puts it before ``2``.

        Args:
            names: each once.
            source: where they are from, for errors.

        Raises:
            UserError: some names stand for no class (it lists a few with the nearest class names), or two for one.
        """
        found = [-1 if label is None and normalize(name) in self._left_out else label
                 for name, label in zip(names, self._look_up(names), strict=True)]  # fmt: skip
        unknown = [name for name, label in zip(names, found, strict=True) if label is None]
        if unknown:
            named = ", ".join(map(self._with_nearest, unknown[:NUM_NAMED]))
            more = f" and {len(unknown) - NUM_NAMED} more" if len(unknown) > NUM_NAMED else ""
            raise UserError(
                f"expected classes of the run in {source}, got {len(unknown)} of {len(names)} that are none: "
                f"{named}{more}; rename them, or add the names as synonyms in the class list"
            )
        labels = [label for label in found if label is not None]
        # Two folders of one class are refused rather than joined: most often one of them is another class, misnamed
        repeated = next((label for label, count in Counter(labels).items() if count > 1 and label >= 0),
                        None)  # fmt: skip
        if repeated is not None:
            same = [name for name, label in zip(names, labels, strict=True) if label == repeated]
            raise UserError(
                f"expected each class once in {source}, got {' and '.join(map(repr, same[:3]))}, which all stand for "
                f"{self.names[repeated]!r}; merge or rename them"
            )
        return labels

    def know(self, names: Sequence[str]) -> bool:
        """Whether all names, which occur together, stand for classes."""
        return None not in self._look_up(names)

    def _look_up(self, names: Sequence[str]) -> list[int | None]:
        """Each name's label or None; numbers are labels unless they are all names, as ``MNIST``'s digits may be."""
        labels = [self.find(name) for name in names]
        if None in labels and all(re.fullmatch("[0-9]{1,9}", name) for name in names):
            return [int(name) if int(name) < len(self) else None for name in names]
        return labels

    def _with_nearest(self, name: str) -> str:
        """An unknown name for an error, with the class that may be meant."""
        nearest = self.nearest(name)
        return repr(name[:40]) + (f" (perhaps {nearest!r})" if nearest else "")


def _parts(name: str) -> list[str]:
    """The whole name, then the names in it that are separated by commas; a name may have a comma of its own."""
    return [part.strip() for part in (name, *name.split(",")) if part.strip()]
