"""``codecprior deblur`` from what people have to sharp videos and frames, by small networks."""

from __future__ import annotations

import json
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import psutil
import pytest
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from torch import nn

from codecprior.cli.main import main
from codecprior.datasets.manifest import read_manifest, write_manifest
from codecprior.media.images import list_images, read_picture
from codecprior.model.checkpoint import load_checkpoint, save_checkpoint
from codecprior.model.config import CpfpConfig
from codecprior.model.cpfp import Cpfp

SECTIONS: dict[str, Any] = {
    "cpfp": {
        "branches": ["forward"],
        "feature_stride": 2,
        "channels": 8,
        "deform_groups": 2,
        "encoder_blocks": 0,
        "fusion_blocks": 0,
        "reconstruction_blocks": 0,
        "upsampling_channels": 8,
    }
}
FAST = ("--threads", 1)


def checkpoint(folder: Path, *, branches: tuple[str, ...] = ("forward",), identity: bool = True) -> Path:
    """Save a network that changes nothing, or one that changes a little."""
    sections = {"cpfp": {**SECTIONS["cpfp"], "branches": list(branches)}}
    torch.manual_seed(1)
    network = Cpfp(CpfpConfig.from_dict(sections["cpfp"]))
    last = network.reconstruction[-1]
    assert isinstance(last, nn.Conv2d)
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.mul_(0 if identity else 0.05)
    save_checkpoint(folder, network, sections)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("run") / "same")


def run_here(*arguments: object) -> Result:
    """Run a command in this process, where torch is imported already."""
    return CliRunner().invoke(main, list(map(str, arguments)))


def deblurred(*arguments: object) -> Result:
    """Run ``codecprior deblur``, which must succeed."""
    result = run_here("deblur", *arguments, *FAST)
    assert result.exit_code == 0, result.stderr
    return result


def failed(*arguments: object) -> str:
    """Run ``codecprior deblur``, which must fail, and return its one line of error."""
    result = run_here("deblur", *arguments)
    (line,) = result.stderr.splitlines()
    assert result.exit_code == 1
    return line.removeprefix("Error: ")


def pictures(folder: Path) -> list[NDArray[np.uint8]]:
    return [read_picture(file) for file in list_images(folder)]


def video(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def error(one: list[NDArray[np.uint8]], other: list[NDArray[np.uint8]]) -> float:
    return float(np.mean([cv2.absdiff(a, b) for a, b in zip(one, other, strict=True)]))


def test_frames_become_frames_of_the_same_names(cli: Any, tiny: Any, run: Path, tmp_path: Path) -> None:
    frames = tiny.pictures(tmp_path / "clip", 7, size=(93, 71))
    done = cli("deblur", frames, "-o", tmp_path / "out", "--checkpoint", run, "--chunk", 3, *FAST)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path}/out: 7 frames, ")
    assert [file.name for file in list_images(tmp_path / "out")] == [f"{index}.png" for index in range(7)]
    assert all(map(np.array_equal, pictures(tmp_path / "out"), pictures(frames)))  # a network that changes nothing
    record = json.loads((tmp_path / "out" / "deblur.json").read_text())
    assert record["num_frames"] == 7
    assert record["facts"]["networks"]["chunks"]["chunk_frames"] == 3
    assert not [path for path in tmp_path.iterdir() if path.name not in ("clip", "out")]


def test_a_video_becomes_a_video(tiny: Any, run: Path, tmp_path: Path) -> None:
    clip = tiny.mp4(tmp_path / "clip.mp4", range(12))
    done = deblurred(clip, "-o", tmp_path / "out.mp4", "--checkpoint", run, "--chunk", 5, "--json")
    (result,) = json.loads(done.stdout)
    assert (result["status"], result["num_frames"], result["error"]) == ("deblurred", 12, None)
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("h264", 25)
    assert error(video(tmp_path / "out.mp4"), video(clip)) < 3
    assert json.loads((tmp_path / "out.mp4.json").read_text())["facts"]["crf"] == 14


def test_raw_files_stores_and_coded_streams_are_taken(tiny: Any, run: Path, tmp_path: Path) -> None:
    raw = tiny.yuv(tmp_path / "clip_176x144_25.yuv", 5)
    unnamed = tiny.yuv(tmp_path / "clip.yuv", 5)
    assert run_here("extract", raw, "-o", tmp_path / "clip.zarr", "--with-frames", *FAST).exit_code == 0
    inputs = {
        "named": (raw,),
        "unnamed": (unnamed, "--size", "176x144"),
        "store": (tmp_path / "clip.zarr", "--frames", unnamed, "--size", "176x144"),
        "stored": (tmp_path / "clip.zarr",),
        "coded": (shutil.move(tmp_path / "clip.266", tmp_path / "coded.266"),),
    }
    outputs = {}
    for name, arguments in inputs.items():
        deblurred(*arguments, "-o", tmp_path / name, "--checkpoint", run)
        outputs[name] = pictures(tmp_path / name)
    for name in ("unnamed", "store"):
        assert error(outputs[name], outputs["named"]) == 0
    assert 0 < error(outputs["stored"], outputs["named"]) < 6  # as decoded
    assert error(outputs["coded"], outputs["stored"]) == 0


def test_backward_blocks_get_the_pass_over_the_reversed_clip(tiny: Any, tmp_path: Path) -> None:
    both = checkpoint(tmp_path / "both", branches=("backward", "forward"), identity=False)
    frames = tiny.pictures(tmp_path / "clip", 6)
    for name, overlap in (("whole", 6), ("cut", 0)):
        chunks = ("--chunk", 2, "--overlap", overlap)
        deblurred(frames, "-o", tmp_path / name, "--checkpoint", both, *chunks)
    assert 0 < error(pictures(tmp_path / "whole"), pictures(tmp_path / "cut")) < 20
    assert run_here("encode", frames, "-o", tmp_path / "clip.266").exit_code == 0
    message = failed(tmp_path / "clip.266", "-o", tmp_path / "out", "--checkpoint", both)
    assert message.endswith("whose vectors a coded stream does not have; decode it and give its frames")


def test_a_dataset_is_continued_and_one_bad_sequence_fails_alone(tiny: Any, run: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "deep/c"):
        tiny.pictures(tmp_path / "data" / name, 3)
    broken = tmp_path / "data" / "b" / "1.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:100])
    arguments = ("deblur", tmp_path / "data", "-o", tmp_path / "out", "--checkpoint", run, "--video", *FAST)
    planned = run_here(*arguments, "--dry-run").stdout.splitlines()
    assert planned[2] == f"{tmp_path}/data/deep/c -> {tmp_path}/out/deep/c.mp4"
    assert not (tmp_path / "out").exists()
    done = run_here(*arguments)
    assert done.exit_code == 1
    assert str(broken) in done.stderr
    assert "1 of 3 sequences failed" in done.stderr
    broken.write_bytes(whole)
    again = json.loads(run_here(*arguments, "--json").stdout)
    assert [(each["name"], each["status"]) for each in again] == [
        ("a", "skipped"),
        ("b", "deblurred"),
        ("deep/c", "skipped"),
    ]


def test_a_prepared_dataset_needs_no_extraction(prepared: Path, run: Path, tmp_path: Path) -> None:
    first, *others = read_manifest(prepared).entries
    assert first.sequence == "moving"
    manifest = prepared / "two.jsonl"
    write_manifest(manifest, [replace(first, split="test"), replace(others[2], sequence="moving")])
    arguments = ("deblur", manifest, "-o", tmp_path / "out", "--checkpoint", run)
    assert run_here(*arguments, "--dry-run").stdout.splitlines() == [
        f"{prepared}/priors/moving.zarr -> {tmp_path}/out/test/moving",
        f"{prepared}/priors/plain.zarr -> {tmp_path}/out/train/moving",
    ]
    (result,) = json.loads(run_here(*arguments, "--split", "test", "--json").stdout)
    assert (result["name"], result["status"], result["num_frames"]) == ("test/moving", "deblurred", 8)
    outputs = tmp_path / "out" / "test" / "moving"
    assert [file.name for file in list_images(outputs)] == [Path(file).name for file in first.blurry]
    assert error(pictures(outputs), pictures(prepared / "blurry" / "moving")) == 0
    again = json.loads(run_here(*arguments, "--json").stdout)
    assert [each["status"] for each in again] == ["skipped", "deblurred"]
    assert "--split 'val': the manifest in" in failed(*arguments[1:], "--split", "val")
    assert "--split is for prepared datasets" in failed(prepared / "blurry", *arguments[2:], "--split", "test")
    assert "is a dataset; give a folder" in failed(manifest, "-o", tmp_path / "out.mp4", "--checkpoint", run)


def test_outputs_of_something_else_are_kept_until_overwritten(tiny: Any, run: Path, tmp_path: Path) -> None:
    frames = tiny.pictures(tmp_path / "clip", 3)
    deblurred(frames, "-o", tmp_path / "out", "--checkpoint", run)
    other = checkpoint(tmp_path / "other", identity=False)
    changed = (frames, "-o", tmp_path / "out", "--checkpoint", other)
    assert failed(*changed) == (
        f"{tmp_path}/out: exists and was made from something else; use --overwrite to replace it, or another -o"
    )
    assert error(pictures(tmp_path / "out"), pictures(frames)) == 0
    deblurred(*changed, "--overwrite")
    assert error(pictures(tmp_path / "out"), pictures(frames)) > 0


def test_kept_priors_are_used_again(tiny: Any, run: Path, tmp_path: Path) -> None:
    frames = tiny.pictures(tmp_path / "clip", 3)
    options = ("--checkpoint", run, "--keep-priors", tmp_path / "priors")
    deblurred(frames, "-o", tmp_path / "one", *options)
    store = tmp_path / "priors" / "clip.zarr" / "zarr.json"
    before = store.stat().st_mtime_ns
    deblurred(frames, "-o", tmp_path / "two", *options)
    assert store.stat().st_mtime_ns == before


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of stage 2 on a tiny random base, whose control does something."""
    from codecprior.model.cpc import controlnet_from_unet
    from codecprior.model.cpc_config import CpcConfig
    from codecprior.model.stable_diffusion import load_stable_diffusion

    config = CpcConfig(base="tiny", init="unet")
    torch.manual_seed(2)
    network = controlnet_from_unet(load_stable_diffusion(config).unet, config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("second")
    save_checkpoint(
        folder, network, {"cpc": config.to_dict(), "stage1": {"checkpoint": "runs/cpfp"}, "sampling": {"num_steps": 3}}
    )
    return folder


def test_both_stages_generate_details_with_the_colours_of_stage_1(
    tiny: Any, run: Path, second: Path, tmp_path: Path
) -> None:
    frames = tiny.pictures(tmp_path / "clip", 4, size=(93, 71))
    shutil.copy(frames / "0.png", frames / "1.png")
    outputs = {}
    for name, options in {
        "plain": (),
        "in chunks": ("--chunk", 3),
        "first stage": ("--stage", 1),
        "same noise": ("--noise", "clip"),
        "own colours": ("--no-color-fix",),
        "another seed": ("--seed", 5),
    }.items():
        deblurred(frames, "-o", tmp_path / name, "--checkpoint", second, "--stage1", run, *options)
        outputs[name] = pictures(tmp_path / name)
    assert error(outputs["first stage"], pictures(frames)) == 0
    assert error(outputs["plain"], pictures(frames)) > 1
    assert error(outputs["plain"], outputs["in chunks"]) < 0.01
    assert error(outputs["plain"], outputs["another seed"]) > 0.1
    blurred = {name: [cv2.GaussianBlur(each, (0, 0), 16) for each in shown] for name, shown in outputs.items()}
    assert error(blurred["plain"], blurred["first stage"]) < 0.3 * error(blurred["own colours"], blurred["first stage"])
    # The first two frames are the same, but for their vectors.
    still, moving = (error([shown[0]], [shown[1]]) for shown in (outputs["same noise"], outputs["plain"]))
    assert still < 0.5 * moving


def test_what_stage_2_lacks_is_one_clear_line(tiny: Any, run: Path, second: Path, tmp_path: Path) -> None:
    frames = tiny.pictures(tmp_path / "clip", 1)
    options = (frames, "-o", tmp_path / "out", "--checkpoint")
    assert failed(*options, second).endswith("give stage 1 with --stage1")
    assert "is a checkpoint of stage 2 (cpc)" in failed(*options, second, "--stage1", second)
    sections, network = load_checkpoint(second)
    save_checkpoint(tmp_path / "large", network, {"cpc": {**sections["cpc"], "base": "sd21"}})
    assert "base sd21 has no weights: set base_path" in failed(*options, tmp_path / "large", "--stage1", run)
    save_checkpoint(tmp_path / "signed", network, {**sections, "data": {"residual": "signed"}})
    assert "was trained on other priors" in failed(*options, tmp_path / "signed", "--stage1", run)


def test_a_run_that_is_interrupted_leaves_nothing(cli: Any, tiny: Any, run: Path, tmp_path: Path) -> None:
    clip = tiny.y4m(tmp_path / "clip.y4m", frames=tiny.frames * 20)
    staging = tmp_path / "tmp"
    staging.mkdir()
    cli.environment["TMPDIR"] = str(staging)
    process = cli.start("deblur", clip, "-o", tmp_path / "out.mp4", "--checkpoint", run, "--chunk", 1, *FAST)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".out.mp4.*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert {path.name for path in tmp_path.iterdir()} == {"clip.y4m", "tmp"}
    assert not list(staging.iterdir())
    process.communicate()


def test_bad_input_is_one_clear_line(tiny: Any, run: Path, tmp_path: Path) -> None:
    frames = tiny.pictures(tmp_path / "clip", 2)
    assert failed(frames, "-o", tmp_path / "out", "--checkpoint", tmp_path).startswith(
        f"{tmp_path}/model.safetensors: no checkpoint here"
    )
    options = ("-o", tmp_path / "out", "--checkpoint", run)
    assert "is a checkpoint of stage 1" in failed(frames, *options, "--stage", 2)
    assert "device 'tpu9': cannot be used" in failed(frames, *options, "--device", "tpu9")
    assert "no such file or folder" in failed(tmp_path / "nothing", *options)
    assert "lies in" in failed(frames, "-o", frames / "out", "--checkpoint", run)
    assert "--frames is for priors stores" in failed(frames, *options, "--frames", frames)
    assert run_here("extract", frames, "-o", tmp_path / "clip.zarr", *FAST).exit_code == 0
    assert "has no decoded frames" in failed(tmp_path / "clip.zarr", *options)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_a_clip(cli: Any, tiny: Any, run: Path, tmp_path: Path) -> None:
    peaks = {}
    for count in (50, 600):
        clip = tiny.y4m(tmp_path / f"{count}.y4m", frames=(tiny.frames * 25)[:count])
        process = cli.start("deblur", clip, "-o", tmp_path / f"{count}.mp4", "--checkpoint", run, *FAST)
        peak, watched = 0, psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak = max(peak, watched.memory_info().rss)
            except psutil.Error:
                break
            time.sleep(0.01)
        process.communicate()
        assert process.returncode == 0
        peaks[count] = peak
    assert peaks[600] < 1.04 * peaks[50]  # a cache of decompressed priors would have grown by 45 MB
