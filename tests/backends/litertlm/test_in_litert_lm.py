"""Google's own litert-lm package runs the file: greedy text token for token ours, conversations, scoring, its command line."""

import os
import subprocess
import sys
from pathlib import Path

import litert_lm
import numpy as np
import pytest
from fuzz.good_files import TEMPLATES

from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder
from firsttoken.demo import held_out_text
from firsttoken.prove.divergence import log_softmax
from firsttoken.prove.reference import reference_logits
from firsttoken.run.open import open_runner
from firsttoken.tokenizer import Tokenizer

pytestmark = pytest.mark.slow
LENGTH = 400
TEXT = held_out_text()
TARGETS = ["litertlm-cpu", "litertlm-cpu-fixed", "litertlm-gpu"]  # the last one on the CPU too; its GPU: docs/gpu.md
GREEDY = litert_lm.SamplerConfig(top_k=1, top_p=1.0, temperature=1.0, seed=1)


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)


@pytest.fixture
def engine(tmp_path):
    opened = []

    def make(bundle, length=LENGTH):
        cache = tmp_path / f"cache{len(opened)}"
        cache.mkdir()
        opened.append(
            litert_lm.Engine(str(bundle / "model.litertlm"), litert_lm.Backend.CPU(), max_num_tokens=length, cache_dir=str(cache))
        )
        return opened[-1]

    yield make
    for one in opened:
        one.close()


class Ours:
    """Greedy decoding with our runner of a bundle, with the tokens that LiteRT-LM has in its cache."""

    def __init__(self, bundle, checkpoint):
        self.tokenizer, self.runner = Tokenizer(checkpoint), open_runner(bundle, 2)
        self.end, self.held_back = self.tokenizer.facts().end, []

    def answer(self, text: str, most: int) -> str:
        logits = self.runner.prefill([*self.held_back, *self.tokenizer.encode(text, begin=False)])
        out = []
        while True:
            token = int(logits[: self.tokenizer.vocab_size].argmax())
            if token in self.end:
                self.held_back = [token]
                break
            out.append(token)
            if len(out) == most:
                self.held_back = [token]
                break
            logits = self.runner.decode(token)
        return self.tokenizer.decode(out)


@pytest.fixture
def ours(demo):
    opened = []

    def make(bundle):
        opened.append(Ours(bundle, demo))
        return opened[-1]

    yield make
    for one in opened:
        one.runner.close()


def decoded(session, most: int) -> str:
    pieces = []
    for response in session.run_decode_async():
        pieces.append(response.texts[0])
        if len(pieces) == most:
            session.cancel_process()
            break
    return "".join(pieces)


@pytest.mark.parametrize("target", TARGETS)
def test_greedy_text_is_ours_over_growth_steps_to_the_caches_end(bundles, demo, engine, ours, target):
    """Both LiteRT-LM with our file and our own runner with the .tflite."""
    bundle, native = (bundles(name, checkpoint=demo, cache_length=LENGTH) for name in (target, "tflite-xnnpack"))
    with engine(bundle).create_session() as session:
        session.run_prefill([TEXT[:300]])
        theirs = decoded(session, 2 * LENGTH)
    mine = ours(native)
    room = LENGTH - len(mine.tokenizer.encode(TEXT[:300], begin=False))
    assert theirs == mine.answer(TEXT[:300], room) and room > 300


@pytest.mark.parametrize("target", TARGETS)
def test_prompts_of_one_token_several_pieces_and_too_many(bundles, demo, engine, ours, target):
    bundle, native = (bundles(name, checkpoint=demo, cache_length=LENGTH) for name in (target, "tflite-xnnpack"))
    opened = engine(bundle)
    for pieces in (["x"], [TEXT[:200], TEXT[200:420], TEXT[420:500]]):
        with opened.create_session(max_output_tokens=20) as session:
            for piece in pieces:
                session.run_prefill([piece])
            mine = ours(native)
            for piece in pieces[:-1]:
                mine.runner.prefill(mine.tokenizer.encode(piece, begin=False))
            assert session.run_decode().texts[0] == mine.answer(pieces[-1], 20)
    with opened.create_session() as session, pytest.raises(RuntimeError):
        session.run_prefill([TEXT[:9000]])


@pytest.mark.parametrize("form", ["text", "parts"])
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_a_conversation_of_several_turns(bundles, demo, engine, ours, form, system):
    bundle, native = (bundles(name, checkpoint=demo, cache_length=LENGTH) for name in ("litertlm-cpu", "tflite-xnnpack"))
    mine = ours(native)
    before = [{"role": "system", "content": system}] if system else None
    with engine(bundle).create_conversation(messages=before, sampler_config=GREEDY) as conversation:
        if system:
            mine.runner.prefill(mine.tokenizer.encode(f"<|im_start|>system\n{system}<|im_end|>\n", begin=False))
        for question in ("What is a list?", "And a tuple, and why?", "Thanks."):
            message = {"role": "user", "content": question if form == "text" else [{"type": "text", "text": question}]}
            shown = conversation.render_message_to_string(message)
            assert f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n" in shown
            got = conversation.send_message(message, max_output_tokens=16)
            text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
            assert "".join(part["text"] for part in got["content"]) == mine.answer(text, 16)


@pytest.mark.parametrize("template", TEMPLATES[:2])
def test_its_template_engine_takes_other_templates(bundles, demo, engine, template):
    """With the same preparation, of our file or given by the app."""
    from firsttoken.backends.litertlm.metadata import AS_TEXT

    opened = engine(bundles(checkpoint=demo, cache_length=LENGTH))
    with opened.create_conversation(chat_template=AS_TEXT + template.replace("{{ bos_token }}", "")) as conversation:
        shown = [
            conversation.render_message_to_string({"role": "user", "content": content})
            for content in ("one two", [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}])
        ]
    assert shown[0] == shown[1] and "one two" in shown[0]


@pytest.mark.parametrize("plan", ["fp32", "int8", "int8-apart"])
def test_its_own_scoring_gives_the_checkpoints_perplexity(bundles, demo, engine, plan):
    """LiteRT-LM 0.18.1 scores as if the prompt's last token but one were not there, in stock files too."""
    before, scored = TEXT[:300], TEXT[300:800]
    with Checkpoint(demo) as source:
        tokenizer, decoder = Tokenizer(demo), open_decoder(source)
        head, tail = (tokenizer.encode(part, begin=False) for part in (before, scored))
        del head[-2]
        tokens = np.array(head + tail, np.int32)
        [logits] = reference_logits(source, decoder, [tokens[:-1]], [np.arange(len(head) - 1, len(tokens) - 1)], tokenizer.vocab_size)
    wanted = log_softmax(logits)[np.arange(len(tail)), tail]
    bundle = bundles(plan=plan, checkpoint=demo, cache_length=LENGTH)
    with engine(bundle).create_session() as session:
        session.run_prefill([before])
        found = session.run_text_scoring([scored], True)
    got = np.array(found.token_scores[0])
    assert len(got) == len(tail)
    assert np.exp(-got.mean()) == pytest.approx(np.exp(-wanted.mean()), rel=1e-4 if plan == "fp32" else 0.02)
    assert np.abs(got - wanted).mean() < (1e-4 if plan == "fp32" else 0.1)


def lines(tmp_path, *arguments):
    command = Path(sys.executable).with_name("litert-lm")
    done = subprocess.run(
        [command, *map(str, arguments)], capture_output=True, text=True, env={**os.environ, "HOME": str(tmp_path)}, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_commands_of_the_docs(bundles, demo, tmp_path):
    """docs/runtimes.md has them word for word."""
    model = bundles(plan="fp16-attention", checkpoint=demo, cache_length=LENGTH) / "model.litertlm"
    assert lines(tmp_path, "run", model, "--prompt", "def read_lines(path):").strip()
    shown = lines(tmp_path, "benchmark", model, "--prefill-tokens", "128", "--decode-tokens", "32")
    assert "Time to first token" in shown or "first token" in shown.lower(), shown
