"""Generates text with the plain Interpreter: nothing of firsttoken's but the file of `firsttoken export -t tflite-interpreter`.

pip install ai-edge-litert tokenizers
python generate.py out/tflite-interpreter "def read_lines(path):" 40
"""

import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from tokenizers import Tokenizer

folder, prompt, most = sys.argv[1], sys.argv[2], int(sys.argv[3])
tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
interpreter = Interpreter(f"{folder}/model.tflite", num_threads=4)
signatures = {name: interpreter.get_signature_runner(name) for name in interpreter.get_signature_list()}
lengths = {name: runner.get_input_details()["tokens"]["shape"][1] for name, runner in signatures.items()}
inputs = signatures["decode"].get_input_details()
cache = {name: np.zeros(tensor["shape"], np.float32) for name, tensor in inputs.items() if name.startswith("kv_cache")}
rows = inputs["mask"]["shape"][-1]


def run(tokens, position, name):
    """Runs ``tokens``, the first of which stands at ``position``; keeps the cache and returns the logits, which only decode has."""
    padded = np.zeros((1, lengths[name]), np.int32)
    padded[0, : len(tokens)] = tokens
    at = np.arange(position, position + lengths[name], dtype=np.int32)
    mask = np.where(np.arange(rows) <= at[:, None], 0, -1e9).astype(np.float32)
    outputs = signatures[name](tokens=padded, input_pos=at, mask=mask[None, None], **cache)
    cache.update((key, value) for key, value in outputs.items() if key in cache)
    return outputs.get("logits")


tokens, position = tokenizer.encode(prompt).ids, 0
while position < len(tokens) - 1:
    left = len(tokens) - 1 - position
    name = min((n for n in lengths if n != "decode"), key=lambda n: (lengths[n] < left, abs(lengths[n] - left)))
    run(tokens[position : position + min(left, lengths[name])], position, name)
    position += min(left, lengths[name])
for _ in range(most):
    tokens.append(int(run(tokens[-1:], position, "decode").argmax()))
    position += 1
print(tokenizer.decode(tokens))
