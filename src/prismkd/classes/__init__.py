"""What the classes are called: lists, files, a teacher's own labels, WordNet's senses, and the matching of names."""

from prismkd.classes.files import ClassName
from prismkd.classes.lists import load_classes
from prismkd.classes.matching import ClassLabels

__all__ = ["ClassLabels", "ClassName", "load_classes"]
