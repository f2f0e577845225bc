"""What CPGD-Net's loaders want beside ``MVs`` and ``resi``: frames counted from 0, and the list of clips.

As read in ``basicsr/data/VideoDeblur_dataset.py`` and ``video_test_dataset.py`` of liuyike422/CPGD-Net (1b21fd5)::

    lq/<clip>/00000.png     degraded frames, where the option dataroot_lq points to
    gt/<clip>/00000.png     sharp frames (dataroot_gt)
    meta_info.txt           "<clip> <frames> (<height>,<width>,3)" a line (meta_info_file)

The training loader builds the names of frames from their index and one extension for both sides (option ``file_end``),
so that frames numbered otherwise, such as GoPro's, need other names. The test loader pairs the sorted folders of all
four roots and takes every clip in them: a tree should hold one split.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from fsspec.core import url_to_fs

from codecprior.errors import ConfigError, DatasetError
from codecprior.interop.common import staged, stream_from_json
from codecprior.interop.cpgdnet import cpgd_net_clips, read_clip_metadata
from codecprior.store.location import is_url

__all__ = ["FRAME_FOLDERS", "META_INFO", "FramesPolicy", "lay_out_frames", "write_meta_info"]

FramesPolicy = Literal["link", "copy"]
"""Symbolic links to the files of a dataset, or copies."""

FRAME_FOLDERS: Final = {"blurry": "lq", "sharp": "gt"}
"""Folder of each side of a pair."""

META_INFO: Final = "meta_info.txt"
"""Name of the list of clips."""


def lay_out_frames(
    sides: Mapping[str, Sequence[str] | str | None],
    path: str | os.PathLike[str],
    clip: str,
    policy: FramesPolicy,
    *,
    digits: int = 5,
    overwrite: bool = False,
) -> None:
    """Put the frames of a clip where their loaders look for them; a folder that is there already stays.

    Parameters
    ----------
    sides : mapping
        Pictures of ``"blurry"`` and ``"sharp"`` in display order: local paths, or URLs, which can only be copied. Other
        keys are ignored, and a side may be None.
    path : path-like
        Root of the tree.
    clip : str
        Name of the clip.
    policy : {"link", "copy"}
        Whether to link to the files or to copy them.
    digits : int
        Digits of the frame numbers.
    overwrite : bool
        Replace existing folders.

    Raises
    ------
    ConfigError
        If a URL shall be linked to.
    DatasetError
        If frames are in a raw file, have different extensions, or are missing.
    """
    pictures: dict[str, Sequence[str]] = {}
    for side in FRAME_FOLDERS:
        files = sides[side] or ()
        if isinstance(files, str):
            raise DatasetError(
                f"{files}: holds all frames in one file, but their loaders read pictures; leave frames out"
            )
        pictures[side] = files
    extensions = sorted({Path(file).suffix for files in pictures.values() for file in files})
    if len(extensions) > 1:
        raise DatasetError(
            f"{clip}: has frames with {' and '.join(extensions)}; their loaders take one file name extension"
        )
    for side, folder in FRAME_FOLDERS.items():
        target = Path(path) / folder / clip
        if pictures[side] and (overwrite or not target.exists()):
            with staged(target, overwrite=overwrite) as temporary:
                temporary.mkdir()
                for index, file in enumerate(pictures[side]):
                    _put(file, temporary / f"{index:0{digits}d}{extensions[0]}", policy)


def _put(file: str, target: Path, policy: FramesPolicy) -> None:
    if policy == "link":
        if is_url(file):
            raise ConfigError(f"{file}: a URL cannot be linked to; copy the frames")
        if not Path(file).is_file():
            raise DatasetError(f"{file} is missing; restore it or prepare the dataset again")
        target.symlink_to(Path(file).resolve())
        return
    try:
        fs, path = url_to_fs(file)
        picture = fs.cat_file(path)
    except Exception as error:  # each fsspec backend has its own exceptions
        raise DatasetError(f"{file} cannot be read ({error}); restore it or prepare the dataset again") from error
    target.write_bytes(picture)


def write_meta_info(path: str | os.PathLike[str]) -> Path:
    """List the clips of a tree as their training loader reads it.

    Parameters
    ----------
    path : path-like
        Root of the tree. Every clip with metadata of the exporter is listed.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    DatasetError
        If the metadata of a clip is damaged.
    """
    root = Path(path)
    lines = []
    for clip in cpgd_net_clips(root):
        metadata = read_clip_metadata(root, clip)
        if metadata is not None:
            width, height = stream_from_json(metadata["stream"]).output_size
            lines.append(f"{clip} {metadata['last_frame'] - metadata['first_frame'] + 1} ({height},{width},3)\n")
    with staged(root / META_INFO, overwrite=True) as temporary:
        temporary.write_text("".join(lines))
    return root / META_INFO
