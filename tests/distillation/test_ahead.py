"""Batches made ahead by a thread: all of them, in order, and their errors."""

import threading
from collections.abc import Iterator

import pytest
import torch

from prismkd.distillation.ahead import ahead, on_device


def test_items_come_in_order_from_another_thread() -> None:
    threads = set[int]()

    def items() -> Iterator[int]:
        for number in range(20):
            threads.add(threading.get_ident())
            yield number

    assert list(ahead(items(), 3)) == list(range(20))
    assert len(threads) == 1 and threading.get_ident() not in threads
    assert list(ahead([1], 3)) == [1] and list(ahead([], 3)) == []


def test_no_more_are_made_than_asked_for_and_few_ahead() -> None:
    made = list[int]()

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    running = ahead(items(), 3)
    assert [next(running), next(running)] == [0, 1]
    running.close()
    assert len(made) <= 6


def test_an_error_comes_where_its_item_would_have_come() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("second")

    running = ahead(items(), 3)
    assert next(running) == 1
    with pytest.raises(ValueError, match="second"):
        next(running)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_arrive_whole_on_a_gpu() -> None:
    batches = [torch.full((64, 3, 128, 128), number, dtype=torch.uint8) for number in range(40)]
    for number, batch in enumerate(on_device(batches, torch.device("cuda"))):
        assert batch.is_cuda and (batch == number).all()
