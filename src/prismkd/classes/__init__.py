"""What the classes are called: lists, files, a teacher's own labels, WordNet's senses, and the matching of names."""

from prismkd.classes.files import ClassName
from prismkd.classes.lists import load_classes

__all__ = ["ClassName", "load_classes"]
