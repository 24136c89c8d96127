"""The supported model families, one module each, named after ``model_type``.

A family's module says which models it is (``MODELS``) and composes its decoder from a ``config.json``: ``describe(config)``.
Adding one is such a file, of parts that are there, and a line in the parity test against transformers.
"""

from importlib import import_module
from pkgutil import iter_modules

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.parts import Decoder
from firsttoken.errors import FirstTokenError, nearest

SHARED = ("compose",)  # modules of this package that are no family


def family_names() -> list[str]:
    """The ``model_type`` of every supported family."""
    return sorted(module.name for module in iter_modules(__path__) if module.name not in SHARED)


def described_families() -> str:
    """Every family with the models it is known for, for messages and tables."""
    return ", ".join(f"{name} ({import_module(f'{__name__}.{name}').MODELS})" for name in family_names())


def describe(values: dict) -> Decoder:
    """Maps a Hugging Face ``config.json`` to a decoder.

    Raises `FirstTokenError` naming what is not supported (model_type, activation, rope kind, remote code), absurd, or a key
    that no one read and that may change what the model computes.
    """
    config = Config(values)
    family = config.get("model_type")
    known = isinstance(family, str) and family in family_names()
    if config.get("auto_map") and not known:  # of a known family the author's code is older than the library's, or the same
        raise FirstTokenError(
            f"config.json: needs code from the model's author (auto_map), which firsttoken never runs; supported families: {described_families()}"
        )
    if not known:
        raise FirstTokenError(
            f"config.json: model_type {family!r} is not supported{nearest(str(family), family_names())}; expected one of: {described_families()}"
        )
    if config.get("quantization_config"):
        raise FirstTokenError("config.json: the checkpoint is already quantized (quantization_config); export from the original weights")
    if config.get("pretraining_tp", 1) != 1:
        raise FirstTokenError("config.json: pretraining_tp other than 1 is not supported")
    decoder = import_module(f"{__name__}.{family}").describe(config)
    config.check_all_read(family)
    return decoder
