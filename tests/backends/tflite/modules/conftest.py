"""Tiny modules, each converted once; what is tried on them starts from the float file."""

import pytest
from tflite_converted import Converted, converted
from tflite_tiny_modules import conv_net, encoder, series


@pytest.fixture(scope="session")
def conv() -> Converted:
    return converted(conv_net())


@pytest.fixture(scope="session")
def text() -> Converted:
    return converted(encoder())


@pytest.fixture(scope="session")
def lstm() -> Converted:
    return converted(series())
