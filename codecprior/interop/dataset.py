"""Whole datasets in other tools' formats and back: one sequence after the other, and one that fails fails alone.

A CPGD-Net tree gets a clip for each sequence; what an earlier run finished is skipped. An HDF5 file gets a group for
each sequence and appears when the last one is done.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from codecprior.errors import CodecpriorError, ConfigError, DatasetError
from codecprior.interop.common import REVERSE_LEFT_OUT
from codecprior.interop.convert import arrays_for, hdf5_passes, import_store, num_passes, open_import
from codecprior.interop.cpgdnet_tree import FRAME_FOLDERS, FramesPolicy, lay_out_frames, write_meta_info
from codecprior.store import PriorsStore, open_store
from codecprior.store.bulk import keep_freed_memory
from codecprior.store.location import Location, is_complete, is_url
from codecprior.store.packed import open_packed, pack_frames
from codecprior.store.schema import CHECKSUMS_FILE

__all__ = [
    "DATASET_FORMATS",
    "ManifestLine",
    "SequenceOutcome",
    "chosen_sequences",
    "export_dataset",
    "import_dataset",
    "import_target",
    "sequences_of",
]

DATASET_FORMATS: Final = ("cpgd-net", "hdf5")
"""Formats that hold more than one sequence."""

_IMPORT_KEY: Final = "import_digest"
_SEVERAL_SPLITS: Final = (
    "their test loader takes every clip of a tree, of whatever split: export each --split into a tree of its own"
)

Progress = Callable[[int, int], object]
"""Called with the number of frames done and the total."""

StartProgress = Callable[[str], Progress]
"""Called with the name of a sequence when it begins."""

ManifestLine = Mapping[str, Any]
"""What a line of a manifest says of a sequence (:class:`codecprior.datasets.manifest.ManifestEntry`), as JSON values,
with local paths or URLs that need no folder to be found."""


@dataclass(frozen=True, kw_only=True)
class SequenceOutcome:
    """What became of one sequence.

    Parameters
    ----------
    name : str
        ``<split>/<sequence>``, or the name of a clip.
    output : str
        The store, the folder of the clip, or the file.
    status : {"written", "skipped", "failed"}
        ``"skipped"``: an earlier run wrote the same.
    num_frames : int
        Frames.
    notes : tuple of str
        What the format cannot say or know, one sentence each.
    error : str, optional
        Why it failed, one line.
    line : mapping, optional
        What a manifest of the imported dataset says of it.
    """

    name: str
    output: str
    status: Literal["written", "skipped", "failed"] = "written"
    num_frames: int = 0
    notes: tuple[str, ...] = ()
    error: str | None = None
    line: ManifestLine | None = None


def chosen_sequences(
    lines: Iterable[ManifestLine], file_format: str, *, split: str | None = None
) -> list[ManifestLine]:
    """Say which sequences of a dataset an export writes.

    Parameters
    ----------
    lines : iterable of mapping
        The sequences, as a manifest has them.
    file_format : str
        One of :data:`DATASET_FORMATS`.
    split : str, optional
        Only this one.

    Returns
    -------
    list of mapping
        In the order of the manifest.

    Raises
    ------
    ConfigError
        If the format holds one sequence only, or there is no such split.
    DatasetError
        If a CPGD-Net tree would need one name for two clips.
    """
    if file_format not in DATASET_FORMATS:
        raise ConfigError(f"format {file_format} holds one sequence: export store by store, or the dataset to hdf5")
    lines = list(lines)
    chosen = [line for line in lines if split in (None, line["split"])]
    if not chosen:
        known = sorted({line["split"] for line in lines})
        raise ConfigError(f"no split {split!r}; the dataset has {', '.join(known)}")
    splits: dict[str, str] = {}
    for line in chosen:
        other = splits.setdefault(line["sequence"], line["split"])
        if file_format == "cpgd-net" and other != line["split"]:
            # Another name for one of them would not be that of its frames, which their loaders look for by it.
            raise DatasetError(
                f"{line['sequence']} is in the splits {other} and {line['split']}, which a CPGD-Net tree does not tell "
                "apart; export each --split into a tree of its own"
            )
    return chosen


def export_dataset(
    lines: Iterable[ManifestLine],
    path: str | os.PathLike[str],
    file_format: str,
    *,
    split: str | None = None,
    digits: int = 5,
    frames: FramesPolicy | None = None,
    overwrite: bool = False,
    progress: StartProgress | None = None,
) -> Iterator[SequenceOutcome]:
    """Write a prepared dataset in another tool's format.

    Parameters
    ----------
    lines : iterable of mapping
        The sequences, as a manifest has them.
    path : path-like
        Root of the CPGD-Net tree, or the HDF5 file.
    file_format : str
        One of :data:`DATASET_FORMATS`.
    split : str, optional
        Only this one.
    digits : int
        Digits of frame numbers in a CPGD-Net tree.
    frames : {"link", "copy"}, optional
        Put frames there as well: links to pictures or copies of them into a CPGD-Net tree, copies of packed frames into
        an HDF5 file.
    overwrite : bool
        Replace clips, or the file, that are there.
    progress : callable, optional
        Called with the name of each sequence; what it returns is called with frames done and their total.

    Yields
    ------
    SequenceOutcome
        One for each sequence. What is written appears at the latest when the iteration ends.

    Raises
    ------
    ConfigError
        If an option does not fit, the file exists, or no sequence could be written into it.
    DatasetError
        If a CPGD-Net tree would need one name for two clips.
    """
    keep_freed_memory()
    chosen = chosen_sequences(lines, file_format, split=split)
    if file_format == "cpgd-net":
        several = len({line["split"] for line in chosen}) > 1
        opened = _tree(Path(path), digits, frames, (_SEVERAL_SPLITS,) if several else (), overwrite=overwrite)
    else:
        opened = _file(Path(path), frames, overwrite=overwrite)
    with opened as write:
        for line in chosen:
            name = _name(line)
            yield _alone(name, str(path), partial(write, line, progress(name) if progress else None))


_Write = Callable[[ManifestLine, "Progress | None"], SequenceOutcome]


@contextmanager
def _tree(
    root: Path, digits: int, frames: FramesPolicy | None, notes: tuple[str, ...], *, overwrite: bool
) -> Iterator[_Write]:
    from codecprior.interop.cpgdnet import export_cpgd_net, read_clip_metadata

    done = []

    def write(line: ManifestLine, progress: Progress | None) -> SequenceOutcome:
        store, clip = _open(line), line["sequence"]
        checksums = Location(store.location).read_bytes(CHECKSUMS_FILE)
        facts = {"split": line["split"], "digits": digits, "store_sha256": hashlib.sha256(checksums).hexdigest()}
        metadata = read_clip_metadata(root, clip)
        outcome = SequenceOutcome(name=_name(line), output=str(root / "MVs" / clip), num_frames=len(store))
        if not overwrite and metadata is not None and metadata.get("facts") == facts:
            outcome = replace(outcome, status="skipped")
        else:
            report = export_cpgd_net(
                store.select(*arrays_for(store, "cpgd-net")),
                root,
                clip=clip,
                digits=digits,
                facts=facts,
                overwrite=overwrite,
                progress=_of(progress, len(store)),
            )
            reverse = () if store.reverse is None else (REVERSE_LEFT_OUT,)
            outcome = replace(outcome, notes=(*report.not_represented, *reverse, *notes))
        if frames:
            lay_out_frames(line, root, clip, frames, digits=digits, overwrite=overwrite)
        done.append(clip)
        return outcome

    yield write
    if done:
        write_meta_info(root)


@contextmanager
def _file(path: Path, frames: FramesPolicy | None, *, overwrite: bool) -> Iterator[_Write]:
    from codecprior.interop.hdf5 import hdf5_dataset, write_frames, write_manifest_line, write_priors

    if frames == "link":
        raise ConfigError(f"{path}: an HDF5 file cannot link to frames; copy them")
    with hdf5_dataset(path, overwrite=overwrite) as file:

        def write(line: ManifestLine, progress: Progress | None) -> SequenceOutcome:
            store, name = _open(line), _name(line)
            if frames and not line.get("frames"):
                raise DatasetError(f"{name} has no packed frames; prepare the dataset with --frames pack")
            forward, reverse = hdf5_passes(store)
            shown = _of(progress, len(store) * num_passes(store, "hdf5"))
            group = file.create_group(name)
            try:
                count, lost = write_priors(group, forward, facts=store.attributes, reverse=reverse, progress=shown)
                if frames:
                    write_frames(group, open_packed(line["frames"]), [side for side in FRAME_FOLDERS if line[side]])
                write_manifest_line(group, line)
            except BaseException:
                del file[name]
                raise
            return SequenceOutcome(name=name, output=str(path), num_frames=count, notes=lost)

        yield write


def sequences_of(path: str | os.PathLike[str], file_format: str) -> tuple[str, ...]:
    """Name the sequences in another tool's dataset.

    Parameters
    ----------
    path : path-like
        Root of a CPGD-Net tree, or HDF5 file.
    file_format : str
        One of :data:`~codecprior.interop.convert.FORMATS`.

    Returns
    -------
    tuple of str
        Empty where the file or the format holds a single sequence that has no name.

    Raises
    ------
    DatasetError, SchemaError
        If the files do not follow the format.
    """
    if file_format == "cpgd-net":
        from codecprior.interop.cpgdnet import cpgd_net_clips

        return cpgd_net_clips(path)
    if file_format == "hdf5":
        from codecprior.interop.hdf5 import hdf5_sequences

        return hdf5_sequences(path)
    return ()


def import_dataset(
    path: str | os.PathLike[str],
    output: str,
    file_format: str,
    *,
    overwrite: bool = False,
    progress: StartProgress | None = None,
) -> Iterator[SequenceOutcome]:
    """Write every sequence of another tool's dataset as a store.

    A clip of a CPGD-Net tree becomes ``<output>/<clip>.zarr``. The sequences of an HDF5 file become
    ``<output>/priors/<split>/<sequence>.zarr``, as in a prepared dataset, and their frames, where it has any,
    ``<output>/frames/<split>/<sequence>.zarr``.

    Parameters
    ----------
    path : path-like
        Root of the CPGD-Net tree, or the HDF5 file.
    output : str
        Folder or URL for the stores.
    file_format : str
        One of :data:`DATASET_FORMATS`.
    overwrite : bool
        Replace finished stores.
    progress : callable, optional
        Called with the name of each sequence; what it returns is called with frames done and their total.

    Yields
    ------
    SequenceOutcome
        One for each sequence, when its store is there.

    Raises
    ------
    DatasetError, SchemaError
        If the files do not follow the format at all.
    """
    keep_freed_memory()
    for name in sequences_of(path, file_format):
        store = import_target(output, name, file_format)
        work = partial(_import, Path(path), name, output, store, file_format, overwrite=overwrite)
        yield _alone(name, store, partial(work, progress=progress(name) if progress else None))


def import_target(output: str, name: str, file_format: str) -> str:
    """Say where :func:`import_dataset` puts the store of a sequence."""
    return f"{output.rstrip('/')}/{'priors/' if file_format == 'hdf5' else ''}{name}.zarr"


def _import(
    path: Path,
    name: str,
    output: str,
    store: str,
    file_format: str,
    *,
    overwrite: bool,
    progress: Progress | None,
) -> SequenceOutcome:
    digest = _digest(path, name, file_format)
    before = None if overwrite or not is_complete(store) else open_store(store)
    if before is not None and before.attributes.get(_IMPORT_KEY) == digest:
        outcome = SequenceOutcome(name=name, output=store, status="skipped", num_frames=len(before))
    else:
        imported = open_import(path, file_format, clip=name)
        marked = replace(imported, attributes={**imported.attributes, _IMPORT_KEY: digest})
        shown = _of(progress, len(imported) * num_passes(imported, file_format))
        import_store(marked, store, overwrite=overwrite, progress=shown)
        outcome = SequenceOutcome(name=name, output=store, num_frames=len(imported), notes=imported.unknown)
    if file_format != "hdf5":
        return outcome
    from codecprior.interop.hdf5 import read_frames, read_manifest_line

    line = {**read_manifest_line(path, name), "store": store}
    if frames := read_frames(path, name):
        line["frames"] = f"{output.rstrip('/')}/frames/{name}.zarr"
        if overwrite or not is_complete(line["frames"]):
            pack_frames(line["frames"], frames, num_frames=outcome.num_frames, facts={"sequence": name}, overwrite=True)
    elif line.get("frames") and not is_url(line["frames"]) and not is_complete(line["frames"]):
        line["frames"] = None  # they stayed on another machine
    return replace(outcome, line=line)


def _alone(name: str, output: str, work: Callable[[], SequenceOutcome]) -> SequenceOutcome:
    """Do the work of one sequence, which must not take the others with it."""
    try:
        return work()
    except CodecpriorError as error:
        reason = str(error)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else f"{name}: {error}"
    return SequenceOutcome(name=name, output=output, status="failed", error=reason)


def _open(line: ManifestLine) -> PriorsStore:
    store = open_store(line["store"])
    if len(store) != line["num_frames"]:
        raise DatasetError(
            f"{store.location}: has {len(store)} frames, the manifest says {line['num_frames']} for {_name(line)}; "
            "prepare the dataset again"
        )
    return store


def _name(line: ManifestLine) -> str:
    return f"{line['split']}/{line['sequence']}"


def _of(progress: Progress | None, total: int) -> Callable[[int], object] | None:
    return None if progress is None else lambda done: progress(done, total)


def _digest(path: Path, name: str, file_format: str) -> str:
    """Identify the files of a sequence by names, sizes and times."""
    files = [path]
    if file_format == "cpgd-net":
        from codecprior.interop.cpgdnet import clip_files

        files = [*clip_files(path, name), path / f"{name}.json"]
    facts = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists()]
    return hashlib.sha256(json.dumps([name, facts]).encode()).hexdigest()
