"""Which format a file is in by its first bytes, what is refused before a runtime sees it, and where it is tried first."""

import os
import re
import subprocess
import sys

import pytest

from firsttoken.cli import run
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.foreign.open import format_of, is_file
from firsttoken.foreign.signature_file import begin_of, metadata_of, offered
from firsttoken.pipeline import export


def test_formats_are_told_by_their_first_bytes(tmp_path, own_litertlm, demo_bundle):
    assert format_of(own_litertlm).name == ".litertlm" and format_of(demo_bundle("tflite-xnnpack") / "model.tflite").name == ".tflite"
    other = tmp_path / "model.tflite"  # whatever it is called
    other.write_bytes(b"\x00\x00\x00\x00ET12" + bytes(60))
    assert format_of(other).name == ".pte"
    for content in (b"", b"TFL3", b"%PDF-1.7\x1b[2J"):
        other.write_bytes(content)
        with pytest.raises(
            FirstTokenError, match=r"is no \.tflite, \.litertlm, \.pte file \(it begins .*\); give one of these, or a bundle"
        ):
            format_of(other)


def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "model.pte")
    assert is_file(tmp_path / "model.pte") and not is_file(tmp_path) and not is_file(tmp_path / "absent")
    with pytest.raises(FirstTokenError, match="is a named pipe; expected a plain file"):
        format_of(tmp_path / "model.pte")


def test_what_its_metadata_says(own_litertlm):
    found = offered(own_litertlm)
    assert (found.vocab_size, found.cache_length, found.fixed, found.begin, found.names_words) == (4096, 1280, False, None, True)
    metadata = metadata_of(own_litertlm)
    metadata.start_token.token_str = "<s>"
    assert begin_of(metadata) == "<s>"
    metadata.start_token.token_ids.ids.append(3)
    assert begin_of(metadata) == 3


def test_a_mask_over_more_rows_than_may_be_used(tmp_path):
    """As firsttoken's fixed lengths have it, whose padding needs room behind the last row."""
    [bundle] = export(checkpoint_path(), tmp_path, "fp32", ("litertlm-cpu-fixed",), prove=False, cache_length=100)
    found = offered(bundle / "model.litertlm")
    assert found.cache_length == 100 and found.fixed and found.chunk == 64
    assert re.fullmatch(r"LlmMetadata.max_num_tokens, under a mask over 1\d\d", found.looked_for)


def test_a_tflite_out_of_the_container_does_not_say_its_length(own_litertlm, tmp_path, capfd):
    from firsttoken.foreign.signature_file import graphs

    section, path = graphs(own_litertlm), tmp_path / "graphs.tflite"
    path.write_bytes(section.read(0, section.size))
    assert run(["prove", str(path), "-c", str(checkpoint_path())]) == 2
    said = capfd.readouterr().err
    assert "looked for a mask of fixed length, and LlmMetadata of a .litertlm" in said and "--cache-length" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["prove", "FOLDER", "-c", "CHECKPOINT"], "manifest.json: missing; a folder without it is not a bundle; .*by its file's own path"),
        (["prove", "FILE"], "Missing option '--checkpoint'"),
        (["bench", "FILE"], "is a file, which says no words; give the checkpoint that it was made from with --checkpoint"),
        (["prove", "FILE", "-c", "CHECKPOINT", "--on", "arm"], "is a file, which is proven on this machine alone; leave out --on"),
        (["prove", "BUNDLE", "-c", "CHECKPOINT", "--plan", "int8"], "--plan goes with a file; bundle .* says it itself, leave it out"),
        (["prove", "FILE", "-c", "CHECKPOINT", "--plan", "in8"], "in8.*did you mean 'int8'"),
        (["bench", "FILE", "-c", "CHECKPOINT", "--prompts", "1270"], "file .*: 1270 prompt tokens and 32 decoded ones do not fit its cache of 1280"),
    ],
)  # fmt: skip
def test_usage_is_refused_in_one_line(arguments, said, own_litertlm, tmp_path, demo_bundle, capfd):
    places = {"FOLDER": tmp_path, "FILE": own_litertlm, "CHECKPOINT": checkpoint_path(), "BUNDLE": demo_bundle("tflite-xnnpack")}
    assert run([str(places.get(each, each)) for each in arguments]) == 2
    err = capfd.readouterr().err
    assert re.search(said, err) and len(err.strip().splitlines()) == 1


def test_the_process_that_tries_it_first(own_litertlm, tmp_path):
    def tried(path) -> int:
        return subprocess.run([sys.executable, "-m", "firsttoken.foreign.trial_worker", str(path)], stderr=subprocess.DEVNULL).returncode

    assert tried(own_litertlm) == 0
    (tmp_path / "none.pte").write_bytes(b"nothing")
    assert tried(tmp_path / "none.pte") == 1
