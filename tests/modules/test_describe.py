"""What a program takes and gives, by name."""

import pytest
import torch
from module_subjects import Pictures, words_program
from torch import nn

from firsttoken.errors import FirstTokenError
from firsttoken.modules.describe import describe_program
from firsttoken.modules.traced import trace


@pytest.fixture(scope="module")
def words():
    return words_program()[0]


def test_names_shapes_and_lengths(words):
    module = describe_program(words, "words", {"length": [32, 16]})
    assert [(one.name, one.dtype, one.shape) for one in module.inputs] == [
        ("ids", "int64", ("batch", "length")),
        ("mask", "float32", ("batch", "length")),
    ]
    assert [(one.name, one.shape) for one in module.outputs] == [("logits", ("batch", 4)), ("states", ("batch", "length", 8))]
    assert module.lengths == {"batch": (1,), "length": (16, 32)}
    given = module.run(*module.example)
    assert list(given) == ["logits", "states"] and given["states"].shape == (2, 12, 8)


@pytest.mark.parametrize(
    ("lengths", "labels", "said"),
    [
        ({"lenght": [4]}, (), "lengths of 'lenght', which no input has (did you mean 'length'?)"),
        ({"length": [100]}, (), "the program was exported for 1 to 64"),
        (None, ("a", "b"), "2 labels for outputs logits"),
    ],
)
def test_refused(words, lengths, labels, said):
    with pytest.raises(FirstTokenError) as refused:
        describe_program(words, "words", lengths, labels)
    assert said in str(refused.value)


def test_the_fingerprint_follows_the_weights():
    programs = [trace(Pictures(), [torch.zeros(1, 2, 6, 6)])[0] for _ in range(2)]
    same = [describe_program(program, "p").fingerprint for program in programs]
    with torch.no_grad():
        programs[1].state_dict["head.weight"][0, 0] += 1e-3
    assert same[0] == same[1] != describe_program(programs[1], "p").fingerprint


class Steps(nn.Module):
    def forward(self, series):
        for _ in range(series.shape[1]):
            series = series * 2
        return series


class Half(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2).half()

    def forward(self, series):
        return self.layer(series.half()).float()


@pytest.mark.parametrize(
    ("module", "shapes", "said"),
    [
        (Steps(), [["batch", "time", None]], "the module fixes time to the example's size"),
        (Steps(), [["batch"]], "expected a name, a number or None for each dimension"),
        (Half(), None, "layer.weight: is float16; expected float32"),
    ],
)
def test_what_cannot_be_traced(module, shapes, said):
    with pytest.raises(FirstTokenError) as refused:
        describe_program(trace(module, [torch.zeros(1, 4, 3)], shapes)[0], "m")
    assert said in str(refused.value)


class Odd(nn.Module):
    """What gives other numbers in every call, or forms that a bundle has none of."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.line = how, nn.Linear(4, 3)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        y = self.line(x)
        if self.how == "state":
            self.seen.add_(1)
            return y + self.seen
        if self.how == "dropout":
            return nn.functional.dropout(y, 0.5, training=True)
        return (y, None) if self.how == "none" else y.sum()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("state", r"keeps a state between calls \(seen\)"),
        ("dropout", "was exported for training .*call .eval\\(\\)"),
        ("none", "gives None or a number beside tensors"),
        ("scalar", "has no dimensions; expected \\[batch, …\\]"),
    ],
)
def test_what_no_bundle_can_be_held_against(how, said):
    program = torch.export.export(Odd(how).eval(), (torch.randn(2, 4),), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},))
    with pytest.raises(FirstTokenError, match=said):
        describe_program(program, "odd")


def test_tracing_leaves_the_users_module_as_it_was():
    module = Pictures().train()
    trace(module, (torch.randn(2, 2, 6, 6),))
    assert module.training and module.head.training
    with pytest.raises(FirstTokenError, match="shapes says 99 for an input of"):
        trace(module, (torch.randn(2, 2, 6, 6),), [["batch", 99, None, None]])
