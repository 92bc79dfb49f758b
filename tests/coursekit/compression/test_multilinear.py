"""The algebra of tensors: against tensorly, and the theorem that bounds the error of a cut."""

from __future__ import annotations

import pytest
import tensorly
import torch
import torch.nn.functional as F
from tensorly.cp_tensor import cp_to_tensor
from tensorly.tenalg import mode_dot

from coursekit import zoo
from coursekit.compression import cp_kernel, mode_product, tucker2_factors, tucker2_kernels, unfold


@pytest.fixture
def tensor():
    return torch.randn(3, 4, 2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("mode", range(4))
def test_unfolding_and_product_are_tensorly_s(tensor, mode):
    matrix = torch.randn(6, tensor.shape[mode], dtype=torch.float64)
    ours = mode_product(tensor, matrix, mode).numpy()
    assert (unfold(tensor, mode).numpy() == tensorly.unfold(tensor.numpy(), mode)).all()
    assert ours == pytest.approx(mode_dot(tensor.numpy(), matrix.numpy(), mode), abs=1e-12)


def test_cp_kernel_is_tensorly_s():
    factors = [torch.randn(n, 3, dtype=torch.float64) for n in (4, 5, 2, 3)]
    theirs = cp_to_tensor((None, [factor.numpy() for factor in factors]))
    assert cp_kernel(*factors).numpy() == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("ranks", [(32, 32), (16, 16), (5, 30)], ids=str)
def test_error_lies_between_the_worse_cut_and_both(ranks):
    """De Lathauwer et al. 2000, property 10."""
    weight = zoo.load("resnet20").stage2[1].conv1.weight.detach().double()
    core, outputs, inputs = tucker2_factors(weight, *ranks)
    error = (weight - torch.einsum("abhw,oa,ib->oihw", core, outputs, inputs)).square().sum().item()
    lost = [
        torch.linalg.svdvals(matrix)[rank:].square().sum().item()
        for matrix, rank in zip((weight.flatten(1), weight.transpose(0, 1).flatten(1)), ranks, strict=True)
    ]
    assert max(lost) * (1 - 1e-9) <= error + 1e-18
    assert error <= sum(lost) * (1 + 1e-9) + 1e-18


def test_three_convolutions_are_the_layer_at_full_ranks():
    torch.manual_seed(0)
    weight, x = torch.randn(6, 5, 3, 3), torch.rand(2, 5, 11, 12)
    first, middle, last = tucker2_kernels(*tucker2_factors(weight, 6, 5))
    made = F.conv2d(F.conv2d(F.conv2d(x, first), middle, stride=2, padding=1), last)
    assert torch.allclose(made, F.conv2d(x, weight, stride=2, padding=1), atol=1e-4)


def test_what_does_not_fit_is_refused(tensor):
    with pytest.raises(ValueError, match="mode must be 0 to 3"):
        unfold(tensor, 4)
    with pytest.raises(ValueError, match="4 columns"):
        mode_product(tensor, torch.ones(4, 3), 1)
    with pytest.raises(ValueError, match="rank_in must be 1 to 4"):
        tucker2_factors(tensor, 1, 5)
    with pytest.raises(ValueError, match="four dimensions"):
        tucker2_factors(tensor[0], 1, 1)
    with pytest.raises(ValueError, match="do not fit"):
        tucker2_kernels(torch.ones(2, 3, 1, 1), torch.ones(5, 3), torch.ones(4, 3))
    with pytest.raises(ValueError, match="number of columns"):
        cp_kernel(torch.ones(2, 3), torch.ones(2, 3), torch.ones(2, 3), torch.ones(2, 1))
