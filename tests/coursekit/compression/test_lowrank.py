"""Low-rank factors: exact at full rank, the best possible below it, and with the layer's geometry."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coursekit import data, zoo
from coursekit.compression import (
    break_even_rank,
    factorize_,
    factorize_conv,
    factorize_conv_spatial,
    factorize_linear,
    factorize_network,
    rank_for_energy,
    replace_module_,
    separable_conv2d,
    spatial_factors,
    split_cost,
    truncated_svd,
    weight_matrix,
)
from coursekit.measure import macs, n_parameters
from coursekit.train import evaluate

GEOMETRIES = [
    (stride, padding, dilation)
    for stride, padding, dilation in itertools.product([1, 2, (1, 2)], [0, 1, (2, 1), "same"], [1, 2, (1, 2)])
    if padding != "same" or stride == 1  # torch has no padding "same" with a stride
]


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    return zoo.load("resnet20")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return data.fashion_mnist("test", subset=True).images[:4]


def test_error_is_what_eckart_and_young_say_and_no_random_factors_come_closer(resnet):
    matrix = weight_matrix(resnet.stage2[1].conv1)
    values = torch.linalg.svdvals(matrix.double())
    for rank in (1, 5, 20):
        factors = truncated_svd(matrix, rank)
        missing = (matrix - factors.left @ factors.right).norm().item()
        assert missing == pytest.approx(values[rank:].square().sum().sqrt().item(), rel=1e-4)
        assert factors.error == pytest.approx(missing, rel=1e-4)
        basis = torch.linalg.qr(
            torch.randn(matrix.shape[0], rank, generator=torch.Generator().manual_seed(0))
        ).Q
        assert (matrix - basis @ (basis.T @ matrix)).norm().item() >= missing


@pytest.mark.parametrize("name", ["conv1", "stage1.0.conv2", "stage2.0.shortcut.0", "fc"])
def test_error_is_the_tail_of_the_singular_values_at_every_rank(resnet, name):
    for spatial in (False, True):
        matrix = weight_matrix(resnet.get_submodule(name), spatial=spatial)
        values = torch.linalg.svdvals(matrix.double())
        errors = [truncated_svd(matrix, rank).error for rank in range(1, len(values) + 1)]
        tails = [values[rank:].square().sum().sqrt().item() for rank in range(1, len(values) + 1)]
        # A factor has entries of float32: below 1e-6 of the matrix only their rounding is left.
        assert errors == pytest.approx(tails, rel=1e-6, abs=1e-6 * values.norm().item())


def test_half_precision_is_factorized_in_double():
    matrix = zoo.load("lenet300").fc2.weight.detach()
    half, whole = truncated_svd(matrix.half(), 10), truncated_svd(matrix, 10)
    assert half.left.dtype == torch.float16
    # Rounding to 11 bits moves each weight by at most 2^-11 of itself, and a factor again.
    assert (half.left.float() @ half.right.float() - whole.left @ whole.right).norm() < 2**-9 * matrix.norm()


def test_both_factors_have_the_same_norms(resnet):
    factors = truncated_svd(weight_matrix(resnet.stage2[1].conv1), 6)
    assert torch.allclose(factors.left.norm(dim=0), factors.right.norm(dim=1), rtol=1e-4)


def test_a_linear_layer_is_itself_at_full_rank():
    layer, x = zoo.load("lenet300").fc2, torch.rand(5, 300, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(factorize_linear(layer, 100)(x), layer(x), atol=1e-4)


@pytest.mark.parametrize("stride, padding, dilation", GEOMETRIES, ids=str)
@pytest.mark.parametrize("kernel", [1, 3, (3, 5)], ids=str)
def test_a_convolution_is_itself_at_full_rank_whatever_its_geometry(kernel, stride, padding, dilation):
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, kernel, stride, padding, dilation)
    x = torch.rand(2, 3, 13, 12)
    for function, spatial in ((factorize_conv, False), (factorize_conv_spatial, True)):
        made = function(layer, min(weight_matrix(layer, spatial=spatial).shape))
        assert torch.allclose(made(x), layer(x), atol=1e-4)


@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (1, 2)], ids=str)
@pytest.mark.parametrize("padding, dilation", [((0, 0), (1, 1)), ((2, 1), (1, 2)), ((0, 2), (2, 1))], ids=str)
def test_the_split_of_a_kernel_computes_what_the_kernel_does(stride, padding, dilation):
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(4, 3, 3, 2, generator=generator), torch.randn(4, generator=generator)
    x = torch.randn(2, 3, 11, 9, generator=generator)
    halves = spatial_factors(weight, 8)  # full rank: min(3 * 3, 4 * 2)
    made = separable_conv2d(x, *halves, bias, stride, padding, dilation)
    assert torch.allclose(made, F.conv2d(x, weight, bias, stride, padding, dilation), atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_cost_of_a_split_is_what_the_layers_count(stride):
    made = factorize_conv_spatial(nn.Conv2d(3, 8, (5, 3), stride, padding=(2, 1), bias=False), 4)
    counted = n_parameters(made), macs(made, (3, 13, 10))
    assert split_cost(3, 8, (5, 3), 4, (13, 10), stride) == counted


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    "kernel, padding", [(2, "same"), ((4, 3), "same"), (3, "valid"), (3, 2), ((5, 3), (2, 0))], ids=str
)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
def test_a_convolution_is_itself_at_full_rank_with_every_kind_of_padding(kernel, padding, mode, bias):
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, kernel, padding=padding, padding_mode=mode, bias=bias)
    x = torch.rand(2, 3, 9, 8)
    for function, spatial in ((factorize_conv, False), (factorize_conv_spatial, True)):
        made = function(layer, min(weight_matrix(layer, spatial=spatial).shape))
        assert torch.allclose(made(x), layer(x), atol=1e-4)


@pytest.mark.parametrize("n_in, n_out", [(1, 6), (6, 1), (1, 1)])
def test_one_channel_is_enough_for_a_1_x_1_convolution(n_in, n_out):
    layer, x = nn.Conv2d(n_in, n_out, 1), torch.rand(2, n_in, 5, 5)
    assert torch.allclose(factorize_conv(layer, 1)(x), layer(x), atol=1e-5)


def test_the_factors_share_no_memory_with_the_layer():
    layer = nn.Linear(6, 4)
    made = factorize_linear(layer, 4)
    kept = made[1].bias.clone()
    with torch.no_grad():
        layer.bias.add_(1)
    assert torch.equal(made[1].bias, kept)


@pytest.mark.parametrize("name", ["resnet20", "mobilenet", "lenet5"])
def test_every_layer_of_the_networks_is_itself_at_full_rank(name):
    """Each ungrouped convolution of the zoo, with its real weights, on its own kind of input."""
    for layer in zoo.load(name).modules():
        if not isinstance(layer, nn.Conv2d) or layer.groups != 1:
            continue
        x = torch.rand(1, layer.in_channels, 9, 9, generator=torch.Generator().manual_seed(0))
        expected = layer(x)
        for function, spatial in ((factorize_conv, False), (factorize_conv_spatial, True)):
            made = function(layer, min(weight_matrix(layer, spatial=spatial).shape))
            assert (made(x) - expected).abs().max() <= 1e-4 * max(1.0, expected.abs().max().item())


def test_a_kernel_of_rank_one_needs_one_channel_between():
    layer = nn.Conv2d(2, 3, 3, padding=1)
    column, row = torch.rand(2 * 3, 1), torch.rand(1, 3 * 3)
    with torch.no_grad():
        layer.weight.copy_((column @ row).reshape(2, 3, 3, 3).permute(2, 0, 1, 3))
    x = torch.rand(1, 2, 6, 6)
    assert torch.allclose(factorize_conv_spatial(layer, 1)(x), layer(x), atol=1e-5)


def test_dtype_mode_and_missing_bias_are_kept():
    layer = nn.Conv2d(4, 4, 3, bias=False).double().eval()
    made = factorize_conv(layer, 2)
    assert {p.dtype for p in made.parameters()} == {torch.float64}
    assert not made.training
    assert made[1].bias is None


def test_grouped_convolutions_are_refused():
    for function in (factorize_conv, factorize_conv_spatial):
        with pytest.raises(ValueError, match="4 groups"):
            function(nn.Conv2d(4, 4, 3, groups=4), 1)


@pytest.mark.parametrize("rank", [0, 101, 2.0, True])
def test_a_rank_out_of_range_is_refused(rank):
    with pytest.raises(ValueError, match="rank must be an int from 1 to 100"):
        truncated_svd(torch.rand(100, 300), rank)


def test_energy_of_one_is_full_rank_and_of_little_is_one():
    values = torch.linalg.svdvals(zoo.load("lenet300").fc2.weight.detach())
    assert rank_for_energy(values, 1.0) == len(values)
    assert rank_for_energy(values, 1e-6) == 1
    rank = rank_for_energy(values, 0.9)
    assert values[: rank - 1].square().sum() < 0.9 * values.square().sum() <= values[:rank].square().sum()


@pytest.mark.parametrize("m, n", [(300, 784), (10, 100), (1, 50), (64, 576)])
def test_break_even_rank_is_the_last_that_saves(m, n):
    rank = break_even_rank(m, n)
    assert rank * (m + n) < m * n <= (rank + 1) * (m + n)


def test_a_network_keeps_its_outputs_at_full_energy_where_it_may_grow(resnet, images):
    made, ranks = factorize_network(resnet, 1.0)
    assert ranks == {}  # full rank always costs more numbers
    assert torch.equal(made(images), resnet(images))


def test_a_network_loses_numbers_and_little_accuracy(resnet):
    test = data.fashion_mnist("test", subset=True).take(500)
    made, ranks = factorize_network(resnet, 0.9, spatial=True, keep=("conv1",))
    assert len(ranks) > 10 and "conv1" not in ranks
    assert n_parameters(made) < n_parameters(resnet)
    # 10 % of the energy is lost in every layer and nothing was trained again: far above guessing is what must hold.
    assert evaluate(made, test) > 0.6
    assert isinstance(resnet.stage1[0].conv1, nn.Conv2d)


def test_unknown_names_are_refused(resnet):
    with pytest.raises(ValueError, match="no linear layer or convolution is called nothing"):
        factorize_network(resnet, 0.9, keep=("nothing",))
    with pytest.raises(AttributeError):
        replace_module_(nn.Sequential(nn.Linear(2, 2)), "7", nn.Identity())
    with pytest.raises(TypeError, match="BatchNorm2d"):
        factorize_(zoo.load("resnet20"), "bn1", 1)


def test_a_layer_that_pruning_left_without_weights_stays_as_it_is():
    model = zoo.load("lenet5")
    nn.init.zeros_(model.conv2.weight)
    made, ranks = factorize_network(model, 0.8)
    assert "conv2" not in ranks and ranks
    assert isinstance(made.conv2, nn.Conv2d)
    assert torch.equal(made.conv2.weight, model.conv2.weight)
