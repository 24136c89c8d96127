"""How the death of a process is told: in one line, to someone who has to decide what to do."""

import signal

from firsttoken.last_words import signal_name
from firsttoken.quiet import complaint_in
from firsttoken.safe_text import visible


def describe(number: int, doing: str, said: str, ended: str = "firsttoken") -> str:
    """The line of a death: what was done, what ended by which signal, the library's last words, and what to do."""
    name = signal_name(number)
    what = f"{visible(doing)}: " if doing else ""
    if number == signal.SIGKILL:
        return f"{what}the system ended {ended} ({name}), most likely because memory ran out; close other programs, or use a larger machine or a smaller model"
    words = complaint_in(said)
    cause = f", saying {visible(words)!r}" if words else ""
    return (
        f"{what}a native library ended {ended} ({name}){cause}; nothing that was finished is lost. A file from a stranger may be damaged or hostile: "
        "export it again or leave it; is the disk full? -v shows all that the library says"
    )
