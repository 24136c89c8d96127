"""Distillation between any two modules: CNN, MLP, LSTM; digits of scikit-learn as data."""

import pytest
import torch
from torch import nn

from firsttoken.distill.losses.divergence import forward_kl
from firsttoken.distill.modules import ModuleDistillation, ModulePlan
from firsttoken.distill.objective import Moment
from firsttoken.distill.recipe import Loss
from firsttoken.distill.train_module import train_module
from firsttoken.errors import FirstTokenError


def cnn(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * width, 10),
    )


class Lstm(nn.Module):
    def __init__(self, layers: int, width: int = 16):
        super().__init__()
        self.lstm = nn.LSTM(8, width, layers, batch_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, inputs):
        return self.head(self.lstm(inputs.squeeze(1))[0][:, -1])


@pytest.fixture(scope="module")
def digits():
    sklearn = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn: pip install scikit-learn")
    pictures, labels = sklearn.load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    inputs = torch.tensor(pictures, dtype=torch.float32).reshape(-1, 1, 8, 8)[order] / 16
    labels = torch.tensor(labels)[order]
    return (inputs[:1200], labels[:1200]), (inputs[1200:], labels[1200:])


def losses(*kinds):
    return tuple(Loss(kind=kind) for kind in kinds)


def test_the_loss_is_the_sum_of_the_pure_functions(digits):
    torch.manual_seed(0)
    student, teacher = cnn(4), cnn(8)
    inputs, labels = digits[0][0][:6], digits[0][1][:6].clone()
    labels[2] = -100
    made = ModuleDistillation(student, teacher, losses("forward_kl", "cross_entropy"), inputs)
    loss, parts = made(inputs, labels, None, Moment(0, 3.0, (0.7, 0.3)), 6.0)
    kl = forward_kl(student(inputs), teacher(inputs), 3.0).sum() / 6
    hard = nn.functional.cross_entropy(student(inputs), labels, reduction="sum", ignore_index=-100) / 6
    torch.testing.assert_close(loss, 0.7 * kl + 0.3 * hard)
    torch.testing.assert_close(parts, torch.stack([kl, hard]).detach())


def test_several_teachers_count_by_their_weights(digits):
    torch.manual_seed(0)
    student, teachers = cnn(4), [cnn(8), cnn(6)]
    inputs, labels = digits[0][0][:6], digits[0][1][:6]
    made = ModuleDistillation(student, [(teachers[0], 3.0), (teachers[1], 1.0)], losses("forward_kl"), inputs)
    loss, _ = made(inputs, labels, None, Moment(0, 2.0, (1.0,)), 6.0)
    each = [forward_kl(student(inputs), teacher(inputs), 2.0).sum() / 6 for teacher in teachers]
    torch.testing.assert_close(loss, 0.75 * each[0] + 0.25 * each[1])
    scored = made.score({"inputs": inputs, "labels": labels})
    at_one = [forward_kl(student(inputs), teacher(inputs), 1.0).sum().double() for teacher in teachers]
    torch.testing.assert_close(scored[1], 0.75 * at_one[0] + 0.25 * at_one[1])
    with pytest.raises(FirstTokenError, match="layers pair a student with one teacher, and there are 2"):
        ModuleDistillation(student, [(teacher, 1.0) for teacher in teachers], losses("hidden_l2"), inputs, (("3", "3"),))


def test_triplets_need_no_teacher_and_take_a_layers_output(digits):
    from firsttoken.distill.losses.triplet import semi_hard_triplet

    torch.manual_seed(0)
    student = cnn(4)
    inputs, labels = digits[0][0][:24], digits[0][1][:24]
    triplet = Loss(kind="triplet", layer="5", margin=0.5)
    made = ModuleDistillation(student, None, (triplet, Loss(kind="cross_entropy")), inputs[:1])
    loss, parts = made(inputs, labels, None, Moment(0, 1.0, (2.0, 1.0)), 24.0)
    wanted = semi_hard_triplet(student[:6](inputs), labels, 0.5).sum() / 24
    torch.testing.assert_close(parts[0], wanted.detach())
    torch.testing.assert_close(loss, 2 * wanted + nn.functional.cross_entropy(student(inputs), labels))
    assert wanted > 0 and made.names == ["triplet", "cross_entropy"]
    with pytest.raises(FirstTokenError, match="layer 'pol' is not in Sequential"):
        ModuleDistillation(student, None, (Loss(kind="triplet", layer="pol"),), inputs[:1])


def test_feature_maps_go_through_a_convolution_and_states_through_a_linear_map(digits):
    inputs = digits[0][0][:2]
    maps = ModuleDistillation(cnn(4), cnn(8), losses("hidden_l2", "attention"), inputs, (("3", "3"),))
    assert isinstance(maps.projections["0-0"].map, nn.Conv2d)
    states = ModuleDistillation(Lstm(1, 8), Lstm(3, 16), losses("hidden_cosine"), inputs, (("lstm", "lstm"),))
    assert isinstance(states.projections["0-0"].map, nn.Linear)
    for made, weights in ((maps, (1.0, 1.0)), (states, (1.0,))):
        loss, _ = made(inputs, digits[0][1][:2], None, Moment(0, 1.0, weights), 2.0)
        loss.backward()
        assert torch.isfinite(loss) and all(p.grad is None for p in made.teachers[0].model.parameters())


@pytest.mark.parametrize(
    "arguments,message",
    [
        ((cnn(2), None, losses("forward_kl")), "forward_kl needs a teacher"),
        ((cnn(2), cnn(2), losses("hidden_l2")), "needs layers"),
        ((cnn(2), cnn(2), losses("hidden_l2"), (("3", "33"),)), "layer '33' is not in Sequential"),
        ((cnn(2), cnn(2), losses("hidden_l2"), (("3", "6"),)), "only compared with a feature map"),
        ((cnn(2), cnn(2), losses("hidden_l2"), (("0", "3"),)), "pair layers of the same resolution"),
    ],
)
def test_what_does_not_fit_is_named(arguments, message):
    student, teacher, kinds, *layers = arguments
    with pytest.raises(FirstTokenError, match=message):
        ModuleDistillation(student, teacher, kinds, torch.zeros(1, 1, 8, 8), *layers)


STUDENTS = {"cnn": lambda: cnn(4), "lstm": lambda: Lstm(1, 32), "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10))}


@pytest.mark.parametrize("kind", STUDENTS)
def test_a_teacher_teaches_any_student_without_a_single_label(digits, tmp_path, kind):
    """From a trained CNN to a smaller CNN, an LSTM and a linear model, labels hidden."""
    torch.manual_seed(0)
    train, held_out = digits
    teacher = cnn(16)
    training = {"steps": 150, "batch": 32, "learning_rate": 5e-3, "evaluate_every": 150}
    taught = train_module(
        ModuleDistillation(teacher, None, losses("cross_entropy"), train[0][:1]),
        ModulePlan(losses=losses("cross_entropy"), training=training),
        train,
        held_out,
        tmp_path / "t",
    )
    assert taught["accuracy"] > 0.95
    torch.manual_seed(0)
    student = STUDENTS[kind]()  # here and not when tests are collected: its weights are the seed's, whatever other tests draw
    if isinstance(student, Lstm):
        training["steps"] = training["evaluate_every"] = 300
    plan = ModulePlan(losses=losses("forward_kl"), temperature={"start": 3, "end": 1}, training=training)
    unlabelled = (train[0], torch.full_like(train[1], 0))  # labels that say nothing; the loss does not read them
    figures = train_module(ModuleDistillation(student, teacher, plan.losses, train[0][:1]), plan, unlabelled, held_out, tmp_path / "s")
    assert figures["accuracy"] > 0.8 and figures["kld"] < 1


def test_a_run_goes_on_where_it_stopped(digits, tmp_path, monkeypatch):
    from firsttoken.distill import trainer

    train, held_out = digits
    plan = ModulePlan(losses=losses("forward_kl", "hidden_l2"), training={"steps": 20, "batch": 8, "evaluate_every": 10})

    def objective():
        torch.manual_seed(1)
        return ModuleDistillation(cnn(4), cnn(8), plan.losses, train[0][:1], (("3", "3"),))

    straight = objective()
    train_module(straight, plan, train, held_out, tmp_path / "straight")
    mark = trainer.mark_complete

    def stop(folder, step):
        mark(folder, step)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer, "mark_complete", stop)
        train_module(objective(), plan, train, held_out, tmp_path / "parts")
    again = objective()
    train_module(again, plan, train, held_out, tmp_path / "parts")
    for name, tensor in straight.state_dict().items():
        assert torch.equal(tensor.cpu(), again.state_dict()[name].cpu()), name


def bert(layers, width):
    from transformers import BertConfig, BertModel

    from firsttoken.distill.classifiers.encoder import Encoder

    config = BertConfig(
        vocab_size=50, hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 8, intermediate_size=width,
        max_position_embeddings=16, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation="eager",
    )  # fmt: skip
    return Encoder(BertModel(config, add_pooling_layer=False), 3)


def test_an_encoders_attention_maps_are_compared_where_there_is_text():
    from firsttoken.distill.losses.attention import attention_transfer

    torch.manual_seed(1)
    student, teacher = bert(1, 16), bert(2, 32)
    inputs = torch.randint(1, 50, (4, 9))
    inputs[1, 5:] = 0  # padding
    layers = (("pool", "pool"), ("bert.encoder.layer.0.attention.self:1", "bert.encoder.layer.1.attention.self:1"))
    made = ModuleDistillation(student, teacher, losses("attention", "hidden_cosine"), inputs, layers)
    assert list(made.projections) == ["1-0"]  # the pooled states have a projection, the maps have none
    loss, _parts = made(inputs, torch.zeros(4, dtype=torch.long), None, Moment(0, 1.0, (1.0, 0.0)), 4.0)
    seen = (inputs != 0).long()
    ours, theirs = (
        m.bert(input_ids=inputs, attention_mask=seen, output_attentions=True).attentions[layer] for m, layer in ((student, 0), (teacher, 1))
    )
    rows = attention_transfer(ours, theirs)
    wanted = (rows[[0, 2, 3]].mean(1).sum() + rows[1, :5].mean()) / 4
    torch.testing.assert_close(loss, wanted)
    loss.backward()
    assert student.bert.encoder.layer[0].attention.self.query.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "layers,message",
    [
        ((("pool:1", "pool"),), "one names attention maps"),
        ((("pool:1", "pool:1"),), "gives no such result; attention maps need"),
        ((("bert.encoder.layer.0.attention.sulf:1", "pool:1"),), "did you mean 'bert.encoder.layer.0.attention.self'"),
        ((("pool:x", "pool:1"),), "expected NAME or NAME:NUMBER"),
    ],
)
def test_wrong_names_of_attention_maps_say_what_is_wrong(layers, message):
    with pytest.raises(FirstTokenError, match=message):
        ModuleDistillation(bert(1, 16), bert(2, 32), losses("attention"), torch.ones(1, 4, dtype=torch.long), layers)
