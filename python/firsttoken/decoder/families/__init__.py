"""The supported model families, one module each, named after ``model_type``.

A family's module says which models it is (``MODELS``) and composes its decoder from a ``config.json``: ``describe(config)``.
Adding one is such a file, of parts that are there, and a line in the parity test against transformers.
"""

from importlib import import_module
from pkgutil import iter_modules

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.parts import Decoder
from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible

# Ends of the names of classes with a language model in them; others, as ForSequenceClassification, predict something else.
TASKS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "Model")
SHARED = ("compose", "experts", "gemma4_layers")  # modules of this package that are no family


def family_names() -> list[str]:
    """The ``model_type`` of every supported family."""
    return sorted(module.name for module in iter_modules(__path__) if module.name not in SHARED)


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
            f"config.json: needs code from the model's author (auto_map), which firsttoken never runs; supported families: {', '.join(family_names())}"
        )
    if not known:
        raise FirstTokenError(f"config.json: model_type {family!r} is not supported; expected one of: {', '.join(family_names())}")
    check_architecture(str(family), config.get("architectures"))
    if config.get("quantization_config"):
        raise FirstTokenError("config.json: the checkpoint is already quantized (quantization_config); export from the original weights")
    if config.get("pretraining_tp", 1) != 1:
        raise FirstTokenError("config.json: pretraining_tp other than 1 is not supported")
    decoder = import_module(f"{__name__}.{family}").describe(config)
    config.check_all_read(family)
    return decoder


def check_architecture(family: str, architectures: object) -> None:
    """Raises `FirstTokenError` where ``architectures`` names another model than ``model_type``, or one that predicts no tokens."""
    names = [architectures] if isinstance(architectures, str) else architectures
    if not names:
        return
    known = getattr(import_module(f"{__name__}.{family}"), "ARCHITECTURES", ())
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FirstTokenError(f"config.json: architectures is {visible(repr(names), 80)}; expected a list of class names or null")
    for name in names:
        if name in known:
            continue
        stem = next((name.removesuffix(end) for end in TASKS if name.endswith(end)), None)
        if stem is None or _letters(stem) != _letters(family).removesuffix("text"):
            raise FirstTokenError(
                f"config.json: model_type is {family!r}, but architectures says {visible(repr(name), 80)}, which is another model or another task; "
                "nothing is exported, for one of the two is wrong: take config.json from the model's page again"
            )


def _letters(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())
