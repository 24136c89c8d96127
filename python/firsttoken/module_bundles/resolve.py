"""A plan for a module on a target: every layer's precision, or why not."""

from collections.abc import Sequence

from firsttoken.backends.module_backend import ModuleBackend
from firsttoken.errors import FirstTokenError
from firsttoken.modules.layers import ModuleLayer
from firsttoken.modules.module import Module
from firsttoken.precisions import STATIC
from firsttoken.quant.module_plan import ModulePlan, Resolved

# What calibrated ranges ruin, by the operator's name: a ViT kept 0.68 of its classes, a BERT 0.77, in silence and slower than with dynamic ranges.
UNFIT_FOR_STATIC = {
    "aten.layer_norm": "LayerNorm",
    "aten.native_layer_norm": "LayerNorm",
    "aten.scaled_dot_product_attention": "attention",
    "aten.lstm": "an LSTM",
    "aten.gru": "a GRU",
    "aten.bmm": "products of activations",
    "aten.matmul": "products of activations",
}


def resolve_module(plan: ModulePlan, module: Module, layers: Sequence[ModuleLayer], target: str, backend: ModuleBackend) -> Resolved:
    """`ModulePlan.resolve` for a backend. Raises `FirstTokenError` for calibrated ranges in a net that does not keep its answers with them, too."""
    resolved = plan.resolve(layers, target, backend.precisions, backend.why_not)
    static = next((name for name, precision in resolved.precisions.items() if precision in STATIC), None)
    if static is not None and (found := unfit_for_static(module)):
        rule = next(rule for rule in plan.rules if any(rule.takes(layer) for layer in layers if layer.name == static))
        raise FirstTokenError(
            f"plan {plan.name!r}, rule {rule.words}: {resolved.precisions[static]} for {static!r}, but {module.name} has {found}: calibrated ranges cost a ViT a third and a BERT a quarter of "
            "its classes, without an error; give module-int8, whose ranges are dynamic"
        )
    return resolved


def unfit_for_static(module: Module) -> str:
    """What of a module calibrated ranges ruin, in words; empty for a convolution network."""
    for node in module.program.graph.nodes:
        operation = str(node.target).rpartition(".")[0]
        if operation in UNFIT_FOR_STATIC:
            return f"{UNFIT_FOR_STATIC[operation]} ({node.name})"
    return ""
