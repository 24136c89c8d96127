""".pte files of ExecuTorch's language-model form: ``forward(tokens [1, S], position [1] or [S])`` gives the last token's logits.

export_llm writes them, optimum-executorch does, and firsttoken: constant methods (``get_max_context_len`` and others) say what they are.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firsttoken.backends.executorch import runner as executorch
from firsttoken.backends.runner import Runner, default_threads
from firsttoken.errors import FirstTokenError
from firsttoken.foreign.facts import Offered, Subject
from firsttoken.foreign.structure import Structure
from firsttoken.plain_file import open_plain, why
from firsttoken.quiet import quiet_runtime
from firsttoken.safe_text import visible

if TYPE_CHECKING:
    from torch import Tensor

FORWARD = "forward"
LENGTHS, VOCABULARY, BEGIN, DYNAMIC = ("get_max_context_len", "get_max_seq_len"), "get_vocab_size", "get_bos_id", "enable_dynamic_shape"
INTEGERS = {3: "int32", 4: "int64"}  # ScalarType
EXPECTED = "expected forward(tokens [1, S], position [1] or [S]) that gives logits, as ExecuTorch's export_llm writes it"


def load(path: Path) -> Any:
    """The program, loaded with ExecuTorch's own checks and the custom operators of its language models. Raises `FirstTokenError`."""
    with quiet_runtime():
        _, bindings = executorch.import_runtime()
        try:
            from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401  registers llama::
        except (ImportError, OSError, RuntimeError) as error:
            raise FirstTokenError(f"ExecuTorch's custom operators cannot be loaded ({visible(error)}); install executorch again") from None
        try:
            open_plain(path).close()
            return bindings._load_program(str(path), program_verification=bindings.Verification.InternalConsistency)
        except OSError as error:
            raise FirstTokenError(f"{path}: cannot be read ({why(error)})") from None
        except RuntimeError as error:
            raise FirstTokenError(f"{path}: ExecuTorch cannot load it ({error}); export it again for this runtime") from None


def names_of(program: Any) -> list[str]:
    return [program.get_method_name(number) for number in range(program.num_methods())]


def constant(path: Path, program: Any, name: str) -> int | None:
    """What a method without inputs says, a number; None where there is none. Raises `FirstTokenError` for one that says something else."""
    if name not in names_of(program):
        return None
    try:
        if program.method_meta(name).num_inputs():
            raise FirstTokenError(f"{path}: its method {name} takes inputs; expected one that says a number")
        values = program.load_method(name).call([])
    except RuntimeError as error:
        raise FirstTokenError(f"{path}: its method {name} fails ({error}); export it again") from None
    value: Any = values[0] if len(values) == 1 else None
    value = value.item() if hasattr(value, "item") and value.numel() == 1 else value
    if not isinstance(value, int):
        raise FirstTokenError(f"{path}: its method {name} says {visible(values)}; expected a number")
    return int(value)


def sizes(path: Path, program: Any) -> tuple[int, int, int, str, str]:
    """The most tokens of a call, how many positions it takes (1, or as many), the vocabulary and the types of tokens and positions.

    Raises `FirstTokenError` for a program of another form.
    """
    if FORWARD not in names_of(program):
        raise FirstTokenError(f"{path}: has the methods {', '.join(map(visible, names_of(program)))}; {EXPECTED}")
    meta = program.method_meta(FORWARD)
    try:
        given = [meta.input_tensor_meta(n) for n in range(meta.num_inputs())]
        result = [meta.output_tensor_meta(n) for n in range(meta.num_outputs())]
    except (RuntimeError, IndexError) as error:
        raise FirstTokenError(f"{path}: forward takes or gives something that is no tensor ({visible(error)}); {EXPECTED}") from None
    shapes = [f"{list(each.sizes())}" for each in given]
    fits = (
        len(given) == 2
        and len(result) == 1
        and all(each.dtype() in INTEGERS for each in given)
        and len(given[0].sizes()) == 2
        and given[0].sizes()[0] == 1
        and len(given[1].sizes()) == 1
        and given[1].sizes()[0] in (1, given[0].sizes()[1])
        and result[0].sizes()
        and result[0].sizes()[-1] > 1
    )
    if not fits:
        ours = "; if it is of a bundle of firsttoken's, give the bundle's folder" if len(given) == 3 else ""
        raise FirstTokenError(f"{path}: forward takes {len(given)} inputs {', '.join(shapes)}; {EXPECTED}{ours}")
    tokens, positions = given[0].sizes()[1], given[1].sizes()[0]
    return tokens, positions, result[0].sizes()[-1], INTEGERS[given[0].dtype()], INTEGERS[given[1].dtype()]


def offered(path: Path) -> Offered:
    """What the file says of itself. Raises `FirstTokenError`."""
    program = load(path)
    tokens, _, logits, _, _ = sizes(path, program)
    if tokens > 1 and constant(path, program, DYNAMIC) == 0:
        raise FirstTokenError(f"{path}: takes exactly {tokens} tokens a call, so it cannot decode; {EXPECTED}")
    said = constant(path, program, VOCABULARY)
    if said not in (None, logits):
        raise FirstTokenError(f"{path}: {VOCABULARY} says {said}, but its logits have {logits}; export it again")
    found = {name: length for name in LENGTHS if (length := constant(path, program, name)) is not None}
    name = next(iter(found), None)
    begin = constant(path, program, BEGIN)
    return Offered(
        vocab_size=logits,
        cache_length=found[name] if name else None,
        looked_for=name or f"its methods {' and '.join(LENGTHS)}",
        fixed=name is not None,
        chunk=tokens,
        names_words=begin is not None,
        begin=None if begin is None or begin < 0 else begin,
        runtime="executorch",
    )


def structure(path: Path) -> Structure:
    """What it is made of. Raises `FirstTokenError`."""
    from firsttoken.foreign.program_audit import look_into

    return look_into(path)


class ProgramRunner(Runner):
    """Loads the program with ``threads`` threads (default: the machine's cores, 4 at most); its cache is in its own buffers."""

    def __init__(self, path: Path, subject: Subject, threads: int | None = None) -> None:
        super().__init__(subject)
        self._torch, bindings = executorch.import_runtime()
        executorch.set_threads(bindings, threads or default_threads())
        self._program = load(path)
        self.prefill_chunk, self._positions, _, *kinds = sizes(path, self._program)
        self._tokens_type, self._position_type = (getattr(self._torch, kind) for kind in kinds)
        try:
            with quiet_runtime():
                self._method = self._program.load_method(FORWARD)
        except RuntimeError as error:
            raise FirstTokenError(f"{path}: ExecuTorch cannot load its forward ({error}); export it again for this runtime") from None
        executorch._open_runners.add(self)
        self._logits = np.zeros(self.vocab_size, np.float32)

    def _prefill(self, tokens: np.ndarray) -> np.ndarray:
        with quiet_runtime():
            return self._call(self._torch.from_numpy(tokens.astype(np.int64))[None].to(self._tokens_type))

    def _decode(self, token: int) -> np.ndarray:
        return self._call(self._torch.tensor([[token]], dtype=self._tokens_type))

    def _call(self, tokens: "Tensor") -> np.ndarray:
        count = tokens.shape[1]
        places = range(self.position, self.position + (1 if self._positions == 1 else count))
        try:
            # a clone would be made by torch's own threads, which then spin and take the cores from XNNPACK's
            [logits] = self._method.call([tokens, self._torch.tensor(list(places), dtype=self._position_type)], clone_outputs=False)
        except RuntimeError as error:
            raise FirstTokenError(f"ExecuTorch: running {count} tokens at position {self.position} failed ({error})") from None
        np.copyto(self._logits, logits.float().numpy().reshape(-1, self.vocab_size)[-1])
        return self._logits

    def close(self) -> None:
        self._method = self._program = None
        executorch._open_runners.discard(self)


def open_runner(path: Path, subject: Subject, threads: int | None, kept: bool) -> Runner:
    """Loads it; this runtime keeps nothing between starts. Raises `FirstTokenError`."""
    return ProgramRunner(path, subject, threads)


def preload() -> None:
    """Imports what running takes."""
    executorch.import_runtime()
    from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401
