import numpy as np
import pytest

from firsttoken.calibration.text import LEAST, TOKENS, WINDOW, CalibrationText, read_text, refuse_overlap, windows_of
from firsttoken.demo import checkpoint_path, held_out_text
from firsttoken.errors import FirstTokenError
from firsttoken.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(checkpoint_path())


def test_the_built_in_text_is_none_of_the_proofs(tokenizer):
    built_in = read_text(None)
    refuse_overlap(built_in, held_out_text(), "the demo's")
    windows = windows_of(built_in, tokenizer)
    assert len(windows) == TOKENS // WINDOW and {window.shape for window in windows} == {(WINDOW,)}
    assert len({tuple(window) for window in windows}) == len(windows)
    assert max(window.max() for window in windows) < tokenizer.vocab_size


def test_a_text_that_the_proof_runs_is_refused():
    stolen = "Before. " + " ".join(held_out_text().split()[100:140])
    with pytest.raises(FirstTokenError, match="mine: shares 13 words in a row with held_out.txt, which the proof runs; give another"):
        refuse_overlap(CalibrationText("mine", stolen), held_out_text(), "held_out.txt")


@pytest.mark.parametrize("text", ["def one(): return 1\n" * 20, "", "\n"])
def test_too_short(text, tokenizer):
    with pytest.raises(FirstTokenError, match=f"mine: [0-9]+ tokens; expected at least {LEAST}, give a longer one with --calibration"):
        windows_of(CalibrationText("mine", text), tokenizer)


def test_a_short_text_gives_fewer_windows_and_all_of_it(tokenizer):
    text = "".join(f"value_{n} = {n * n}\n" for n in range(400))
    tokens = tokenizer.encode(text, begin=False)
    assert LEAST < len(tokens) < TOKENS
    windows = windows_of(CalibrationText("mine", text), tokenizer)
    assert len(windows) == len(tokens) // WINDOW
    assert np.array_equal(windows[0], tokens[:WINDOW]) and np.array_equal(windows[-1], tokens[-WINDOW:])


def test_what_cannot_be_read(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FirstTokenError, match="calibration text .*text.txt: cannot be read as UTF-8 text"):
        read_text(path)
    with pytest.raises(FirstTokenError, match="cannot be read"):
        read_text(tmp_path / "absent.txt")
