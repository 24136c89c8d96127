"""The pipes of a process that we started."""

from typing import IO, AnyStr


def piped(stream: IO[AnyStr] | None) -> IO[AnyStr]:
    """Returns our end of a pipe. A ``subprocess.Popen`` has no stream where it was given no ``PIPE``, which is a fault of the caller's."""
    assert stream is not None, "the process was started without this pipe"
    return stream
