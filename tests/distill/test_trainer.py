"""What a recipe asks of the Trainer: the learning rate's course, and how a batch is shared out."""

import pytest
import torch
from transformers import get_scheduler

from firsttoken.distill.trainer import training_arguments
from firsttoken.errors import FirstTokenError

STEPS, WARMUP, PEAK = 40, 4, 1e-3
# the rate at the last step, as a share of the peak
ENDS = {
    "linear": 1 / 36,
    "cosine": 0.0019,
    "constant_with_warmup": 1,
    "cosine_with_min_lr": 0.1017,
    "polynomial": 1 / 36,
    "inverse_sqrt": (4 / 39) ** 0.5,
}


@pytest.mark.parametrize("name", ENDS)
def test_learning_rates_warm_up_and_end_where_they_should(make_recipe, tmp_path, name):
    recipe = make_recipe(
        {"training.steps": STEPS, "training.warmup_steps": WARMUP, "training.learning_rate": PEAK, "training.schedule": name}
    )
    arguments = training_arguments(recipe, tmp_path, STEPS)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=arguments.learning_rate)
    schedule = get_scheduler(arguments.lr_scheduler_type, optimizer, WARMUP, STEPS, arguments.lr_scheduler_kwargs)
    rates = []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert arguments.warmup_steps == WARMUP and rates[0] == 0 and rates[WARMUP] == max(rates) == pytest.approx(PEAK)
    assert rates[-1] == pytest.approx(ENDS[name] * PEAK, rel=0.02)


def test_a_batch_is_shared_out_over_processes_and_forward_passes(make_recipe, tmp_path, monkeypatch):
    arguments = training_arguments(make_recipe({"training.batch": 8, "training.micro_batch": 2}), tmp_path, 4)
    assert (arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps) == (2, 4)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(FirstTokenError, match="training.batch 9 cannot be shared by 2 processes; expected a multiple"):
        training_arguments(make_recipe({"training.batch": 9, "training.micro_batch": None}), tmp_path, 4)
    with pytest.raises(FirstTokenError, match="training.micro_batch 4 does not divide the 6 sequences of each of 2 processes"):
        training_arguments(make_recipe({"training.batch": 12, "training.micro_batch": 4}), tmp_path, 4)
