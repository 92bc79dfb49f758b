"""One tensor in its smallest form: the same values come back, and gaps that nobody wrote do not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit import zoo
from coursekit.compression import decode_gaps, decode_tensor, encode_gaps, encode_tensor
from coursekit.quantization import quantize_weights


@settings(max_examples=100, deadline=None)
@given(st.lists(st.booleans(), max_size=60), st.integers(0, 600), st.sampled_from([1, 3, 31, 255]))
def test_gaps_come_back(flags, n_before, full):
    kept = torch.tensor([False] * n_before + flags, dtype=torch.bool)
    symbols = encode_gaps(kept, full)
    assert torch.equal(decode_gaps(symbols, len(kept), full), kept)
    assert int((symbols != full).sum()) == int(kept.sum())


@pytest.mark.parametrize("symbols, n", [([256], 999), ([-1], 9), ([1, 255], 999), ([3], 3)])
def test_gaps_that_nobody_wrote_are_refused(symbols, n):
    with pytest.raises(ValueError, match=r"gap|beyond"):
        decode_gaps(torch.tensor(symbols), n)


TENSORS = {
    "normal": torch.randn(20, 30, generator=torch.Generator().manual_seed(0)),
    "empty": torch.empty(0, 3),
    "scalar": torch.tensor(3.5),
    "nan": torch.tensor([1.0, float("nan"), float("inf")]),
    "minus_zero": torch.tensor([-0.0, 1.0, 0.1]),
    "count": torch.tensor(123456789),
    "zeros": torch.zeros(40, 40),
    "float64": torch.linspace(0, 1, 9, dtype=torch.float64),
    "half_exact": torch.arange(64.0).reshape(8, 8) / 16,
    "bfloat16": torch.randn(9).bfloat16(),
    "few_values": torch.randint(5, (30, 30), generator=torch.Generator().manual_seed(1)).float() / 7,
    "mostly_zero": (torch.rand(50, 50, generator=torch.Generator().manual_seed(2)) > 0.95) * 0.3,
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_comes_back_and_takes_no_more_than_it_did(name):
    x = TENSORS[name]
    encoded = encode_tensor(x)
    back = decode_tensor(encoded, tuple(x.shape), x.dtype)
    assert back.dtype == x.dtype
    assert torch.allclose(back, x, rtol=0, atol=0, equal_nan=True)
    assert encoded.size_bytes <= x.numel() * x.element_size()


def test_the_form_is_the_one_meant_for_the_values():
    kinds = {name: encode_tensor(x).kind for name, x in TENSORS.items()}
    assert (
        kinds["normal"] == "raw"
        and kinds["zeros"] == "constant"
        and kinds["half_exact"] in ("float16", "bfloat16")
    )
    assert kinds["few_values"] in ("shared", "shared-huffman") and kinds["mostly_zero"] == "sparse"
    assert encode_tensor(quantize_weights(zoo.load("lenet300"), 4).fc1.weight).kind == "grid"


def test_a_dtype_without_a_form_is_refused():
    with pytest.raises(TypeError, match="complex64"):
        encode_tensor(torch.ones(2, dtype=torch.complex64))


def test_a_grid_with_too_few_scales_is_refused():
    x = quantize_weights(torch.nn.Linear(8, 4), 4).weight.detach()
    encoded = encode_tensor(x)
    assert encoded.kind == "grid"
    encoded.blobs["scales"] = encoded.blobs["scales"][:8]
    with pytest.raises(ValueError, match="2 scales for 4 rows"):
        decode_tensor(encoded, (4, 8), torch.float32)
