"""Ahead-of-time compilation with LiteRT's compiler and its Qualcomm plugin, in a process of its own.

The tool is the one in the ai-edge-litert wheel; its Python wrapper passes no Qualcomm option and returns zero models
without an error where the libraries are missing. Nothing it says is taken on trust: the exit code, the output's size and
the operators in the output are all checked.
"""

import os
import re
import subprocess
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from firsttoken.backends.tflite_hexagon.compiled import CompiledGraph, LeftBehind, read_compiled
from firsttoken.backends.tflite_hexagon.libraries import HostLibraries
from firsttoken.backends.tflite_hexagon.source import check_source
from firsttoken.bundle.npu_proof import NpuGraph
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report, silent
from firsttoken.quiet import is_verbose
from firsttoken.safe_text import harmless

PARTITIONED = re.compile(r"Partitioned subgraph<(\d+)>, selected (\d+) ops, from a total of (\d+) ops")
# The compiler looks at every operator of a subgraph and then says how it partitioned that subgraph.
REFUSED = re.compile(r"LiteRT Op #(\d+) '(\w+)' \(code=\d+\) is not supported")
VALIDATION = re.compile(r"QNN op validation failed: '[^']*' \(type=(\w+)\)(.*?)QNN error=(\d+)", re.DOTALL)
OPERAND = re.compile(r"dtype=QNN_DATATYPE_(\w+) dims=(\[[^\]]*\])")
SAID = re.compile(r"(?m)^ERROR: (?:\[[^\]]*\] ?)*(\S.*)$")
SHOWN = 5  # operators left behind that an error names


@dataclass(frozen=True)
class Compilation:
    """What came out: the graphs in the order of the source, wall seconds, and the compiler's peak resident bytes."""

    graphs: list[NpuGraph]
    compiled: list[CompiledGraph]
    seconds: float
    peak_memory: int


def compile_for(
    source: Path,
    output: Path,
    soc: str,
    libraries: HostLibraries,
    share_weights: bool = True,
    allow_partial: bool = False,
    only: int | None = None,
    expected_seconds: float = 60,
    report: Report = silent,
) -> Compilation:
    """Compiles the graphs of ``source`` for ``soc`` into ``output`` (``only``: a single one, by number).

    Raises `FirstTokenError` for a construct that Hexagon computes wrongly, a compiler that fails or writes nothing, and,
    unless ``allow_partial``, operators that the NPU did not take: each named with its layer and reason.
    """
    check_source(source)
    started = time.monotonic()
    with libraries.linked() as folder:
        code, said, peak = _run(_command(source, output, soc, share_weights, only), folder, expected_seconds, report)
    seconds = time.monotonic() - started
    if is_verbose():
        print(harmless(said))
    operators = {int(graph): int(total) for graph, _, total in PARTITIONED.findall(said)}
    size = output.stat().st_size if output.exists() else 0
    if code or not size or not operators:
        output.unlink(missing_ok=True)
        raise FirstTokenError(f"compiling {source.name} for {soc} failed: {_why(code, size, operators, said)}")
    compiled = read_compiled(output)
    chosen = compiled if only is None else [compiled[only]]
    reasons = _reasons(said)
    graphs = [
        NpuGraph(
            method=graph.name,
            operators=operators[number],
            offloaded=operators[number] - len(graph.left),
            partitions=len(graph.contexts),
            left=_left(graph.left, reasons.get(number, [])),
        )
        for graph, number in zip(chosen, sorted(operators), strict=True)
    ]
    check_offload(graphs, soc, allow_partial)
    return Compilation(graphs, chosen, seconds, peak)


def compiler_folder() -> Path:
    """Returns the folder of the ai-edge-litert package. Raises `FirstTokenError` if its compiler is not in it."""
    spec = find_spec("ai_edge_litert")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    if folder is None or not (folder / "tools" / "apply_plugin_main").is_file():
        raise FirstTokenError("LiteRT's compiler is not installed; run: pip install 'ai-edge-litert==2.3.0' (Linux on x86_64)")
    return folder


def _command(source: Path, output: Path, soc: str, share_weights: bool, only: int | None) -> list[str]:
    folder = compiler_folder()
    return [
        str(folder / "tools" / "apply_plugin_main"),
        "--cmd=apply",
        f"--model={source}",
        f"--o={output}",
        "--soc_manufacturer=Qualcomm",
        f"--soc_model={soc}",
        f"--libs={folder / 'vendors' / 'qualcomm' / 'compiler'}",
        "--err=--",
        f"--qualcomm_enable_weight_sharing={'true' if share_weights else 'false'}",
        "--qualcomm_log_level=warn",
        *([f"--subgraphs={only}"] if only is not None else []),
    ]


def _run(command: list[str], libraries: Path, expected_seconds: float, report: Report) -> tuple[int, str, int]:
    """Runs the compiler; returns its exit code, all it printed, and its peak resident bytes. An interrupt ends it too."""
    environment = {**os.environ, "LD_LIBRARY_PATH": f"{libraries}:{compiler_folder()}"}
    started = time.monotonic()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        done, peaks = threading.Event(), [0]

        def tell() -> None:
            # The compiler does not say how far it is: the bar follows the estimate and waits just short of its end.
            while not done.wait(0.1):
                peaks.append(peak_memory_of(process.pid))
                report("compiling", min(time.monotonic() - started, 0.98 * expected_seconds), expected_seconds, "s")

        teller = threading.Thread(target=tell, daemon=True)
        teller.start()
        try:
            _, status = os.waitpid(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            done.set()
            teller.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        report("compiling", expected_seconds, expected_seconds, "s")
        log.seek(0)
        return process.returncode, log.read().decode(errors="replace"), max(peaks)


def peak_memory_of(process: int) -> int:
    """Peak resident bytes of a running process so far, 0 once it is gone. Not wait4's or getrusage's figure: those count what its parent had at the fork."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def _why(code: int, size: int, operators: dict[int, int], said: str) -> str:
    """The reason in one line: what is known of the failure, and the compiler's own last words."""
    if code < 0:
        what = f"the compiler was killed by signal {-code}{' (most likely out of memory)' if code == -9 else ''}"
    elif not operators:
        what = f"the compiler took no operator (exit code {code})"
    else:
        what = f"the compiler ended with exit code {code} and {size} bytes of output"
    errors = [line.strip() for line in SAID.findall(said) if line.strip()]
    reasons = [reason for found in _reasons(said).values() for reason in found][:SHOWN]
    return "; ".join([what, *([f"refused: {', '.join(reasons)}"] if reasons else []), *errors[-2:], "run with -v to see all it says"])


def _reasons(said: str) -> dict[int, list[str]]:
    """Returns, by subgraph, why operators were refused, in the operators' order."""
    found: dict[int, list[str]] = {}
    start = 0
    ends = [(match.end(), int(match[1])) for match in PARTITIONED.finditer(said)] or [(len(said), 0)]
    for end, graph in ends:
        part, begun = said[start:end], 0
        for refused in REFUSED.finditer(part):
            validation = VALIDATION.search(part, begun, refused.start())
            operands = ", ".join(f"{kind} {shape}" for kind, shape in OPERAND.findall(validation[2])) if validation else ""
            why = (
                f"QNN refuses {validation[1]} of {operands} (error {validation[3]})"
                if validation
                else f"LiteRT's plugin does not translate {refused[2]}"
            )
            found.setdefault(graph, []).append(why)
            begun = refused.end()
        start = end
    return found


def _left(left: tuple[LeftBehind, ...], reasons: list[str]) -> list[str]:
    """One line for each operator left behind; both lists are in the operators' order."""
    known = reasons if len(reasons) == len(left) else ["reason unknown, -v shows all that the compiler says"] * len(left)
    return [f"{operator.kind} {operator.layer}: {reason}" for operator, reason in zip(left, known, strict=True)]


def check_offload(graphs: list[NpuGraph], soc: str, allow_partial: bool) -> None:
    """Raises `FirstTokenError` for a graph of which nothing is offloaded, or, unless allowed, not everything in one part."""
    for graph in graphs:
        if not graph.partitions:
            raise FirstTokenError(f"compiling for {soc}: graph {graph.method!r} has no part on the NPU; {_listed(graph.left)}")
    partial = [graph for graph in graphs if graph.left or graph.partitions > 1]
    if partial and not allow_partial:
        left: dict[str, list[str]] = defaultdict(list)
        for graph in partial:
            for line in graph.left:
                left[line].append(graph.method)
        first = partial[0]
        lines = [f"{line} ({', '.join(methods)})" for line, methods in left.items()]
        raise FirstTokenError(
            f"compiling for {soc}: {first.offloaded} of {first.operators} operators of {first.method!r} are on the NPU, in {first.partitions} parts; "
            f"left behind: {_listed(lines)}; "
            "expected all in one part; change the plan for those layers, or set allow_partial in the target's [npu]"
        )


def _listed(lines: list[str]) -> str:
    shown = "; ".join(lines[:SHOWN])
    return shown if len(lines) <= SHOWN else f"{shown}; and {len(lines) - SHOWN} more"
