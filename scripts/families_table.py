"""Writes the README's table of families and backends from what the tests run.

    .venv/bin/python scripts/families_table.py         writes it into README.md
    .venv/bin/python scripts/families_table.py --check fails where README.md says otherwise

"yes": a small model of the family, run there in the tests, equals transformers. "parts": everything that it is made of runs there in
another family. Else the part that is missing.
"""

import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "tests"), str(ROOT / "tests" / "decoder")]

from families_on_disk import CASES, ON_GPU, ON_HEXAGON, ON_LITERTLM, ONE_OF_EACH, SIZES  # noqa: E402

from firsttoken.backends.registry import find_backend  # noqa: E402
from firsttoken.decoder import families  # noqa: E402
from firsttoken.decoder.features import features  # noqa: E402

BEGIN, END = "<!-- families: scripts/families_table.py -->", "<!-- end of families -->"
# A column's title, the backends that its cell speaks for, and the cases that the tests run there.
COLUMNS = (
    ("`.tflite`", ("tflite-xnnpack", "tflite-none"), tuple(CASES)),
    ("`.pte`", ("executorch-xnnpack",), tuple(ONE_OF_EACH)),
    ("`.onnx`", ("onnx-cpu",), tuple(CASES)),
    ("`.litertlm`", ("litertlm-cpu",), tuple(ON_LITERTLM)),
    ("GPU", ("litertlm-gpu",), tuple(ON_GPU)),
    ("Hexagon", ("tflite-hexagon",), tuple(ON_HEXAGON)),
)
OWN = {"minicpm": ("smollm", {"scale_emb": 12.0, "scale_depth": 1.4, "dim_model_base": 256})}  # transformers has no class of it


def described(family: str):
    """A small decoder of the family, and the names of its cases."""
    import transformers

    if family in OWN:
        case, more = OWN[family]
        return families.describe({**SIZES, "tie_word_embeddings": True, **more, "model_type": family}), []
    found = {}
    for case, (prefix, more) in CASES.items():
        config = getattr(transformers, f"{prefix}Config")(**{**SIZES, **more})
        if config.model_type == family:
            found[case] = config.to_dict()
    return families.describe(next(iter(found.values()))), list(found)


def cell(decoder, cases: list[str], backends: tuple[str, ...], run: tuple[str, ...]) -> str:
    for backend in map(find_backend, backends):
        if lacking := [name for name in features(decoder) if name not in backend.features]:
            return f"no: {lacking[0]}"
    return "yes" if set(cases) & set(run) else "parts"


def table() -> str:
    lines = ["| family | models | " + " | ".join(title for title, _, _ in COLUMNS) + " |", "|---|---|" + "---|" * len(COLUMNS)]
    for family in families.family_names():
        decoder, cases = described(family)
        models = import_module(f"firsttoken.decoder.families.{family}").MODELS
        cells = " | ".join(cell(decoder, cases, backends, run) for _, backends, run in COLUMNS)
        lines.append(f"| `{family}` | {models} | {cells} |")
    return "\n".join(lines) + "\n"


def written(readme: str) -> str:
    """The README with the table of now."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}{END}{after}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    now = path.read_text(encoding="utf-8")
    if "--check" in sys.argv[1:]:
        sys.exit("README.md's table of families is not what the tests run; run scripts/families_table.py" if written(now) != now else 0)
    path.write_text(written(now), encoding="utf-8")
