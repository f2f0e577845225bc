"""The networks: a training step by source of vectors, what CPC's attention costs, waiting for data, memory of deblur.

``python -m benchmarks model`` measures what two CPUs can do in a few minutes. ``python -m benchmarks.model --device
cuda --size paper [PART ...]`` measures the sizes of the paper on a GPU; parts are alignment, attention, loading and
deblur. The material, ``build/benchmarks/networks*``, can be brought along where nothing can be encoded.

Weights are random, which changes no time: RAFT is torchvision's network with a flow of zero, the base of stage 2 has
the layers of Stable Diffusion 2.x. Only the network of ``deblur`` is trained, while its waiting for data is watched.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np
import torch
from torch import nn
from torch.optim import AdamW
from torchvision.models.optical_flow import raft_large

from benchmarks.material import BUILD, clip
from benchmarks.measure import compare, machine, write
from benchmarks.tracing import show
from codecprior.datasets.manifest import Manifest, read_manifest
from codecprior.datasets.reader import ClipReader
from codecprior.datasets.sampling import RandomClips
from codecprior.model.alignment import alignment_flops
from codecprior.model.config import AlignmentConfig
from codecprior.model.dataset import ClipDataset, ClipLoader
from codecprior.model.phase1 import Phase1
from codecprior.model.training import StepReport, train
from codecprior.model.training_config import Phase1Config, training_config

__all__ = ["measure", "run"]

_WIDTH, _HEIGHT, _LENGTH = 384, 272, 40
_REPEATED: Final = 50
"""Names for each sequence of the material, so that an epoch is as long as in a training."""
_DEBLURRED: Final = (50, 200, 1000)
_PEAK: Final = """
import atexit, sys
from pathlib import Path
from codecprior.cli.main import main
atexit.register(lambda: print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0], file=sys.stderr))
main()
"""

_Step = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class _Size:
    """How much is measured.

    Parameters
    ----------
    batch, frames : int
        Clips of a step of stage 1 and their frames, 256x256.
    channels : tuple of int
        Channels of the UNet of stage 2.
    pictures, side : int
        Pictures of a step of stage 2 and their side in samples.
    bf16 : bool
        Whether the base is in bfloat16, and most of the other operations too.
    checkpointing : bool
        Whether activations of stage 2 are computed again for gradients.
    trainings : dict of str to list of str
        Settings of the trainings that are watched, by preset.
    """

    batch: int
    frames: int
    channels: tuple[int, ...]
    pictures: int
    side: int
    bf16: bool
    checkpointing: bool
    trainings: dict[str, list[str]]

    def describe(self) -> dict[str, Any]:
        """Return what a step of stage 2 is, for results."""
        return {
            "channels of the UNet": list(self.channels),
            "pictures": f"{self.pictures} of {self.side}x{self.side}",
            "base": "bfloat16" if self.bf16 else "float32",
            "gradient checkpointing": self.checkpointing,
        }


_SIZES: Final = {
    "small": _Size(
        batch=1,
        frames=3,
        channels=(160, 320, 640, 640),
        pictures=2,
        side=128,
        bf16=False,
        checkpointing=False,
        trainings={
            "cpfp-tiny": ["training.steps=200", "run.log_every=20"],
            "cpfp": [
                *("training.steps=8", "run.log_every=2"),
                *("training.batch_size=1", "data.num_frames=5", "data.crop=128"),
            ],
        },
    ),
    "paper": _Size(
        batch=8,
        frames=15,
        channels=(320, 640, 1280, 1280),
        pictures=8,
        side=512,
        bf16=True,
        checkpointing=True,
        trainings={
            "cpfp-tiny": ["training.steps=300", "run.log_every=30"],
            "cpfp": ["training.steps=40", "run.log_every=5"],
        },
    ),
}


def run() -> None:
    """Measure on the CPU and write ``model.json``."""
    measure("cpu", "small", tuple(_PARTS))


def measure(device: str, size: str, parts: Sequence[str]) -> None:
    """Measure and write ``model.json``, or ``model-cuda.json``.

    Parameters
    ----------
    device : str
        Where networks run, ``"cpu"`` or ``"cuda"``.
    size : str
        One of small, paper.
    parts : sequence of str
        What to measure.
    """
    before = machine()
    cuda = device == "cuda"
    before |= {"device": torch.cuda.get_device_name() if cuda else "cpu", "torch_threads": torch.get_num_threads()}
    results: dict[str, Any] = {"size": size}
    with tempfile.TemporaryDirectory(dir=_folder()) as runs:
        for part in parts:
            results |= _PARTS[part](_SIZES[size], device, Path(runs))
    write("model-cuda" if cuda else "model", before, results)


def _alignment(size: _Size, device: str, runs: Path) -> dict[str, Any]:
    """Let steps of Phase I with vectors of different sources take turns."""
    config = training_config("cpfp")
    assert isinstance(config, Phase1Config)
    manifest = _manifest()
    clips = RandomClips(manifest.entries, num_frames=size.frames, crop=config.data.crop)
    loader = ClipLoader(ClipDataset(ClipReader(manifest, config.reader()), clips), batch_size=size.batch)
    batch = next(iter(loader))
    batch = {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
    weights = str(_raft_weights())
    sources = {
        "mv": AlignmentConfig(),
        "none": AlignmentConfig(source="none"),
        "DIS": AlignmentConfig(source="dis"),
        "RAFT 4": AlignmentConfig(source="raft", raft_updates=4, raft_weights=weights),
        "RAFT 20": AlignmentConfig(source="raft", raft_updates=20, raft_weights=weights),
        "RAFT 20 from mv": AlignmentConfig(source="raft_mv_init", raft_updates=20, raft_weights=weights),
    }
    steps: dict[str, _Step] = {}
    for name, alignment in sources.items():
        torch.manual_seed(0)
        phase = Phase1(replace(config, cpfp=replace(config.cpfp, alignment=alignment)), torch.device(device))
        network = phase.network.to(device)
        steps[name] = _stepper(network, partial(phase.loss, network, batch), device)
    comparison = compare("mv", steps, turns=4)
    side, directions = config.data.crop, len(set(config.cpfp.branches))
    title = f"a Phase-I step, {size.batch} x {size.frames} frames of {side}x{side}"
    show(title, comparison)
    pairs = size.batch * (size.frames - 1) * directions
    counts = {name: alignment_flops(alignment, side, side) for name, alignment in sources.items()}
    return {
        title: comparison,
        f"{title}, alignment": {
            "pairs of frames": pairs,
            "weights of RAFT": "random, torchvision's raft_large with the last layer of its flow at zero",
            **{
                name: {
                    "multiply-adds of a step": None if each.multiply_adds is None else pairs * each.multiply_adds,
                    "multiply-adds of a pair": each.multiply_adds,
                    "convention": each.convention,
                }
                for name, each in counts.items()
            },
        },
    }


def _attention(size: _Size, device: str, runs: Path) -> dict[str, Any]:
    """Compare a step of Phase II with and without coding priors: time in turns, memory in a process for each."""
    steps = {name: _stage2(size, device, priors) for name, priors in (("ControlNet", False), ("CPC", True))}
    comparison = compare("ControlNet", steps, turns=10)
    del steps
    title = "a Phase-II step"
    show(title, comparison)
    peaks: dict[str, list[int]] = {"ControlNet": [], "CPC": []}
    for _ in range(1 if device == "cuda" else 3):
        for name, values in peaks.items():
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                values.append(alone.submit(_stage2_peak, size, device, name == "CPC").result())
    medians = {name: statistics.median(values) for name, values in peaks.items()}
    ratio = round(medians["CPC"] / medians["ControlNet"], 4)
    print(f"  peak memory: {', '.join(f'{name} {peak / 1e6:.0f} MB' for name, peak in medians.items())}, ratio {ratio}")
    memory = "allocated on the GPU" if device == "cuda" else "resident in a process of its own"
    return {
        title: comparison,
        f"{title}, what": size.describe(),
        f"{title}, peak memory": {"what": memory, "ratio": ratio, "bytes": peaks},
    }


def _stage2(size: _Size, device: str, priors: bool) -> _Step:
    """Build the networks of stage 2 and return a step: forward, backward through the frozen base, AdamW."""
    from diffusers import UNet2DConditionModel

    from codecprior.model.cpc import controlnet_from_unet
    from codecprior.model.cpc_config import CpcConfig
    from codecprior.model.diffusion import predict_noise
    from codecprior.model.stable_diffusion import load_stable_diffusion

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=size.side // 8,
        block_out_channels=size.channels,
        attention_head_dim=(5, 10, 20, 20),
        cross_attention_dim=1024,
        use_linear_projection=True,
    )
    config = CpcConfig(base="tiny", init="unet", coding_priors=priors)
    controlnet = controlnet_from_unet(unet, config).to(device).train()
    frozen = nn.Module.to(unet.requires_grad_(False), device, torch.bfloat16 if size.bf16 else torch.float32)
    if size.checkpointing:
        controlnet.enable_gradient_checkpointing()
        frozen.train().enable_gradient_checkpointing()
    logging.disable(logging.WARNING)  # which says that networks are random
    base = replace(load_stable_diffusion(config), unet=frozen)
    logging.disable(logging.NOTSET)
    shape = size.pictures, 4, size.side // 8, size.side // 8
    noise, sample, condition = (torch.randn(shape, device=device) for _ in range(3))
    text = torch.randn(size.pictures, 77, 1024, device=device)
    planes = torch.randn(size.pictures, 3, *shape[2:], device=device) if priors else None
    timestep = torch.randint(1000, shape[:1], device=device)

    def loss() -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=size.bf16):
            found = predict_noise(
                base,
                controlnet,
                sample=sample,
                timestep=timestep,
                text=text,
                condition=condition,
                coding_priors=planes,
            )
        return nn.functional.mse_loss(found, noise)

    return _stepper(controlnet, loss, device)


def _stage2_peak(size: _Size, device: str, priors: bool) -> int:
    """Return the greatest memory of one step, in bytes, after those in which the optimizer gets its state."""
    step = _stage2(size, device, priors)
    for _ in range(2):
        step()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        step()
        return int(torch.cuda.max_memory_allocated())
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew at what is resident
    step()
    return 1024 * int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


def _loading(size: _Size, device: str, runs: Path) -> dict[str, Any]:
    """Watch short trainings with two workers; what waits for their start is not counted."""
    results = {}
    for preset, settings in size.trainings.items():
        config = training_config(preset, [*settings, "run.num_workers=2"])
        assert isinstance(config, Phase1Config)
        reports: list[StepReport] = []
        train(config, _manifest(), runs / preset, report=reports.append)
        shares = [round(report.waiting, 4) for report in reports[1:]]
        rates = [round(report.samples_per_second, 2) for report in reports[1:]]
        results[preset] = {
            "clips": f"{config.training.batch_size} x {config.data.num_frames} of {config.data.crop}",
            "waiting": {"median": statistics.median(shares), "all": shares},
            "clips per second": {"median": statistics.median(rates), "all": rates},
        }
        print(f"training of {preset}, 2 workers: {statistics.median(shares):.1%} of the time waiting for data")
    return {"share of a training that waits for data": results}


def _deblur(size: _Size, device: str, runs: Path) -> dict[str, Any]:
    """Take the peak of ``codecprior deblur`` on clips of different length, extraction included."""
    if not (runs / "cpfp-tiny").exists():
        _loading(replace(size, trainings={"cpfp-tiny": size.trainings["cpfp-tiny"]}), device, runs)
    peaks = {}
    for length in _DEBLURRED:
        options = ["-o", str(runs / f"{length}.mp4"), "--checkpoint", str(runs / "cpfp-tiny"), "--device", device]
        command = [sys.executable, "-c", _PEAK, "deblur", str(_video(length)), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"deblur of {length} frames: {done.stderr}")
        peaks[f"{length} frames, 192x128"] = round(int(done.stderr.split()[-1]) * 1024 / 1e6)
    print("peak memory of deblur: " + ", ".join(f"{name} {peak} MB" for name, peak in peaks.items()))
    return {"peak_memory_of_deblur_mb": peaks}


_PARTS: Final = {"alignment": _alignment, "attention": _attention, "loading": _loading, "deblur": _deblur}


def _stepper(network: nn.Module, loss: Callable[[], torch.Tensor], device: str) -> _Step:
    optimizer = AdamW(network.parameters(), lr=1e-6)

    def step() -> None:
        loss().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def _folder() -> Path:
    BUILD.mkdir(parents=True, exist_ok=True)
    return BUILD


def _raft_weights() -> Path:
    path = _folder() / "networks-raft.pth"
    if not path.exists():
        network = raft_large(weights=None, progress=False)
        nn.init.zeros_(network.update_block.flow_head.conv2.weight)
        nn.init.zeros_(network.update_block.flow_head.conv2.bias)
        torch.save(network.state_dict(), path)
    return path


def _manifest() -> Manifest:
    """Prepare two short clips, the mean of three frames for blurry; each is read under many names."""
    prepared = BUILD / "networks-prepared"
    if not prepared.exists():
        source = BUILD / "networks-pairs"
        shutil.rmtree(source, ignore_errors=True)
        for name in ("bikes", "bigbuckbunny"):
            with av.open(str(clip(name))) as container:
                frames = [
                    frame.to_ndarray(format="bgr24")[:_HEIGHT, :_WIDTH]
                    for frame in islice(container.decode(video=0), _LENGTH + 2)
                ]
            for side in ("blur", "sharp"):
                (source / side / name).mkdir(parents=True)
            for index, around in enumerate(zip(frames, frames[1:], frames[2:], strict=False)):
                mean = np.mean(around, axis=0).round().astype(np.uint8)
                for side, picture in (("blur", mean), ("sharp", around[1])):
                    cv2.imwrite(str(source / side / name / f"{index:06d}.png"), picture)
        command = [sys.executable, "-m", "codecprior.cli", "prepare", str(source), "-o", str(prepared)]
        options = ["--layout", "generic", "--frames", "pack", "--directions", "both"]
        subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shutil.rmtree(source)
    manifest = read_manifest(prepared)
    names = ((number, entry) for number in range(_REPEATED) for entry in manifest.entries)
    return replace(
        manifest,
        entries=tuple(replace(entry, sequence=f"{entry.sequence}-{number}", split="train") for number, entry in names),
    )


def _video(length: int) -> Path:
    """Write a clip of 192x128 that begins again whenever it ends."""
    path = _folder() / f"networks-{length}.mp4"
    if path.exists():
        return path
    with av.open(str(clip("bikes"))) as container:
        frames = [frame.reformat(192, 128, "yuv420p").to_ndarray() for frame in container.decode(video=0)]
    unfinished = path.with_suffix(".unfinished.mp4")
    with av.open(str(unfinished), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "16"})
        stream.width, stream.height, stream.pix_fmt = 192, 128, "yuv420p"
        for index in range(length):
            frame = av.VideoFrame.from_ndarray(frames[index % len(frames)], format="yuv420p")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return unfinished.rename(path)


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(_PARTS))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--size", choices=list(_SIZES), default="small")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(_PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(_PARTS)}")
    measure(options.device, options.size, options.parts or list(_PARTS))


if __name__ == "__main__":
    main()
