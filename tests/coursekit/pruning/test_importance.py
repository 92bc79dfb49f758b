"""Policies: what they measure, by other means."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coursekit import zoo
from coursekit.data import fashion_mnist
from coursekit.pruning import (
    BatchNormScale,
    Magnitude,
    RandomChannels,
    Taylor,
    channel_groups,
    mask_units,
    trace_channels,
)
from tests.coursekit.pruning.madenets import mixed


def traced(network: nn.Module, *shape: int):
    graph = trace_channels(network, torch.zeros(1, *shape))
    return network, graph, channel_groups(graph)


@pytest.fixture(scope="module")
def resnet():
    return traced(zoo.load("resnet20"), 1, 28, 28)


def test_magnitude_of_a_plain_layer_is_the_norm_of_its_rows():
    network, graph, groups = traced(zoo.load("lenet5"), 1, 28, 28)
    scores = Magnitude(p=2, normalise=False)(network, graph, groups)
    units = torch.tensor(groups.groups[0].units)
    torch.testing.assert_close(scores[units], network.conv1.weight.detach().flatten(1).norm(dim=1))


def test_magnitude_sees_a_channel_that_batch_norm_switches_off(resnet):
    network, graph, groups = resnet
    off = mask_units(network, graph, groups, [])
    off.stage1[0].bn1.weight.data[3] = 0
    inner = next(group for group in groups.groups if group.name == "stage1.0.conv1")
    assert Magnitude(p=1)(off, graph, groups)[inner.units[3]] == 0
    assert Magnitude(p=1, fold=False)(off, graph, groups)[inner.units[3]] > 0


def test_normalised_magnitudes_have_mean_1_in_every_group(resnet):
    network, graph, groups = resnet
    scores = Magnitude(p=1, inputs=True)(network, graph, groups)
    for group in groups.groups:
        if group.units:
            assert scores[torch.tensor(group.units)].mean().item() == pytest.approx(1, abs=1e-5)


def test_batch_norm_scale_is_the_mean_gamma_of_a_unit(resnet):
    network, graph, groups = resnet
    scores = BatchNormScale()(network, graph, groups)
    norms = [network.bn1, *(network.stage1[i].bn2 for i in range(3))]
    expected = torch.stack([norm.weight.detach().abs() for norm in norms]).mean(0)
    torch.testing.assert_close(scores[torch.tensor(groups.groups[0].units)], expected)


def test_taylor_is_the_slope_of_the_loss_as_a_unit_fades(resnet):
    """Scaling all that makes a unit by 1 - h changes the loss by -h times the first-order estimate."""
    network, graph, groups = resnet
    data = fashion_mnist("train", subset=True).take(16)
    scores = Taylor(data, batch_size=16)(network, graph, groups)
    inner = next(group for group in groups.groups if group.name == "stage2.1.conv1")
    h = 1e-2
    for unit in torch.tensor(inner.units)[scores[torch.tensor(inner.units)].topk(3).indices].tolist():
        losses = []
        for sign in (-1, 1):
            changed = mask_units(network, graph, groups, [])
            norm = changed.stage2[1].bn1
            index = inner.units.index(unit)
            norm.weight.data[index] *= 1 + sign * h
            norm.bias.data[index] *= 1 + sign * h
            with torch.no_grad():
                losses.append(F.cross_entropy(changed.double()(data.images.double()), data.labels).item())
        slope = (losses[1] - losses[0]) / (2 * h)
        assert slope**2 == pytest.approx(
            scores[unit].item(), rel=0.05
        )  # a central difference errs by h squared


def test_taylor_leaves_no_gradient_behind(resnet):
    network, graph, groups = resnet
    Taylor(fashion_mnist("train", subset=True).take(4))(network, graph, groups)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_random_scores_come_from_their_seed():
    network, graph, groups = traced(mixed(), 1, 6, 6)
    a, b, c = (RandomChannels(seed)(network, graph, groups) for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c) and len(a) == groups.n_units
