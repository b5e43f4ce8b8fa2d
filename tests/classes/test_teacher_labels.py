"""Teachers' labels: their order, what is known of them, and configurations without usable ones."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prismkd.classes import ClassName, load_classes
from prismkd.classes.lists import classes_of_teacher
from prismkd.classes.teacher_labels import TIMM_LABELS
from prismkd.classes.wordnet import find_synset
from prismkd.errors import UserError

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


Write = Callable[[str, str], str]


def teacher(write: Write, config: Any) -> Path:
    """A folder with that configuration."""
    return Path(write("teacher/config.json", json.dumps(config))).parent


@pytest.mark.parametrize(
    "labels",
    [
        {"id2label": {str(i): NAMES[i] for i in (10, 2, 0, 1, 3, 4, 5, 6, 7, 8, 9)}, "model_type": "resnet"},
        {"label_names": NAMES, "label_descriptions": {"one": "one"}},
        {"label_names": {str(i): NAMES[i] for i in sorted(range(11), key=str)}},
        {"label_names": None, "pretrained_cfg": {"label_names": NAMES}},
    ],
)
def test_labels_of_models_are_in_the_order_of_their_ids_as_numbers(write: Write, labels: dict[str, Any]) -> None:
    wanted = load_classes(write("classes.txt", "\n".join(NAMES)))
    assert load_classes(write("config.json", json.dumps(labels))) == wanted
    assert classes_of_teacher(teacher(write, {**labels, "num_classes": 11})) == wanted


def test_label_descriptions_are_definitions(write: Write) -> None:
    config = {"label_names": ["crane", "bell"], "label_descriptions": {"crane": "a wading bird", "bell": "bell"}}
    assert classes_of_teacher(teacher(write, config)) == [ClassName("crane", "a wading bird"), ClassName("bell")]


def test_wordnet_ids_as_labels_are_recognized(write: Write) -> None:
    config = {"label_names": ["n02012849", "n03126707"], "label_descriptions": {"n02012849": "crane"}}
    assert [item.name for item in classes_of_teacher(teacher(write, config))] == ["crane bird", "crane"]


def test_imagenet_labels_of_transformers_are_known_though_two_are_cranes(write: Write) -> None:
    imagenet = load_classes("imagenet-1k")
    labels = {i: ", ".join(find_synset(item.synset).lemmas) for i, item in enumerate(imagenet)}
    assert classes_of_teacher(teacher(write, {"id2label": labels})) == imagenet


@pytest.mark.parametrize(
    ("tag", "outputs"),
    [("a1_in1k", 1000), ("fb_in22k_ft_in1k_384", 1000), ("augreg_in21k", 21843), ("miil_in21k", 11221),
     ("fb_in22k", 21841), ("clip_laion2b_ft_in12k", 11821)],
)  # fmt: skip
def test_timm_tags_name_the_labels(write: Write, tag: str, outputs: int) -> None:
    config = {"architecture": "resnet50", "num_classes": outputs, "pretrained_cfg": {"tag": tag}}
    classes = classes_of_teacher(teacher(write, config))
    assert len(classes) == outputs
    assert (classes == load_classes("imagenet-1k")) == (outputs == 1000)


def test_timm_has_all_label_files_in_the_right_length() -> None:
    spec = importlib.util.find_spec("timm")
    folder = Path(str(spec and spec.origin)).parent / "data" / "_info"
    assert all(len((folder / file).read_text().split()) == length for (_, length), file in TIMM_LABELS.items())


def test_the_embedded_teacher_has_the_embedded_classes() -> None:
    assert classes_of_teacher("pictograms") == load_classes("pictograms")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_classes": 1000}, "their number doesn't tell which they are"),
        ({"num_classes": 10, "pretrained_cfg": {"tag": "a1_in1k"}}, "a timm tag such as in1k that fits num_classes"),
        ({"num_classes": [1000], "pretrained_cfg": {"tag": "in1k"}}, "got none"),
        ({"num_classes": 3, "label_names": ["a", "b"]}, "expected num_classes 3 label names"),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, "got LABEL_0 and so on"),
        ({"id2label": {"0": "a", "2": "b"}}, "expected the ids 0 to 1"),
        ({"id2label": {"0": "a", "00": "b"}}, "found no 1 among ['0', '00']"),
        ({"id2label": {"0": "a", "1": 1}}, "expected texts as labels"),
        ({"label_names": "abc"}, "expected texts as labels"),
        ({"label_names": ["a", "b"], "label_descriptions": {"a": 1}}, "expected text as definition in class 1"),
        ({"label_names": ["a", "a"]}, "got 'a' for the classes 1, 2"),
        ([], "expected a JSON object"),
    ],
)
def test_teachers_without_usable_names_are_refused(write: Write, config: Any, message: str) -> None:
    with pytest.raises(UserError) as error:
        classes_of_teacher(teacher(write, config))
    assert message in str(error.value)


def test_a_folder_without_config_is_no_teacher(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a teacher folder"):
        classes_of_teacher(tmp_path)
