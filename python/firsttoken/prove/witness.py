"""An independent witness: does transformers make of the checkpoint what the proof's reference makes of it?

The reference reads config.json and tokenizer.json with firsttoken's own code, as the exporter does, so it cannot see what both misread. transformers, where
it is installed, reads them on its own: texts are cut into tokens, chats are written, and a short window's logits are computed in FP32 by both.
"""

import os
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from firsttoken.bundle.chat_facts import Conversation
from firsttoken.bundle.witness_facts import Witness
from firsttoken.chat import chat_affixes, read_template, render
from firsttoken.checkpoint import Checkpoint
from firsttoken.conversation import LOOSE, write_conversation
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.text_part import has_other_parts
from firsttoken.decoder.walk import shares
from firsttoken.errors import FirstTokenError
from firsttoken.extras import install_command
from firsttoken.progress import Report, silent
from firsttoken.prove import witness_cache
from firsttoken.prove.reference import reference_logits
from firsttoken.prove.witness_process import ask, first_layers, room
from firsttoken.prove.witness_words import Said, missed_words
from firsttoken.prove.words import PROBES, TURNS, special_texts
from firsttoken.quantized.kept import KeptCheckpoint
from firsttoken.tokenizer import Tokenizer

OFF = "FIRSTTOKEN_NO_WITNESS"  # for who exports the same checkpoints hundreds of times, as the tests do
TEXT_TOKENS = CHAT_TOKENS = 40  # of the windows: held-out text, and a chat with its special tokens
TEXT_CHARACTERS = 2000  # of the held-out text, cut by both tokenizers
# Between the reference and transformers, both in FP32: rounding reached 1.1e-5 of the spread, the smallest misreading 1.6e-3 (docs/proof.md).
BOUND = 2e-4
CHATS = (list(TURNS), list(TURNS[1:]), list(TURNS[1:2]), [{"role": "user", "content": LOOSE.format("Why?")}])


@dataclass(frozen=True)
class Questions:
    """What both are asked: windows of tokens, texts to cut and chats to write; with firsttoken's answers to the last two."""

    windows: list[list[int]]
    texts: list[str]
    tokens: list[list[int]]
    chats: list[list[dict]]
    said: list[Said]


def witness(checkpoint: Checkpoint, decoder: Decoder, held_out: str, wanted: bool = True, report: Report = silent) -> Witness:
    """Returns what transformers says, or why it was not asked. ``held_out`` is the proof's text. Raises `FirstTokenError` for a damaged checkpoint."""
    if isinstance(checkpoint, KeptCheckpoint):  # the same weights
        checkpoint = checkpoint.base
    if (why := unasked(checkpoint, wanted)) is not None:
        return Witness(said="not witnessed", why=why)
    asked = questions(checkpoint, held_out)
    positions = sum(map(len, asked.windows))
    fitting = room(decoder, positions)
    if not fitting.layers:
        return Witness(said="not witnessed", why="memory does not allow one layer of it in FP32 beside transformers")
    if fitting.layers < len(decoder.layers) and (decoder.per_layer is not None or any(shares(block) for block in decoder.layers)):
        return Witness(
            said="not witnessed",
            why=f"memory allows {fitting.layers} of its {len(decoder.layers)} layers, which are made for one another and cannot be cut",
        )
    key = witness_cache.key(checkpoint, asked.windows, asked.texts, asked.tokens, asked.chats, asked.said)
    known = witness_cache.remembered(key)
    if known is not None and known.layers >= fitting.layers:
        return known
    report("witness", 0, 1, "checkpoint")
    try:
        answer, theirs = ask(checkpoint.folder, fitting.layers, fitting.memory, asked.windows, asked.texts, asked.chats)
    except FirstTokenError as error:
        return Witness(said="not witnessed", why=str(error))
    found = judge(checkpoint, decoder, asked, fitting.layers, answer, theirs)
    report("witness", 1, 1, "checkpoint")
    if found.said == "agrees":
        witness_cache.remember(key, found)
    return found


def unasked(checkpoint: Checkpoint, wanted: bool) -> str | None:
    """Why transformers is not asked, or None."""
    if not wanted:
        return "left out (--no-witness)"
    if os.environ.get(OFF):
        return f"left out ({OFF} is set)"
    if type(checkpoint) is not Checkpoint:
        return f"its weights are not those of a folder that transformers reads ({type(checkpoint).__name__})"
    if has_other_parts(checkpoint.config):
        return f"{checkpoint.config['model_type']} has other parts than its text, which alone is taken; transformers would load the whole"
    absent = [name for name in ("torch", "transformers") if find_spec(name) is None]
    return f"{' and '.join(absent)} not installed, run: {install_command('distill')}" if absent else None


def questions(checkpoint: Checkpoint, held_out: str) -> Questions:
    """The held-out text's beginning, texts in which tokenizers differ, and chats, as firsttoken cuts and writes them."""
    tokenizer = Tokenizer(checkpoint.folder)
    chat, template = chat_affixes(checkpoint.folder, tokenizer), read_template(checkpoint.folder, tokenizer.settings)
    chats = [] if template is None else list(CHATS)
    said = [our_words(tokenizer, template, chat.conversation if chat else None, messages) for messages in chats if template is not None]
    texts = [held_out[:TEXT_CHARACTERS], *PROBES, *special_texts(tokenizer)]
    tokens = [tokenizer.encode(text) for text in texts]
    shown = next((words.tokens for words in said if words.tokens), None) or list(tokenizer.special.values())
    windows = [window for window in (tokens[0][:TEXT_TOKENS], shown[:CHAT_TOKENS]) if window]
    return Questions(windows, texts, tokens, chats, said)


def our_words(tokenizer: Tokenizer, template: str, pieces: Conversation | None, messages: list[dict]) -> Said:
    """A chat as a phone will write it, by its pieces; where it has none, as the template writes it on the host."""
    try:
        text = render(template, messages, tokenizer.settings)
        text = text if pieces is None else write_conversation(pieces, messages)
    except FirstTokenError as error:
        return Said(error=str(error))
    return Said(text=text, tokens=tokenizer.encode(text, begin=False))


def judge(checkpoint: Checkpoint, decoder: Decoder, asked: Questions, layers: int, answer: dict, theirs: np.ndarray | None) -> Witness:
    """Holds transformers' answers against firsttoken's."""
    by = f"transformers {answer['transformers']}"
    if "tokenizer_error" in answer or "model_error" in answer:
        return Witness(said="not witnessed", why=f"{by} cannot load it: {answer.get('tokenizer_error') or answer['model_error']}", by=by)
    missed, remark = missed_words(asked.texts, asked.tokens, asked.said, answer)
    found = Witness(
        said="agrees",
        why=remark,
        by=f"{by} {answer['class']}",
        positions=sum(map(len, asked.windows)),
        layers=layers,
        of_layers=len(decoder.layers),
        bound=BOUND,
        texts=len(asked.texts),
        chats=len(asked.chats),
    )
    if missed is None and answer.get("missing"):
        missed = f"weights: transformers finds no {answer['missing'][0]} in it and would take random values"
    if missed is None and theirs is not None:
        windows = [np.array(window, np.int32) for window in asked.windows]
        ours = np.concatenate(reference_logits(checkpoint, first_layers(decoder, layers), windows, [np.arange(len(w)) for w in windows]))
        difference = apart(ours, theirs)
        worst = int(np.argmax(difference))
        found.difference = float(difference[worst])
        if not found.difference <= BOUND:
            missed = (
                f"logits: at position {worst} of {len(ours)} they are {found.difference:.2g} of their spread away from {found.by}'s, where rounding explains "
                f"{BOUND:g} ({layers} of {len(decoder.layers)} layers run)"
            )
    if missed is not None:
        found.said, found.why = "differs", missed
    return found


def apart(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """At every position ``[positions]`` the root mean square difference of two rows of logits in units of the first one's spread; infinite for other shapes."""
    if ours.shape != theirs.shape:
        return np.full(len(ours), np.inf)
    spread = np.maximum(ours.std(-1), np.finfo(np.float32).tiny)
    return np.sqrt(np.square(ours.astype(np.float64) - theirs).mean(-1)) / spread
