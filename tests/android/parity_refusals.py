"""Which builds of the app run which bundles, as `firsttoken device profile` decides before it copies anything: the app must decide the same."""

import itertools
import json
from pathlib import Path

from firsttoken.bundle.manifest import read_manifest
from firsttoken.device.carried import Carried
from firsttoken.device.fitting_target import refusal

TFLITE = (
    {},
    *({"LiteRT": version} for version in ("1.4.0", "2.0", "2.3.0-beta", "10.1")),
    *({"TensorFlow Lite": version} for version in ("2.9", "2.15.9", "2.16", "2.16.1", "3.0")),
)
EXECUTORCH = ({}, *({"ExecuTorch": version} for version in ("1.4.9", "1.5", "1.5.1", "1.10.0")))


def write(folder: Path):
    """Writes ``refusals.jsonl`` about the bundles in ``folder/engines``, a line for each and for everything an APK may carry."""
    with (folder / "refusals.jsonl").open("w", encoding="utf-8") as stream:
        for place in sorted((folder / "engines").iterdir()):
            manifest = read_manifest(place)
            for tflite, executorch in itertools.product(TFLITE, EXECUTORCH):
                carried = tflite | executorch
                case = {"bundle": place.name, "carried": carried, "runs": refusal(Carried(carried), manifest) is None}
                stream.write(json.dumps(case) + "\n")
