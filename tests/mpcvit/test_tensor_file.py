"""Files of tensors, held against the safetensors library in both directions."""

import numpy as np
import pytest
import safetensors.numpy
import torch
from safetensors.torch import load, save

from mpcvit.tensor_file import pack_tensors, unpack_tensors

TENSORS = {
    "weight": torch.arange(6.0).reshape(2, 3).T,  # not contiguous
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "count": torch.tensor(3),
    "mask": torch.tensor([True, False, True]),
    "nothing": torch.empty(0, 4),
}


def assert_same(found: dict[str, torch.Tensor]) -> None:
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


def test_the_library_reads_what_is_written_and_the_other_way_round():
    metadata = {"b": "2", "a": "1"}
    contiguous = {name: tensor.contiguous() for name, tensor in TENSORS.items()}

    content = pack_tensors(TENSORS, metadata)
    found, texts = unpack_tensors(save(contiguous, metadata))

    assert_same(load(content))
    assert_same(found)
    assert texts == metadata
    assert unpack_tensors(content)[1] == metadata


def test_arrays_of_numpy_are_written_as_the_library_writes_them():
    arrays = {
        "weight": np.arange(6.0, dtype=np.float32).reshape(2, 3).T,  # not contiguous
        "wide": np.array([0.5]),
    }
    contiguous = {name: np.ascontiguousarray(one) for name, one in arrays.items()}

    content = pack_tensors(arrays)

    assert content == safetensors.numpy.save(contiguous)


def test_equal_tensors_are_equal_bytes_and_share_no_memory():
    shared = torch.ones(2)

    content = pack_tensors({"a": shared, "b": shared}, {"x": "1", "y": "2"})
    found, _ = unpack_tensors(content)
    found["a"].zero_()

    assert content == pack_tensors({"b": shared, "a": shared}, {"y": "2", "x": "1"})
    assert torch.equal(found["b"], shared)


@pytest.mark.parametrize("n_bytes", [0, 5, 40, -1, -8])
def test_a_part_of_a_file_is_refused(n_bytes):
    """Also the part that ends with a whole tensor, the last one being gone."""
    content = pack_tensors({"a": torch.ones(2), "b": torch.ones(2)}, {})

    with pytest.raises(OSError, match="not a whole safetensors file"):
        unpack_tensors(content[:n_bytes])


def test_more_than_a_file_is_refused():
    with pytest.raises(OSError, match="9 bytes of tensors, expected 8"):
        unpack_tensors(pack_tensors({"a": torch.ones(2)}) + b"?")
