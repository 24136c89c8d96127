"""Keeping the underlying libraries quiet, unless ``-v`` asks to hear them.

Their C++ parts write to file descriptor 2 directly, so Python's own redirection does not reach them; what they said
is kept and its last complaint added to the error, if there is one.
"""

import ctypes
import logging
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from firsttoken import last_words
from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible

# Set before the libraries are imported; each reads its variable once.
ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "GLOG_minloglevel": "3",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}

# Lines worth adding to an error; the rest is chatter.
COMPLAINT = re.compile(r"error|fail|unsupported|cannot|not found", re.IGNORECASE)

_verbose = False


def set_verbose(verbose: bool) -> None:
    """Chooses between everything the libraries say (true) and nothing but our own lines."""
    global _verbose
    _verbose = verbose
    # for all loggers: torch gives its own new levels when it is imported
    logging.disable(logging.NOTSET if verbose else logging.WARNING)
    if verbose:
        return
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    warnings.simplefilter("ignore")


def is_verbose() -> bool:
    """Whether the user asked to hear the underlying libraries."""
    return _verbose


@contextmanager
def quiet_runtime() -> Iterator[None]:
    """Silences file descriptor 2 while the body loads or runs a library; a `FirstTokenError` gets its last complaint."""
    if _verbose:
        yield
        return
    try:
        sys.stderr.flush()
        saved = os.dup(2)
    except (OSError, AttributeError, ValueError):  # no such descriptor: nothing to silence
        yield
        return
    with _memory_file() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except FirstTokenError as error:
            error.args = (str(error) + _last_complaint(kept),)
            raise
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)


@contextmanager
def quiet_output() -> Iterator[None]:
    """The same for a library that prints to standard output from C, where a user's pipe would get it; it goes to standard error's silence."""
    with quiet_runtime():
        try:
            sys.stdout.flush()
            saved = None if _verbose else os.dup(1)
        except (OSError, AttributeError, ValueError):  # no such descriptor
            saved = None
        if saved is None:
            yield
            return
        os.dup2(2, 1)
        try:
            yield
        finally:
            ctypes.CDLL(None).fflush(None)  # what C still holds back belongs to the silence too
            os.dup2(saved, 1)
            os.close(saved)


def _memory_file() -> IO[bytes]:
    """A file for what is said; in memory where the system can, since the disk may be what is full.

    A process that is watched writes where its watcher can read it, should it not live to do so itself.
    """
    if (shared := last_words.said_file()) is not None:
        return os.fdopen(shared, "w+b")
    try:
        return os.fdopen(os.memfd_create("firsttoken-quiet"), "w+b")
    except (AttributeError, OSError):
        return tempfile.TemporaryFile()


def _last_complaint(kept: IO[bytes]) -> str:
    kept.seek(0, os.SEEK_END)
    kept.seek(max(0, kept.tell() - 4096))
    complaint = complaint_in(kept.read().decode("utf-8", "replace"))
    return f" [the runtime said: {visible(complaint)}]" if complaint else ""


def complaint_in(said: str) -> str:
    """The last line of what a library said that is more than chatter; empty if there is none."""
    lines = [line.strip() for line in said.splitlines() if COMPLAINT.search(line)]
    return lines[-1] if lines else ""
