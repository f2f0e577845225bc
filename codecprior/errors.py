"""Every exception that codecprior raises on purpose.

The tree::

    CodecpriorError
      StoreError
        StoreNotFoundError (+FileNotFoundError)   no store at the path
        SchemaError (+ValueError)                 a store whose arrays or attributes are not format 1
        IncompleteStoreError                      a store whose writing never finished
        CorruptStoreError                         bytes that do not match their checksums
      ExtractionError                             one or more sequences failed
        UnsupportedStreamError (+ValueError)      a valid stream with a feature that cannot be traced or stored
        BitstreamError (+ValueError)              a broken or truncated stream
        TraceError (+ValueError)                  output of the tracing decoder that makes no sense
      MediaError (+ValueError)                    frames, videos or raw files that cannot be read
      ToolError
        ToolNotFoundError (+FileNotFoundError)    a program that is not installed
        ToolVersionError                          a program too old or built without a feature
        ToolFailedError                           a program that exited with an error
        ToolTimeoutError (+TimeoutError)          a program that made no progress and was killed
      DatasetError (+ValueError)                  a dataset folder that cannot be used as it is
      ConfigError (+ValueError)                   an option or configuration value out of range

Each message names the value received, what is accepted and what to do next. The command line prints it as one line
and exits with 1.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

__all__ = [
    "BitstreamError",
    "CodecpriorError",
    "ConfigError",
    "CorruptStoreError",
    "DatasetError",
    "ExtractionError",
    "IncompleteStoreError",
    "MediaError",
    "SchemaError",
    "StoreError",
    "StoreNotFoundError",
    "ToolError",
    "ToolFailedError",
    "ToolNotFoundError",
    "ToolTimeoutError",
    "ToolVersionError",
    "TraceError",
    "UnsupportedStreamError",
    "failure_reason",
]


class CodecpriorError(Exception):
    """Base of all errors of this package."""


class StoreError(CodecpriorError):
    """A priors store cannot be read or written."""


class StoreNotFoundError(StoreError, FileNotFoundError):
    """There is no priors store at the given path or URL."""


class SchemaError(StoreError, ValueError):
    """A store does not follow the format that this version reads."""


class IncompleteStoreError(StoreError):
    """Writing of a store never finished."""


class CorruptStoreError(StoreError):
    """Stored bytes do not match their checksums, or files are missing."""


class ExtractionError(CodecpriorError):
    """Extraction of one or more sequences failed."""


class UnsupportedStreamError(ExtractionError, ValueError):
    """The stream is valid but uses something that cannot be decoded, traced or stored."""


class BitstreamError(ExtractionError, ValueError):
    """The stream is broken, truncated or not a VVC stream at all."""


class TraceError(ExtractionError, ValueError):
    """The tracing decoder emitted something that does not follow the trace format."""


class MediaError(CodecpriorError, ValueError):
    """Frames, a video or a raw file cannot be read."""


class ToolError(CodecpriorError):
    """An external program is missing, unsuitable or failed."""


class ToolNotFoundError(ToolError, FileNotFoundError):
    """An external program is not installed."""


class ToolVersionError(ToolError):
    """An external program is too old or lacks a feature."""


class ToolFailedError(ToolError):
    """An external program exited with an error.

    Parameters
    ----------
    command : sequence of str
        The argument list that was run.
    returncode : int
        Exit status; negative for a signal, as in :mod:`subprocess`.
    stderr_tail : str
        The last lines that the program wrote to its standard error.
    """

    def __init__(self, command: Sequence[str], returncode: int, stderr_tail: str = "") -> None:
        self.command = tuple(command)
        self.returncode = returncode
        self.stderr_tail = stderr_tail.strip()
        super().__init__(self.command, returncode, self.stderr_tail)

    def __str__(self) -> str:
        program = self.command[0].rsplit("/", 1)[-1]
        how = f"was killed by signal {-self.returncode}" if self.returncode < 0 else f"exited with {self.returncode}"
        reason = self.stderr_tail.splitlines()[-1].strip() if self.stderr_tail else "it printed no reason"
        return f"{program} {how}: {reason}"


class ToolTimeoutError(ToolError, TimeoutError):
    """An external program made no progress and was killed."""


class DatasetError(CodecpriorError, ValueError):
    """A dataset folder cannot be used as it is."""


class ConfigError(CodecpriorError, ValueError):
    """An option or a configuration value is out of range."""


def failure_reason(error: Exception, path: str | os.PathLike[str]) -> str:
    """Say in one line why a sequence failed; what nobody foresaw is logged with its traceback.

    Parameters
    ----------
    error : Exception
        What was raised, while it is handled.
    path : path-like
        The sequence, for errors that do not name it.

    Returns
    -------
    str
        One line.
    """
    if isinstance(error, ToolError):  # names the program, but not what it was run on
        return f"{path}: {error}"
    if isinstance(error, CodecpriorError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or path}: {error.strerror or error}"
    logging.getLogger(__name__).error("%s", path, exc_info=error)
    return f"{path}: unexpected {type(error).__name__}: {error}; please report it"
