"""`plan ranges`: its figures are those that an export takes, as a table, as JSON and as a page."""

import json

import pytest
from typer.testing import CliRunner

from firsttoken.bundle.integer_facts import CalibrationFacts
from firsttoken.calibration.ranges import with_ranges
from firsttoken.calibration.text import read_text
from firsttoken.checkpoint import Checkpoint
from firsttoken.cli import app
from firsttoken.decoder.walk import open_decoder
from firsttoken.demo import checkpoint_path
from firsttoken.quant.plan import load_plan

PLAN = """
summary = "x"
[[rule]]
match = "layers.*.mlp.down"
precision = "int8-static"
range = "percentile"
[[rule]]
match = "layers.*.attention.core"
precision = "fp32"
[[rule]]
match = "*"
precision = "int8"
[gate]
mean_kld = 1
p99_kld = 1
same_top = 0.1
magnitude = 0.5
"""


def told(*arguments):
    return CliRunner().invoke(app, ["plan", "ranges", str(checkpoint_path()), *map(str, arguments)])


def test_a_plans_layers_with_what_its_export_takes(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(PLAN)
    layers = json.loads(told("--plan", path, "--json").stdout)["layers"]
    assert list(layers) == [f"layers.{n}.mlp.down" for n in range(4)]
    source, text = Checkpoint(checkpoint_path()), read_text(None)
    facts = CalibrationFacts(text=text.name, sha256=text.sha256)
    precisions = dict.fromkeys(layers, "int8-static")
    found = with_ranges(source, open_decoder(source), load_plan(path), precisions, facts, text).ranges
    for name, one in layers.items():
        assert one["precision"] == "int8-static" and one["outlier_channels"] == found[name].outlier_channels
        assert (
            one["input"]["percentile"] == found[name].input.model_dump() and one["output"]["percentile"] == found[name].output.model_dump()
        )
        assert one["input"]["min-max"]["saturated"] == 0 < one["input"]["percentile"]["saturated"] < 2e-5
        assert one["input"]["mse"]["error"] <= 1.005 * min(one["input"][method]["error"] for method in ("min-max", "percentile"))


def test_all_linear_layers_as_a_table_and_a_page(tmp_path):
    page = tmp_path / "ranges.html"
    result = told("--precision", "int16x8", "-o", page)
    assert result.exit_code == 0 and "layers.3.mlp.down" in result.stdout and f"{page}: the same with pictures" in result.stdout
    drawn = page.read_text()
    assert drawn.count("<svg") == 1 and drawn.count("<td>head</td>") == 2 and "percentile: beyond" in drawn
    assert "mlp.down" in drawn and "median channel" in drawn


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--precision", "int8"],
            "--precision 'int8' has no ranges (did you mean 'int16x8' or 'int8-static'?); expected one of int8-static, int16x8",
        ),
        (["--plan", "int8"], "plan 'int8': gives no layer int8-static or int16x8; leave --plan out to look at all linear layers"),
        (["--calibration", "missing.txt"], "calibration text missing.txt: cannot be read as UTF-8 text"),
    ],
)
def test_refused(arguments, said):
    result = told(*arguments)
    assert result.exit_code and said in str(result.exception or result.output)


def test_search_does_not_offer_what_it_cannot_price():
    from firsttoken.backends.registry import find_backend
    from firsttoken.errors import FirstTokenError
    from firsttoken.search.candidates import candidates

    decoder = open_decoder(Checkpoint(checkpoint_path()))
    for name in ("tflite-xnnpack", "tflite-hexagon"):
        offered = candidates(decoder, find_backend(name))
        assert not {one.precision for own in offered.values() for one in own} & {"int8-static", "int16x8"}
    with pytest.raises(FirstTokenError, match="precision 'int8-static' is none that damages are measured of.* plan ranges"):
        candidates(decoder, find_backend("tflite-xnnpack"), ["int8-static"])
