"""Checkpoints whose weights are integers times scales already: read, recognised, and kept where the kernels can hold them."""
