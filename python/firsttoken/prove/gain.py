"""Would the plan be much nearer if outliers of its layers' inputs were rounded by themselves? Asked of the plan computed on the host, in the proof's own pass."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from firsttoken.backends.interface import Backend
from firsttoken.bundle.integer_facts import CalibrationFacts
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import plan_layers
from firsttoken.prove.arithmetic import Planned
from firsttoken.prove.twin import planned
from firsttoken.prove.windows import Window
from firsttoken.quant.plan import Plan

TOKENS = 192  # of the windows that the twin is run on: a third of them, for a third of the twin's time
MUCH = 0.6  # times the plan's divergence: from here on it is said


@dataclass(frozen=True)
class Gain:
    """Mean KL divergence from the reference in nats a token over ``positions``, both computed on the host: of the plan, and of the same with all outliers apart."""

    mean_kld: float
    apart: float
    positions: int


def apart(
    decoder: Decoder, plan: Plan, precisions: Mapping[str, str], backend: Backend, calibration: CalibrationFacts | None = None
) -> Planned | None:
    """The plan's arithmetic with the outliers of all linear layers apart; None where the target cannot, nothing would change, or the plan has some
    apart: whoever wrote it has weighed which."""
    rounded = [
        layer.name for layer in plan_layers(decoder) if layer.kind == "linear" and backend.activations(precisions[layer.name]) == "int8"
    ]
    if not backend.outliers_apart or not rounded or any(plan.apart(name) for name in rounded):
        return None
    return replace(planned(decoder, plan, precisions, backend, calibration=calibration), apart=lambda name: True)


def fewer(windows: list[Window], twins: list[int]) -> list[int]:
    """Of the windows that the twin is run on the shortest, as many as `TOKENS` tokens take, at least one."""
    chosen: list[int] = []
    for number in sorted(twins, key=lambda n: len(windows[n].tokens)):
        if chosen and sum(len(windows[n].tokens) for n in [*chosen, number]) > TOKENS:
            break
        chosen.append(number)
    return chosen


def say_if_much(gain: Gain | None, plan: Plan, say: Callable[[str], None]) -> None:
    """Says in a line what could be gained over ``plan``, where it is much, and how."""
    if gain is None or not gain.apart < MUCH * gain.mean_kld:
        return
    how = "firsttoken plan search weighs that layer by layer"
    if any(rule.method == "stored" for rule in plan.rules):
        how = 'put it beside method = "stored" of linear layers in a copy of the plan (firsttoken plans says where it is)'
    say(
        f'with outliers = "apart" in the plan\'s rules its KL divergence would be {gain.apart / gain.mean_kld:.2f} times as large at the same size ({gain.mean_kld:.2g} -> {gain.apart:.2g} '
        f"over {gain.positions} positions, computed on the host), for more time in a prompt; {how} (docs/plans.md)"
    )
