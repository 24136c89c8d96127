"""A checkpoint as it is, in FP32 with PyTorch: what `firsttoken evaluate` runs beside bundles."""
