"""Stored logits: what is kept of them, and that little is lost."""

import torch

from prismkd.distillation import TrainingSet
from prismkd.distillation.stored_logits import compress, store
from tests.distillation.worlds import bright_side, halves, sides


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


def logits_of(images: torch.Tensor) -> torch.Tensor:
    return bright_side()(images.float() / 255).half()


def test_logits_that_were_kept_with_the_images_are_not_asked_for_again() -> None:
    images, cpu = halves(30), torch.device("cpu")
    asked = store(bright_side(), TrainingSet(images), 10, cpu)

    def silent(views: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        raise AssertionError("the teacher is asked about images whose logits are known")

    known = store(silent, TrainingSet(images, logits=logits_of(images)), 10, cpu)
    assert torch.equal(known.values, asked.values)


def test_beside_kept_logits_the_teacher_is_asked_about_real_images_alone() -> None:
    images, real, numbers = halves(30), halves(8, seed=1), list[int]()

    def counting(views: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        numbers.append(len(views))
        return bright_side()(views)

    data = TrainingSet(images, sides(30), (real, sides(8)), 0.5, logits_of(images))
    parts = [store(counting, data, 10, torch.device("cpu"), (rank, 2)).values for rank in range(2)]
    assert numbers == [4, 4]
    assert torch.equal(torch.cat([parts[0], parts[1][30:]]), torch.cat([logits_of(images), logits_of(real)]))
