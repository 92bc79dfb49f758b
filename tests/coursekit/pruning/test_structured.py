"""A target in, a smaller network out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from coursekit import measure, zoo
from coursekit.pruning import (
    ChannelPruning,
    Magnitude,
    RandomChannels,
    UnsupportedError,
    plan_channels,
    prune_channels,
)
from tests.coursekit.pruning.madenets import mixed

IMAGE = torch.zeros(1, 1, 28, 28)


@pytest.mark.parametrize("name", ["lenet300", "lenet5", "resnet20"])
@pytest.mark.parametrize("allocation", ["uniform", "global", "per_mac"])
def test_half_the_macs_are_met_within_two_per_cent(name, allocation):
    network = zoo.load(name)
    plan = plan_channels(network, IMAGE, ChannelPruning(macs=0.5, allocation=allocation))
    counted = measure.macs(plan.cut(), (1, 28, 28))
    assert abs(counted / measure.macs(network, (1, 28, 28)) - 0.5) <= 0.01  # 2 % of a half
    assert (plan.macs_before, plan.macs_after) == (measure.macs(network, (1, 28, 28)), counted)


def test_a_ratio_is_taken_from_every_group():
    small = prune_channels(zoo.load("resnet20"), IMAGE, ChannelPruning(ratio=0.25))
    assert [
        small.conv1.out_channels,
        small.stage2[0].conv1.out_channels,
        small.stage3[2].conv2.out_channels,
    ] == [12, 24, 48]
    assert small.fc.out_features == 10 and small.conv1.in_channels == 1


def test_the_least_important_go():
    network = zoo.load("lenet5")
    small = prune_channels(network, IMAGE, ChannelPruning(ratio=0.5, importance=Magnitude(p=1)))
    norms = network.conv1.weight.detach().abs().sum((1, 2, 3))
    kept = norms.topk(10).indices.sort().values
    assert torch.equal(small.conv1.weight, network.conv1.weight[kept])


def test_every_layer_keeps_a_channel():
    small = prune_channels(mixed(), torch.zeros(1, 1, 6, 6), ChannelPruning(ratio=0.99))
    assert small.hidden.out_features == 1 and small.stem.out_channels == 4  # one of each of the four groups
    assert small(torch.zeros(1, 1, 6, 6)).shape == (1, 5)


def test_multiples_stay_multiples():
    config = ChannelPruning(ratio=0.3, multiple_of=8)
    small = prune_channels(zoo.load("resnet20"), IMAGE, config)
    widths = {module.out_channels for module in small.modules() if isinstance(module, nn.Conv2d)}
    assert all(width % 8 == 0 for width in widths) and widths < {8, 16, 24, 32, 40, 48, 56, 64}


def test_ignored_layers_keep_their_channels():
    network = zoo.load("lenet5")
    small = prune_channels(network, IMAGE, ChannelPruning(ratio=0.5, ignore=("conv2",)))
    assert (small.conv1.out_channels, small.conv2.out_channels) == (10, 50)
    with pytest.raises(ValueError, match="ignore names"):
        prune_channels(network, IMAGE, ChannelPruning(ratio=0.5, ignore=("conv9",)))


def test_per_mac_saves_the_same_macs_with_less_importance():
    """First principles: of all plans, the one that counts what a channel saves gives up the least."""
    network = zoo.load("resnet20")
    lost = {}
    for allocation in ("uniform", "global", "per_mac"):
        config = ChannelPruning(macs=0.6, importance=RandomChannels(3), allocation=allocation)
        plan = plan_channels(network, IMAGE, config)
        scores = RandomChannels(3)(network, plan.graph, plan.groups)
        lost[allocation] = scores[torch.tensor(plan.removed)].sum().item()
    assert lost["per_mac"] == min(lost.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either macs"),
        ({"macs": 0.5, "ratio": 0.5}, "either macs"),
        ({"macs": 0.0}, "above 0"),
        ({"ratio": 1.0}, "below 1"),
        ({"ratio": 0.5, "multiple_of": 0}, "multiple_of"),
        ({"macs": 0.5, "allocation": "best"}, "allocation"),
    ],
    ids=["none", "both", "macs", "ratio", "multiple", "allocation"],
)
def test_a_config_that_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ChannelPruning(**arguments)


def test_a_target_that_cannot_be_met_is_refused():
    with pytest.raises(ValueError, match="cannot be met within 2 %"):
        prune_channels(zoo.load("resnet20"), IMAGE, ChannelPruning(macs=0.001))
    with pytest.raises(ValueError, match="no channel that could go"):
        prune_channels(nn.Sequential(nn.Linear(3, 2)), torch.zeros(1, 3), ChannelPruning(ratio=0.5))
    config = ChannelPruning(ratio=0.5, importance=lambda model, graph, groups: torch.tensor([1.0]))
    with pytest.raises(ValueError, match="finite numbers"):
        prune_channels(mixed(), torch.zeros(1, 1, 6, 6), config)


def test_refusal_comes_before_anything_is_changed():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(64, 2))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(UnsupportedError, match="Sigmoid"):
        prune_channels(network, torch.zeros(1, 1, 6, 6), ChannelPruning(ratio=0.5))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_plan_prints_widths_and_macs():
    text = str(plan_channels(zoo.load("lenet300"), IMAGE, ChannelPruning(ratio=0.5)))
    assert "fc1: 300 -> 150" in text and "MACs: 266,200 ->" in text
