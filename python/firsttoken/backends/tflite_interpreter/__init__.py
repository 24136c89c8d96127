"""A .tflite for the plain `Interpreter` of any language: fixed lengths, FP32 tensors at the border, the cache handed in and back."""
