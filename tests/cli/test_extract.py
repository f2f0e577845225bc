"""``codecprior extract`` as a user runs it: real clips through the real encoder and decoder."""

from __future__ import annotations

import fcntl
import json
import os
import re
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import codecprior
from codecprior.store.verify import verify


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- what is said and written


def test_it_prints_where_to_before_and_facts_after(cli: Any, frames: Path) -> None:
    done = cli("extract", frames)
    assert (done.returncode, done.stderr) == (0, "")
    first, last = done.stdout.splitlines()
    assert first == f"{frames} -> {frames}.zarr"
    assert last.startswith(f"{frames}.zarr: 6 frames, ")
    assert names_in(frames.parent) == ["clip", "clip.266", "clip.zarr"]
    assert len(codecprior.open_store(f"{frames}.zarr")) == 6
    assert verify(f"{frames}.zarr").ok


def test_where_to_is_printed_even_if_the_work_fails(cli: Any, frames: Path) -> None:
    (frames / "3.png").write_bytes(b"")
    done = cli("extract", frames)
    assert done.stdout == f"{frames} -> {frames}.zarr\n"
    assert done.stderr == f"Error: {frames}/3.png: is empty; replace or remove it\n"
    assert names_in(frames.parent) == ["clip"]


def test_options_reach_the_encoder_and_the_store(cli: Any, frames: Path, tmp_path: Path) -> None:
    rate = ["--bitrate", "200k", "--preset", "fast", "--gop", "random-access", "--threads", 2, "--vvenc", "sao=0"]
    kept = ["--with-frames", "--no-bitstream", "--frame-rate", "30000/1001", "--decoder-threads", 1]
    done = cli("extract", frames, "-o", tmp_path / "out" / "priors.zarr", *rate, *kept)
    assert done.returncode == 0, done.stderr
    assert names_in(tmp_path / "out") == ["priors.zarr"]
    store = codecprior.open_store(tmp_path / "out" / "priors.zarr")
    assert "frame_y" in store.names
    arguments = store.attributes["encoder"]["arguments"]
    assert [arguments[arguments.index(name) + 1] for name in ("-b:v", "-preset", "-threads", "-framerate")] == [
        "200000",
        "fast",
        "2",
        "30000/1001",
    ]
    parameters = arguments[arguments.index("-vvenc-params") + 1].split(":")
    assert "sao=0" in parameters
    assert "picreordering=0" not in parameters  # what low delay would set
    assert store.attributes["extractor"]["command"][1:3] == ["extract", str(frames)]


def test_both_directions_refer_to_the_neighbours_on_either_side(cli: Any, frames: Path) -> None:
    assert cli("extract", frames, "--directions", "both").returncode == 0
    store = codecprior.open_store(f"{frames}.zarr")
    assert store.reverse is not None
    for t in range(5):
        forward, backward = store[t + 1], store.reverse[t]
        assert (forward.ref_frame_index(0)[forward.uses_list(0)] == t).all()
        assert (backward.ref_frame_index(0)[backward.uses_list(0)] == t + 1).all()
    assert names_in(frames.parent) == ["clip", "clip.266", "clip.reverse.266", "clip.zarr"]


def test_raw_video_is_described_by_options(cli: Any, tiny: Any, tmp_path: Path) -> None:
    raw = tiny.yuv(tmp_path / "plain.yuv")
    assert "plain.yuv: the name does not tell the size" in cli.fails("extract", raw)
    layout = ["--size", "176x144", "--bit-depth", 8, "--chroma-format", "4:2:0", "--frame-rate", 29.97]
    assert cli("extract", raw, *layout).returncode == 0
    store = codecprior.open_store(tmp_path / "plain.zarr")
    assert (len(store), store.size, store.attributes["frame_rate"]) == (6, (176, 144), "2997/100")


def test_a_coded_stream_is_not_encoded_again(cli: Any, frames: Path, tiny: Any) -> None:
    assert cli("extract", frames, "--no-bitstream").returncode == 0
    assert cli("encode", frames, "-o", frames.parent / "coded.266").returncode == 0
    coded = tiny.remux(frames.parent / "coded.266", frames.parent / "coded.mkv")
    before = coded.read_bytes()
    assert cli("extract", coded).returncode == 0
    decoded = codecprior.open_store(frames.parent / "coded.zarr")
    assert decoded.attributes["encoder"] is None
    assert (decoded.load().arrays["mv_l0"] == codecprior.open_store(f"{frames}.zarr").load().arrays["mv_l0"]).all()
    assert coded.read_bytes() == before


def test_a_dry_run_writes_nothing(cli: Any, frames: Path) -> None:
    done = cli("extract", frames, "--dry-run")
    assert (done.returncode, done.stdout) == (0, f"{frames} -> {frames}.zarr\n")
    done = cli("extract", frames, "--dry-run", "--json")
    assert json.loads(done.stdout) == [{"input": str(frames), "store": f"{frames}.zarr"}]
    assert names_in(frames.parent) == ["clip"]


def test_json_is_all_that_is_printed(cli: Any, frames: Path) -> None:
    done = cli("extract", frames, "--json")
    (result,) = json.loads(done.stdout)
    assert (result["name"], result["status"], result["num_frames"]) == ("clip", "extracted", 6)
    assert (result["store"], result["bitstreams"]) == (f"{frames}.zarr", [f"{frames}.266"])
    assert (done.stderr, result["error"]) == ("", None)
    (again,) = json.loads(cli("extract", frames, "--json").stdout)
    assert {**again, "seconds": 0} == {**result, "status": "skipped", "seconds": 0}


def test_a_bar_is_shown_on_a_terminal_only(cli: Any, frames: Path) -> None:
    terminal, line = os.openpty()
    fcntl.ioctl(line, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [*cli.command, "extract", str(frames)]
    with subprocess.Popen(command, env=cli.environment, stdout=subprocess.PIPE, stderr=line) as process:
        os.close(line)
        shown = b""
        while data := _read(terminal):
            shown += data
    os.close(terminal)
    assert process.returncode == 0
    assert b"clip:" in shown
    assert b"/6 [" in shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux's end of a terminal
        return b""


# ---- again


def test_a_second_run_skips_and_other_settings_are_refused(cli: Any, frames: Path) -> None:
    assert cli("extract", frames).returncode == 0
    made = codecprior.open_store(f"{frames}.zarr").attributes["created"]
    again = cli("extract", frames)
    assert (again.returncode, again.stdout.splitlines()[-1]) == (0, f"{frames}.zarr: finished before, 6 frames")
    assert cli.fails("extract", frames, "--qp", 40) == (
        f"{frames}.zarr: exists and was made from another input or with other settings; "
        "use --overwrite to replace it, or another -o"
    )
    assert codecprior.open_store(f"{frames}.zarr").attributes["created"] == made
    assert cli("extract", frames, "--qp", 40, "--overwrite").returncode == 0
    assert "40" in codecprior.open_store(f"{frames}.zarr").attributes["encoder"]["arguments"]


# ---- datasets


def test_one_bad_sequence_fails_alone_and_is_named_at_the_end(cli: Any, tiny: Any, tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    tiny.y4m(dataset / "a.y4m", count=2)
    tiny.y4m(dataset / "deep" / "z.y4m", count=2)
    bad = tiny.y4m(dataset / "deep" / "bad.y4m", count=2)
    bad.write_bytes(bad.read_bytes()[:-1000])
    done = cli("extract", dataset)
    assert done.returncode == 1
    first, blank, summary, last = done.stderr.splitlines()
    assert first.startswith(f"Error: {bad}: ")
    assert (blank, summary) == ("", "1 of 3 sequences failed:")
    assert last == f"  deep/bad: {first.removeprefix('Error: ')}"
    assert [line for line in done.stdout.splitlines() if " -> " not in line and ": 2 frames, " not in line] == []
    out = tmp_path / "dataset-priors"
    assert sorted(path.name for path in out.rglob("*.zarr")) == ["a.zarr", "z.zarr"]
    assert not list(out.rglob("*.partial"))
    skipped = cli("extract", dataset, "--json")
    assert [result["status"] for result in json.loads(skipped.stdout)] == ["skipped", "failed", "skipped"]
    assert skipped.stderr == done.stderr


# ---- bad input, bad places


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.mp4", b"", "empty.mp4: is empty"),
        ("empty.266", b"", "empty.266: is empty"),
        ("text.266", b"hello world, this is no video", "annex b"),
        ("clip.docx", b"x", "clip.docx: is no sequence; use a folder of pictures"),
        ("clip.mp4", b"not a video at all", "clip.mp4: cannot be read as video"),
        ("clip.y4m", b"not a video at all", "clip.y4m: ends within a header line"),
        ("clip_176x144.yuv", b"too short", "clip_176x144.yuv: 9 bytes are no whole number"),
    ],
)
def test_bad_input_gives_one_line(cli: Any, tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert reason in cli.fails("extract", path).replace("Annex B", "annex b")
    assert names_in(tmp_path) == [name]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("RPR_A_Alibaba_4.bit", "the picture format changes inside the stream"),
        ("8b444_A_Kwai_2.bit", "palette mode is not yet supported"),
    ],
)
def test_streams_that_cannot_be_traced_give_one_line(
    cli: Any, conformance_dir: Path, tmp_path: Path, name: str, reason: str
) -> None:
    assert f"{name}: {reason}" in cli.fails("extract", conformance_dir / name, "-o", tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))


def test_pictures_that_are_left_out_are_counted(cli: Any, conformance_dir: Path, tmp_path: Path) -> None:
    done = cli("extract", conformance_dir / "RAP_A_HHI_1.bit", "-o", tmp_path / "out.zarr")
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("WARNING"))
    assert line.endswith(
        "leading pictures left out, which refer to pictures before their random access point (RASL): 15"
    )


def _truncate(data: bytes) -> bytes:
    return data[: len(data) // 2 + 7]


def _flip_bits(data: bytes) -> bytes:
    flipped = bytearray(data)
    for position in range(len(data) // 3, len(data), 1009):
        flipped[position] ^= 0x10
    return bytes(flipped)


@pytest.mark.parametrize("damage", [_truncate, _flip_bits])
@pytest.mark.parametrize("threads", [0, 2])
def test_a_broken_stream_leaves_no_store(
    cli: Any, conformance_dir: Path, tmp_path: Path, damage: Callable[[bytes], bytes], threads: int
) -> None:
    broken = tmp_path / "broken.266"
    broken.write_bytes(damage((conformance_dir / "AMVR_A_HHI_3.bit").read_bytes()))
    done = cli("extract", broken, "--decoder-threads", threads, env={"CODECPRIOR_STALL_SECONDS": "1"})
    *warnings, last = done.stderr.splitlines()
    assert done.returncode == 1
    assert last.startswith(f"Error: {broken}: ")
    assert all("trying again without threads" in warning for warning in warnings)  # VVdeC hung, as it does at times
    assert not (tmp_path / "broken.zarr").exists()


def test_a_size_that_changes_inside_a_folder_is_refused(cli: Any, tiny: Any, frames: Path) -> None:
    (tiny.pictures(frames.parent / "other", count=4, size=(175, 144)) / "3.png").replace(frames / "3.png")
    assert "3.png: is 175x144 with 8 bit but 0.png is 176x144" in cli.fails("extract", frames)
    assert not Path(f"{frames}.zarr").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--vvenc", "nonsense=1"], "VVenC has no option 'nonsense'"),
        (["--vvenc", "sao"], "VVenC option 'sao': write it as key=value"),
        (["--qp", "20", "--bitrate", "1M"], "QP 20 and bitrate 1000000: give one of the two"),
        (["-o", ""], "output '': give a .zarr, a folder or a URL"),
        (["-o", "nosuch://x/clip.zarr"], "nosuch://x/clip.zarr: Protocol not known: nosuch"),
    ],
)
def test_settings_that_cannot_be_give_one_line(cli: Any, frames: Path, arguments: list[str], reason: str) -> None:
    assert reason in cli.fails("extract", frames, *arguments)
    assert names_in(frames.parent) == ["clip"]


def test_an_output_below_a_file_gives_one_line(cli: Any, frames: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert f"{tmp_path}/file/clip.zarr: cannot write" in cli.fails(
        "extract", frames, "-o", f"{tmp_path}/file/clip.zarr"
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Return a function that mounts a file system in memory with the given options."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = []

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting a file system of a given size is not allowed here")
        mounted.append(disk)
        return disk

    yield mount
    for _ in mounted:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("kilobytes", [8, 60, 200])
def test_a_full_disk_gives_one_line_and_a_later_run_finishes(
    cli: Any, tiny: Any, tmp_path: Path, small_disk: Callable[[str], Path], kilobytes: int
) -> None:
    clip = tiny.y4m(tmp_path / "clip.y4m", count=20)
    disk = small_disk(f"size={kilobytes}k")
    assert "No space left on device" in cli.fails("extract", clip, "-o", disk / "clip.zarr")
    assert not (disk / "clip.zarr").exists()
    subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
    assert cli("extract", clip, "-o", disk / "clip.zarr").returncode == 0
    assert names_in(disk) == ["clip.266", "clip.zarr"]
    assert verify(disk / "clip.zarr").ok


def test_a_read_only_place_gives_one_line(cli: Any, frames: Path, small_disk: Callable[[str], Path]) -> None:
    disk = small_disk("ro")
    assert "Read-only file system" in cli.fails("extract", frames, "-o", disk / "clip.zarr")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--qp", "99"],
        ["--size", "176"],
        ["--bitrate", "fast"],
        ["--frame-rate", "0"],
        ["--workers", "0"],
        ["--workers", "2", "--scheduler", "tcp://127.0.0.1:8786"],
        ["--gop", "sideways"],
        ["--nonsense"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(cli: Any, frames: Path, arguments: list[str]) -> None:
    done = cli("extract", frames, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: codecprior extract [OPTIONS] INPUT\n")


# ---- memory


@pytest.mark.slow
def test_memory_does_not_grow_with_the_clip(cli: Any, conformance_dir: Path, tmp_path: Path) -> None:
    coded = (conformance_dir / "8b400_A_Bytedance_2.bit").read_bytes()  # 49 frames, 832x480, luma only

    def peak_bytes(times: int) -> int:
        clip = tmp_path / f"{times}.266"
        clip.write_bytes(coded * times)
        command = [*cli.command, "extract", str(clip), "--with-frames"]
        process = subprocess.Popen(command, env=cli.environment, stdout=subprocess.DEVNULL)
        peak = 0
        while process.poll() is None:  # ru_maxrss of a child begins with what this process has
            found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
            peak = max(peak, int(found[1]) if found else 0)
            time.sleep(0.01)
        assert len(codecprior.open_store(clip.with_suffix(".zarr"))) == 49 * times
        return peak * 1024

    frame_bytes = 832 * 480 * (2 + 1)  # 16 bit residual, 8 bit picture
    short, long = peak_bytes(2), peak_bytes(10)
    assert long - short < 0.25 * (10 - 2) * 49 * frame_bytes
