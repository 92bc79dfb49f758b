"""Groups: known by hand in small networks, equal to Torch-Pruning's in large ones."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch_pruning
import torchvision
from torch import nn

from coursekit import zoo
from coursekit.pruning import channel_groups, trace_channels
from tests.coursekit.pruning.madenets import mixed

KINDS = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)


def groups_of(network: nn.Module, *shape: int):
    return channel_groups(trace_channels(network, torch.zeros(1, *shape)))


def test_a_residual_stage_is_one_group():
    groups = groups_of(zoo.load("resnet20"), 1, 28, 28)
    stage = next(group for group in groups.groups if group.name == "conv1")
    assert len(stage.units) == 16
    makers = [layer for layer, side in stage.members if side == "outputs" and "bn" not in layer]
    assert makers == ["conv1", "stage1.0.conv2", "stage1.1.conv2", "stage1.2.conv2"]
    readers = [layer for layer, side in stage.members if side == "inputs"]
    assert readers == [
        "stage1.0.conv1",
        "stage1.1.conv1",
        "stage1.2.conv1",
        "stage2.0.conv1",
        "stage2.0.shortcut.0",
    ]
    assert stage.reasons == ("added at stage1.0", "added at stage1.1", "added at stage1.2")


def test_classes_and_image_channels_stay():
    groups = groups_of(zoo.load("lenet5"), 1, 28, 28)
    last = groups.groups[-1]
    assert (last.name, last.units, last.fixed) == ("fc2", (), "the network's output")
    assert "stays" in str(last)


def test_grouped_convolutions_tie_one_channel_of_every_group():
    """8 channels in 4 groups, tied to themselves by the addition around them: 2 units of 4 channels."""
    groups = groups_of(mixed(), 1, 6, 6)
    stem = groups.groups[0]
    assert stem.name == "stem"
    assert len(stem.units) == 2
    assert groups.unit_of[torch.tensor(range(1, 9))].tolist() == [0, 1] * 4


def test_a_group_prints_what_goes_and_why():
    text = str(groups_of(mixed(), 1, 6, 6))
    assert "stem: 2 channels that can go" in text
    assert "because: grouped has 4 groups of channels, which must stay equally large" in text
    assert "channels of depthwise" in text


def test_the_gate_ties_both_factors():
    groups = groups_of(mixed(), 1, 6, 6)
    assert any("multiplied" in reason for group in groups.groups for reason in group.reasons)


def their_groups(network: nn.Module, example: torch.Tensor) -> set[frozenset[tuple[str, str]]]:
    """What Torch-Pruning says goes together, as (layer, side)."""
    names = {module: name for name, module in network.named_modules()}
    classes = [module for module in network.modules() if isinstance(module, nn.Linear)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = torch_pruning.DependencyGraph().build_dependency(network, example_inputs=example)
        groups = list(graph.get_all_groups(ignored_layers=classes, root_module_types=[nn.Conv2d, nn.Linear]))
    return {
        frozenset(
            (
                names[item.dep.target.module],
                "inputs" if "in_channels" in item.dep.handler.__name__ else "outputs",
            )
            for item in group
            if isinstance(item.dep.target.module, KINDS)
        )
        for group in groups
    }


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121"])
def test_groups_are_those_of_torch_pruning(name):
    network = getattr(torchvision.models, name)(weights=None).eval()
    ours = {
        frozenset((layer, "outputs" if side == "channels" else side) for layer, side in group.members)
        for group in groups_of(network, 3, 32, 32).groups
        if group.units
    }
    assert ours == their_groups(network, torch.zeros(1, 3, 32, 32))
