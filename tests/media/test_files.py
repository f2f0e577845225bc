from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecprior.errors import ConfigError, MediaError
from codecprior.media.files import EXTENSIONS, kind_of, natural_key, sha256_file, written_whole


def test_numbers_in_names_sort_by_value() -> None:
    names = ["b_1", "a_10", "a_9", "a", "a_09x", "10", "9"]
    assert sorted(names, key=natural_key) == ["9", "10", "a", "a_9", "a_09x", "a_10", "b_1"]


@given(st.text(max_size=6), st.text(max_size=6))
def test_natural_order_tells_any_two_names_apart(first: str, second: str) -> None:
    assert (natural_key(first) == natural_key(second)) == (first == second)
    assert (natural_key(first) < natural_key(second)) + (natural_key(second) < natural_key(first)) == (first != second)


def test_extensions_are_recognised_in_any_case() -> None:
    assert kind_of(Path("a/B.MP4")) == "video"
    assert kind_of(Path("x.266")) == "bitstream"
    assert kind_of(Path("notes.txt")) is None


def test_no_extension_promises_two_kinds() -> None:
    every = [extension for extensions in EXTENSIONS.values() for extension in extensions]
    assert len(every) == len(set(every))


def test_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc" * 1_000_000)
    assert sha256_file(tmp_path / "x") == hashlib.sha256(b"abc" * 1_000_000).hexdigest()


def test_digest_of_a_missing_file_is_a_media_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="gone: cannot be read"):
        sha256_file(tmp_path / "gone")


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt(), ConfigError("bad")])
def test_a_file_that_is_cut_off_does_not_appear_and_an_old_one_stays(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"old")
    with pytest.raises(type(error)), written_whole(path) as partial:  # noqa: PT012 - the block must begin to write
        partial.write_bytes(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["clip.mp4"]
