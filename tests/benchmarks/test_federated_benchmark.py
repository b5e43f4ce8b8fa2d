"""Who owns which icons and knows which classes in the federated benchmark."""

from collections import Counter

import pyarrow.parquet as pq
import torch

from benchmarks.federated import NAMES, NUM_CLASSES, NUM_KNOWN, TEACHERS, icons, known_classes, owners
from prismkd.assets import asset
from prismkd.classes import load_classes
from prismkd.classifiers.networks import new_network


def test_icons_are_those_of_the_subset_with_their_families() -> None:
    real, families = icons()
    table, every = pq.read_table(asset("real.parquet")).to_pydict(), [item.name for item in load_classes("pictograms")]
    rows = [row for row in zip(table["label"], table["family"], strict=True) if every[row[0]] in NAMES]
    assert [(NAMES[label], family) for label, family in zip(real.labels.tolist(), families, strict=True)] == [
        (every[label], family) for label, family in rows
    ]
    assert len(real) == len(families) and real.images.shape[1:] == (3, 64, 64)


def test_families_have_one_owner_each_and_owners_about_as_many_icons() -> None:
    families = [f"family {size}" for size in (40, 20, 15, 9, 8, 5, 3) for _ in range(size)]
    owner = owners(families)
    assert set(owner) == set(families)
    assert sorted(Counter(owner[family] for family in families).values()) == [12, 13, 15, 20, 40]


def test_every_class_is_known_by_two_or_three() -> None:
    for seed in range(5):
        known = known_classes(seed)
        assert all(len(set(classes)) == NUM_KNOWN for classes in known)
        count = Counter(label for classes in known for label in classes)
        assert set(count) == set(range(NUM_CLASSES)) and set(count.values()) <= {2, 3}


def test_every_teacher_takes_its_images() -> None:
    for config in TEACHERS:
        network = new_network(config["architecture"], NUM_KNOWN, 3, **config.get("arguments", {})).eval()
        side = config.get("input_size", 64)
        assert network(torch.zeros(2, 3, side, side)).shape == (2, NUM_KNOWN)
