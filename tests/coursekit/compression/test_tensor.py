"""Tucker-2 and CP: exact where the kernel allows it, with the layer's geometry, and trainable."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import tensorly
import torch
import torch.nn.functional as F
from torch import nn

from coursekit import data, zoo
from coursekit.compression import cp_conv, evbmf_rank, replace_module_, tucker2_conv, tucker_ranks

GEOMETRIES = list(itertools.product([1, 2, (1, 2)], [0, (2, 1)], [1, (1, 2)]))


def low_rank_conv(rank: int, **options: Any) -> nn.Conv2d:
    """A convolution whose kernel is a sum of `rank` products of vectors."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Conv2d(5, 6, 3, **options)
    shapes = ((6, rank), (5, rank), (3, rank), (3, rank))
    factors = [torch.randn(*shape, generator=generator) for shape in shapes]
    with torch.no_grad():
        layer.weight.copy_(torch.einsum("or,ir,hr,wr->oihw", *factors))
    return layer


@pytest.mark.parametrize("stride, padding, dilation", GEOMETRIES, ids=str)
def test_tucker_at_full_rank_is_the_layer(stride, padding, dilation):
    torch.manual_seed(0)
    layer, x = nn.Conv2d(5, 6, 3, stride, padding, dilation), torch.rand(2, 5, 11, 12)
    assert torch.allclose(tucker2_conv(layer, 6, 5)(x), layer(x), atol=1e-4)


@pytest.mark.parametrize("stride, padding, dilation", GEOMETRIES, ids=str)
def test_cp_of_a_kernel_of_its_rank_is_the_layer(stride, padding, dilation):
    layer = low_rank_conv(2, stride=stride, padding=padding, dilation=dilation)
    x = torch.rand(2, 5, 11, 12, generator=torch.Generator().manual_seed(1))
    scale = layer(x).abs().max()
    assert (cp_conv(layer, 2, n_iterations=500, ridge=0.0)(x) - layer(x)).abs().max() <= 1e-4 * scale


def test_tucker_of_a_kernel_of_its_ranks_is_the_layer():
    layer, x = low_rank_conv(2, padding=1), torch.rand(1, 5, 7, 7)
    assert torch.allclose(tucker2_conv(layer, 2, 2)(x), layer(x), atol=1e-4)


def test_tucker_is_no_worse_than_cutting_each_mode_alone_and_bounded_by_both():
    """De Lathauwer et al. 2000: the squared error lies between the larger of the two modes' and their sum."""
    layer = zoo.load("resnet20").stage2[1].conv1
    made, kernel = tucker2_conv(layer, 16, 16), layer.weight.detach()
    rebuilt = torch.einsum(
        "oa,abhw,bi->oihw", made[2].weight[:, :, 0, 0], made[1].weight, made[0].weight[:, :, 0, 0]
    )
    error = (kernel - rebuilt).square().sum().item()
    modes = [
        torch.linalg.svdvals(m)[16:].square().sum().item()
        for m in (kernel.flatten(1), kernel.transpose(0, 1).flatten(1))
    ]
    assert max(modes) * (1 - 1e-5) <= error <= sum(modes) * (1 + 1e-5)


def sparse_conv() -> nn.Conv2d:
    """As pruning left it in a network of the zoo: singular vectors of different modes meet where no weight is."""
    layer = nn.Conv2d(32, 32, 3, bias=False)
    with torch.no_grad():
        layer.weight.zero_()
        for place, value in {
            (12, 0, 1, 2): 0.2553, (12, 9, 2, 1): 0.2294, (14, 1, 0, 2): 0.3239, (24, 2, 1, 0): 0.2370
        }.items():  # fmt: skip
            layer.weight[place] = value
    return layer


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_cp_of_a_kernel_of_four_weights_finds_one_of_them_at_least(rank):
    """Each weight alone is a product, from which alternating least squares does not move away: all but 1 % of it."""
    layer = sparse_conv()
    first, columns, rows, last = cp_conv(layer, rank)
    rebuilt = torch.einsum(
        "or,ri,rh,rw->oihw",
        last.weight[:, :, 0, 0], first.weight[:, :, 0, 0], columns.weight[:, 0, :, 0], rows.weight[:, 0, 0],
    )  # fmt: skip
    assert rebuilt.isfinite().all()
    squares = layer.weight.detach().square()
    missing = (layer.weight - rebuilt).square().sum()
    assert missing <= squares.sum() - 0.99 * squares[squares > 0].min()


def test_of_a_kernel_of_zeros_tucker_makes_zeros_and_cp_says_that_there_is_nothing():
    layer = nn.Conv2d(4, 4, 3)
    nn.init.zeros_(layer.weight)
    x = torch.rand(1, 4, 5, 5)
    assert torch.equal(tucker2_conv(layer, 2, 2)(x), layer(x))
    with pytest.raises(ValueError, match="is it all 0"):
        cp_conv(layer, 2)


def test_cp_factors_share_each_products_size():
    made = cp_conv(zoo.load("resnet20").stage2[1].conv1, 8)
    norms = torch.stack([
        made[0].weight.flatten(1).norm(dim=1), made[1].weight.flatten(1).norm(dim=1),
        made[2].weight.flatten(1).norm(dim=1), made[3].weight.flatten(1).norm(dim=0),
    ])  # fmt: skip
    assert torch.allclose(norms, norms[:1].expand_as(norms), rtol=1e-3)


def test_fine_tuning_a_cp_layer_lowers_the_loss_and_does_not_diverge():
    network, images = zoo.load("lenet5"), data.fashion_mnist("train", subset=True).take(128)
    replace_module_(network, "conv2", cp_conv(network.conv2, 24, n_iterations=60))
    optimizer = torch.optim.SGD(network.conv2.parameters(), 0.01, momentum=0.9)
    losses = []
    for _ in range(15):
        loss = F.cross_entropy(network(images.images), images.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert max(losses) <= 1.05 * losses[0]
    assert losses[-1] < 0.8 * losses[0]


def test_the_penalty_keeps_products_small_and_costs_no_fit():
    """Without it some products are larger than the kernel they add up to."""
    layer = zoo.load("lenet5").conv2
    kernel, largest, errors = layer.weight.detach(), {}, {}
    for ridge in (0.0, 1e-3):
        first, columns, rows, last = cp_conv(layer, 24, ridge=ridge)
        parts = (
            last.weight[:, :, 0, 0],
            first.weight[:, :, 0, 0],
            columns.weight[:, 0, :, 0],
            rows.weight[:, 0, 0],
        )
        rebuilt = torch.einsum("or,ri,rh,rw->oihw", *parts)
        largest[ridge] = (columns.weight.flatten(1).norm(dim=1) ** 4).max().item() / kernel.norm().item()
        errors[ridge] = ((rebuilt - kernel).norm() / kernel.norm()).item()
    assert largest[1e-3] < 0.6 * largest[0.0]
    assert errors[1e-3] < 1.02 * errors[0.0]


@pytest.mark.parametrize("rank", [0, 1, 3, 10])
@pytest.mark.parametrize("transposed", [False, True])
def test_rank_is_found_under_noise(rank, transposed):
    generator = torch.Generator().manual_seed(rank)
    signal = torch.randn(30, rank, generator=generator) @ torch.randn(rank, 200, generator=generator)
    matrix = signal + 0.5 * torch.randn(30, 200, generator=generator)
    assert evbmf_rank(matrix.T if transposed else matrix) == rank


def test_ranks_of_a_trained_kernel_are_between_one_and_all():
    layer = zoo.load("resnet20").stage3[0].conv2
    rank_out, rank_in = tucker_ranks(layer)
    assert 1 <= rank_out < layer.out_channels and 1 <= rank_in < layer.in_channels


def test_what_cannot_be_decomposed_is_refused():
    layer = nn.Conv2d(4, 4, 3)
    with pytest.raises(ValueError, match="rank_in must be 1 to 4"):
        tucker2_conv(layer, 4, 5)
    with pytest.raises(ValueError, match="at least 1"):
        cp_conv(layer, 0)
    for function in (lambda c: tucker2_conv(c, 1, 1), lambda c: cp_conv(c, 1), tucker_ranks):
        with pytest.raises(ValueError, match="2 groups"):
            function(nn.Conv2d(4, 4, 3, groups=2))
    with pytest.raises(ValueError, match="finite matrix"):
        evbmf_rank(torch.tensor([[1.0, float("nan")]]))


def test_decompositions_work_when_tensorly_was_set_to_pytorch():
    """As importing tensorly-torch does; and they leave it so."""
    layer = low_rank_conv(2)
    with tensorly.backend_context("pytorch", local_threadsafe=True):
        for chain in (tucker2_conv(layer, 6, 5), cp_conv(layer, 2)):
            x = torch.randn(1, 5, 6, 6, generator=torch.Generator().manual_seed(1))
            torch.testing.assert_close(chain(x), layer(x), rtol=1e-2, atol=1e-2)
        assert tensorly.get_backend() == "pytorch"
