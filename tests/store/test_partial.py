from __future__ import annotations

from pathlib import Path
from typing import Any

from codecprior.store import StoreWriter, sweep
from codecprior.store.partial import partial_path


def leave_partial(path: Path, make: Any, **options: Any) -> Path:
    with StoreWriter(path, digest="x", **options) as writer:
        make.append(writer.begin(make.stream()), make.stream(), range(16))
    partial = partial_path(path)
    assert partial.exists()
    return partial


def test_sweep_removes_temporaries_of_finished_stores_only(stored: Path, make: Any) -> None:
    stale = leave_partial(stored, make, overwrite=True)
    resumable = leave_partial(stored.with_name("other.zarr"), make)
    assert sweep(stored.parent) == [stale]
    assert not stale.exists()
    assert sweep(stored.parent, keep_resumable=False) == [resumable]
    assert not resumable.exists()


def test_sweep_leaves_what_is_being_written(tmp_path: Path, make: Any) -> None:
    with StoreWriter(tmp_path / "clip.zarr", digest="x") as writer:
        make.append(writer.begin(make.stream()), make.stream(), range(1))
        assert sweep(tmp_path, keep_resumable=False) == []
        writer.finish()
    assert (tmp_path / "clip.zarr").exists()


def test_sweep_never_removes_the_only_copy_of_a_store(stored: Path, make: Any) -> None:
    partial = leave_partial(stored, make, overwrite=True)
    stored.rename(partial / "replaced")
    assert sweep(stored.parent, keep_resumable=False) == []
    assert (partial / "replaced").exists()
