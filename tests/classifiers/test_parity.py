"""A teacher that would see other images here than in its own library is refused when it is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers as hf
from torch import nn
from torchvision import transforms

from prismkd.classifiers import Preprocessing, load_teacher
from prismkd.classifiers.loaded import LoadedClassifier, ready
from prismkd.classifiers.parity import check_parity, measure_parity
from prismkd.config import PreprocessingConfig
from prismkd.errors import UserError

SIZE = (32, 32)


class Pixels(nn.Module):
    """Every pixel counts."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(3 * 32 * 32, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(images.flatten(1))


def loaded(*steps: object, preprocessing: Preprocessing) -> LoadedClassifier:
    transform = transforms.Compose([*steps, transforms.ToTensor()])
    return LoadedClassifier(ready(Pixels(), 4, preprocessing), transform)


def test_the_same_steps_pass() -> None:
    same = loaded(transforms.Resize(40), transforms.CenterCrop(32), preprocessing=Preprocessing(3, 40, SIZE))
    check_parity(same, "mine")
    parity = measure_parity(same, 2)
    assert parity is not None and parity.holds and parity.num_same == parity.num_images == 4


@pytest.mark.parametrize(
    "ours",
    [
        Preprocessing(3, SIZE),  # squashed
        Preprocessing(3, 32, SIZE),  # another margin
        Preprocessing(3, 40, SIZE, "bicubic"),  # another filter
        Preprocessing(3, 40, SIZE, std=(0.9,)),  # another normalization
    ],
)
def test_other_steps_are_refused_with_the_remedy(ours: Preprocessing) -> None:
    other = loaded(transforms.Resize(40), transforms.CenterCrop(32), preprocessing=ours)
    with pytest.raises(
        UserError, match=r"expected logits of mine as after .* own transform, got .* set teacher_prepro"
    ):
        check_parity(other, "mine")


def test_logits_that_are_not_finite_are_no_parity() -> None:
    broken = loaded(transforms.Resize(SIZE), preprocessing=Preprocessing(3, SIZE))
    nn.init.constant_(broken.classifier.network.head.bias, float("nan"))
    parity = measure_parity(broken, 1)
    assert parity is not None and not parity.holds


def test_a_processor_that_says_one_thing_and_does_another_is_refused_at_loading(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = hf.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
                          image_size=32, patch_size=8, num_labels=3)  # fmt: skip
    hf.ViTForImageClassification(config).save_pretrained(tmp_path)
    # It cuts before it resizes, which its description doesn't say
    hf.PerceiverImageProcessor(size={"height": 32, "width": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        tmp_path
    )
    with pytest.raises(UserError, match="set teacher_preprocessing"):
        load_teacher(str(tmp_path), ["a", "b", "c"])
    by_hand = PreprocessingConfig(resize=(32, 32), mean=(0.5,), std=(0.5,))
    assert load_teacher(str(tmp_path), ["a", "b", "c"], preprocessing=by_hand).preprocess.resize == (32, 32)
