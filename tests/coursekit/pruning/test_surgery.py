"""The network without channels gives what the network with zeroed channels gives, and stays itself otherwise."""

from __future__ import annotations

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from coursekit import zoo
from coursekit.data import fashion_mnist
from coursekit.pruning import (
    ChannelPruning,
    RandomChannels,
    channel_groups,
    mask_units,
    plan_channels,
    remove_units,
    trace_channels,
)
from tests.coursekit.pruning.madenets import lively, mixed


@torch.no_grad()
def assert_cut_equals_masked(network: nn.Module, x: torch.Tensor, ratio: float, seed: int) -> None:
    plan = plan_channels(network, x[:1], ChannelPruning(ratio=ratio, importance=RandomChannels(seed)))
    masked = plan.mask()(x)
    # outputs are of the size of 1 to 10; sums of a few thousand float32 products round at about 1e-6 of that
    torch.testing.assert_close(plan.cut()(x), masked, atol=1e-5, rtol=1e-5)
    if plan.removed:
        assert not torch.allclose(masked, network(x), atol=1e-4)


@pytest.mark.parametrize("name", zoo.available())
@pytest.mark.parametrize("ratio", [0.25, 0.8])
def test_zoo(name, ratio):
    assert_cut_equals_masked(zoo.load(name), fashion_mnist("test", subset=True).images[:4], ratio, 1)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121"])
def test_torchvision(name):
    torch.manual_seed(0)
    network = lively(getattr(torchvision.models, name)(weights=None))
    assert_cut_equals_masked(network, torch.randn(2, 3, 32, 32), 0.4, 2)


@settings(max_examples=15, deadline=None)
@given(ratio=st.floats(0, 0.95), seed=st.integers(0, 2**31))
def test_any_ratio_and_any_channels_of_a_network_with_everything_in_it(ratio, seed):
    x = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
    assert_cut_equals_masked(mixed(seed % 3), x, ratio, seed)


def test_the_original_is_untouched_and_shares_nothing():
    network = mixed()
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    plan = plan_channels(network, torch.zeros(1, 1, 6, 6), ChannelPruning(ratio=0.5))
    for other in (plan.cut(), plan.mask()):
        for parameter in other.parameters():
            parameter.data.fill_(7)
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_everything_but_the_widths_stays():
    network = mixed().double().train()
    network.after.eval()
    network.right.weight.requires_grad_(False)
    graph = trace_channels(network, torch.zeros(1, 1, 6, 6, dtype=torch.float64))
    groups = channel_groups(graph)
    small = remove_units(network, graph, groups, [groups.groups[0].units[0]])
    assert small.stem.out_channels == 4 and small.grouped.weight.shape == (4, 1, 3, 3)
    assert (small.grouped.groups, small.grouped.padding_mode) == (4, "reflect")
    assert small.after.eps == 1e-2 and not small.after.training and small.training
    assert not small.right.weight.requires_grad and small.left.weight.requires_grad
    assert small.stem.weight.dtype == torch.float64
    assert repr(small.stem) == "Conv2d(1, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))"


def test_the_last_channel_of_a_layer_is_not_removed():
    network = mixed()
    graph = trace_channels(network, torch.zeros(1, 1, 6, 6))
    groups = channel_groups(graph)
    with pytest.raises(ValueError, match="stem would lose its last channel"):
        remove_units(network, graph, groups, groups.groups[0].units)


def test_batch_norm_without_scale_and_shift():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False), nn.Flatten(), nn.Linear(64, 2)
    ).eval()
    network[1].running_mean.uniform_(-1, 1)
    assert_cut_equals_masked(network, torch.randn(2, 1, 6, 6), 0.5, 0)


def test_masked_units_make_no_smaller_network():
    network = mixed()
    graph = trace_channels(network, torch.zeros(1, 1, 6, 6))
    masked = mask_units(network, graph, channel_groups(graph), [0])
    assert [p.shape for p in masked.parameters()] == [p.shape for p in network.parameters()]
    assert not masked.stem.weight[0].any() and not masked.stem.bias[0] and masked.left.weight[:, 0].any()
