"""The ledger under any sequence of writes, kills, damage and repairs: at the end the bytes of an undisturbed write."""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from benchmarks.stand_in import OpenStandIns, prepared
from prismkd.errors import UserError
from prismkd.shards import Storage, discard_broken, drop_shard, inspect, read_samples, scan, verify
from prismkd.shards.ledger import record_name, tar_name

NUM_IMAGES, SHARD_SIZE = 8, 3  # in shards of 3, 3 and 2
SHARDS = st.integers(0, 2)
PLACES = st.integers(0, 99)  # in percent of a file


class Ledger(RuleBasedStateMachine):
    """A folder to which everything happens that does, beside one to which nothing does."""

    @initialize()
    def begin(self) -> None:
        self.top = Path(tempfile.mkdtemp())
        self.folder, undisturbed = self.top / "disturbed", self.top / "undisturbed"
        self.killed: list[AbstractContextManager[Any]] = []  # kept, so that nobody cleans up behind them
        self.records: dict[int, list[Any]] = {shard: [] for shard in range(3)}  # as they were written
        for folder in (self.folder, undisturbed):
            prepared(str(folder), NUM_IMAGES, SHARD_SIZE)
        self.draw = OpenStandIns(str(self.folder))("cpu")
        for shard in range(3):
            OpenStandIns(str(undisturbed))("cpu")(shard, lambda count: None)
        self.tars = {tar_name(shard): (undisturbed / tar_name(shard)).read_bytes() for shard in range(3)}
        self.counts = {shard: record.count for shard, record in scan(undisturbed).records.items()}
        for shard in range(3):
            self.write(shard)

    # --- what happens --------------------------------------------------------------------------------------------

    @rule(shard=SHARDS)
    def write(self, shard: int) -> None:
        """A shard whose files have the right sizes stays; any other is written again."""
        stays = shard in scan(self.folder).records
        self.draw(shard, lambda count: None)
        assert shard in scan(self.folder).records
        assert stays or not list(self.folder.rglob(f".prismkd-*{shard:06d}*.tmp"))
        self.records[shard].append(json.loads((self.folder / record_name(shard)).read_bytes()))

    @rule(shard=SHARDS, percent=PLACES)
    def kill_a_writer_of_the_images(self, shard: int, percent: int) -> None:
        drop_shard(self.folder, shard)
        self.abandon(tar_name(shard), self.tars[tar_name(shard)], percent)

    @rule(shard=SHARDS, percent=PLACES)
    def kill_a_writer_of_the_record(self, shard: int, percent: int) -> None:
        drop_shard(self.folder, shard)
        self.write(shard)
        record = (self.folder / record_name(shard)).read_bytes()
        (self.folder / record_name(shard)).unlink()
        self.abandon(record_name(shard), record, percent)

    def abandon(self, name: str, contents: bytes, percent: int) -> None:
        """Stop in the middle of writing a file, as a killed process does: what it has begun stays."""
        writing = Storage(self.folder).writing(name)
        file = writing.__enter__()
        file.write(contents[: percent * len(contents) // 100])
        file.flush()
        self.killed.append(writing)

    @rule(name=st.sampled_from([tar_name, record_name]), shard=SHARDS, percent=PLACES, bit=st.integers(0, 7))
    def flip_a_bit(self, name: Any, shard: int, percent: int, bit: int) -> None:
        path = self.folder / name(shard)
        if path.is_file() and path.stat().st_size:
            contents = bytearray(path.read_bytes())
            contents[percent * len(contents) // 100] ^= 1 << bit
            path.write_bytes(contents)

    @rule(shard=SHARDS, field=st.sampled_from(["count", "bytes", "seconds", "shard"]))
    def change_a_number_in_the_record(self, shard: int, field: str) -> None:
        path = self.folder / record_name(shard)
        with suppress(OSError, ValueError, KeyError, TypeError):  # there is none, or it is damaged already
            record = json.loads(path.read_bytes())
            path.write_text(json.dumps({**record, field: record[field] + 1}))

    @rule(name=st.sampled_from([tar_name, record_name]), shard=SHARDS, percent=PLACES)
    def truncate(self, name: Any, shard: int, percent: int) -> None:
        path = self.folder / name(shard)
        if path.is_file():
            path.write_bytes(path.read_bytes()[: percent * path.stat().st_size // 100])

    @rule(name=st.sampled_from([tar_name, record_name]), shard=SHARDS)
    def delete(self, name: Any, shard: int) -> None:
        (self.folder / name(shard)).unlink(missing_ok=True)

    @rule(shards=st.permutations(range(3)))
    def mistake_a_shard_for_another(self, shards: list[int]) -> None:
        for name in (tar_name, record_name):
            if (self.folder / name(shards[0])).is_file():
                shutil.copy(self.folder / name(shards[0]), self.folder / name(shards[1]))

    @rule()
    def repair(self) -> None:
        discard_broken(self.folder, inspect(self.folder)[0])
        for shard in range(3):
            self.write(shard)
        assert inspect(self.folder) == ([], NUM_IMAGES) and verify(self.folder) == NUM_IMAGES
        assert {path.name: path.read_bytes() for path in self.folder.glob("*.tar")} == self.tars
        assert [sample.index for sample in read_samples(self.folder)] == list(range(NUM_IMAGES))
        assert not list(self.folder.rglob(".prismkd-*.tmp"))

    # --- what holds at every moment ------------------------------------------------------------------------------

    @invariant()
    def damage_is_found_and_nothing_else_is_called_damaged(self) -> None:
        good = {shard for shard in range(3) if self.is_good(shard)}
        findings, num_whole = inspect(self.folder)
        assert num_whole == sum(self.counts[shard] for shard in good)
        assert {finding.shard for finding in findings} - {None} == {0, 1, 2} - good
        for shard in scan(self.folder).records:  # which reads no images: what it counts has the right size at least
            assert (self.folder / tar_name(shard)).stat().st_size == len(self.tars[tar_name(shard)])
        try:
            verify(self.folder)
        except UserError:
            return
        assert set(scan(self.folder).records) == good

    def is_good(self, shard: int) -> bool:
        """By the files themselves: the images of an undisturbed write, and a record as it was written of them."""
        try:
            record = json.loads((self.folder / record_name(shard)).read_bytes())
            images = (self.folder / tar_name(shard)).read_bytes()
        except (OSError, ValueError):
            return False
        return images == self.tars[tar_name(shard)] and record in self.records[shard]

    def teardown(self) -> None:
        self.repair()
        shutil.rmtree(self.top)


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=40, stateful_step_count=12)
