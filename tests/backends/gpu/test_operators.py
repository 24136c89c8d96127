"""One operator at a time on LiteRT's GPU accelerator: what it gets wrong shows, `rules` refuses it, and what our graphs have instead is right."""

import gpu_operators as operators
import numpy as np
import pytest

from firsttoken.backends.gpu.child import run_on_gpu
from firsttoken.backends.gpu.rules import KINDS, RULES, check_model, wrong_in
from firsttoken.backends.tflite.audit import read_header
from firsttoken.errors import FirstTokenError

CLOSE = 3e-6  # of the result's largest value: float32 in another order


@pytest.fixture
def made(tmp_path):
    return lambda form: form(operators.Bench(tmp_path))


def off(case, device) -> float:
    """How far the GPU is from what is right, in its largest value. Raises `FirstTokenError` where there is no result."""
    run = run_on_gpu(case.path, case.inputs, device)
    return float(np.abs(run.outputs["y"].astype(np.float32) - case.right).max() / np.abs(case.right).max())


@pytest.mark.parametrize("form", operators.RIGHT, ids=lambda form: form.__name__)
def test_what_our_graphs_have_is_right_and_all_on_the_gpu(software_gpu, made, form):
    case = made(form)
    assert wrong_in(read_header(case.path)[0]) == {}
    run = run_on_gpu(case.path, case.inputs)
    assert run.fully
    assert np.abs(run.outputs["y"] - case.right).max() <= CLOSE * np.abs(case.right).max()


def test_every_operator_that_is_allowed_was_run(made):
    """No line of the rules without a case here."""
    seen = set()
    for form in operators.RIGHT:
        model = read_header(made(form).path)[0]
        seen |= {KINDS[code.builtinCode] for code in model.operatorCodes}
    assert seen == set(RULES)


@pytest.mark.parametrize("form", operators.WRONG, ids=lambda form: form.__name__)
def test_what_the_gpu_gets_wrong_is_refused_by_the_rules(made, form):
    model = read_header(made(form).path)[0]
    with pytest.raises(FirstTokenError, match=r"graph 'main', operator \d+ .* is not for the GPU"):
        check_model(model, "one.tflite")


@pytest.mark.parametrize(
    ("form", "least"),
    [(operators.broadcast_product, 0.3), (operators.sines, 1e-5)],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_fault_that_nobody_is_told_of(software_gpu, made, form, least):
    """Fully on the GPU, and other numbers."""
    case = made(form)
    assert run_on_gpu(case.path, case.inputs).fully
    assert off(case, software_gpu) > least


@pytest.mark.parametrize("form", [operators.split, operators.split_and_add], ids=lambda form: form.__name__)
def test_halves_by_split_are_refused_or_wrong(software_gpu, made, form):
    case = made(form)
    try:
        assert off(case, software_gpu) > 0.3
    except FirstTokenError as error:
        assert "refused it" in str(error)


@pytest.mark.parametrize("form", [operators.gather_integers, operators.groups_of_int4], ids=lambda form: form.__name__)
def test_a_fault_that_ends_the_process_is_told(software_gpu, made, form):
    case = made(form)
    with pytest.raises(
        FirstTokenError, match=r"on the software GPU: a native library ended the process that ran it \(SIG(SEGV|ABRT)\)"
    ) as told:
        run_on_gpu(case.path, case.inputs)
    assert "\n" not in str(told.value)


def test_products_in_fp16_are_refused(software_gpu, made):
    case = made(operators.half_product)
    with pytest.raises(FirstTokenError, match="LiteRT's GPU accelerator refused it, saying .*BATCH_MATMUL") as told:
        run_on_gpu(case.path, case.inputs)
    assert "\n" not in str(told.value)


def test_a_table_in_fp16_is_left_to_the_cpu(software_gpu, made):
    case = made(operators.half_table)
    assert not run_on_gpu(case.path, case.inputs).fully
