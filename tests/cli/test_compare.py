"""``codecprior compare`` on a small prepared dataset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from codecprior.cli.main import main
from codecprior.core.stream import Box
from codecprior.datasets.manifest import read_manifest
from codecprior.datasets.reader import ClipReader
from codecprior.model.comparison import Method, compare_frame, default_box
from codecprior.model.deblurrer import load_deblurrer
from codecprior.model.training import train
from codecprior.model.training_config import training_config

SMALL = ("data.crop=32", "data.num_frames=2", "training.steps=1", "run.num_workers=0")
SMALL_CPFP = ("cpfp.channels=8", "cpfp.fusion_blocks=0", "cpfp.upsampling_channels=4", *SMALL)
SMALL_CPC = ("training.steps=1", "run.num_workers=0", "sampling.num_steps=2")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def runs(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks of both stages, and stage 2 without coding priors."""
    folder, manifest = tmp_path_factory.mktemp("runs"), read_manifest(prepared)
    train(training_config("cpfp-tiny", SMALL_CPFP), manifest, folder / "cpfp")
    for name, priors in (("cpc", "true"), ("ir", "false")):
        settings = *SMALL_CPC, f"stage1.checkpoint={folder / 'cpfp'}", f"cpc.coding_priors={priors}"
        train(training_config("cpc-tiny", settings), manifest, folder / name)
    return folder


def compare(prepared: Path, *arguments: object) -> Result:
    """Run in this process, where torch is imported already."""
    return CliRunner().invoke(main, ["compare", "--data", str(prepared), "--split", "train", *map(str, arguments)])


def test_methods_stand_between_input_and_sharp(prepared: Path, runs: Path, tmp_path: Path) -> None:
    for name, suffix in (("pictures", ""), ("video", ".mp4")):
        priors, frames = prepared / "priors" / "moving.zarr", prepared / "blurry" / "moving"
        arguments = ["deblur", str(priors), "--frames", str(frames), "-o", str(tmp_path / f"{name}{suffix}")]
        done = CliRunner().invoke(main, [*arguments, "--checkpoint", str(runs / "cpfp")])
        assert done.exit_code == 0, done.stderr
    methods = ("pictures", tmp_path / "pictures"), ("video", tmp_path / "video.mp4"), ("network", runs / "cpfp")
    done = compare(
        prepared,
        *("-o", tmp_path / "out.png", "--sequence", "moving", "-n", 5),
        *(f"--method={name}={path}" for name, path in methods),
        *("--box", "8,8,40,30", "--box", "60,40,24,24"),
    )
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"wrote {tmp_path}/out.png: frame 5 of moving, 3 methods\n"
    picture = cv2.imread(str(tmp_path / "out.png"))
    assert picture.shape[1] > picture.shape[0] > 300
    columns = [picture[:, 16 + 474 + 14 + 244 * number :][:, :230] for number in range(5)]
    np.testing.assert_array_equal(columns[1][80:], columns[3][80:])  # the pictures are the network's
    assert not np.array_equal(columns[0][80:], columns[1][80:])


def test_a_network_makes_the_same_of_a_frame_alone(prepared: Path, runs: Path) -> None:
    manifest = read_manifest(prepared)
    for name in ("cpfp", "cpc"):
        deblurrer = load_deblurrer(runs / name)
        reader = ClipReader(manifest, deblurrer.reader_config())
        frames = list(deblurrer.frames(reader, 0))
        (alone,) = deblurrer.frames(reader, 0, only=6)
        np.testing.assert_array_equal(alone, frames[6])


def test_attention_is_shown_with_priors_and_without(prepared: Path, runs: Path, tmp_path: Path) -> None:
    methods = [f"--method={name}={runs / name}" for name in ("cpc", "ir")]
    plain, heated = tmp_path / "plain.png", tmp_path / "heated.png"
    for path, options in ((plain, ()), (heated, ("--attention",))):
        done = compare(prepared, "-o", path, "--sequence", "moving", *methods, *options)
        assert done.exit_code == 0, done.stderr
    assert cv2.imread(str(heated)).shape[0] > cv2.imread(str(plain)).shape[0]
    done = compare(
        prepared, "-o", tmp_path / "x.png", "--sequence", "moving", f"--method=one={runs / 'cpfp'}", "--attention"
    )
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: attention: no method has networks of stage 2; give checkpoints of stage 2")


def test_the_part_that_is_enlarged_is_where_input_and_sharp_differ() -> None:
    sharp = np.zeros((80, 120, 3), np.uint8)
    blurry = sharp.copy()
    blurry[50:58, 70:84] = 9
    box = default_box(blurry, sharp)
    assert (box.width, box.height) == (24, 18)
    assert box.x <= 70
    assert (box.x + box.width, box.y + box.height) >= (84, 58)
    assert default_box(blurry, None) == Box(48, 31, 24, 18)


def test_without_a_sharp_side_there_is_no_psnr(prepared: Path, runs: Path) -> None:
    manifest = read_manifest(prepared)
    alone = replace(manifest, entries=(replace(manifest.entries[0], sharp=None),))
    network = [Method(name="network", path=str(runs / "cpfp"))]
    without, whole = (compare_frame(each, 0, -1, network).shape[1] for each in (alone, manifest))
    assert without < whole


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        (["-o", "out.jpg"], 2, "Error: out.jpg: what is written is a picture; use .png."),
        (["--method", "ours"], 2, "'ours': write NAME=PATH, such as ours=runs/cpc."),
        (["--box", "1,2,3"], 2, "'1,2,3': write X,Y,WIDTH,HEIGHT in samples"),
        (["--box", "100,0,40,40"], 1, "Error: box 100,0,40,40: reaches beyond the frame of 128x96"),
        (["--box", "0,0,0,40"], 1, "Error: box 0,0,0,40: use X,Y,WIDTH,HEIGHT"),
        (["--sequence", "walk"], 1, "Error: --sequence 'walk': split train has moving, bikes, odd, plain"),
        (["--split", "val"], 1, "Error: --split 'val': the manifest in "),
        (["-n", "8"], 1, "Error: frame 8: sequence moving has the frames 0 to 7"),
        (["--method", "ours=nowhere"], 1, "Error: method ours: nowhere is no checkpoint, folder of pictures or video"),
    ],
)
def test_bad_input_is_one_clear_line(
    prepared: Path, tmp_path: Path, changes: list[str], status: int, message: str
) -> None:
    done = compare(prepared, "-o", tmp_path / "out.png", *changes)
    assert done.exit_code == status
    assert message in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out.png").exists()


def test_a_plan_writes_nothing(prepared: Path, tmp_path: Path) -> None:
    done = compare(prepared, "-o", tmp_path / "out.png", "--dry-run")
    assert done.stdout == f"would write {tmp_path}/out.png: frame 4 of moving, 0 methods\n"
    assert not list(tmp_path.iterdir())
