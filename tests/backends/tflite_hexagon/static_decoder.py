"""One layer of the demo checkpoint, quantized statically to int8 weights and int16 activations, as LiteRT's NPU recipe does it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from firsttoken.backends.interface import LoweringJob
from firsttoken.backends.tflite.ops import TfliteOps
from firsttoken.backends.tflite_hexagon import ops, source
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder, plan_layers
from firsttoken.demo import checkpoint_path, held_out_text
from firsttoken.quant.plan import load_plan
from firsttoken.targets.target import load_target
from firsttoken.tokenizer import Tokenizer

TOKENS, CALIBRATED = 16, 24
MASKED = -40.0  # small enough for int16 scores beside it to keep a resolution


class StaticDecoder:
    """Graph ``first_16``: ``file``, its ``feeds`` for a prompt, and its output's ``scale``."""

    def __init__(self, folder: Path, norms_in_float: bool):
        from ai_edge_quantizer import algorithm_manager, qtyping, quantizer, recipe

        prompts = self._write(folder / "float.tflite")
        self.file, self.folder = folder / "static.tflite", folder
        made = quantizer.Quantizer(str(folder / "float.tflite"))
        made.load_quantization_recipe(recipe.static_wi8_ai16())
        if norms_in_float:
            kept = algorithm_manager.AlgorithmName.NO_QUANTIZE
            made.update_quantization_recipe(regex=".*", operation_name=qtyping.TFLOperationName.MEAN, algorithm_key=kept)
        made.quantize(made.calibrate({f"first_{TOKENS}": prompts[1:]})).export_model(str(self.file))
        self.prompt = prompts[0]

    def _write(self, path: Path) -> list[dict[str, np.ndarray]]:
        """Writes the float graph; returns the feeds of several prompts of real text."""
        target = load_target("tflite-hexagon-sm8550", cache_length=256)
        target = target.model_copy(update={"npu": target.npu.model_copy(update={"prefill_lengths": (TOKENS,)})})
        with Checkpoint(checkpoint_path()) as checkpoint, pytest.MonkeyPatch.context() as patch:
            config = open_decoder(checkpoint)
            config = replace(config, layers=config.layers[:1])
            patch.setattr(ops, "MASKED", MASKED)
            # The norm whose fault this shows; ours divides by the largest value first, with other operators.
            patch.setattr(ops.HexagonOps, "to_unit_size", TfliteOps.to_unit_size)
            patch.setattr(source, "graph_names", lambda lengths: [(f"first_{TOKENS}", "first", TOKENS)])
            precisions = {layer.name: "fp32" for layer in plan_layers(config)}
            source.describe_source(LoweringJob(checkpoint, config, load_plan("fp32"), target, precisions))[0].write(path)
            table = checkpoint.rows("model.embed_tokens.weight", 0, config.vocab_size).astype(np.float32)
        text = np.array(Tokenizer(checkpoint_path()).encode(held_out_text(), begin=False))[: (CALIBRATED + 1) * TOKENS].reshape(-1, TOKENS)
        angles = np.arange(TOKENS, dtype=np.float32)[:, None] * np.array(
            config.layers[0].attention.rotation.inverse_frequencies, np.float32
        )
        cos, sin = np.cos(angles), np.sin(angles)
        fixed = {
            "cos": np.concatenate([cos, cos], 1)[:, None],
            "sin": np.concatenate([-sin, sin], 1)[:, None],
            "last": np.array([TOKENS - 1], np.int32),
        }
        return [{"embedding": table[tokens], **fixed} for tokens in text]

    def wanted(self) -> np.ndarray:
        """The float graph's logits on the CPU."""
        return self._signature(self.folder / "float.tflite")(**self.prompt)["logits"].reshape(-1)

    def on_cpu(self) -> np.ndarray:
        """The quantized file's logits on the CPU."""
        return self._unscaled(self._signature(self.file)(**self.feeds())["logits"])

    def on_npu(self, session) -> np.ndarray:
        """The compiled file's logits on the HTP backend for x86."""
        return self._unscaled(session.run(self.feeds())["logits"])

    def feeds(self) -> dict[str, np.ndarray]:
        """The prompt in the quantized file's own types."""
        details, feeds = self._signature(self.file).get_input_details(), {}
        for name, values in self.prompt.items():
            if details[name]["dtype"] == np.int16:
                values = np.clip(np.rint(values / details[name]["quantization"][0]), -32768, 32767).astype(np.int16)
            feeds[name] = values
        return feeds

    def _signature(self, path: Path):
        from ai_edge_litert.interpreter import Interpreter

        self._kept = Interpreter(str(path))  # the runner does not keep it alive
        return self._kept.get_signature_runner()

    def _unscaled(self, logits: np.ndarray) -> np.ndarray:
        details = self._signature(self.file).get_output_details()["logits"]
        scale = details["quantization"][0] if details["dtype"] == np.int16 else 1.0
        return logits.reshape(-1).astype(np.float64) * scale
