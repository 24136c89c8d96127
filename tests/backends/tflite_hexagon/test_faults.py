"""What Hexagon computes wrongly without a word: each construct is shown to be wrong, refused by us, and absent from our graphs."""

import numpy as np
import pytest
from faults import (
    CACHE,
    INVERSE_FREQUENCIES,
    NORM_EPSILON,
    NORM_ROWS,
    NORM_WIDTH,
    angles_in_graph,
    cache_update,
    integer_mean,
    nothing_for_the_npu,
    refused_embedding,
    run_time_length,
    squares_in_graph,
)

from firsttoken.backends.tflite.graph import Op
from firsttoken.backends.tflite.ops import TfliteOps
from firsttoken.backends.tflite_hexagon.compile import compile_for
from firsttoken.backends.tflite_hexagon.ops import HexagonOps
from firsttoken.backends.tflite_hexagon.qnn_context import QnnSession
from firsttoken.backends.tflite_hexagon.source import check_source, known_wrong
from firsttoken.errors import FirstTokenError

SOC = "SM8550"


@pytest.fixture
def compiled(hexagon_libraries, tmp_path):
    """Returns a function that compiles a fault without our check; every operator of it counts as offloaded."""

    def make(fault, *arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("firsttoken.backends.tflite_hexagon.compile.check_source", lambda source: None)
            done = compile_for(fault(tmp_path / "fault.tflite", *arguments), tmp_path / "compiled.tflite", SOC, hexagon_libraries, False)
        assert all(graph.offloaded == graph.operators and not graph.left for graph in done.graphs), "the compiler is content"
        return done.compiled[0].contexts[0]

    return make


@pytest.fixture
def run(compiled, hexagon_libraries):
    """Returns a function that compiles a fault and runs it on several inputs."""

    def results(fault, inputs, *arguments):
        session = QnnSession(compiled(fault, *arguments), hexagon_libraries)
        try:
            return [session.run(values)["result"].copy() for values in inputs]
        finally:
            session.close()

    return results


def test_cos_of_a_position_in_the_graph(run):
    positions = (5, 300, 1500, 3001)
    results = run(angles_in_graph, [{"position": np.array([[p]], np.float32)} for p in positions])
    errors = [float(np.abs(result - np.cos(p * INVERSE_FREQUENCIES)).max()) for p, result in zip(positions, results, strict=True)]
    assert errors[0] < 0.01 < 0.1 < errors[1] < errors[2] and errors[3] > 1, errors


def test_a_cache_row_written_in_the_graph(run):
    row = np.full((1, CACHE[1], 1, CACHE[3]), -1, np.float32)
    cache = np.arange(np.prod(CACHE), dtype=np.float32).reshape(CACHE) / 64
    for place, result in zip(
        (0, 3), run(cache_update, [{"cache": cache, "row": row, "place": np.array([0, 0, p, 0], np.int32)} for p in (0, 3)]), strict=True
    ):
        wanted = cache.copy()
        wanted[:, :, place] = -1
        assert np.abs(result - wanted).max() > 0.5, place


def test_squares_of_large_values(run):
    """Values of real models' tokens: SmolLM2's first one has 24,751 in it. Squared they are infinite in FP16."""
    random = np.random.default_rng(1)
    sizes = np.array([1e-4, 0.02, 0.3, 4, 60, 400, 20, 0], np.float32)[:, None]
    values = random.standard_normal((NORM_ROWS, NORM_WIDTH)).astype(np.float32) * sizes
    values[6, 3] = 24751
    wanted = values / np.sqrt(np.mean(values.astype(np.float64) ** 2, 1, keepdims=True) + NORM_EPSILON)
    [plain], [ours] = (run(squares_in_graph, [{"values": values}], way.to_unit_size) for way in (TfliteOps, HexagonOps))
    size = np.sqrt(np.mean(wanted**2, 1)) + 1e-9
    plain_error, our_error = (np.sqrt(np.mean((result - wanted) ** 2, 1)) / size for result in (plain, ours))
    assert (our_error < 0.005).all(), our_error
    assert (plain_error[5:7] > 0.4).all() and (plain_error[1:4] < 0.005).all(), plain_error


def test_a_run_time_length_is_compiled_as_a_fixed_one(compiled):
    [(_, _, shape, _)] = compiled(run_time_length).inputs
    assert all(n > 0 for n in shape) and len(shape) == 2


@pytest.mark.slow
def test_int16_norms_of_a_statically_quantized_decoder(hexagon_libraries, tmp_path):
    """Every operator offloaded and unrelated logits; with only the norms' MEAN in float the NPU gives the CPU's to four digits."""
    from static_decoder import StaticDecoder

    found = {}
    for norms_in_float in (False, True):
        folder = tmp_path / str(norms_in_float)
        folder.mkdir()
        decoder = StaticDecoder(folder, norms_in_float)
        if not norms_in_float:
            with pytest.raises(FirstTokenError, match="MEAN layers.0.*keep the norm in float"):
                check_source(decoder.file)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("firsttoken.backends.tflite_hexagon.compile.check_source", lambda source: None)
            done = compile_for(decoder.file, folder / "compiled.tflite", SOC, hexagon_libraries, False)
        assert all(graph.offloaded == graph.operators and not graph.left for graph in done.graphs), "the compiler is content"
        session = QnnSession(done.compiled[0].contexts[0], hexagon_libraries)
        try:
            wanted, cpu, npu = decoder.wanted(), decoder.on_cpu(), decoder.on_npu(session)
        finally:
            session.close()
        found[norms_in_float] = np.corrcoef(cpu, wanted)[0, 1], np.corrcoef(npu, wanted)[0, 1], np.abs(npu - cpu).max() / wanted.std()
    assert found[False][0] > 0.95 and found[True][0] > 0.95, "the CPU runs both files well"
    assert found[False][1] < 0.3 and found[False][2] > 1, "the NPU's logits have nothing to do with them"
    assert found[True][1] > 0.95 and found[True][2] < 0.01


@pytest.mark.parametrize(
    ("fault", "arguments", "said"),
    [
        (angles_in_graph, (), "COS layers.0.attention.*FP16 is wrong at large positions; feed cos and sin"),
        (angles_in_graph, (Op.SIN,), "SIN layers.0.attention"),
        (cache_update, (), "DYNAMIC_UPDATE_SLICE layers.0.attention.*let the host append"),
        (integer_mean, (), "MEAN layers.0.attention.*keep the norm in float"),
        (run_time_length, (), r"first.values: the run-time shape \[-1, 4\]"),
    ],
)
def test_each_is_refused_before_the_compiler_sees_it(fault, arguments, said, tmp_path):
    source = fault(tmp_path / "fault.tflite", *arguments)
    with pytest.raises(FirstTokenError, match=said):
        check_source(source)
    with pytest.raises(FirstTokenError, match=said):  # libraries are not even looked at
        compile_for(source, tmp_path / "out.tflite", SOC, None)
    assert not (tmp_path / "out.tflite").exists()


def test_none_is_in_our_graphs(tmp_path, hexagon_source):
    from firsttoken.backends.tflite.audit import read_header

    model, _ = read_header(hexagon_source("fp16-attention"))
    assert [place for graph in model.subgraphs for place, _ in known_wrong(model, graph)] == []


def test_the_check_sees_them_in_the_cpu_artifact(demo_bundle):
    with pytest.raises(FirstTokenError, match="run-time shape"):
        check_source(demo_bundle("tflite-xnnpack") / "model.tflite")


def test_what_is_left_behind_is_named_with_layer_and_reason(hexagon_libraries, tmp_path):
    source = refused_embedding(tmp_path / "partial.tflite")
    with pytest.raises(
        FirstTokenError,
        match=r"1 of 3 operators of 'decode'.*GATHER embedding: QNN refuses Gather of INT_8 \[10,4\].*CAST embedding.*allow_partial",
    ):
        compile_for(source, tmp_path / "out.tflite", SOC, hexagon_libraries)
    done = compile_for(source, tmp_path / "out.tflite", SOC, hexagon_libraries, allow_partial=True)
    assert (done.graphs[0].operators, done.graphs[0].offloaded, done.graphs[0].partitions) == (3, 1, 1)
    assert [line.split(":")[0] for line in done.graphs[0].left] == ["GATHER embedding", "CAST embedding"]


def test_nothing_offloaded_is_an_error_even_where_partial_is_allowed(hexagon_libraries, tmp_path):
    source = nothing_for_the_npu(tmp_path / "none.tflite")
    with pytest.raises(FirstTokenError, match="failed.*QNN refuses Gather"):
        compile_for(source, tmp_path / "out.tflite", SOC, hexagon_libraries, allow_partial=True)
    assert not (tmp_path / "out.tflite").exists()


def test_a_compiler_that_writes_nothing_is_an_error(hexagon_libraries, tmp_path, monkeypatch):
    """Exit code 0, the partition line and an empty file: what a failure after partitioning looks like."""
    from firsttoken.backends.tflite_hexagon import compile as compiling

    lines = "Partitioned subgraph<0>, selected 3 ops, from a total of 3 ops. resulted in 1 partitions."
    monkeypatch.setattr(compiling, "_command", lambda source, output, *_: ["sh", "-c", f"echo '{lines}'; : > {output}"])
    with pytest.raises(FirstTokenError, match="exit code 0 and 0 bytes"):
        compile_for(refused_embedding(tmp_path / "x.tflite"), tmp_path / "out.tflite", SOC, hexagon_libraries)
    monkeypatch.setattr(compiling, "_command", lambda source, output, *_: ["sh", "-c", f"echo '{lines}'; echo full > {output}; kill -9 $$"])
    with pytest.raises(FirstTokenError, match="killed by signal 9.*memory"):
        compile_for(refused_embedding(tmp_path / "x.tflite"), tmp_path / "out.tflite", SOC, hexagon_libraries)
    assert not (tmp_path / "out.tflite").exists()
