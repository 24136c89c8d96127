"""Libraries that write to descriptor 2 are silenced, and heard again in an error or with -v."""

import ctypes
import os

import pytest

from firsttoken import quiet
from firsttoken.errors import FirstTokenError
from firsttoken.quiet import quiet_output, quiet_runtime


def chatter(text: str):
    os.write(2, text.encode())  # as C++ does, past sys.stderr


def test_chatter_is_silenced_and_comes_back_after(capfd):
    with quiet_runtime():
        chatter("INFO: created a delegate\n")
        with quiet_runtime():
            chatter("INFO: inner\n")
    chatter("after\n")
    assert capfd.readouterr().err == "after\n"


def test_the_last_complaint_joins_the_error(capfd):
    with pytest.raises(FirstTokenError, match=r"cannot load it \[the runtime said: ERROR: no kernel for op 7\]"), quiet_runtime():
        chatter("INFO: hello\nERROR: no kernel for op 7\nINFO: bye\n")
        raise FirstTokenError("cannot load it")
    with pytest.raises(FirstTokenError) as caught, quiet_runtime():
        chatter("INFO: hello\n")
        raise FirstTokenError("bad weights")
    assert str(caught.value) == "bad weights"
    assert capfd.readouterr().err == ""


def test_verbose_hears_everything(capfd):
    quiet.set_verbose(True)
    try:
        with quiet_runtime():
            chatter("INFO: hello\n")
    finally:
        quiet._verbose = False
    assert capfd.readouterr().err == "INFO: hello\n"


def test_what_c_prints_to_standard_output_is_silenced_and_python_is_heard_after(capfd):
    print("before")
    with quiet_output():
        ctypes.CDLL(None).puts(b"a solver's own line")
        os.write(1, b"and another\n")
    print("after", flush=True)
    assert capfd.readouterr().out == "before\nafter\n"
