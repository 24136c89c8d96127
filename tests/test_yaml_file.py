"""YAML: what PyYAML reads safely, numbers as YAML 1.2 has them, and what is refused."""

import pytest
import yaml

from firsttoken.yaml_file import parse_yaml


def test_plain_data_is_what_pyyaml_reads():
    text = "a: 1\nb: [1.5, -2, true, null, text, 'quoted: #']\nc:\n  - d: {e: f}\n  - relu\ng: |\n  two\n  lines\n"
    assert parse_yaml(text) == yaml.safe_load(text)


def test_scalars_are_those_of_yaml_1_2():
    text = "a: 1e-3\nb: 3.\nc: .5\nd: no\ne: 010\nf: 1:30\ng: 2001-01-01\nh: ~\ni:\nj: 1E+2\nk: -7\nl: on"
    assert parse_yaml(text) == {
        "a": 1e-3, "b": 3.0, "c": 0.5, "d": "no", "e": "010", "f": "1:30", "g": "2001-01-01", "h": None, "i": None, "j": 100.0, "k": -7, "l": "on",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text,message",
    [
        ("a: 1\nb: 2\na: 3", "line 3: a is there twice"),
        ("a: &x [1]\nb: *x", r"line 2: an alias \(\*x\); write out"),
        ("a: {1: 2}", "line 1: a field's name is '1'; expected a text"),
        ("? [a]\n: b", "line 1: a field's name"),
        ("- a", "expected fields with values, got a list"),
        ("", "expected fields with values, got nothing"),
        ("a: !!python/object/apply:os.system [true]", "could not determine a constructor"),
        ("a: [1", "while parsing a flow sequence"),
        ("a: \x00", "special characters"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_yaml(text)
