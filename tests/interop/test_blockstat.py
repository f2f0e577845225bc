"""The text must mean to YUView what the frames mean.

``YUView`` below re-states, in Python, the regular expressions and rules of ``StatisticsFileVTMBMS.cpp`` in IENT/YUView
at commit 039aaac9e265e7ddb480a2fd13f5d566dfe101a7, as read there: the header ends at the first line without ``#``; a
POC is the frame number; loading a frame starts where its POC was seen last after another one and ends at the next POC;
lines of a type are found by `` <name>=``.
"""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecprior.core.arrays import REF_NONE, CodingFlag, PredMode
from codecprior.errors import ConfigError
from codecprior.interop.blockstat import export_blockstat


class YUView:
    size_regex = re.compile(r"# Sequence size: \[([0-9]+)x *([0-9]+)\]")
    type_regex = re.compile(r"# Block Statistic Type: *([0-9a-zA-Z_]+); *([0-9a-zA-Z]+); *(.*)")
    scale_regex = re.compile(r"Scale: *([0-9]+)")
    range_regex = re.compile(r"\[([0-9\-]+), *([0-9\-]+)\]")
    poc_regex = re.compile(r"BlockStat: POC ([0-9]+)")
    scalar_regex = re.compile(r"POC ([0-9]+) @\( *([0-9]+), *([0-9]+)\) *\[ *([0-9]+)x *([0-9]+)\] *\w+=([0-9\-]+)")
    vector_regex = re.compile(
        r"POC ([0-9]+) @\( *([0-9]+), *([0-9]+)\) *\[ *([0-9]+)x *([0-9]+)\] *\w+={ *([0-9\-]+), *([0-9\-]+)}"
    )

    def __init__(self, path: Path) -> None:
        text = path.read_text()
        self.lines = text.split("\n")[:-1]  # a last line without line feed is never parsed
        self.size, self.types = None, {}
        for line in self.lines:
            if line[0] != "#":
                break
            if match := self.size_regex.search(line):
                self.size = int(match[1]), int(match[2])
            if match := self.type_regex.search(line):
                scale = self.scale_regex.search(match[3]) if "Vector" in match[2] else None
                value_range = self.range_regex.search(match[3]) if "Integer" in match[2] else None
                self.types[match[1]] = {
                    "kind": match[2],
                    "scale": int(scale[1]) if scale else 1,
                    "range": (int(value_range[1]), int(value_range[2])) if value_range else None,
                }
        self.starts, last = {}, -1
        for number, line in enumerate(self.lines):
            match = self.poc_regex.search(line)
            if match and int(match[1]) != last:
                last = int(match[1])
                self.starts[last] = number

    def load(self, frame: int, name: str) -> list[tuple[int, ...]]:
        """Blocks of one statistic in one frame: x, y, width, height, value(s)."""
        if frame not in self.starts:
            return []
        found = []
        regex = self.vector_regex if "Vector" in self.types[name]["kind"] else self.scalar_regex
        for line in self.lines[self.starts[frame] :]:
            poc = self.poc_regex.search(line)
            if poc is None:
                continue
            if int(poc[1]) != frame:
                break
            if f" {name}=" in line:
                match = regex.search(line)
                assert match is not None, line
                found.append(tuple(int(group) for group in match.groups()[1:]))
        return found


def paint(blocks, shape, fill):
    """Paint blocks given in samples onto a map with one value per sample."""
    values = np.full(shape, fill, np.int64)
    for x, y, width, height, *value in blocks:
        assert x + width <= shape[1]
        assert y + height <= shape[0]
        assert (values[y : y + height, x : x + width] == fill).all(), "blocks overlap"
        values[y : y + height, x : x + width] = value
    return values


def write(tmp_path, frames, **options):
    path = tmp_path / "clip.vtmbmsstats"
    return export_blockstat(frames, path, **options), path


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), window=st.sampled_from([(0, 0, 0, 0), (0, 0, 0, 8), (2, 6, 4, 2)]))
def test_yuview_sees_every_map_exactly(make_clip, visible_part, tmp_path_factory, seed, window):
    clip = make_clip(3, seed=seed, conformance_window=window)
    _, path = write(tmp_path_factory.mktemp("blockstat"), clip, overwrite=True)
    yuview = YUView(path)
    for coded in clip:
        frame = visible_part(coded)
        shape = frame.box.height, frame.box.width
        scalars = {"PredMode": frame.pred_mode, "QP": frame.qp}
        for name, values in scalars.items():
            assert np.array_equal(paint(yuview.load(frame.frame_index, name), shape, 999), frame.expand(values))
        for name, bit in {"SkipFlag": 1, "MergeFlag": 2, "AffineFlag": 4, "GeoFlag": 8, "CiipFlag": 16}.items():
            seen = paint(yuview.load(frame.frame_index, name), shape, -1)
            assert np.array_equal(seen == 1, frame.expand(frame.coding_flags & bit) != 0)
        for ref_list in (0, 1):
            used = frame.expand(frame.uses_list(ref_list))
            seen = paint(yuview.load(frame.frame_index, f"RefPOCDeltaL{ref_list}"), shape, REF_NONE)
            assert np.array_equal(seen, frame.expand(getattr(frame, f"ref_poc_delta_l{ref_list}")))
            blocks = yuview.load(frame.frame_index, f"MVL{ref_list}")
            vectors = paint(blocks, (*shape, 2), -(2**40))
            assert np.array_equal(vectors[used], frame.expand(getattr(frame, f"mv_l{ref_list}"))[used])
            assert (vectors[~used] == -(2**40)).all()


def test_header_types_are_what_yuview_draws(make_clip, tmp_path):
    yuview = YUView(write(tmp_path, make_clip(1))[1])
    assert yuview.size == (72, 40)
    assert {name: kind["kind"] for name, kind in yuview.types.items()} == {
        "PredMode": "Integer",
        "QP": "Integer",
        "SkipFlag": "Flag",
        "MergeFlag": "Flag",
        "AffineFlag": "Flag",
        "GeoFlag": "Flag",
        "CiipFlag": "Flag",
        "Cbf_Y": "Flag",
        "InterDir": "Integer",
        "RefPOCDeltaL0": "Integer",
        "MVL0": "Vector",
        "RefPOCDeltaL1": "Integer",
        "MVL1": "Vector",
    }
    assert yuview.types["MVL0"]["scale"] == yuview.types["MVL1"]["scale"] == 16
    assert yuview.types["QP"]["range"] == (0, 63)


def test_lines_have_the_layout_of_vtm_and_pred_mode_draws_coding_units(make_clip, tmp_path):
    frame = make_clip(2, seed=1)[1]
    lines = write(tmp_path, [frame])[1].read_text().splitlines()
    block = re.compile(r"BlockStat: POC 1 @\( {0,3}\d+, {0,3}\d+\) \[ ?\d+x ?\d+\] \w+=(-?\d+|\{ *-?\d+, *-?\d+\})")
    body = [line for line in lines if not line.startswith("#")]
    assert body
    assert all(block.fullmatch(line) for line in body)
    units = frame.coding_units()
    expected = [
        f"BlockStat: POC 1 @({u['x']:4d},{u['y']:4d}) [{u['width']:2d}x{u['height']:2d}] PredMode={u['pred_mode']}"
        for u in units
    ]
    assert [line for line in body if "PredMode" in line] == expected


def test_pictures_whose_poc_repeats_stay_apart_by_frame_index(make_clip, tmp_path):
    clip = make_clip(6, intra_period=2)
    assert [frame.picture.poc for frame in clip] == [0, 2, 0, 2, 0, 2]
    yuview = YUView(write(tmp_path, clip)[1])
    assert sorted(yuview.starts) == [0, 1, 2, 3, 4, 5]


def test_frames_keep_their_index_when_only_some_are_written(make_clip, tmp_path):
    yuview = YUView(write(tmp_path, make_clip(5)[2:4])[1])
    assert sorted(yuview.starts) == [2, 3]


def test_a_unit_with_one_vector_is_one_line(make_clip, tmp_path):
    for frame in make_clip(3, seed=2)[1:]:
        yuview = YUView(write(tmp_path, [frame], overwrite=True)[1])
        simple = {
            (u["x"], u["y"], u["width"], u["height"], *u["mv_l0"])
            for u in frame.coding_units()
            if u["pred_mode"] == PredMode.INTER
            and u["ref_poc_delta_l0"] != REF_NONE
            and not u["coding_flags"] & (CodingFlag.AFFINE | CodingFlag.GEO)
        }
        assert simple <= set(yuview.load(frame.frame_index, "MVL0"))


def test_a_concealed_frame_has_no_blocks(make_clip, tmp_path):
    yuview = YUView(write(tmp_path, make_clip(3, concealed=1))[1])
    assert sorted(yuview.starts) == [0, 2]


def test_the_report_names_what_the_text_cannot_say(make_clip, tmp_path):
    report, path = write(tmp_path, make_clip(2, conformance_window=(0, 0, 0, 8)))
    assert report.num_frames == 2
    assert report.size_bytes == path.stat().st_size
    assert any("residual" in sentence for sentence in report.not_represented)
    assert any("conformance window" in sentence for sentence in report.not_represented)


def test_progress_counts_frames(make_clip, tmp_path):
    seen = []
    write(tmp_path, make_clip(3), progress=seen.append)
    assert seen == [1, 2, 3]


def test_an_existing_file_is_kept_unless_overwriting_is_asked_for(make_clip, tmp_path):
    path = tmp_path / "clip.vtmbmsstats"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="exists"):
        write(tmp_path, make_clip(1))
    assert path.read_text() == "mine"
    write(tmp_path, make_clip(1), overwrite=True)
    assert path.read_text().startswith("# VTMBMS Block Statistics\n")


def test_a_failure_midway_leaves_nothing_behind(make_clip, tmp_path):
    def broken():
        yield make_clip(1)[0]
        raise RuntimeError("reader failed")

    with pytest.raises(RuntimeError, match="reader failed"):
        write(tmp_path, broken())
    assert list(tmp_path.iterdir()) == []


def test_no_frames_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no frames"):
        write(tmp_path, [])
    assert list(tmp_path.iterdir()) == []


def test_a_crop_is_refused(make_clip, tmp_path):
    with pytest.raises(ConfigError, match="whole pictures"):
        write(tmp_path, [make_clip(1)[0].crop(8, 8, 32, 32)])


def test_frames_of_two_streams_are_refused(make_clip, tmp_path):
    with pytest.raises(ConfigError, match="one stream"):
        write(tmp_path, [*make_clip(1), *make_clip(1, coded_size=(64, 40))])


def test_a_frame_read_without_flags_is_refused(make_clip, tmp_path):
    import dataclasses

    frame = dataclasses.replace(make_clip(1)[0], coding_flags=None)
    with pytest.raises(ConfigError, match="coding_flags"):
        write(tmp_path, [frame])
