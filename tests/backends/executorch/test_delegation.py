"""What of the demo model runs in XNNPACK: all its linear layers, batched products and softmaxes, with sizes known only at run time."""

from collections import Counter

import pytest
from lowering_jobs import lowering_job

from firsttoken.backends.executorch import partition
from firsttoken.backends.executorch.audit import constant_keys
from firsttoken.backends.executorch.lower import lower_decoder
from firsttoken.backends.executorch.program_file import KERNELS, read_steps
from firsttoken.bundle.manifest import read_manifest
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError


@pytest.mark.slow
def test_every_product_of_the_demo_model_is_in_the_delegate(demo_bundle):
    bundle = demo_bundle("executorch-xnnpack")
    steps = read_steps(bundle / read_manifest(bundle).cpu.file)
    assert not [step.operator for step in steps if step.operator in KERNELS]
    with Checkpoint(checkpoint_path()) as source:
        decoder = open_decoder(source)
    products = [product for step in steps for product in step.products]
    assert all(product.delegated for product in products)
    constants = constant_keys(decoder)
    counted = Counter(product.kind for product in products if product.key not in constants)
    layers = len(decoder.layers)
    assert counted == {"XNNFullyConnected": 7 * layers + 1, "XNNBatchMatrixMultiply": 2 * layers, "XNNSoftmax": layers}
    # As many parts as where a host passes the mask; FP16 attention cuts each layer in three.
    assert sum(step.operator is None for step in steps) == 3 * layers + 2


@pytest.mark.slow
def test_products_outside_the_delegate_are_refused(tmp_path, tiny_model, monkeypatch):
    """With the partitioner's own opinion of run-time sizes no core would be delegated; that is an error, not a slow file."""
    from contextlib import nullcontext

    monkeypatch.setattr(partition, "run_time_sizes", nullcontext)
    with Checkpoint(tiny_model) as source:
        job = lowering_job(source, "int8", "executorch-xnnpack", cache_length=48, prefill_chunk=32)
        with pytest.raises(FirstTokenError, match=r"outside XNNPACK.*aten\.bmm"):
            lower_decoder(job, tmp_path / "model.pte")
