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
