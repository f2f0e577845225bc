from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from codecprior.errors import CorruptStoreError, StoreError, StoreNotFoundError
from codecprior.store import StoreWriter, is_complete, open_store
from codecprior.store.location import is_url, publish
from codecprior.store.verify import verify


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryFileSystem]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fs = fsspec.filesystem("memory")
    yield fs
    if fs.exists("/bucket"):
        fs.rm("/bucket", recursive=True)


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    pytest.importorskip("s3fs")
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name, value in (
        ("AWS_ENDPOINT_URL", s3_endpoint),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    fs = fsspec.filesystem("s3", skip_instance_cache=True)
    fs.mkdirs("bucket", exist_ok=True)
    return fs


needs_zarr = pytest.mark.skipif(
    importlib.util.find_spec("zarr") is None, reason="reading URLs needs zarr 3, which needs Python 3.11"
)


def test_urls_and_paths_are_told_apart() -> None:
    assert is_url("s3://bucket/clip.zarr")
    assert is_url("memory://clip.zarr")
    assert not is_url("/data/clip.zarr")
    assert not is_url(Path("clip.zarr"))
    assert not is_url("file:///data/clip.zarr")


@needs_zarr
def test_a_store_goes_to_a_url_and_comes_back(memory: MemoryFileSystem, tmp_path: Path, make: Any) -> None:
    url = "memory://bucket/clip.zarr"
    make.write(url, make.stream(136, 72), 37, reverse=True)
    assert is_complete(url)
    store = open_store(url)
    for frame in store[::9]:
        make.assert_same_frame(frame, make.frame(make.stream(136, 72), frame.frame_index))
    make.assert_same_frame(store.crop(8, 16, 32, 32)[3], store[3].crop(8, 16, 32, 32))
    assert store.reverse is not None
    assert store.info()["stored_bytes"] > 0
    assert verify(url).ok
    assert not list(tmp_path.glob("codecprior-*/*"))


def test_nothing_at_a_url_is_not_found(memory: MemoryFileSystem) -> None:
    assert not is_complete("memory://bucket/none.zarr")
    with pytest.raises(StoreNotFoundError):
        open_store("memory://bucket/none.zarr")


def test_an_unknown_protocol_is_one_clear_error() -> None:
    with pytest.raises(StoreError, match="nonsense"):
        open_store("nonsense://bucket/clip.zarr")


def test_a_finished_store_at_a_url_is_not_written_over(memory: MemoryFileSystem, make: Any) -> None:
    url = "memory://bucket/clip.zarr"
    make.write(url, make.stream(), 37)
    with pytest.raises(StoreError, match="a finished store exists"):
        make.write(url, make.stream(), 3)
    make.write(url, make.stream(), 3, overwrite=True)
    present = {name.removeprefix("/bucket/clip.zarr/") for name in memory.find("/bucket/clip.zarr")}
    assert "residual_y/c.0.0.0" in present
    assert "residual_y/c.1.0.0" not in present
    assert is_complete(url)


@pytest.mark.parametrize("replacing", [False, True])
def test_an_interrupted_upload_never_looks_complete(
    memory: MemoryFileSystem, stored: Path, make: Any, monkeypatch: pytest.MonkeyPatch, replacing: bool
) -> None:
    url = "memory://bucket/clip.zarr"
    if replacing:
        make.write(url, make.stream(), 40)
    whole_put = MemoryFileSystem.put_file
    files = len(make.file_bytes(stored))
    for allowed in range(0, files, 5):
        uploaded = 0

        def failing_put(*args: Any, limit: int = allowed, **kwargs: Any) -> None:
            nonlocal uploaded
            if uploaded == limit:
                raise ConnectionError("the line is dead")
            uploaded += 1
            whole_put(*args, **kwargs)

        monkeypatch.setattr(MemoryFileSystem, "put_file", failing_put)
        with pytest.raises(StoreError, match=r"upload failed \(the line is dead\)"):
            publish(stored, url, overwrite=True)
        assert not is_complete(url)
    monkeypatch.setattr(MemoryFileSystem, "put_file", whole_put)
    publish(stored, url)
    assert is_complete(url)


def test_a_failed_upload_is_resumed_without_writing_shards_again(
    memory: MemoryFileSystem, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "memory://bucket/clip.zarr"

    def failing_put(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("the line is dead")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "put_file", failing_put)
        with pytest.raises(StoreError, match="run the same command again"):
            make.write(url, make.stream(), 37)
    with StoreWriter(url, digest="made up") as writer:
        assert writer.begin(make.stream()).frames_done == 37
    make.write(url, make.stream(), 37)
    assert is_complete(url)


def test_an_unfinished_store_is_not_uploaded(memory: MemoryFileSystem, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a finished store"):
        publish(tmp_path, "memory://bucket/clip.zarr")


@needs_zarr
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # aiohttp's, at the end of the session
def test_a_store_goes_to_s3_and_comes_back(s3: Any, make: Any) -> None:
    url = "s3://bucket/clip.zarr"
    make.write(url, make.stream(), 19)
    assert is_complete(url)
    for frame in open_store(url):
        make.assert_same_frame(frame, make.frame(make.stream(), frame.frame_index))
    assert verify(url).ok
    s3.rm_file("bucket/clip.zarr/residual_y/c.1.0.0")
    assert "residual_y/c.1.0.0: missing" in verify(url).problems
    with pytest.raises(CorruptStoreError, match="is missing"):
        open_store(url)[0]
