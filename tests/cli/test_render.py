"""The command around the library: which file is made, what is said, what is refused. Pictures are tested elsewhere."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from codecprior.cli import render as command
from codecprior.cli.main import main
from codecprior.core.arrays import GRID_ARRAYS, RESIDUAL_ARRAYS, PictureType
from codecprior.core.priors import FramePriors
from codecprior.core.stream import PictureInfo, StreamInfo
from codecprior.store.writer import StoreWriter
from codecprior.visualization.tiles import KINDS


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five intra frames, 32x16, without bitstream or source."""
    path = tmp_path_factory.mktemp("render") / "clip.zarr"
    stream = StreamInfo(codec="vvc", coded_size=(32, 16), bit_depth=8, chroma_format="4:2:0")
    grids = {spec.name: np.full((4, 8, 2)[: 2 + (spec.components > 1)], spec.fill, spec.dtype) for spec in GRID_ARRAYS}
    grids |= {"pred_mode": np.ones((4, 8), np.uint8), "cu_size": np.full((4, 8), 0x22, np.uint8)}
    planes = {spec.name: np.zeros(stream.plane_shape(spec.plane), np.int16) for spec in RESIDUAL_ARRAYS}
    with StoreWriter(path, digest="intra") as writer:
        forward = writer.begin(stream)
        for index in range(5):
            picture = PictureInfo(poc=index, decode_order=index, picture_type=PictureType.I, slice_qp=30)
            forward.append(
                FramePriors(stream=stream, picture=picture, frame_index=index, box=stream.output_box, **grids, **planes)
            )
        writer.finish()
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["render", *map(str, arguments)])


def test_kinds_of_the_command_are_those_of_the_library() -> None:
    assert list(command._KINDS) == list(KINDS)


def test_help_explains_every_kind() -> None:
    text = run("--help").output
    assert all(f"\n  {kind} " in text for kind in KINDS)


def test_a_frame_gives_a_png_beside_the_store(store: Path) -> None:
    result = run(store, "--frame", 2)
    written = store.parent / "clip-overview-2.png"
    assert result.output == f"wrote {written}: overview, frame 2 of clip\n"
    assert cv2.imread(str(written)) is not None


def test_a_png_without_a_frame_shows_the_middle_one(store: Path, tmp_path: Path) -> None:
    result = run(store, "-o", tmp_path / "new" / "a.png", "-k", "qp")
    assert result.output == f"wrote {tmp_path}/new/a.png: qp, frame 2 of clip\n"
    assert (tmp_path / "new" / "a.png").is_file()


def test_a_clip_is_the_default_and_can_be_cut_and_timed(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    result = run(store, "-o", path, "--start", 1, "--stop", 4, "--fps", "24000/1001", "--kind", "modes")
    assert result.output == f"wrote {path}: modes, 3 frames of clip\n"
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.frames, str(stream.average_rate)) == (3, "24000/1001")


def test_a_named_source_is_drawn_on(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(5):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((16, 32, 3), 255, np.uint8))
    assert run(store, "-k", "frame", "-n", 1, "-o", tmp_path / "a.png", "--source", folder).exit_code == 0
    assert (cv2.imread(str(tmp_path / "a.png")) > 250).all(axis=-1).mean() > 0.3


@pytest.mark.parametrize("arguments", [["--frame", 1], ["--start", 2], ["-o", "a.png"]])
def test_dry_run_names_the_file_and_writes_none(store: Path, tmp_path: Path, monkeypatch, arguments) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(store.parent.rglob("*"))
    result = run(store, "--dry-run", *arguments)
    assert result.exit_code == 0
    assert result.output.startswith("would write ")
    assert set(store.parent.rglob("*")) == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "a.gif"], "use .png or .mp4"),
        (["-o", "a.mp4", "--frame", "1"], "--frame makes one picture"),
        (["-o", "a.png", "--start", "1"], "use --frame for one picture"),
        (["--frame", "1", "--fps", "5"], "--fps is for clips"),
        (["--fps", "0"], "give a number above 0"),
        (["--fps", "1/0"], "give a number above 0"),
        (["--kind", "flow"], "'overview'"),
    ],
)
def test_contradictions_are_usage_errors(store: Path, arguments: list[str], message: str) -> None:
    result = run(store, *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frame", "5"], "frame 5: "),
        (["--start", "5"], "no frames are selected"),
        (["--reverse"], "no reversed pass"),
        (["--scale", "0"], "scale 0.0: give pixels per luma sample"),
    ],
)
def test_what_the_store_cannot_show_is_one_line_and_exit_status_1(
    store: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = run(store, *arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert result.output.count("\n") == 1
    assert not list(store.parent.glob("*.mp4"))


def test_a_store_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = run(tmp_path / "none.zarr")
    assert result.exit_code == 1
    assert "none.zarr" in result.output
