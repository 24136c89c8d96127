"""The one table of precisions."""

import pytest
from pydantic import TypeAdapter, ValidationError

from firsttoken.backends.registry import BUILT_IN, find_backend
from firsttoken.precisions import PRECISIONS, PrecisionName, closest


def test_every_backend_gives_precisions_that_exist():
    for name in BUILT_IN:
        backend = find_backend(name)
        assert set(backend.precisions) == {"embedding", "linear", "core"}
        for possible in backend.precisions.values():
            assert possible and set(possible) <= set(PRECISIONS)
            assert all(backend.computed(precision) for precision in possible)


def test_the_nearest_is_in_bits_and_the_wider_of_two():
    assert closest("int4", ("fp32", "fp16", "int8")) == "int8"
    assert closest("fp32", ("fp16", "int8")) == "fp16"


def test_a_name_that_is_none_is_refused_with_the_nearest():
    assert TypeAdapter(PrecisionName).validate_python("fp16") == "fp16"
    with pytest.raises(ValidationError, match="did you mean 'int8'"):
        TypeAdapter(PrecisionName).validate_python("int88")
