"""Work that several processes share: each file is made once, and after those that it needs."""

import threading
from functools import partial
from pathlib import Path

from benchmarks.side_by_side import Task, work_through


def test_each_task_is_done_once_and_after_what_it_needs(tmp_path: Path) -> None:
    made, lock = list[str](), threading.Lock()

    def make(path: Path) -> None:
        with lock:
            made.append(path.name)
        path.write_text("")

    paths = [tmp_path / f"{number}.txt" for number in range(20)]
    # Each needs the one before it, and the last come first by their rank
    tasks = [Task(path, tuple(paths[at - 1 : at] if at % 5 else ()), -at, partial(make, path))
             for at, path in enumerate(paths)]  # fmt: skip
    workers = [threading.Thread(target=work_through, args=(tasks,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert sorted(made) == sorted(path.name for path in paths)
    order = [made.index(path.name) for path in paths]
    assert all(order[at] > order[at - 1] for at in range(20) if at % 5)


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    path = tmp_path / "there.txt"
    path.write_text("")
    work_through([Task(path, (), 0, lambda: 1 / 0)])
