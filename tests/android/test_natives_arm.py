"""The APK's ARM library in an ARM JVM under qemu's user emulation: what x86_64 shows, on fewer plans and lengths."""

import pytest
from android.natives import checks

from firsttoken.bundle.manifest import read_manifest
from firsttoken.device.request import ProfileSettings

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("plan", ["fp16-attention", "fp32"])
def test_logits_across_chunks_and_a_grown_cache(arm, bundle, plan):
    made = bundle(plan)
    result = checks.compare_logits(arm, made, lengths=(1, 255, 257, 20), decoded=2, to_the_end=False)
    assert result.failures == [] and result.positions == 12
    assert result.furthest < checks.bound(read_manifest(made))


def test_the_default_prompts_of_a_benchmark(arm, bundle):
    measured = checks.profile(arm, bundle("fp16-attention"), ProfileSettings(repeat=1, threads=2, decode_tokens=4))
    assert measured.failures == []
    assert {tokens: len(found) for tokens, found in measured.runs.items()} == {32: 1, 128: 1, 512: 2}
