"""Stored logits: what is kept of them, and that little is lost."""

import torch

from prismkd.distillation import TrainingSet
from prismkd.distillation.stored_logits import compress, store
from tests.distillation.worlds import bright_side, halves


def test_all_classes_are_kept_where_there_are_few() -> None:
    logits = torch.randn(5, 10, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(compress(logits, 10)[torch.arange(5)], logits, atol=2e-3)


def test_the_largest_keep_their_probabilities_and_the_others_share_the_rest() -> None:
    logits = 3 * torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    places = torch.tensor([2, 0])
    found, wanted = compress(logits, 8)[places].softmax(1), logits[places].softmax(1)
    top = wanted.topk(8).indices
    assert torch.allclose(found.gather(1, top), wanted.gather(1, top), rtol=5e-3)
    others = found.scatter(1, top, -1.0)
    for row in others:
        rest = row[row >= 0]
        assert len(rest) == 42
        assert torch.allclose(rest, rest[0].expand(42), rtol=1e-4)


def test_the_parts_of_several_processes_are_the_whole() -> None:
    data, teacher, cpu = TrainingSet(halves(30)), bright_side(), torch.device("cpu")
    whole = store(teacher, data, 10, cpu).values
    parts = [store(teacher, data, 10, cpu, (rank, 4)).values for rank in range(4)]
    assert all(len(part) == 8 for part in parts)
    assert torch.equal(torch.cat(parts)[:30], whole)
    assert torch.equal(whole, teacher(halves(30).float() / 255).half())
