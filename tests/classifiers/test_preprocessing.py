"""Preprocessing as tensors equals the libraries' own transforms of pictures, and has a gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.transforms.v2.functional import to_pil_image

from prismkd.classifiers.preprocessing import (
    Preprocessing,
    adjusted,
    from_config,
    from_timm,
    from_timm_data,
    from_torchvision,
    from_transformers,
    probe_images,
    to_config,
)
from prismkd.classifiers.timm_models import data_config, stock_transform
from prismkd.config import PreprocessingConfig
from prismkd.errors import UserError

SIZES = ((288, 352), (224, 224), (352, 240), (41, 50))
Case = tuple[nn.Module, Callable[[Any], Tensor], Preprocessing]


def of_timm(name: str) -> Case:
    network = timm.create_model(name, num_classes=10)
    stock = timm.data.create_transform(**timm.data.resolve_data_config(model=network))
    return network, stock, from_timm(network.pretrained_cfg)


def of_torchvision(name: str) -> Case:
    stock = models.get_model_weights(name).DEFAULT.transforms()
    return models.get_model(name, num_classes=10), stock, from_torchvision(stock)


def of_transformers(kind: str) -> Case:
    import transformers as hf

    tiny = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    stages = {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}
    configs, processors = {
        "vit": (hf.ViTConfig(**tiny), hf.ViTImageProcessor()),
        "deit": (hf.DeiTConfig(**tiny), hf.DeiTImageProcessor()),
        "convnext": (hf.ConvNextConfig(**stages), hf.ConvNextImageProcessor(size={"shortest_edge": 224})),
        "convnext-384": (hf.ConvNextConfig(**stages), hf.ConvNextImageProcessor()),
        "efficientnet": (hf.ViTConfig(image_size=346, **tiny), hf.EfficientNetImageProcessor(rescale_offset=True)),
        "levit": (hf.ViTConfig(**tiny), hf.LevitImageProcessor()),
        "resnet": (hf.ResNetConfig(embedding_size=8, **stages), hf.ConvNextImageProcessor(size={"shortest_edge": 224})),
    }[kind]
    vit = hf.ViTForImageClassification
    classes = {"vit": vit, "efficientnet": vit, "levit": vit, "deit": hf.DeiTForImageClassification,
               "resnet": hf.ResNetForImageClassification}  # fmt: skip
    network = classes.get(kind, hf.ConvNextForImageClassification)(configs)

    def stock(picture: Any) -> Tensor:
        return processors(images=picture, return_tensors="pt")["pixel_values"][0]

    return network, stock, from_transformers(processors.to_dict())


CASES = [
    (of_timm, "resnet18"),
    (of_timm, "vit_tiny_patch16_224"),
    (of_timm, "convnext_atto"),
    (of_timm, "efficientnet_lite0"),
    (of_timm, "mobilenetv3_small_050"),
    (of_torchvision, "resnet18"),
    (of_torchvision, "mobilenet_v3_small"),
    (of_torchvision, "efficientnet_b0"),
    (of_torchvision, "shufflenet_v2_x0_5"),
    *(
        (of_transformers, kind)
        for kind in ("vit", "deit", "convnext", "convnext-384", "resnet", "efficientnet", "levit")
    ),
]


@pytest.mark.parametrize(("make", "name"), CASES, ids=[f"{make.__name__[3:]}-{name}" for make, name in CASES])
@torch.no_grad()
def test_logits_equal_those_after_the_stock_transform(make: Callable[[str], Case], name: str) -> None:
    torch.manual_seed(0)
    network, stock, ours = make(name)
    network.eval()
    for size in SIZES:
        images = probe_images(2, size)
        theirs = torch.stack([stock(to_pil_image(image)) for image in images])
        ready = ours(images)
        assert ready.shape == theirs.shape
        found, expected = (getattr(out, "logits", out) for out in (network(ready), network(theirs)))
        assert (found - expected).abs().max() < 1e-3 * max(1, float(expected.std())), size  # efficientnet's are large


def timms_own() -> Iterator[tuple[str, Preprocessing, Callable[[Any], Tensor]]]:
    """Every way in which a model of timm's list wants its images, once."""
    names: dict[str, str] = {}
    for name in timm.list_pretrained():
        data = data_config(timm.models.get_pretrained_cfg(name).to_dict(), {}, name)
        names.setdefault(str(sorted(data.items())), name)
    for name in names.values():
        data = data_config(timm.models.get_pretrained_cfg(name).to_dict(), {}, name)
        if data["crop_mode"] != "border":
            yield name, from_timm_data(data), stock_transform(data)


def torchvisions_own() -> Iterator[tuple[str, Preprocessing, Callable[[Any], Tensor]]]:
    """The same for torchvision."""
    for name in models.list_models(module=models):
        for weights in models.get_model_weights(name):
            yield str(weights), from_torchvision(weights.transforms()), weights.transforms()


@pytest.mark.parametrize("library", [timms_own, torchvisions_own])
def test_what_every_model_of_a_list_sees_is_equal_but_for_rounding(library: Callable[[], Iterator[Any]]) -> None:
    images = probe_images(1, (150, 183))
    picture = to_pil_image(images[0])
    different, seen = [], set[Preprocessing]()
    for name, ours, stock in library():
        if ours in seen:
            continue
        seen.add(ours)
        found, expected = ours(images), stock(picture)[None]
        steps = 255 * ((found - expected) * torch.tensor(ours.std).view(1, -1, 1, 1)).abs()  # of 8 bits
        if steps.mean() > 0.05:
            different.append(f"{name}: {steps.mean():.2g}")
    assert len(seen) > 5 and not different


def test_the_gradient_passes_resize_rounding_and_crop() -> None:
    images = probe_images(1, (40, 52)).requires_grad_()
    Preprocessing(3, 24, (20, 20), "bicubic", (0.5,), (0.25,))(images).sum().backward()
    assert images.grad is not None
    assert images.grad[..., 18:22, 24:28].abs().min() > 0  # the middle
    assert images.grad[..., :2, :2].abs().max() == 0  # cut off


def test_images_of_the_right_size_are_only_normalized() -> None:
    images = torch.rand(2, 1, 32, 32)
    found = Preprocessing(1, (32, 32), None, "bilinear", (0.25,), (0.5,))(images)
    assert torch.equal(found, (images - 0.25) / 0.5)


def test_grey_and_color_become_each_other() -> None:
    grey = torch.rand(1, 1, 8, 8)
    color = Preprocessing(3)(grey)
    assert color.shape == (1, 3, 8, 8)
    assert torch.allclose(Preprocessing(1)(color), grey, atol=2e-4)  # the weights of the channels add up to .9999


@pytest.mark.parametrize("resize", [None, 256, (200, 100)])
def test_it_survives_the_configuration_file(resize: int | tuple[int, int] | None) -> None:
    wanted = Preprocessing(3, resize, (96, 96), "bicubic", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert from_config(to_config(wanted)) == wanted


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(UserError, match=r"expected interpolation .* got 'lanczos'"):
        Preprocessing(interpolation="lanczos")
    with pytest.raises(UserError, match="expected mean with a value for each of 3 channels, got 2"):
        Preprocessing(mean=(0.1, 0.2))
    with pytest.raises(UserError, match="got border; set teacher_preprocessing"):
        from_timm({"crop_mode": "border"})
    with pytest.raises(UserError, match="no square, got center for 64 x 96"):
        from_timm({"input_size": (3, 64, 96)})


SQUARE = {"height": 8, "width": 8}


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        ({"size": SQUARE, "do_pad": True}, "one that pads; set teacher_preprocessing"),
        ({"size": SQUARE, "do_flip_channel_order": True}, "one that swaps red and blue"),
        ({"size": {"longest_edge": 32}}, "got longest_edge; set teacher_preprocessing"),
        ({"size": {"shortest_edge": 32, "longest_edge": 64}}, "got shortest_edge and longest_edge"),
        ({"size": {"max_height": 32, "max_width": 32}}, "got max_height and max_width"),
        ({"size": SQUARE, "do_center_crop": True, "crop_size": {"longest_edge": 8}}, "got longest_edge"),
        ({"size": SQUARE, "resample": 1}, "got 'lanczos'"),
        ({"size": SQUARE, "resample": 9}, "got 'number 9'"),
    ],
)
def test_a_processor_that_does_what_is_not_known_is_refused(processor: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_transformers(processor)


def test_sizes_of_old_processors() -> None:
    assert from_transformers({"size": 32}).resize == (32, 32)
    cut = from_transformers({"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": {"shortest_edge": 32}})
    assert (cut.resize, cut.crop) == (40, (32, 32))
    assert from_transformers({"size": SQUARE, "image_mean": 0.5, "image_std": 0.25}).mean == (0.5,)


OWN = Preprocessing(3, 256, (224, 224), "bicubic", (0.5,), (0.25,))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (PreprocessingConfig(), OWN),
        (PreprocessingConfig(resize=(64, 48)), Preprocessing(3, (64, 48), None, "bicubic", (0.5,), (0.25,))),
        (PreprocessingConfig(resize=(232,)), Preprocessing(3, 232, (224, 224), "bicubic", (0.5,), (0.25,))),
        (PreprocessingConfig(resize=(73, 73), crop=(64,)),
         Preprocessing(3, (73, 73), (64, 64), "bicubic", (0.5,), (0.25,))),
        (PreprocessingConfig(interpolation="nearest", mean=(0.1, 0.2, 0.3), std=(1.0,)),
         Preprocessing(3, 256, (224, 224), "nearest", (0.1, 0.2, 0.3), (1.0,))),
    ],
)  # fmt: skip
def test_what_is_set_by_hand_takes_the_place_of_the_librarys(
    wanted: PreprocessingConfig, expected: Preprocessing
) -> None:
    assert adjusted(OWN, wanted) == expected


def test_a_crop_beyond_the_image_is_refused() -> None:
    for wanted in (PreprocessingConfig(resize=(64,)), PreprocessingConfig(crop=(300,))):
        with pytest.raises(UserError, match="expected a crop within what images are resized to"):
            adjusted(OWN, wanted)


def test_cropped_images_lose_no_margin() -> None:
    preprocess = Preprocessing(3, 256, (224, 224), "bicubic")
    views = torch.rand(2, 3, 224, 224)
    assert torch.equal(preprocess(views, cropped=True), views)
    assert not torch.equal(preprocess(views), views)
    assert preprocess(torch.rand(2, 3, 300, 300), cropped=True).shape == (2, 3, 224, 224)
    assert Preprocessing(3)(torch.rand(1, 3, 40, 48), cropped=True).shape == (1, 3, 40, 48)


@pytest.mark.parametrize(("mean", "std"), [((float("nan"),), (1.0,)), ((0.5,), (0.0,)), ((0.5,), (float("inf"),))])
def test_what_is_no_normalization_is_refused_in_python_too(mean: tuple[float], std: tuple[float]) -> None:
    with pytest.raises(UserError, match="expected finite mean and std, and no std of 0"):
        Preprocessing(mean=mean, std=std)
