"""Classifiers: teacher, judge and student alike are one differentiable function of images in [0, 1] to logits.

classifier.py     that function: preprocessing and network; a user's own network as one; the logits of many images
preprocessing.py  what a network wants of an image, as data, and from the descriptions of other libraries
sources.py        what the settings ``teacher`` and ``evaluation.judge`` may say, and the classifier that it names
judge.py          the network in whose features images are measured, with or without a head
folders.py        classifiers in folders, written and read
timm_models.py    classifiers of timm; transformers_models.py those of transformers
libraries.py      classifiers of torchvision by name, and programs
loaded.py         what such a library gives: a classifier, its own transform, and what there is to know
parity.py         our preprocessing beside the library's own transform
checkpoint.py     which files with weights open
ensemble.py       several teachers as one; classes/teacher_list.py is the file that lists them
networks.py       the small residual network, and new networks by name
views.py          the augmented views that guidance and students show to the teacher
precision.py      where products in bfloat16 are faster
"""

from prismkd.classifiers.classifier import Classifier, as_teacher, count_parameters, features_of, predict
from prismkd.classifiers.ensemble import Ensemble
from prismkd.classifiers.folders import load_classifier, save_classifier
from prismkd.classifiers.judge import load_judge
from prismkd.classifiers.preprocessing import Preprocessing
from prismkd.classifiers.sources import load_source, load_teacher, part_digests, weights_digest
from prismkd.classifiers.user_module import as_classifier

__all__ = [
    "Classifier",
    "Ensemble",
    "Preprocessing",
    "as_classifier",
    "as_teacher",
    "count_parameters",
    "features_of",
    "load_classifier",
    "load_judge",
    "load_source",
    "load_teacher",
    "part_digests",
    "predict",
    "save_classifier",
    "weights_digest",
]
