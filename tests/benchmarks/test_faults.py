"""Commands that end before any one of their file-system events go on to the same bytes; and what counts the events."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.faults.events import KilledError, Watch, end, refuse, watching
from benchmarks.faults.folders import compared, contents
from benchmarks.stand_in import CLASSES, OpenStandIns, prepared
from prismkd.errors import UserError
from prismkd.files.write import write
from prismkd.shards import Storage
from prismkd.shards.export import export, merge
from tests.delivery.small_run import make_run

Act = Callable[[Path], object]


def nothing(count: int) -> None:
    """In place of progress."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small data sets beside each other."""
    folder = tmp_path_factory.mktemp("images")
    for name in ("one", "two"):
        for shard in prepared(str(folder / name), 3, 2):
            OpenStandIns(str(folder / name))("cpu")(shard, nothing)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with students, and the same under another name."""
    folder = make_run(tmp_path_factory.mktemp("student") / "run", list(CLASSES), seeds=(0,))
    return shutil.copytree(folder, folder.with_name("other"))


def events_of(act: Act, folder: Path) -> list[tuple[str, str]]:
    """What a command does to the file system, undisturbed."""
    with watching(Watch(folder)) as watch:
        act(folder)
    return [(kind, path.removeprefix(f"{folder}/")) for kind, path in watch.seen]


def test_the_events_of_a_file_that_is_written_are_seen_in_their_order(tmp_path: Path) -> None:
    seen = events_of(lambda folder: write(folder / "new" / "file", "text"), tmp_path)
    made, opened, renamed = (event for event in seen if event[0] != "fsync")
    assert made == ("mkdir", "new")
    assert (opened[0], renamed[0]) == ("open", "rename") and opened[1] == renamed[1] != "new/file"
    assert seen[seen.index(opened) : seen.index(renamed)] == [opened, ("fsync", opened[1])]


def test_only_changes_of_the_watched_folder_are_events(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "old").write_text("text")
    with watching(Watch(tmp_path / "inside")) as watch:
        (tmp_path / "outside").write_text("text")
        (tmp_path / "inside-too").mkdir()
        (tmp_path / "inside" / "old").read_text()
        shutil.rmtree(tmp_path / "inside")
    assert [kind for kind, _ in watch.seen] == ["unlink", "rmdir"]
    (tmp_path / "after").mkdir()
    assert len(watch.seen) == 2


def test_what_is_killed_cleans_nothing_up(tmp_path: Path) -> None:
    at = [kind for kind, _ in events_of(lambda folder: write(folder / "file", "text"), tmp_path)].index("rename")
    (tmp_path / "file").write_text("old")
    with watching(Watch(tmp_path, at, end)), pytest.raises(KilledError):
        write(tmp_path / "file", "new")
    assert len(list(tmp_path.iterdir())) == 2 and (tmp_path / "file").read_text() == "old"


def test_a_full_disk_takes_nothing_new_but_gives_room(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("text")
    with watching(Watch(tmp_path, at=0, act=refuse)):
        for act in (lambda: (tmp_path / "file").write_text(""), lambda: (tmp_path / "folder").mkdir()):
            with pytest.raises(OSError, match="No space left"):
                act()
        (tmp_path / "old").unlink()
    assert not list(tmp_path.iterdir())


def test_only_times_may_differ(tmp_path: Path) -> None:
    for name, seconds, value in (("a", 1, 2), ("b", 3, 2), ("c", 1, 4)):
        write(tmp_path / name / "log.json", json.dumps({"rows": [{"seconds": seconds, "value": value}]}))
    first, second, third = (contents(tmp_path / name) for name in "abc")
    assert first == second != third
    assert compared({"a": "1", "b": "2"}, {"a": "0", "c": "1"}) == (["a", "c"], ["b"])


def commands(images: Path, run: Path) -> dict[str, Act]:
    """Cheap commands; each gets the folder that it may write in."""
    from prismkd.delivery.export_student import export_student
    from prismkd.progress import silent
    from prismkd.report import write_comparison

    source = Storage(images / "one")
    made: dict[str, Act] = {
        layout: lambda folder, layout=layout: export(source, layout, Storage(folder / "exported"), nothing)
        for layout in ("imagefolder", "hf", "webdataset")
    }
    made["merge"] = lambda folder: merge([source, Storage(images / "two")], Storage(folder / "merged"), nothing)
    made["student"] = lambda folder: export_student(run, "prism", 0, "safetensors", folder / "student", silent)
    made["page"] = lambda folder: write_comparison([run.with_name("run"), run], folder / "page.html")
    return made


@pytest.mark.parametrize("name", ["imagefolder", "hf", "webdataset", "merge", "student", "page"])
def test_whatever_stops_a_command_at_any_event_the_same_command_goes_on_to_the_same_bytes(
    name: str, images: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", lambda file: None)  # an event still, but the disk isn't waited for
    act = commands(images, run)[name]
    (tmp_path / "whole").mkdir()
    count = len(events_of(act, tmp_path / "whole"))
    expected = contents(tmp_path / "whole")
    assert count > 3 and expected
    for number in range(count):
        for how, stops in ((end, KilledError), (refuse, UserError)):
            folder = tmp_path / f"{number}-{how.__name__}"
            folder.mkdir()
            with watching(Watch(folder, number, how)), suppress(stops):
                act(folder)
            if contents(folder) != expected:  # else it was complete, and a complete export is not written to
                act(folder)
            assert compared(contents(folder), expected) == ([], []), (number, how)
            shutil.rmtree(folder)
