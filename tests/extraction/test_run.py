from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from codecprior.core.priors import FramePriors
from codecprior.errors import ConfigError, DatasetError
from codecprior.extraction.backend import Backend, Trace
from codecprior.extraction.run import Job, extract_here, extract_on_cluster, plan
from codecprior.extraction.sequence import ExtractionSettings
from codecprior.extraction.vvc import VvcBackend
from codecprior.store import open_store
from vvc_wrappers.vvenc import VVencOptions

SETTINGS = ExtractionSettings(backend=VvcBackend(encoder=VVencOptions(threads=1), decoder_threads=1))


def stores(jobs: list[Job]) -> list[str]:
    return [job.store for job in jobs]


@pytest.fixture
def dataset(tiny: Any, tmp_path: Path) -> Path:
    """A folder of frames, a video, and further down a raw file and a broken folder of frames."""
    root = tmp_path / "dataset"
    tiny.pictures(root / "frames", count=3)
    tiny.mp4(root / "clip.mp4", times=range(3))
    tiny.y4m(root / "deep" / "down" / "raw.y4m", count=3)
    (tiny.pictures(root / "deep" / "broken", count=3) / "1.png").write_bytes(b"")
    return root


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- where stores go


def test_one_sequence_goes_beside_its_input(here: Path, dataset: Path) -> None:
    assert stores(plan("dataset/clip.mp4")) == ["dataset/clip.zarr"]
    assert stores(plan("dataset/frames/")) == ["dataset/frames.zarr"]
    assert stores(plan(dataset / "deep" / "down" / "raw.y4m")) == [f"{dataset}/deep/down/raw.zarr"]


def test_the_folder_one_is_in_goes_beside_itself(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(dataset / "frames")
    assert stores(plan(".")) == [f"{dataset}/frames.zarr"]
    monkeypatch.chdir(dataset / "deep")
    assert stores(plan("..", "out"))[0] == "out/clip.zarr"
    assert stores(plan(".."))[0] == f"{dataset}-priors/clip.zarr"


def test_a_dataset_goes_into_a_folder_beside_it(here: Path, dataset: Path) -> None:
    names = ["clip", "deep/broken", "deep/down/raw", "frames"]
    assert stores(plan("dataset")) == [f"dataset-priors/{name}.zarr" for name in names]
    assert stores(plan("dataset", "out/")) == [f"out/{name}.zarr" for name in names]
    assert stores(plan("dataset", "s3://bucket/out"))[1] == "s3://bucket/out/deep/broken.zarr"


@pytest.mark.parametrize(
    ("output", "store"),
    [
        ("priors", "priors/frames.zarr"),
        ("priors/one.zarr", "priors/one.zarr"),
        ("priors/one.zarr/", "priors/one.zarr"),
        (".", "./frames.zarr"),
        ("s3://bucket/one.zarr", "s3://bucket/one.zarr"),
        ("s3://bucket/", "s3://bucket/frames.zarr"),
        ("file:///tmp/one.zarr", "/tmp/one.zarr"),
    ],
)
def test_the_output_of_one_sequence_is_a_store_or_the_folder_for_it(dataset: Path, output: str, store: str) -> None:
    assert stores(plan(dataset / "frames", output)) == [store]


def test_what_earlier_runs_made_is_no_input(dataset: Path) -> None:
    before = plan(dataset, str(dataset))
    for job in before:
        extract_here(job, SETTINGS)
    assert plan(dataset, str(dataset)) == before


def test_impossible_outputs_are_refused(dataset: Path) -> None:
    with pytest.raises(ConfigError, match=r"one\.zarr: .*dataset is a dataset; give a folder"):
        plan(dataset, "one.zarr")
    with pytest.raises(ConfigError, match="output ''"):
        plan(dataset / "frames", "")
    with pytest.raises(DatasetError, match="no such file or folder"):
        plan(dataset / "nothing")


# ---- here


def test_folders_on_the_way_to_a_store_are_made(dataset: Path, tmp_path: Path) -> None:
    job = plan(dataset / "frames", str(tmp_path / "a" / "b" / "clip.zarr"))[0]
    assert extract_here(job, SETTINGS).status == "extracted"
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["clip.266", "clip.zarr"]


def test_one_bad_sequence_fails_alone(dataset: Path, tmp_path: Path) -> None:
    results = [extract_here(job, SETTINGS) for job in plan(dataset, str(tmp_path / "out"))]
    assert [result.status for result in results] == ["extracted", "failed", "extracted", "extracted"]
    assert results[1].error == f"{dataset}/deep/broken/1.png: is empty; replace or remove it"
    assert results[1].name == "deep/broken"
    assert not (tmp_path / "out" / "deep" / "broken.zarr").exists()


def test_a_failing_program_is_named_with_its_input(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = plan(dataset / "frames", str(tmp_path / "clip.zarr"))[0]
    encoder = VVencOptions(threads=1, extra={"internchromaformat": "444"})
    result = extract_here(job, ExtractionSettings(backend=VvcBackend(encoder=encoder)))
    assert result.status == "failed"
    assert result.error is not None
    assert "\n" not in result.error


def test_an_output_below_a_file_is_one_line(dataset: Path) -> None:
    result = extract_here(plan(dataset / "frames", str(dataset / "clip.mp4" / "x.zarr"))[0], SETTINGS)
    assert result.error == (
        f"{dataset}/clip.mp4/x.zarr: cannot write: Not a directory; free space or choose another folder"
    )


@dataclass(frozen=True)
class Broken(Backend):
    """A codec with a bug."""

    def pictures(self, trace: Trace) -> Iterator[FramePriors]:
        raise ZeroDivisionError("a bug")

    def facts(self, source: object) -> dict[str, Any]:
        return {}

    def identity(self, source: object) -> dict[str, Any]:
        return {}


def test_a_bug_does_not_stop_other_sequences(dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    job = plan(dataset / "frames", str(tmp_path / "clip.zarr"))[0]
    result = extract_here(job, ExtractionSettings(backend=Broken()))
    assert result.error == f"{dataset}/frames: unexpected ZeroDivisionError: a bug; please report it"
    assert "Traceback" in caplog.text
    assert not (tmp_path / "clip.zarr").exists()


# ---- on a cluster


def test_a_cluster_on_this_machine_extracts_all_that_can_be(
    dataset: Path, tmp_path: Path, tiny: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    jobs = plan(dataset, str(tmp_path / "out"))
    results = {result.name: result for result in extract_on_cluster(jobs, SETTINGS, workers=2)}
    assert {name: result.status for name, result in results.items()} == {
        "clip": "extracted",
        "deep/broken": "failed",
        "deep/down/raw": "extracted",
        "frames": "extracted",
    }
    assert capfd.readouterr().err == ""
    for job in plan(dataset, str(tmp_path / "alone")):
        extract_here(job, SETTINGS)
    for name in ("clip", "deep/down/raw", "frames"):
        assert tiny.content(tmp_path / "out" / f"{name}.zarr") == tiny.content(tmp_path / "alone" / f"{name}.zarr")


@dataclass(frozen=True)
class Fatal(VvcBackend):
    """Kills the first process that extracts."""

    note: Path = Path()

    def pictures(self, trace: Trace) -> Iterator[FramePriors]:
        for index, frame in enumerate(super().pictures(trace)):
            if index == 1 and not self.note.exists():
                self.note.write_text(str(os.getpid()))
                os.kill(os.getpid(), 9)
            yield frame


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(dataset: Path, tmp_path: Path) -> None:
    backend = Fatal(encoder=VVencOptions(threads=1), decoder_threads=1, note=tmp_path / "killed")
    jobs = plan(dataset, str(tmp_path / "out"))
    results = list(extract_on_cluster(jobs, ExtractionSettings(backend=backend), workers=2))
    assert int((tmp_path / "killed").read_text()) != os.getpid()
    assert sorted((result.name, result.status) for result in results if result.status == "extracted") == [
        ("clip", "extracted"),
        ("deep/down/raw", "extracted"),
        ("frames", "extracted"),
    ]
    for name in ("clip", "deep/down/raw", "frames"):
        assert len(open_store(tmp_path / "out" / f"{name}.zarr")) == 3
    assert not list((tmp_path / "out").rglob("*.partial"))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense", "nosuch://host:1"])
def test_a_scheduler_that_is_not_there_is_one_line(
    dataset: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codecprior.extraction.cluster._CONNECT_SECONDS", 1)
    with pytest.raises(ConfigError, match=f"{address}: no Dask scheduler there .*; give tcp://HOST:PORT") as caught:
        list(extract_on_cluster(plan(dataset), SETTINGS, scheduler=address))
    assert "\n" not in str(caught.value)
