"""Real video to networks of both stages and what they make of a clip: every step as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest


@pytest.fixture(scope="module")
def gopro(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sequences in GoPro's layout: means of three frames of natural video, and the middle ones."""
    root = tmp_path_factory.mktemp("gopro")
    video = cv2.VideoCapture(str(clips / "bikes.mp4"))
    frames = [video.read()[1][64:208, 200:392] for _ in range(90)]
    for split, first in (("train", 0), ("test", 60)):
        for side in ("blur", "sharp"):
            (root / split / "clip" / side).mkdir(parents=True)
        for number in range(8):
            three = frames[first + 3 * number : first + 3 * number + 3]
            pictures = {"blur": np.mean(three, axis=0).round().astype(np.uint8), "sharp": three[1]}
            for side, picture in pictures.items():
                cv2.imwrite(str(root / split / "clip" / side / f"{number:06d}.png"), picture)
    return root


@pytest.fixture(scope="module")
def hq(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clean video as a raw file."""
    root = tmp_path_factory.mktemp("hq")
    video = cv2.VideoCapture(str(clips / "bikes.mp4"))
    frames = [video.read()[1][0:144, 400:592] for _ in range(6)]
    planes = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_BGR2YUV_I420) for frame in frames]
    (root / "Street_192x144_25.yuv").write_bytes(b"".join(each.tobytes() for each in planes))
    return root


@pytest.mark.slow
def test_prepare_train_both_phases_evaluate_and_deblur(cli: Any, gopro: Path, hq: Path, tmp_path: Path) -> None:
    cli.environment["OMP_NUM_THREADS"] = "1"
    prepared, first, second = tmp_path / "prepared", tmp_path / "first", tmp_path / "second"

    def run(*arguments: object) -> Any:
        done = cli(*arguments)
        assert done.returncode == 0, done.stderr
        return done

    run("prepare", gopro, "-o", prepared, "--frames", "pack", "--qp", 32)
    run("prepare", hq, "-o", tmp_path / "hq", "--recipe", "codeformer", "--seed", 1, "--frames", "pack")

    few = ("--set", "run.num_workers=0", "--set", "validation.split=test", "--json")
    small = ("--set", "cpfp.channels=8", "--set", "cpfp.fusion_blocks=1", "--set", "data.crop=64")
    done = run(
        *("train", "--config", "cpfp-tiny", "--data", prepared, "-o", first, "--set", "training.steps=30"),
        *("--set", "training.warmup_steps=5", *small, *few),
    )
    assert json.loads(done.stdout)["step"] == 30
    done = run(
        *("train", "--config", "cpc-tiny", "--data", prepared / "manifest.jsonl", "--additional", tmp_path / "hq"),
        *("-o", second, "--set", f"stage1.checkpoint={first}", "--set", "training.steps=6", *few),
    )
    assert json.loads(done.stdout)["step"] == 6
    assert (second / "model.safetensors").is_file()
    assert (second / "config.yaml").is_file()

    scores = {}
    for checkpoint in (first, second):
        results = tmp_path / f"results-{checkpoint.name}"
        run(
            *("evaluate", "--checkpoint", checkpoint, "--data", prepared / "manifest.jsonl", "--split", "test"),
            *("-o", results, "--metrics", "psnr,ssim,warp_error", "--steps", 2),
        )
        found = json.loads((results / "metrics.json").read_text())
        assert found["num_frames"] == 8
        scores[checkpoint] = {name: each["value"] for name, each in found["total"].items()}
        blurry = {name: each["value"] for name, each in found["blurry_total"].items()}
    assert blurry["psnr"] - 1 < scores[first]["psnr"], "thirty steps from the input do little harm"
    assert scores[second]["psnr"] < blurry["psnr"], "random networks in place of Stable Diffusion generate noise"

    blurred = gopro / "test" / "clip" / "blur"
    run("deblur", blurred, "-o", tmp_path / "sharp", "--checkpoint", second, "--steps", 2, "--qp", 32)
    run("deblur", blurred, "-o", tmp_path / "sharp.mp4", "--checkpoint", second, "--stage", 1, "--qp", 32)
    pictures = sorted((tmp_path / "sharp").glob("*.png"))
    assert [path.name for path in pictures] == [f"{number:06d}.png" for number in range(8)]
    assert cv2.imread(str(pictures[0])).shape == (144, 192, 3)
    assert int(cv2.VideoCapture(str(tmp_path / "sharp.mp4")).get(cv2.CAP_PROP_FRAME_COUNT)) == 8
