"""Channel pruning of convolutional networks: whole channels leave by the L1 norm of their filters (Li et al., arXiv:1608.08710).

Which convolutions, batch norms and inputs of later layers a channel takes along, through shortcuts too, is Torch-Pruning's graph.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from firsttoken.errors import FirstTokenError

if TYPE_CHECKING:
    import torch_pruning

    from firsttoken.distill.classifiers.recipe import Prune

KNOWN = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)


@dataclass(frozen=True)
class Coupled:
    """Channels that are the same ones in several layers, named after the first convolution that makes them.

    ``makers`` are the convolutions whose filters make them, ``followers`` the layers that have something for each channel or read it,
    by name, with how many of their inputs one channel is.
    """

    name: str
    channels: int
    makers: tuple[str, ...]
    followers: tuple[tuple[str, str, int], ...]


def need_torch_pruning() -> None:
    """Raises `FirstTokenError` saying what to install."""
    from firsttoken.extras import need

    need("prune", "pruning channels")


def graph_of(model: nn.Module, example: Tensor) -> torch_pruning.DependencyGraph:
    """Which layers share channels. Raises `FirstTokenError` for a layer whose channels are not understood here."""
    import torch_pruning

    for name, each in model.named_modules():
        if (own := next(each.parameters(recurse=False), None)) is not None and not isinstance(each, KNOWN):
            raise FirstTokenError(
                f"student.prune: layer {name!r} is a {type(each).__name__} with weights {list(own.shape)}; expected a network of convolutions, batch norms and linear layers"
            )
        if isinstance(each, nn.Conv2d) and each.groups > 1 and not each.groups == each.in_channels == each.out_channels:
            raise FirstTokenError(f"student.prune: layer {name!r} has {each.groups} groups; expected 1, or one for each channel")
    return torch_pruning.DependencyGraph().build_dependency(model, example_inputs=example)


def coupled_channels(model: nn.Module, example: Tensor) -> list[Coupled]:
    """The sets of channels that can leave together; those that a linear layer makes, the classes among them, stay. Raises `FirstTokenError`."""
    graph = graph_of(model, example)
    names = {each: name for name, each in model.named_modules()}
    linear = [each for each in model.modules() if isinstance(each, nn.Linear)]
    found = []
    for group in graph.get_all_groups(ignored_layers=linear, root_module_types=[nn.Conv2d]):
        first = group[0][0].target.module
        entries = {
            (names[d.target.module], d.handler.__name__, len(places) // first.out_channels)
            for d, places in group
            if d.target.module in names
        }
        convolutions = {
            name: each
            for name, handler, _ in entries
            if handler == "prune_out_channels" and isinstance(each := model.get_submodule(name), nn.Conv2d)
        }
        makers = sorted(convolutions, key=lambda name: (convolutions[name].groups > 1, name))
        if convolutions[makers[0]].groups > 1:
            continue  # each channel by itself: they are the picture's own
        followers = sorted(entry for entry in entries if entry[0] not in makers or entry[1] != "prune_out_channels")
        found.append(Coupled(makers[0], first.out_channels, tuple(makers), tuple(followers)))
    if not found:
        raise FirstTokenError("student.prune: the teacher has no convolution whose channels could leave; expected a convolutional network")
    return sorted(found, key=lambda each: each.name)


def count_parameters(model: nn.Module, groups: list[Coupled], widths: dict[str, int]) -> int:
    """Parameters that ``model`` has once each of ``groups`` has as many channels as ``widths`` says."""
    out: dict[str, int] = {}
    into: dict[str, int] = {}
    for group in groups:
        for name in group.makers:
            out[name] = widths[group.name]
        for name, handler, each in group.followers:
            (into if handler == "prune_in_channels" else out)[name] = widths[group.name] * each
    total = 0
    for name, each in model.named_modules():
        if isinstance(each, nn.Conv2d):
            inputs = 1 if each.groups > 1 else into.get(name, each.in_channels)
            made = out.get(name, each.out_channels)
            total += made * (inputs * each.weight[0, 0].numel() + (each.bias is not None))
        elif isinstance(each, nn.BatchNorm2d):
            total += 2 * out.get(name, each.num_features) if each.affine else 0
        elif isinstance(each, nn.Linear):
            total += out.get(name, each.out_features) * (into.get(name, each.in_features) + (each.bias is not None))
    return total


def plan_steps(model: nn.Module, example: Tensor, prune: Prune) -> list[dict[str, int]]:
    """Returns the channels of each set after every step, by the names of `coupled_channels`; computed from shapes alone.

    A step takes channels one by one from the set that is farthest from its goal, as long as it takes no more than
    ``prune.most_per_step`` of the parameters that were there before it. Raises `FirstTokenError` where one channel is more than that, or
    nothing leaves.
    """
    groups = coupled_channels(model, example)
    # two at least: a single channel by itself could no longer be told from a convolution of one
    goal = {each.name: min(each.channels, max(2, round(prune.keep * each.channels))) for each in groups}
    whole = {each.name: each.channels for each in groups}
    if goal == whole:
        raise FirstTokenError(f"student.prune.keep {prune.keep} leaves every channel where it is; give less")
    steps, widths = [], dict(whole)
    while widths != goal:
        before = count_parameters(model, groups, widths)
        least = before * (1 - prune.most_per_step)
        start = dict(widths)
        for name in _order(widths, goal, whole):
            tried = widths | {name: widths[name] - 1}
            if count_parameters(model, groups, tried) < least:
                break
            widths = tried
        if widths == start:
            name = next(_order(widths, goal, whole))
            share = 1 - count_parameters(model, groups, widths | {name: widths[name] - 1}) / before
            raise FirstTokenError(
                f"student.prune.most_per_step {prune.most_per_step} is less than one channel of layer {name!r}, {share:.3f} of the parameters that are left; give at least that, or keep more"
            )
        steps.append(widths)
    return steps


def _order(widths: dict[str, int], goal: dict[str, int], whole: dict[str, int]) -> Iterator[str]:
    """The sets that a channel is taken from, one after another, farthest from the goal first."""
    left = dict(widths)
    while left != goal:
        name = max(left, key=lambda each: ((left[each] - goal[each]) / whole[each], each))
        left[name] -= 1
        yield name


def pruned(model: nn.Module, example: Tensor, widths: dict[str, int]) -> nn.Module:
    """Returns a smaller copy of ``model`` with ``widths`` channels in each set; those with the smallest L1 norm of filters are gone.

    Channels that several convolutions make, as around a shortcut, are ranked by the sum over them. The copy is held against the model
    with the same channels masked, and must give its numbers. Raises `FirstTokenError` where it does not.
    """
    import torch_pruning

    small, masked = copy.deepcopy(model), copy.deepcopy(model)
    graph = graph_of(small, example)
    for group in coupled_channels(model, example):
        leave = weakest(model, group, group.channels - widths[group.name])
        if not leave:
            continue
        mask(masked, group, leave)
        maker: nn.Module = small.get_submodule(group.name)
        graph.get_pruning_group(maker, torch_pruning.prune_conv_out_channels, idxs=leave).prune()
    check_same(small, masked, example)
    return small


def weakest(model: nn.Module, group: Coupled, count: int) -> list[int]:
    """The ``count`` channels of a set with the smallest L1 norm of the filters that make them."""
    norms = sum(
        (model.get_parameter(f"{name}.weight").detach().abs().sum((1, 2, 3)) for name in group.makers), start=torch.zeros(group.channels)
    )
    return sorted(norms.argsort(stable=True)[:count].tolist())


@torch.no_grad()
def mask(model: nn.Module, group: Coupled, channels: list[int]) -> None:
    """Silences channels of a set in place: nothing makes them, norms give zero, and nothing reads them."""
    for name in (*group.makers, *(name for name, handler, _ in group.followers if handler != "prune_in_channels")):
        each = model.get_submodule(name)
        for own in each.parameters(recurse=False):
            own[channels] = 0
    for name, handler, size in group.followers:
        if handler == "prune_in_channels":
            columns = [channel * size + place for channel in channels for place in range(size)]
            model.get_parameter(f"{name}.weight")[:, columns] = 0


@torch.no_grad()
def check_same(small: nn.Module, masked: nn.Module, example: Tensor) -> None:
    """Raises `FirstTokenError` unless both give the same numbers."""
    training = small.training
    wanted, got = masked.eval()(example), small.eval()(example)
    small.train(training)
    if wanted.shape != got.shape or not torch.allclose(wanted, got, rtol=1e-3, atol=1e-4 * float(wanted.abs().max())):
        raise FirstTokenError(
            f"student.prune: the smaller network gives other numbers {list(got.shape)} than the masked one {list(wanted.shape)}; "
            "the classes have to come from a linear layer, and the network's shapes must not depend on its input's values"
        )
