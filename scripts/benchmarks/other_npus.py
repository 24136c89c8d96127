#!/usr/bin/env python3
"""What LiteRT's compilers for the NPUs of other vendors make of our graphs, and where each one stops.

    scripts/benchmarks/other_npus.py
    scripts/benchmarks/other_npus.py --libraries intel=FOLDER mediatek=FOLDER   # the vendor's libraries, unpacked

The compilers' plugins are in the ai-edge-litert wheel; what they call is the vendor's. Without ``--libraries``, a vendor's package that is
installed is taken (``ai_edge_litert_sdk_…``, and ``openvino`` for Intel). Compiled means: the tool ended well and wrote a file, no more.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from measure_process import arguments, publish, table

from firsttoken.backends.litertlm.container import graphs_of
from firsttoken.backends.tflite_hexagon.compile import PARTITIONED, compiler_folder
from firsttoken.demo import checkpoint_path
from firsttoken.pipeline import export

GRAPHS = (("NPU", "fp16-attention", "tflite-hexagon-jit"), ("GPU", "int8", "litertlm-gpu"))
# What the tool itself says at the end of every run.
TOOLS_OWN = re.compile(r"apply_plugin\.cc|accelerator_registry|LITERT_TOOLS|^\s*$")
TELLING = re.compile(
    r"Loading from|cannot open|undefined symbol|Failed to load|Exception|Check '|must be|Cannot load|not found", re.IGNORECASE
)
LEVEL = re.compile(r"^\W*(INFO|WARNING|ERROR): \[[^]]*\] ")
FOLDERS = re.compile(r"(?<![\w.])/\S*/")
LIMIT = 600  # seconds


@dataclass(frozen=True)
class Vendor:
    """``library`` and ``folder`` as the wheel names them; ``sdk`` is the module that says where the vendor's libraries are."""

    name: str
    manufacturer: str
    soc: str
    folder: str
    sdk: str
    flags: tuple[str, ...] = ()
    sdk_arguments: tuple[str, ...] = ()

    @property
    def plugins(self) -> Path:
        return compiler_folder() / "vendors" / self.folder / "compiler"

    def libraries(self) -> list[Path]:
        """Folders of the vendor's libraries in installed packages; empty where there are none."""
        found = []
        if find_spec(self.sdk):
            path = import_module(self.sdk).path_to_sdk_libs(*self.sdk_arguments)
            found += [Path(path)] if path else []
        if self.name == "intel" and (spec := find_spec("openvino")) and spec.origin:
            found.append(Path(spec.origin).parent / "libs")
        return found


VENDORS = (
    Vendor("mediatek", "MediaTek", "mt6989", "mediatek", "ai_edge_litert_sdk_mediatek", sdk_arguments=("v8",)),
    Vendor("samsung", "Samsung", "E9965", "samsung", "ai_edge_litert_sdk_samsung"),
    Vendor("google", "Google", "Tensor_G5", "google_tensor", "ai_edge_litert_sdk_google_tensor"),
    Vendor("intel", "IntelOpenVINO", "PTL", "intel_openvino", "ai_edge_litert_sdk_intel"),
)


@dataclass(frozen=True)
class Attempt:
    """``selected`` and ``operators`` over all graphs, 0 where the plugin did not come to ask; ``said``: its own words on why it stopped."""

    code: int
    size: int
    selected: int
    operators: int
    said: list[str]

    @property
    def compiled(self) -> bool:
        return not self.code and self.size > 0

    @property
    def share(self) -> str:
        return f"{self.selected} of {self.operators}" if self.operators else "not asked"


def attempt(vendor: Vendor, graphs: Path, libraries: list[Path], preload: Path | None) -> Attempt:
    """Runs the wheel's tool once, in a folder of its own: plugins leave files where they are started."""
    tool = compiler_folder() / "tools" / "apply_plugin_main"
    with tempfile.TemporaryDirectory(prefix="firsttoken-npu-") as folder:
        output = Path(folder) / "compiled.tflite"
        command = [
            str(tool), "--cmd=apply", f"--model={graphs}", f"--o={output}", f"--soc_manufacturer={vendor.manufacturer}",
            f"--soc_model={vendor.soc}", f"--libs={vendor.plugins}", "--err=--", *vendor.flags,
        ]  # fmt: skip
        environment = {"PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": ":".join(map(str, [*libraries, compiler_folder()]))}
        environment |= {"LD_PRELOAD": str(preload)} if preload else {}
        try:
            done = subprocess.run(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT
            )
        except subprocess.TimeoutExpired:
            return Attempt(-1, 0, 0, 0, [f"not done after {LIMIT} s"])
        said = done.stdout + done.stderr
        size = output.stat().st_size if output.exists() else 0
    parts = [(int(selected), int(total)) for _, selected, total in PARTITIONED.findall(said)]
    return Attempt(done.returncode, size, sum(part[0] for part in parts), sum(part[1] for part in parts), reasons(said))


def reasons(said: str) -> list[str]:
    """The plugin's and its libraries' own words on what is missing, each once, without the paths of this machine."""
    lines = [LEVEL.sub("", line) for line in said.splitlines() if not TOOLS_OWN.search(line) and TELLING.search(line)]
    return list(dict.fromkeys(FOLDERS.sub("", line).strip() for line in lines))


@contextmanager
def graphs_files(checkpoint: Path) -> Iterator[dict[str, Path]]:
    """Yields our fixed-length graphs: those that the Qualcomm compiler takes, and those of the GPU."""
    with tempfile.TemporaryDirectory(prefix="firsttoken-npu-") as folder:
        files = {}
        for name, plan, target in GRAPHS:
            [bundle] = export(checkpoint, folder, plan, [target], prove=False, witness=False)
            npu = bundle / "model.npu.tflite"
            if not npu.exists():
                section = graphs_of(bundle / "model.litertlm")
                npu = Path(folder) / f"{name}.tflite"
                npu.write_bytes(section.read(0, section.size))
            files[name] = npu
        yield files


def lacks_symbol(attempted: Attempt) -> bool:
    """Whether the plugin itself cannot be loaded for want of a symbol that LiteRT-LM's library has."""
    return any("undefined symbol" in line for line in attempted.said)


def main():
    parser = arguments(__doc__)
    parser.add_argument("--checkpoint", type=Path, help="default: the demo checkpoint")
    parser.add_argument("--libraries", nargs="+", default=[], metavar="VENDOR=FOLDER", help="a vendor's libraries, unpacked")
    parser.add_argument("--vendors", nargs="+", default=[vendor.name for vendor in VENDORS], choices=[vendor.name for vendor in VENDORS])
    options = parser.parse_args()
    given = {name: Path(folder) for name, _, folder in (one.partition("=") for one in options.libraries)}
    if unknown := given.keys() - {vendor.name for vendor in VENDORS}:
        parser.error(f"--libraries: no vendor {', '.join(sorted(unknown))}; expected {', '.join(vendor.name for vendor in VENDORS)}")
    lm = find_spec("litert_lm")
    stand_in = Path(lm.origin).parent / "liblitert-lm.so" if lm and lm.origin else None
    rows, data = [], {}
    with graphs_files(options.checkpoint or checkpoint_path()) as files:
        for vendor in VENDORS:
            libraries = [given[vendor.name]] if vendor.name in given else vendor.libraries()
            for name, graphs in files.items():
                if vendor.name not in options.vendors:
                    continue
                tries = [("", attempt(vendor, graphs, libraries, None))]
                if lacks_symbol(tries[0][1]) and stand_in:
                    tries.append((", liblitert-lm.so preloaded", attempt(vendor, graphs, libraries, stand_in)))
                for how, found in tries:
                    state = f"{found.size / 2**20:.1f} MiB" if found.compiled else f"no (exit code {found.code})"
                    rows.append([f"{vendor.name}, {vendor.soc}{how}", name, found.share, state, "; ".join(found.said[-3:])])
                    data[f"{vendor.name}/{name}{how}"] = vars(found)
                    print(" | ".join(rows[-1]), flush=True)
    options.work.mkdir(parents=True, exist_ok=True)
    publish(
        options.work, "other-npus", [table(["vendor, SoC", "graphs", "operators selected", "compiled", "said"], rows)], {"other_npus": data}
    )


if __name__ == "__main__":
    main()
