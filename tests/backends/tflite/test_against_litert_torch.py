"""An independent oracle: the same two-layer model, from transformers' own code through litert-torch's converter."""

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter

LENGTH = 24


class LastLogits(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tokens):
        return self.model(tokens, use_cache=False).logits[:, -1]


@pytest.mark.slow
def test_first_graph_equals_the_stock_converters(tied_checkpoint, lowered_runner, tokens, tmp_path):
    import litert_torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tied_checkpoint, dtype=torch.float32, attn_implementation="eager").eval()
    sample = torch.tensor([tokens[:LENGTH]], dtype=torch.int32)
    litert_torch.convert(LastLogits(model), (sample,)).export(str(tmp_path / "stock.tflite"))
    interpreter = Interpreter(str(tmp_path / "stock.tflite"))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample.numpy())
    interpreter.invoke()
    stock = interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).reshape(-1)
    ours = lowered_runner(tied_checkpoint, cache_length=64).prefill(tokens[:LENGTH])
    assert np.abs(ours - stock).max() < 1e-4
    assert stock.std() > 0.1
