"""ONNX on the CPU: one graph with an explicit KV cache, its weights in a file beside it, run by onnxruntime and onnxruntime-genai."""
