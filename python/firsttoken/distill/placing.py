"""Where models lie: on the device of the training, on one of their own, over all of a process, or in shards over all processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from firsttoken.distill.models import load_decoder
from firsttoken.distill.recipe import Recipe, Teacher
from firsttoken.errors import FirstTokenError

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from transformers import PreTrainedModel


def processes() -> int:
    """How many processes ``torchrun`` started; alone, one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def shards_student() -> bool:
    """Whether ``accelerate launch`` asks for FSDP."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"


def training_device(asked: str = "auto") -> torch.device:
    """The device that this process computes on: its accelerator, or the CPU where there is none or ``cpu`` is asked for."""
    kind = torch.accelerator.current_accelerator(check_available=True)
    if asked == "cpu" or kind is None:
        return torch.device("cpu")
    return torch.device(kind.type, int(os.environ.get("LOCAL_RANK", "0")))


def named_device(name: str, what: str) -> torch.device:
    """Returns a device by its name. Raises `FirstTokenError` where this machine has none of that name."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise FirstTokenError(f"{what}: device {name!r} is unknown; expected auto, cpu, or one such as cuda:0") from None
    kind = torch.accelerator.current_accelerator(check_available=True)
    count = torch.accelerator.device_count() if kind is not None else 0
    if device.type != "cpu" and (kind is None or kind.type != device.type or (device.index or 0) >= count):
        there = ", ".join(["cpu", *(f"{kind.type}:{n}" for n in range(count) if kind is not None)])
        raise FirstTokenError(f"{what}: device {name!r} is not there; this machine has {there}")
    return device


def open_teacher(teacher: Teacher, folder: Path, attention: str, recipe: Recipe) -> PreTrainedModel:
    """Opens a teacher's checkpoint, frozen, where the recipe wants it. Raises `FirstTokenError`."""
    name = f"teacher {folder.resolve().name}"
    if teacher.device == "split":
        if processes() > 1:
            raise FirstTokenError(
                f'{name}: device = "split" lays it over the devices of one process, and torchrun started {processes()}; expected sharded = true'
            )
        return load_decoder(folder, attention, teacher.dtype, device_map="auto").requires_grad_(False)
    where = None if teacher.device == "auto" else named_device(teacher.device, name)
    if teacher.sharded and processes() > 1:
        return open_sharded(folder, attention, teacher.dtype, training_device(recipe.training.device))
    model = load_decoder(folder, attention, teacher.dtype).requires_grad_(False)
    return model if where is None else model.to(where)  # type: ignore[arg-type]  # transformers wraps it without its types


def open_sharded(folder: Path, attention: str, dtype: str, device: torch.device) -> PreTrainedModel:
    """Opens a checkpoint and keeps this process's share of it; the processes take turns, so that main memory holds it whole once."""
    from accelerate import PartialState
    from torch.distributed.device_mesh import init_device_mesh

    state = PartialState(cpu=device.type == "cpu")
    mesh = init_device_mesh(device.type, (state.num_processes,))
    model = None
    for turn in range(state.num_processes):
        if turn == state.process_index:
            model = load_decoder(folder, attention, dtype).requires_grad_(False)
            shard(model, mesh)
        state.wait_for_everyone()
    assert model is not None, "every process has a turn"
    return model.to(device)  # type: ignore[arg-type]  # transformers wraps it without its types


def shard(model: PreTrainedModel, mesh: DeviceMesh) -> None:
    """Shards a frozen decoder over a mesh (FSDP2): every layer by itself, then what is left of the body.

    The head stays whole on every process, with the embedding where the two are tied: the losses multiply with it chunk by chunk.
    """
    from torch.distributed.fsdp import fully_shard
    from transformers.utils.output_capturing import _CAN_RECORD_REGISTRY

    head = set(model.get_output_embeddings().parameters())
    layers = model.model.layers
    assert isinstance(layers, nn.ModuleList), "what transformers calls its layers"
    for layer in layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    recorded = _CAN_RECORD_REGISTRY.get(model.model)
    fully_shard(model.model, mesh=mesh, reshard_after_forward=True, ignored_params=head)
    _CAN_RECORD_REGISTRY[model.model] = recorded  # goes by the name of the class, which has just changed: no hidden states otherwise
