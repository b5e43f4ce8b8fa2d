"""The same ledger on a disk, in memory, and on a server that speaks S3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.stand_in import OpenStandIns, prepared
from prismkd.errors import UserError
from prismkd.shards import Storage, discard_broken, inspect, read_samples, scan, verify


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """An S3 server on loopback."""
    pytest.importorskip("s3fs", reason="needs s3fs: pip install 'prismkd[s3]'")
    moto = pytest.importorskip("moto.server", reason="needs moto[server]")
    found = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    found.start()
    host, port = found.get_host_and_port()
    yield f"http://{host}:{port}"
    found.stop()


@pytest.fixture
def s3(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket on it."""
    import s3fs

    for name, value in {"AWS_ENDPOINT_URL": server, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y",
                        "AWS_DEFAULT_REGION": "us-east-1"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem(endpoint_url=server, key="x", secret="y")
    if not system.exists("bucket"):
        system.mkdir("bucket")
    return "s3://bucket"


@pytest.fixture(params=["disk", "file URL", "memory", "S3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "S3":
        return f"{request.getfixturevalue('s3')}/{tmp_path.name}/images"
    return {"disk": str(tmp_path), "file URL": f"file://{tmp_path}", "memory": f"memory://{tmp_path.name}/images"}[
        request.param
    ]


def test_a_data_set_is_drawn_damaged_and_repaired(folder: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    reference = tmp_path_factory.mktemp("reference")
    storage = Storage(folder)
    for target in (str(reference), folder):
        for shard in prepared(target, 20, 8):
            OpenStandIns(target)("cpu")(shard, lambda count: None)
    for name in ("shard-000000.tar", "shard-000002.tar"):
        assert storage.read(name) == (reference / name).read_bytes()
    assert verify(folder) == 20 and [sample.index for sample in read_samples(folder)] == list(range(20))

    storage.write("shard-000001.tar", storage.read("shard-000001.tar")[:-512])
    storage.remove("shard-000002.tar")
    findings = inspect(folder)[0]
    assert [(finding.kind, finding.shard) for finding in findings] == [("damaged", 1), ("damaged", 2)]
    discard_broken(folder, findings)
    assert sorted(scan(folder).records) == [0]
    unit = OpenStandIns(folder)("cpu")
    for shard in range(3):
        unit(shard, lambda count: None)
    assert verify(folder) == 20 and inspect(folder)[0] == []


def test_what_is_not_there_is_not_there(folder: str) -> None:
    storage = Storage(f"{folder}/nowhere")
    assert storage.sizes() == {} and storage.sizes("ledger") == {}
    assert not storage.exists("x") and storage.read_all([]) == {}
    storage.remove("x")
    with pytest.raises(FileNotFoundError):
        storage.read("x")
    storage.write("here", b"1")
    assert storage.read_all(["here", "removed since it was listed"]) == {"here": b"1"}


def test_a_failed_writer_leaves_nothing(folder: str) -> None:
    storage = Storage(f"{folder}/half")

    def fail() -> None:
        with storage.writing("x") as file:
            file.write(b"half")
            raise ValueError

    with pytest.raises(ValueError):
        fail()
    assert storage.sizes() == {}


def test_only_the_disks_own_errors_are_the_disks(tmp_path: Path) -> None:
    storage = Storage(tmp_path)

    def draw() -> None:
        with storage.writing("x") as file:
            file.write(b"half")
            raise OSError("the driver of the accelerator is gone")

    with pytest.raises(OSError, match="the driver"):
        draw()
    assert storage.sizes() == {}


def test_a_store_that_only_reads_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    with pytest.raises(UserError, match=r"expected http://.*/there/x to be usable, got: NotImplementedError"):
        Storage("http://127.0.0.1:9/there").write("x", b"")


def test_a_file_url_may_name_this_machine() -> None:
    assert Storage("file://localhost/there").local == Storage("file:///there").local == Path("/there")


def test_what_a_stores_client_says_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    exceptions = pytest.importorskip("botocore.exceptions")
    system = pytest.importorskip("fsspec.implementations.memory").MemoryFileSystem

    def refuse(*_: object, **__: object) -> None:
        raise exceptions.EndpointConnectionError(endpoint_url="http://gone")

    monkeypatch.setattr(system, "open", refuse)
    with pytest.raises(UserError, match=r"expected memory://there/x to be usable, got: Could not connect to the"):
        Storage("memory://there").write("x", b"")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://no-such-bucket/images", "expected s3://no-such-bucket/images"),
        ("gopher://x/y", "expected a folder or a URL that fsspec opens, got gopher://x/y"),
    ],
)
def test_a_store_that_is_not_there_is_one_line(s3: str, url: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        Storage(url).write("x", b"")
    assert "\n" not in str(error.value)
