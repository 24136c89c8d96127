"""A bundle in ExecuTorch's own LLM runner, the one behind its apps: the same tokens as in ours, to the cache's end."""

import executorch.kernels.quantized  # noqa: F401  registers the quantized embedding's kernels
import pytest
from executorch.extension.llm.runner import GenerationConfig, TextLLMRunner
from pytorch_tokenizers import CppHFTokenizer

from firsttoken.bundle.manifest import read_manifest
from firsttoken.run.open import open_runner
from firsttoken.tokenizer import Tokenizer

TURNS = ("class Queue:\n", "    def close(self):\n", "import os\n")


class Theirs:
    """ExecuTorch's runner over a bundle. It hands out each token as text."""

    def __init__(self, bundle):
        self.runner = TextLLMRunner(str(bundle / "model.pte"), str(bundle / "tokenizer.json"))

    def generate(self, prompt: str, most: int = -1) -> tuple[list[str], int]:
        """Returns the text of each token, and how many tokens the prompt was."""
        pieces, stats = [], []
        config = GenerationConfig(echo=False, max_new_tokens=most, temperature=0.0)
        self.runner.generate(prompt, config, pieces.append, stats.append)
        return pieces, stats[0].num_prompt_tokens


class Ours:
    """Our runner over a bundle, with the same way of generating."""

    def __init__(self, bundle):
        self.runner, self.tokenizer, self.ends = open_runner(bundle), Tokenizer(bundle), read_manifest(bundle).tokenizer.end
        self.text = CppHFTokenizer()
        self.text.load(str(bundle / "tokenizer.json"))

    def prefill(self, prompt: str):
        return self.runner.prefill(self.tokenizer.encode(prompt))

    def generate(self, prompt: str, most: int = -1) -> tuple[list[str], int]:
        """As `Theirs.generate`; it stops at an end token, at ``most`` tokens, or one row before the cache's end, as ExecuTorch's does."""
        tokens = self.tokenizer.encode(prompt)
        most = min(most if most > 0 else self.runner.cache_length, self.runner.cache_length - self.runner.position - len(tokens))
        logits, pieces = self.runner.prefill(tokens), []
        while True:
            token = int(logits.argmax())
            pieces.append(self.text.decode(token))
            if token in self.ends or len(pieces) == most:
                return pieces, len(tokens)
            logits = self.runner.decode(token)


@pytest.fixture(scope="module")
def bundle(demo_bundle):
    return demo_bundle("executorch-xnnpack")


@pytest.fixture
def ours(bundle):
    opened = Ours(bundle)
    yield opened
    opened.runner.close()


def test_what_the_program_says_of_itself(bundle):
    from executorch.extension.pybindings import _C as portable_lib

    manifest, program = read_manifest(bundle), portable_lib._load_for_executorch(str(bundle / "model.pte"))
    constants = (
        "get_max_seq_len",
        "get_max_context_len",
        "get_vocab_size",
        "use_kv_cache",
        "use_sdpa_with_kv_cache",
        "enable_dynamic_shape",
    )
    length, vocabulary = manifest.cache_length, manifest.checkpoint.vocab_size
    assert [program.run_method(name) for name in constants] == [[length], [length], [vocabulary], [True], [False], [True]]
    assert program.run_method("get_eos_ids") == manifest.tokenizer.end and len(manifest.tokenizer.end) > 1
    assert program.method_meta("forward").num_inputs() == 2
    # Its second input says which kind of host it is: a single element would mean a prompt token by token.
    assert [program.method_meta("forward").input_tensor_meta(n).sizes() for n in (0, 1)] == [(1, length), (length,)]


def test_the_same_tokens_to_the_end_of_the_cache(bundle, ours):
    theirs, tokens = Theirs(bundle).generate(TURNS[0])
    assert (theirs, tokens) == ours.generate(TURNS[0])
    assert tokens + len(theirs) == read_manifest(bundle).cache_length


def test_an_end_token_of_the_bundle_ends_the_answer(bundle, ours):
    prompt = 'def read(path):\n    """Read'
    theirs, tokens = Theirs(bundle).generate(prompt)
    assert (theirs, tokens) == ours.generate(prompt)
    assert tokens + len(theirs) < 100


def test_several_prefills_in_a_row(bundle, ours):
    """And then again over a cache that holds the rows of before."""
    runner = Theirs(bundle)
    for order in (TURNS, TURNS[::-1]):
        runner.runner.reset()
        ours.runner.reset()
        for prompt in order[:-1]:
            runner.runner.prefill(prompt, GenerationConfig(temperature=0.0))
            ours.prefill(prompt)
        assert runner.generate(order[-1], 40) == ours.generate(order[-1], 40)


def test_several_turns(bundle, ours):
    """The last token of an answer is not in the cache when the next turn comes."""
    runner = Theirs(bundle)
    for prompt in TURNS:
        assert runner.generate(prompt, 20) == ours.generate(prompt, 20)


def test_a_prompt_that_does_not_fit_is_refused_and_the_next_one_runs(bundle, ours):
    runner, length = Theirs(bundle), read_manifest(bundle).cache_length
    long = "import os\n" * length
    assert len(ours.tokenizer.encode(long)) > length
    with pytest.raises(RuntimeError, match="Generation failed"):
        runner.generate(long)
    runner.runner.reset()
    assert runner.generate(TURNS[0], 10) == ours.generate(TURNS[0], 10)


def test_a_prompt_longer_than_our_chunks_in_one_call(bundle, ours):
    prompt = "import os\n" * 350
    assert len(ours.tokenizer.encode(prompt)) > ours.runner.prefill_chunk
    assert Theirs(bundle).generate(prompt, 20) == ours.generate(prompt, 20)


def test_both_tokenizers_read_a_text_alike(ours):
    for prompt in TURNS:
        assert ours.text.encode(prompt, 0, 0) == ours.tokenizer.encode(prompt)


def test_a_program_that_checks_drafts(demo_bundle):
    """It gives several rows of logits at the end of a prompt, of which the last counts."""
    bundle = demo_bundle("executorch-xnnpack", 7)
    theirs, ours = Theirs(bundle), Ours(bundle)
    try:
        assert all(theirs.generate(turn, 20) == ours.generate(turn, 20) for turn in TURNS)
    finally:
        ours.runner.close()
