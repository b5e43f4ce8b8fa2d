"""Are synthetic images inside the distribution of the real ones, and do they cover it? Metrics of two sets of features.

Usage: python examples/compare_images.py

Features are whatever a network says of images, as numpy arrays or torch tensors of any device, one row per image.
Take a network that guided nothing: here the judge, on two halves of the embedded test set, as they are and blurred.
"""

import torch
from torch.nn.functional import avg_pool2d, interpolate

import prismkd
from prismkd import metrics


@torch.no_grad()
def main() -> None:
    """A real-against-real ceiling, and images that lost their detail."""
    world = prismkd.Session(prismkd.Config(classes="pictograms-24"))
    test, judge = world.test.domain("id"), world.judge
    real, held_out = test.images[::2], test.images[1::2]
    blurred = interpolate(avg_pool2d(held_out, 4), scale_factor=4.0)

    reference = judge.features(real)
    for name, images in (("real", held_out), ("blurred", blurred)):
        features = judge.features(images)
        found = metrics.prdc(reference, features, k=5)
        print(f"{name:>8}: precision {found.precision:.2f}, recall {found.recall:.2f}, density {found.density:.2f}, "
              f"coverage {found.coverage:.2f}, Frechet distance {metrics.frechet_distance(reference, features):.2f}, "
              f"kernel distance {metrics.kernel_distance(reference, features):.3f}, "
              f"Vendi score {metrics.vendi_score(features):.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
