"""Exact token counts from real text, with and without a template, on more than one tokenizer."""

import pytest

from firsttoken.bundle.manifest import read_manifest
from firsttoken.demo import held_out_text
from firsttoken.errors import FirstTokenError
from firsttoken.measure.prompts import exact_prompt
from firsttoken.run.generate import encode_prompt
from firsttoken.tokenizer import open_tokenizer


@pytest.fixture(scope="module")
def opened(demo_bundle):
    folder = demo_bundle("tflite-xnnpack")
    manifest = read_manifest(folder)
    return open_tokenizer(folder, manifest), manifest


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("tokens", [1, 2, 17, 32, 128, 500, 512, 1000])
def test_the_count_is_exact_and_the_text_real(opened, tokens, chat):
    tokenizer, manifest = opened
    least = len(encode_prompt(tokenizer, "a", manifest.chat if chat else None))
    if tokens < least:
        with pytest.raises(FirstTokenError, match=f"take {least}; ask for more"):
            exact_prompt(tokenizer, manifest, tokens, chat)
        return
    text = exact_prompt(tokenizer, manifest, tokens, chat)
    assert len(encode_prompt(tokenizer, text, manifest.chat if chat else None)) == tokens
    assert text in held_out_text() and text == exact_prompt(tokenizer, manifest, tokens, chat)
    if tokens >= 128:
        assert len(set(encode_prompt(tokenizer, text, None))) > 40, "not one token repeated"


def test_longer_than_the_text(opened):
    tokenizer, manifest = opened
    tokens = len(tokenizer.encode(held_out_text())) + 1000
    assert len(encode_prompt(tokenizer, exact_prompt(tokenizer, manifest, tokens, False), None)) == tokens


def test_a_bundle_without_a_template(opened):
    tokenizer, manifest = opened
    with pytest.raises(FirstTokenError, match="no chat template; measure it with --raw"):
        exact_prompt(tokenizer, manifest.model_copy(update={"chat": None}), 32, True)
