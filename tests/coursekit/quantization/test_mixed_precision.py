"""Packed files: every bit comes back, the size is the file's, the budget is kept."""

from __future__ import annotations

import itertools
import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coursekit import data, zoo
from coursekit.quantization import (
    fake_quantize,
    greedy_bits,
    int_range,
    load_mixed,
    mixed_precision,
    optimal_bits,
    pack_codes,
    save_mixed,
    symmetric_scale_per_channel,
    unpack_codes,
    weight_bytes,
    weight_names,
)
from coursekit.train import predict


@given(n_bits=st.integers(2, 8), n=st.integers(0, 40), seed=st.integers(0, 9))
def test_codes_come_back_from_as_few_bytes_as_there_can_be(n_bits, n, seed):
    qmin, qmax = int_range(n_bits)
    q = torch.randint(qmin, qmax + 1, (n, 3), generator=torch.Generator().manual_seed(seed)).to(torch.int8)
    packed = pack_codes(q, n_bits)
    assert (packed.dtype, len(packed)) == (torch.uint8, (3 * n * n_bits + 7) // 8)
    assert torch.equal(unpack_codes(packed, n_bits, (n, 3)), q)


def test_codes_and_bytes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"lie in -8\.\.7"):
        pack_codes(torch.tensor([8], dtype=torch.int8), 4)
    with pytest.raises(ValueError, match="are not 5 codes"):
        unpack_codes(torch.zeros(2, dtype=torch.uint8), 4, (5,))


def test_file_holds_each_weight_at_its_bits(tmp_path):
    network = zoo.load("resnet20")
    names = weight_names(network)
    bits = {name: (8, 4, 3, 2)[i % 4] for i, name in enumerate(names)}
    save_mixed(network, tmp_path / "mixed.safetensors", bits)
    loaded = load_mixed(tmp_path / "mixed.safetensors", zoo.load("resnet20"))
    for name, n_bits in bits.items():
        weight = network.get_parameter(name).detach()
        expected = fake_quantize(weight, symmetric_scale_per_channel(weight, n_bits), n_bits)
        torch.testing.assert_close(loaded.get_parameter(name).detach(), expected)
    assert torch.equal(loaded.get_buffer("bn1.running_var"), network.get_buffer("bn1.running_var"))
    images = data.fashion_mnist("test", subset=True).images[:5]
    assert predict(loaded, images).isfinite().all()


@pytest.mark.parametrize("choose", [greedy_bits, optimal_bits])
def test_real_file_keeps_the_budget_and_wastes_little_of_it(choose, tmp_path):
    network = zoo.load("resnet20")
    sizes = weight_bytes(network)
    # As if every weight's squared error were its loss: any losses that rise will do here.
    losses = {name: [2.0**-b * size[0] for b in (8, 4, 3, 2)] for name, size in sizes.items()}
    for budget in (120_000, 160_000):
        bits = mixed_precision(network, losses, budget, choose=choose)
        save_mixed(network, tmp_path / "mixed.safetensors", bits)
        taken = os.path.getsize(tmp_path / "mixed.safetensors")
        assert (
            budget - max(a - b for s in sizes.values() for a, b in itertools.pairwise(s)) <= taken <= budget
        )


def test_weight_bytes_are_those_of_the_tensors_in_the_file(tmp_path):
    network = zoo.load("lenet300")
    for i, n_bits in enumerate((8, 4, 3, 2)):
        save_mixed(network, tmp_path / "all.safetensors", dict.fromkeys(weight_names(network), n_bits))
        biases = 4 * sum(p.numel() for name, p in network.named_parameters() if name.endswith("bias"))
        header = 8 + int.from_bytes((tmp_path / "all.safetensors").read_bytes()[:8], "little")
        counted = sum(size[i] for size in weight_bytes(network).values())
        assert os.path.getsize(tmp_path / "all.safetensors") == header + biases + counted


def test_budget_below_the_least_and_wrong_names_are_refused(tmp_path):
    network = zoo.load("lenet300")
    losses = {name: [0.0, 1.0, 2.0, 3.0] for name in weight_names(network)}
    with pytest.raises(ValueError, match="cannot be met"):
        mixed_precision(network, losses, 50_000)
    with pytest.raises(ValueError, match="must name every weight"):
        save_mixed(network, tmp_path / "x", {"fc1.weight": 8})
