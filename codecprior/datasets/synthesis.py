"""Synthesised sequences on disk: ``{blur,sharp}/<sequence>/NNNNNNNN.png`` and a record of how each was made.

``synthesis/<sequence>.json`` beside the two sides says from what and with which settings a sequence was made and what
each frame shows. It is marked as finished when all folders have got their names, so that a run that was ended at any
moment can be repeated: what is finished is left, everything else is made again.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from codecprior import __version__
from codecprior.errors import DatasetError
from codecprior.media.files import written_whole
from codecprior.media.picture_files import PictureWriter

__all__ = ["Progress", "SequenceFolders", "SynthesisResult", "sequence_seed"]

Progress = Callable[[int, "int | None"], None]
"""Called with the number of frames done and of all frames, None where it is unknown."""

SynthesisStatus = Literal["synthesized", "skipped", "failed"]

_RECORDS: Final = "synthesis"


@dataclass(frozen=True, kw_only=True)
class SynthesisResult:
    """What became of one sequence.

    Parameters
    ----------
    name : str
        Name of the sequence.
    folders : tuple of str
        Its folder on each side.
    status : {"synthesized", "skipped", "failed"}
        ``"skipped"``: it was finished before.
    num_frames : int
        Blurry frames.
    seconds : float
        Time it took.
    error : str, optional
        Why it failed, one line.
    """

    name: str
    folders: tuple[str, ...]
    status: SynthesisStatus
    num_frames: int = 0
    seconds: float = 0.0
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class SequenceFolders:
    """Where one sequence lies.

    Parameters
    ----------
    root : pathlib.Path
        Folder that holds the sides.
    name : str
        Name of the sequence.
    sides : tuple of str
        Folders in which the sequence has one of its own.
    """

    root: Path
    name: str
    sides: tuple[str, ...] = ("blur", "sharp")

    @property
    def folders(self) -> tuple[Path, ...]:
        """The sequence's folder on each side."""
        return tuple(self.root / side / self.name for side in self.sides)

    def result(self, status: SynthesisStatus, **facts: Any) -> SynthesisResult:
        """Say what became of the sequence, in the words of :class:`SynthesisResult`."""
        return SynthesisResult(name=self.name, folders=tuple(map(str, self.folders)), status=status, **facts)

    def finished_frames(self, made_from: Mapping[str, Any], *, overwrite: bool) -> int:
        """Look for the sequence.

        Parameters
        ----------
        made_from : mapping
            Digest of the source and settings, as JSON values.
        overwrite : bool
            Whether a sequence that was made from something else may give way.

        Returns
        -------
        int
            Number of frames if the sequence is finished and was made from this, 0 if it is to be made.

        Raises
        ------
        DatasetError
            If something else is in its place.
        """
        taken = next((folder for folder in self.folders if folder.exists()), None)
        record = self._read_record()
        if record is None:
            if taken and not overwrite:
                raise DatasetError(f"{taken}: was not made by this command; use --overwrite or choose another output")
            return 0
        if record["made_from"] != json.loads(json.dumps(made_from)):
            if taken and record["finished"] and not overwrite:
                raise DatasetError(f"{taken}: has another source or settings; use --overwrite or choose another output")
            return 0
        whole = record["finished"] and all(folder.exists() for folder in self.folders)
        return len(record["frames"]) if whole else 0

    @contextmanager
    def writing(
        self, made_from: Mapping[str, Any], source: str | Path, frames: Sequence[Mapping[str, Any]]
    ) -> Iterator[tuple[PictureWriter, ...]]:
        """Write the sequence, which gets its name when the block ends without an error.

        Parameters
        ----------
        made_from : mapping
            Digest of the source and settings, as JSON values.
        source : path-like
            Where the source is.
        frames : sequence of mapping
            What each frame shows, as JSON values; may grow within the block.

        Yields
        ------
        tuple of PictureWriter
            One for each side.

        Raises
        ------
        MediaError
            If something cannot be written.
        """
        with ExitStack() as stack:
            yield tuple(stack.enter_context(PictureWriter(folder, overwrite=True)) for folder in self.folders)
            record = {
                "made_from": made_from,
                "source": str(source),
                "codecprior": __version__,
                "command": sys.argv,
                "frames": frames,
            }
            self._write_record({"finished": False, **record})
        self._write_record({"finished": True, **record})

    @property
    def _record(self) -> Path:
        return self.root / _RECORDS / f"{self.name}.json"

    def _read_record(self) -> dict[str, Any] | None:
        try:
            record = json.loads(self._record.read_bytes())
            return {key: record[key] for key in ("finished", "made_from", "frames")}
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise DatasetError(f"{self._record}: is no record of a synthesised sequence; remove it") from error

    def _write_record(self, record: Mapping[str, Any]) -> None:
        head = json.dumps({**record, "frames": []}, indent=2).removesuffix("[]\n}")
        lines = ",\n".join(f"    {json.dumps(frame)}" for frame in record["frames"])
        with written_whole(self._record) as partial:
            partial.write_text(f"{head}[\n{lines}\n  ]\n}}\n", "utf-8")


def sequence_seed(seed: int, name: str) -> int:
    """Give each sequence random numbers of its own, whatever is made before or beside it.

    Parameters
    ----------
    seed : int
        Seed of the run.
    name : str
        Name of the sequence.

    Returns
    -------
    int
        Seed of the sequence, below 2^64.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()[:8], "big")
