from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codecprior.core.priors import FramePriors
from codecprior.errors import IncompleteStoreError, StoreNotFoundError
from codecprior.store import StoreWriter
from codecprior.store.verify import verify


def test_a_sound_store_has_no_problems(stored: Path) -> None:
    steps: list[tuple[int, int]] = []
    report = verify(stored, lambda done, total: steps.append((done, total)))
    assert report.ok
    assert report.num_frames == 37
    assert report.size_bytes == sum(path.stat().st_size for path in stored.rglob("*") if path.is_file())
    assert [done for done, _ in steps] == list(range(1, steps[0][1] + 1))


def test_every_flipped_bit_is_found(stored: Path) -> None:
    for path in sorted(path for path in stored.rglob("*") if path.is_file()):
        original = path.read_bytes()
        damaged = bytearray(original)
        damaged[len(damaged) // 2] ^= 1
        path.write_bytes(damaged)
        try:
            report = verify(stored)
        except (StoreNotFoundError, IncompleteStoreError):
            report = None
        assert report is None or not report.ok, path
        path.write_bytes(original)


def test_missing_and_unlisted_files_are_named(stored: Path) -> None:
    (stored / "qp" / "c.2.0.0").unlink()
    (stored / "notes.txt").write_text("x")
    problems = verify(stored).problems
    assert "qp/c.2.0.0: missing" in problems
    assert "notes.txt: not in checksums.sha256" in problems


def test_damage_that_keeps_the_digests_is_found_in_the_chunks(stored: Path) -> None:
    path = stored / "residual_y" / "c.1.0.0"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    damaged = bytearray(path.read_bytes())
    damaged[50] ^= 1
    path.write_bytes(damaged)
    sums = stored / "checksums.sha256"
    sums.write_text(sums.read_text().replace(before, hashlib.sha256(damaged).hexdigest()))
    (problem,) = verify(stored).problems
    assert "residual_y" in problem
    assert "damaged" in problem


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("mv_l0", 5, "mv_l0 is not 0 where the list is unused"),
        ("ref_poc_delta_l1", -1, "ref_poc_delta_l1 is set outside inter blocks"),
        ("pred_mode", 9, "values that no mode has"),
        ("pred_mode", 255, "disagree on whether there are priors"),
        ("frame_y", 1024, "frame_y exceeds 10 bit"),
    ],
)
def test_values_that_contradict_each_other_are_found(
    tmp_path: Path, make: Any, name: str, value: int, reason: str
) -> None:
    stream = make.stream(bit_depth=10)
    frame = make.frame(stream, 0, with_frames=True)
    with StoreWriter(tmp_path / "clip.zarr", digest="x", with_frames=True) as writer:
        writer.begin(stream).append(FramePriors(**{**vars(frame), name: np.full_like(frame.require(name), value)}))
        writer.finish()
    assert any(reason in problem for problem in verify(tmp_path / "clip.zarr").problems)


def test_nothing_to_verify_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError):
        verify(tmp_path / "clip.zarr")
