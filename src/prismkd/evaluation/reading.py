"""Every network sees image files as its own library would read them."""

from __future__ import annotations

from torch import nn

from prismkd.classifiers import Classifier, Ensemble
from prismkd.classifiers.preprocessing import to_config
from prismkd.data import Geometry, LabeledImages


def geometry_of(network: nn.Module | None) -> Geometry | None:
    """How a network's own library resizes and cuts; None: images are taken as they are.

    Of several classifiers it is the one that all of them have.
    """
    if isinstance(network, Ensemble):
        geometries = {geometry_of(member) for member in network.members}
        return geometries.pop() if len(geometries) == 1 else None
    return Geometry.from_config(to_config(network.preprocess)) if isinstance(network, Classifier) else None


def read_for(network: nn.Module, images: LabeledImages, otherwise: nn.Module | None = None) -> LabeledImages:
    """The images in a network's own geometry, and gray where it takes gray ones.

    Args:
        network: any; of a module that is no ``Classifier`` the geometry isn't known.
        images: files, in whatever form.
        otherwise: the network whose geometry serves where ``network`` has none, as a student's teacher.
    """
    mode = "L" if isinstance(network, Classifier) and network.in_channels == 1 else None
    return images.seen_in(geometry_of(network) or geometry_of(otherwise), mode)


def is_cropped(network: nn.Module, images: object) -> bool:
    """Whether images that were read for a network have been resized and cut by its own rule already."""
    return isinstance(images, LabeledImages) and images.form.geometry is not None and isinstance(network, Classifier)
