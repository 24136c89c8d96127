"""What ``config.json``'s ``quantization_config`` says, checked; formats that are not read are refused by their names, with what to do instead."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from firsttoken.declarations import first_problem
from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible

KEYS = ("quantization_config", "compression_config")  # the second is compressed-tensors' older one
ORIGINAL = "export the original weights (--plan int4-gptq chooses integers anew)"
READ = "compressed-tensors (pack-quantized, int-quantized) and gptq are read"
# why a method is not read; of others nothing is said but the name
REFUSED = {
    "awq": "its zero points fit no kernel of these runtimes",
    "fp8": "its weights are 8-bit floats, which no kernel of these runtimes takes",
    "fbgemm_fp8": "its weights are 8-bit floats, which no kernel of these runtimes takes",
    "mxfp4": "its weights are 4-bit floats, which no kernel of these runtimes takes",
    "bitsandbytes": "its 4-bit values are no lattice (NF4), its 8-bit ones keep outliers apart",
    "torchao": "its tensors are written by torchao's own classes",
    "hqq": "its zero points fit no kernel of these runtimes",
}
FORMATS = ("pack-quantized", "int-quantized", "naive-quantized", "mixed-precision", "dense")


class Weights(BaseModel):
    """How one group of compressed-tensors' layers stores its weights."""

    model_config = ConfigDict(extra="ignore", strict=True)
    num_bits: int = Field(ge=1, le=16)
    type: str = "int"
    symmetric: bool = True
    strategy: Literal["tensor", "channel", "group", "block", "token", "tensor_group", "attn_head"] | None = None
    group_size: int | None = Field(None, ge=-1)

    @property
    def group(self) -> int | None:
        """Columns that share a scale, None for a whole row."""
        return self.group_size if self.group_size is not None and self.group_size > 0 else None


class Group(BaseModel):
    """One of compressed-tensors' ``config_groups``."""

    model_config = ConfigDict(extra="ignore", strict=True)
    weights: Weights | None = None
    input_activations: dict[str, Any] | None = None
    output_activations: dict[str, Any] | None = None
    format: str | None = None

    @property
    def left_out(self) -> str:
        """What it says of activations that no artifact has, in words; empty where activations are floats, or rounded token by token as kernels do."""
        for what, how in (("inputs", self.input_activations), ("outputs", self.output_activations)):
            if how is not None and (what == "outputs" or how.get("dynamic") is not True):
                when = "as they come" if how.get("dynamic") else "by scales decided beforehand"
                return f"{what} of layers rounded to {visible(repr(how.get('num_bits')), 20)} bits {when}"
        return ""


class CompressedTensors(BaseModel):
    """https://github.com/vllm-project/compressed-tensors, ``QuantizationConfig``."""

    model_config = ConfigDict(extra="ignore", strict=True)
    quant_method: Literal["compressed-tensors"] = "compressed-tensors"
    format: str = "dense"
    config_groups: dict[str, Group] = Field(min_length=1)
    kv_cache_scheme: dict[str, Any] | None = None
    transform_config: dict[str, Any] | None = None
    sparsity_config: dict[str, Any] | None = None

    @property
    def weights(self) -> list[Weights]:
        return [group.weights for group in self.config_groups.values() if group.weights is not None]


class Gptq(BaseModel):
    """AutoGPTQ's and GPTQModel's ``quantize_config.json``."""

    model_config = ConfigDict(extra="ignore", strict=True)
    quant_method: Literal["gptq"]
    bits: int = Field(ge=1, le=16)
    group_size: int = Field(-1, ge=-1)
    sym: bool = True
    desc_act: bool = False
    checkpoint_format: str = "gptq"
    pack_dtype: str = "int32"

    @property
    def group(self) -> int | None:
        return self.group_size if self.group_size > 0 else None

    @property
    def zero_offset(self) -> int:
        """What is added to a stored zero point: AutoGPTQ's format stores one less."""
        return 0 if self.checkpoint_format == "gptq_v2" else 1


Scheme = CompressedTensors | Gptq


def is_quantized(config: dict) -> bool:
    """Whether a ``config.json`` says that the weights beside it are quantized."""
    return any(config.get(key) for key in KEYS)


def read_scheme(place: Path, config: dict) -> Scheme:
    """Returns what ``config`` says of its quantized weights. Raises `FirstTokenError` for what is not read, naming it, and for nonsense."""
    key = next(key for key in KEYS if config.get(key))
    said, where = config[key], f"{place}: {key}"
    if not isinstance(said, dict):
        raise FirstTokenError(f"{where} is {visible(repr(said), 80)}; expected an object; take config.json from the model's page again")
    method = said.get("quant_method", "compressed-tensors" if "config_groups" in said else None)
    kinds: dict[str, type[Scheme]] = {"compressed-tensors": CompressedTensors, "gptq": Gptq}
    if not isinstance(method, str) or method not in kinds:
        why = REFUSED.get(method, "") if isinstance(method, str) else ""
        by = "but quant_method, which says by what, is missing" if method is None else f"by {visible(repr(method), 60)}"
        raise FirstTokenError(f"{where}: the checkpoint is already quantized {by}{', and ' + why if why else ''}; {READ}: {ORIGINAL}")
    try:
        scheme = kinds[method].model_validate(said)
    except ValidationError as error:
        raise FirstTokenError(f"{where}: {first_problem(error, said)}; take config.json from the model's page again") from None
    check = _check_gptq if isinstance(scheme, Gptq) else _check_compressed
    if wrong := check(scheme):  # type: ignore[arg-type]  # each takes its own
        raise FirstTokenError(f"{where}: the checkpoint is already quantized ({method}), with {wrong}; {ORIGINAL}")
    return scheme


def _check_compressed(scheme: CompressedTensors) -> str:
    formats = {scheme.format, *(group.format for group in scheme.config_groups.values() if group.format)}
    if left := sorted(formats - set(FORMATS)):
        return f"format {visible(repr(left[0]), 60)}, of which no kernel of these runtimes takes the weights; expected one of {', '.join(FORMATS)}"
    if scheme.kv_cache_scheme:
        return "kv_cache_scheme: keys and values rounded by scales of its own, which would be left out"
    if _says(scheme.transform_config, "config_groups"):
        return "transform_config: rotations that are computed with every token, which would be left out"
    if scheme.sparsity_config and scheme.sparsity_config.get("format", "dense") != "dense":
        return f"sparsity_config: weights stored as {visible(repr(scheme.sparsity_config['format']), 60)}"
    for weights in scheme.weights:
        if weights.type != "int" or weights.num_bits not in (4, 8):
            return f"weights of {weights.num_bits} bits of type {visible(repr(weights.type), 40)}; expected int of 4 or 8"
        if weights.strategy not in (None, "tensor", "channel", "group"):
            return f"scales by {weights.strategy}; expected channel or group"
    return ""


def _says(values: dict[str, Any] | None, key: str) -> bool:
    return bool(values) and bool(values and values.get(key, values))


def _check_gptq(scheme: Gptq) -> str:
    if scheme.bits not in (4, 8):
        return f"bits {scheme.bits}; expected 4 or 8"
    if scheme.checkpoint_format not in ("gptq", "gptq_v2"):
        return f"checkpoint_format {visible(repr(scheme.checkpoint_format), 60)}; expected gptq or gptq_v2"
    if scheme.pack_dtype != "int32":
        return f"pack_dtype {visible(repr(scheme.pack_dtype), 60)}; expected int32"
    return ""
