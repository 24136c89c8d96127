"""The calls that the app's GpuModelProgram makes, through LiteRT's own class on the software GPU: python two_caches.py BUNDLE CALLS OUT.

CALLS is an .npz of lists of tokens, each a prompt at once, or one token to decode; OUT gets the logits after each.
"""

import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.hardware_accelerator import HardwareAccelerator

from firsttoken.bundle.manifest import read_manifest

HOST = 1  # kLiteRtTensorBufferTypeHostMemory
FED = ("tokens", "input_pos", "mask")


class TwoCaches:
    """A call reads one set of cache buffers and writes the other, and the next takes them the other way round."""

    def __init__(self, bundle: Path):
        artifact = read_manifest(bundle).gpu_artifact
        self.facts, methods = artifact.gpu, {method.name: method for method in artifact.methods}
        self.model = CompiledModel.from_file(str(bundle / artifact.file), hardware_accel=HardwareAccelerator.GPU | HardwareAccelerator.CPU)
        assert self.memory() and HOST not in self.memory(), "the app takes it for the CPU"
        decode = methods["decode"]
        cached = [tensor for tensor in decode.inputs if tensor.name not in FED]
        self.rows = next(tensor.shape[3] for tensor in decode.inputs if tensor.name == "mask")
        self.filled, self.spare = (
            {tensor.name: self.model.create_input_buffer_by_name("decode", tensor.name) for tensor in cached} for _ in range(2)
        )
        for tensor in cached:
            self.filled[tensor.name].write(np.zeros(tensor.shape, np.float32))
        self.logits = self.model.create_output_buffer_by_name("decode", "logits")
        self.vocabulary = next(tensor.shape[-1] for tensor in decode.outputs if tensor.name == "logits")
        self.own: dict[str, dict] = {}

    def memory(self) -> set[int]:
        """Kinds of memory that the graphs' inputs are to be in, by which the app tells where a graph runs."""
        found = set()
        for number, signature in enumerate(self.model.get_signature_list().values()):
            for place in range(len(signature["inputs"])):
                found |= set(self.model.get_input_buffer_requirements(place, number)["supported_types"])
        return found

    def call(self, name: str, tokens: list[int], at: int, length: int) -> None:
        own = self.own.setdefault(name, {fed: self.model.create_input_buffer_by_name(name, fed) for fed in FED})
        mask = np.full((1, 1, length, self.rows), self.facts.masked, np.float32)
        for row in range(len(tokens)):
            mask[0, 0, row, : at + row + 1] = 0
        own["tokens"].write(np.array([tokens + [0] * (length - len(tokens))], np.int32))
        own["input_pos"].write(np.arange(at, at + length, dtype=np.int32))
        own["mask"].write(mask)
        outputs = self.spare | ({"logits": self.logits} if name == "decode" else {})
        self.model.run_by_name(name, own | self.filled, outputs)
        self.filled, self.spare = self.spare, self.filled

    def after(self, tokens: list[int], at: int) -> np.ndarray:
        last, done = len(tokens) - 1, 0
        while done < last:
            fitting = [length for length in self.facts.prefill_lengths if at + done + length <= self.rows]
            length = next(length for length in [*fitting, fitting[-1]] if length >= last - done or length == fitting[-1])
            count = min(length, last - done)
            self.call(f"prefill_{length}", tokens[done : done + count], at + done, length)
            done += count
        self.call("decode", tokens[last:], at + last, 1)
        return self.logits.read(self.vocabulary, np.float32).copy()


def main(bundle: str, calls: str, out: str) -> None:
    model, at, logits = TwoCaches(Path(bundle)), 0, []
    for tokens in np.load(calls).values():
        logits.append(model.after(tokens.tolist(), at))
        at += len(tokens)
    np.save(out, np.stack(logits))


if __name__ == "__main__":
    main(*sys.argv[1:])
