"""Proof that a bundle computes what its checkpoint computes: on this machine, on an ARM core, on an NPU's own backend."""

from firsttoken.callable_package import make_callable

make_callable(__name__)
