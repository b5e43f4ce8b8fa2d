"""A teacher and images that take no time."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from prismkd.classifiers import Classifier
from prismkd.config import DistillationConfig
from prismkd.distillation import TrainingSet

CONFIG = DistillationConfig(architecture="small-resnet-4", num_steps=300, batch_size=16, learning_rate=5e-3)
ALL = replace(
    CONFIG, hard_label_weight=0.3, feature_weight=0.5, mixup=0.2, cutmix=1.0, rand_augment=9, optimizer="sgd",
    learning_rate=0.02, mixed_precision="bf16", real_share=0.25,
)  # fmt: skip


class BrightSide(nn.Module):
    """A teacher that says whether the left or the right half is brighter."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 2, bias=False)
        self.head.weight.data = torch.tensor([[20.0, -20.0], [-20.0, 20.0]])

    def forward_features(self, images: Tensor) -> Tensor:
        return torch.stack([images[..., :16].mean((1, 2, 3)), images[..., 16:].mean((1, 2, 3))], dim=1)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        return features if pre_logits else self.head(features)

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))


class Breaking(nn.Module):
    """A student whose logits are not finite after ``num_calls``."""

    def __init__(self, num_calls: int) -> None:
        super().__init__()
        self.layer, self.calls, self.num_calls = nn.Linear(1024, 2), 0, num_calls

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(images.flatten(1)) * (torch.nan if self.calls > self.num_calls else 1.0)


def bright_side() -> Classifier:
    return Classifier(BrightSide(), {"num_classes": 2, "in_channels": 1}).requires_grad_(False)


def halves(count: int = 64, seed: int = 0) -> Tensor:
    """uint8 images of which the first half is brighter on the left, the others on the right."""
    x = torch.rand(count, 1, 32, 32, generator=torch.Generator().manual_seed(seed)) * 0.2
    x[: count // 2, ..., 2:14] += 0.6
    x[count // 2 :, ..., 18:30] += 0.6
    return x.mul(255).round().byte()


def sides(count: int = 64) -> Tensor:
    return (torch.arange(count) >= count // 2).long()


def mixture() -> TrainingSet:
    """Synthetic and real images with labels."""
    return TrainingSet(halves(), sides(), (halves(32, seed=1), sides(32)), real_share=0.25)


def ignore(count: int) -> None:
    pass
