from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codecprior.errors import StoreError
from codecprior.extraction.discover import discover
from codecprior.extraction.kept import bitstream_beside, exists, is_kept, keep, require_free
from codecprior.extraction.sequence import SequenceResult

Extract = Callable[..., SequenceResult]


def test_bitstreams_have_the_name_of_the_store() -> None:
    assert bitstream_beside("a/clip.zarr") == "a/clip.266"
    assert bitstream_beside("s3://bucket/clip.mp4.zarr", reverse=True) == "s3://bucket/clip.mp4.reverse.266"


def test_only_what_extraction_kept_is_no_input(extract_to: Extract, y4m: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    extract_to(y4m, made / "clip.zarr", directions="both")
    (made / "other.266").write_bytes((made / "clip.266").read_bytes())
    extract_to(made / "other.266", made / "other.zarr")
    assert is_kept(made / "clip.266")
    assert is_kept(made / "clip.reverse.266")
    assert not is_kept(made / "other.266")
    assert [sequence.path for sequence in discover(made)] == [made / "other.266"]


def test_a_bitstream_beside_a_damaged_store_is_no_input(tmp_path: Path) -> None:
    (tmp_path / "clip.zarr").mkdir()
    assert is_kept(tmp_path / "clip.266")
    assert not is_kept(tmp_path / "other.266")
    assert not is_kept(tmp_path / "clip.bit")


@pytest.mark.parametrize("place", ["{}/kept.266", "memory://kept/kept.266"])
def test_keeping_replaces_what_is_there_and_leaves_the_original(tmp_path: Path, place: str) -> None:
    path = place.format(tmp_path)
    for content in (b"one", b"two", b"two"):
        finished = tmp_path / "finished.266"
        finished.unlink(missing_ok=True)
        finished.write_bytes(content)
        keep(finished, path)
        assert finished.read_bytes() == content
    keep(finished, path)
    assert exists(path)
    with pytest.raises(StoreError, match=r"kept\.266: exists, but not the store"):
        require_free([path])


def test_a_bitstream_is_copied_where_links_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Any) -> None:
        raise PermissionError(1, "Operation not permitted")  # what exFAT says

    finished = tmp_path / "finished.266"
    finished.write_bytes(b"stream")
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    keep(finished, str(tmp_path / "kept.266"))
    assert (tmp_path / "kept.266").read_bytes() == b"stream"
    assert (tmp_path / "kept.266").stat().st_ino != finished.stat().st_ino
