"""Inputs from files: held against the module, calibration and proof apart."""

import numpy as np
import pytest
import torch
from module_subjects import Pictures, words_program

from firsttoken.errors import FirstTokenError
from firsttoken.modules.built import module_of
from firsttoken.modules.samples import checked, given_samples, random_samples, read_samples


@pytest.fixture(scope="module")
def pictures():
    return module_of(Pictures(), torch.randn(2, 2, 6, 6), "pictures")


def drawn(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 2, 6, 6)).astype(np.float32)


def test_a_file_of_arrays(pictures, tmp_path):
    np.savez(tmp_path / "s.npz", picture=drawn(5).astype(np.float64), labels=np.array([0, 1, 2, -1, 0]))
    samples = checked(pictures, read_samples(tmp_path / "s.npz"), "s")
    assert samples.count == 5 and samples.inputs["picture"].dtype == np.float32 and samples.labels.tolist() == [0, 1, 2, -1, 0]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"pictur": drawn(3)}, "array 'pictur' is no input of pictures (did you mean 'picture'?)"),
        ({"labels": np.zeros(3, int)}, "has no array 'picture'"),
        ({"picture": drawn(3)[:, :1]}, "has shape [3, 1, 6, 6]; expected [samples, 2, 6, 6]"),
        ({"picture": np.zeros((3, 2, 6, 6), int)}, "is int64; expected float32"),
        ({"picture": np.full((3, 2, 6, 6), np.inf)}, "not finite"),
        ({"picture": drawn(3), "labels": np.array([0, 1])}, "expected whole numbers [3]"),
        ({"picture": drawn(3), "labels": np.array([0, 1, 3])}, "expected 0 to 2"),
        ({"picture": drawn(0)}, "at least one"),
    ],
)
def test_refused(pictures, arrays, said):
    with pytest.raises(FirstTokenError) as refused:
        checked(pictures, arrays, "s")
    assert said in str(refused.value)


def test_files_that_are_none(tmp_path):
    np.savez(tmp_path / "objects.npz", picture=np.array([{}], object))
    (tmp_path / "text.npz").write_text("x")
    for name, said in (
        ("objects.npz", "cannot be read as an .npz"),
        ("text.npz", "cannot be read as an .npz"),
        ("absent.npz", "does not exist"),
    ):
        with pytest.raises(FirstTokenError, match=said):
            read_samples(tmp_path / name)


def test_what_proves_never_calibrates(pictures):
    calibration, proof = given_samples(pictures, {"picture": drawn(8)}, None, ("s", "h"))
    assert (calibration.count, proof.count) == (6, 2)
    assert not {row.tobytes() for row in calibration.inputs["picture"]} & {row.tobytes() for row in proof.inputs["picture"]}
    with pytest.raises(FirstTokenError, match="are in s too"):
        given_samples(pictures, {"picture": drawn(8)}, {"picture": drawn(8)[:4]}, ("s", "h"))
    calibration, proof = given_samples(pictures, None, None, ("s", "h"))
    assert calibration is None and proof.random and proof.sha256 == random_samples(pictures).sha256


def test_random_inputs_have_the_lengths_that_the_file_has():
    from firsttoken.modules.describe import describe_program

    program, _ = words_program()
    module = describe_program(program, "words", {"length": [16, 32]})
    drawn = random_samples(module)
    assert {name: array.shape for name, array in drawn.inputs.items()} == {"ids": (32, 32), "mask": (32, 32)}


def test_labels_are_of_one_class_a_sample():
    """Of logits for every place of a text they would be compared by broadcasting."""
    from firsttoken.modules.describe import describe_program

    class Places(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(4, 3)

        def forward(self, x):
            return self.head(x)

    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    module = describe_program(torch.export.export(Places().eval(), (torch.randn(2, 3, 4),), dynamic_shapes=(batch,)), "places")
    with pytest.raises(FirstTokenError, match=r"no single output \[batch, classes\]"):
        checked(module, {"x": np.zeros((3, 3, 4), np.float32), "labels": np.array([0, 1, 2])}, "given")
