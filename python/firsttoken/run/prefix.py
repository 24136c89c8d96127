"""A system prompt whose keys and values lie in the bundle, so that a first question costs its own tokens: made, read, and held against the same tokens computed."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np

from firsttoken.backends.registry import find_backend
from firsttoken.backends.runner import KeptPrefix, Runner
from firsttoken.bundle.chat_facts import Chat, Conversation
from firsttoken.bundle.manifest import Manifest
from firsttoken.bundle.prefix_facts import PrefixFacts, PrefixProof, Stored
from firsttoken.conversation import ASKED, write_conversation
from firsttoken.errors import FirstTokenError
from firsttoken.run.arrays_file import read_arrays, write_arrays
from firsttoken.tokenizer import Tokenizer

FILE = "prefix.npz"
SCALES = ".scales"
SMALLEST = 1e-9  # of a row's largest value: one of zeros has a scale, too


def pieces_of(chat: Chat | None) -> Conversation:
    """How conversations are written. Raises `FirstTokenError` where they cannot be."""
    if chat is None or chat.conversation is None:
        why = "has none" if chat is None else f"cannot be written without Jinja ({chat.conversation_refused})"
        raise FirstTokenError(f"--system-prompt: goes through the chat template, and the checkpoint's {why}; leave it out")
    return chat.conversation


def prefix_tokens(pieces: Conversation, tokenizer: Tokenizer, system: str, cache_length: int) -> list[int]:
    """The tokens that conversations with this system message begin with, whatever is asked. Raises `FirstTokenError` where there are none, or no room is left."""
    if pieces.open_system is None:
        raise FirstTokenError("the chat template takes no system message, so none can be kept; leave out --system-prompt")
    texts = [
        write_conversation(pieces, [{"role": "system", "content": system}, {"role": "user", "content": question}]) for question in ASKED
    ]
    encoded = [np.array(tokenizer.encode(text, begin=False)) for text in texts]
    shortest = min(map(len, encoded))
    differ = np.flatnonzero([len({int(tokens[place]) for tokens in encoded}) > 1 for place in range(shortest)])
    count = int(differ[0]) if len(differ) else shortest
    if not count:
        raise FirstTokenError("conversations with this system prompt begin with no token in common; leave out --system-prompt")
    if shortest >= cache_length:
        raise FirstTokenError(
            f"the system prompt has {count} tokens with the template, and the cache holds {cache_length}; shorten it, or give a longer --cache-length"
        )
    return encoded[0][:count].tolist()


def make_prefix(folder: Path, manifest: Manifest, runner: Runner, tokenizer: Tokenizer, system: str, stored: Stored) -> PrefixFacts:
    """Computes the prefix and writes its file into the bundle's ``folder``. Raises `FirstTokenError`."""
    tokens = prefix_tokens(pieces_of(manifest.chat), tokenizer, system, manifest.cache_length)
    runner.reset()
    runner.prefill(tokens)
    held = runner.held_arrays()
    if held is None:
        why = find_backend(manifest.cpu.backend).cache_refused()
        raise FirstTokenError(f"target {manifest.target.name!r}: {why}, so no system prompt can be kept; leave out --system-prompt")
    write_arrays(folder / FILE, packed(held, stored))
    package = find_backend(manifest.cpu.backend).package
    return PrefixFacts(file=FILE, system=system, tokens=tokens, stored=stored, computed_with=f"{package} {version(package)}")


def packed(arrays: Mapping[str, np.ndarray], stored: Stored) -> dict[str, np.ndarray]:
    """The arrays in the numbers of the file: floats in ``stored``, in int8 with the scale of every last axis; what is no float stays."""
    found: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if array.dtype.kind != "f" or (stored == "fp32"):
            found[name] = array
        elif stored == "fp16":
            found[name] = array.astype(np.float16)
        else:
            scales = np.maximum(np.abs(array).max(-1, keepdims=True).astype(np.float32), SMALLEST) / 127
            found[name], found[name + SCALES] = np.rint(array / scales).astype(np.int8), scales
    return found


def unpacked(arrays: Mapping[str, np.ndarray], dtypes: Mapping[str, np.dtype]) -> dict[str, np.ndarray]:
    """The arrays as the cache holds them; ``dtypes`` are its own by name."""
    found = {}
    for name, array in arrays.items():
        if name.endswith(SCALES) and name.removesuffix(SCALES) in arrays:
            continue
        scales = arrays.get(name + SCALES)
        value = array if scales is None else array * scales
        found[name] = value.astype(dtypes[name]) if name in dtypes else value
    return found


class Prefix:
    """What a bundle keeps of its system prompt, read when it is wanted first."""

    def __init__(self, folder: Path, facts: PrefixFacts) -> None:
        self.folder, self.facts = folder, facts
        self.tokens = np.array(facts.tokens, np.int32)
        self._arrays: dict[str, np.ndarray] | None = None

    @property
    def system(self) -> str:
        return self.facts.system

    def give(self, runner: Runner) -> None:
        """Puts it into the runner's cache, in the place of what is there. Raises `FirstTokenError`."""
        if not runner.held_types:
            runner.hold_again(self.tokens, {})  # says why it cannot
        if self._arrays is None:
            self._arrays = read_arrays(self.folder / self.facts.file, "kept system prompt", "export again")
        try:
            runner.hold_again(self.tokens, unpacked(self._arrays, runner.held_types))
        except FirstTokenError as error:
            raise FirstTokenError(f"kept system prompt {self.folder / self.facts.file}: {error}; export again") from None


def prove_prefix(runner: Runner, prefix: KeptPrefix, pieces: Conversation, tokenizer: Tokenizer) -> PrefixProof:
    """Asks `conversation.ASKED` after the kept prefix and after the same tokens computed in one call; the runner's own prefix is left out of it."""
    found, equal = [], True
    own, runner.prefix = runner.prefix, None
    try:
        for question in ASKED:
            messages = [{"role": "system", "content": prefix.system}, {"role": "user", "content": question}]
            tokens = tokenizer.encode(write_conversation(pieces, messages), begin=False)
            rest = tokens[len(prefix.tokens) :]
            runner.reset()
            runner.prefill(prefix.tokens)
            wanted = runner.prefill(rest).copy()
            prefix.give(runner)
            got = runner.prefill(rest)
            equal = equal and np.array_equal(got, wanted)
            found.append(divergence(wanted, got))
    finally:
        runner.prefix = own
        runner.reset()
    return PrefixProof(equal_bits=bool(equal), mean_kld=float(np.mean(found)), worst_kld=max(found), positions=len(found))


def divergence(wanted: np.ndarray, got: np.ndarray) -> float:
    """The KL divergence of two rows of logits, in nats, summed in float64."""
    one, other = (
        row - row.max() - np.log(np.exp(row - row.max()).sum()) for row in (np.asarray(logits, np.float64) for logits in (wanted, got))
    )
    return max(0.0, float((np.exp(one) * (one - other)).sum()))
