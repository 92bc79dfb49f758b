"""Whole networks in integers: the two views agree bit for bit, the file is all of the network, bad ones are named."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coursekit import zoo
from coursekit.data import fashion_mnist
from coursekit.models import mobilenet_v2
from coursekit.quantization import (
    PercentileObserver,
    StaticConfig,
    quantize_static,
)


@pytest.fixture(scope="module")
def images():
    return fashion_mnist("train", subset=True).images[:100]


@pytest.fixture(scope="module")
def test_set():
    return fashion_mnist("test", subset=True).take(200)


class Everything(nn.Module):
    """Every kind of operation that has an integer form, in an order that makes sense to nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.left = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8, bias=False)
        self.right = nn.Conv2d(8, 4, 1)
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        self.drop = nn.Dropout()
        self.fc = nn.Linear(12, 10)

    def forward(self, x):
        x = F.relu6(self.bn(self.stem(x)))  # (N, 8, 14, 14)
        y = self.left(x)
        y = torch.relu(y) + y  # the ReLU cannot be fused: its input is used again
        x = torch.cat([y + x, self.right(x).relu()], dim=1)  # (N, 12, 14, 14)
        x = F.avg_pool2d(self.pool(x), 2)  # (N, 12, 3, 3)
        x = F.adaptive_avg_pool2d(x, 1)
        return self.fc(self.drop(torch.flatten(x, 1)))


def network(name: str) -> nn.Module:
    if name in zoo.available():
        return zoo.load(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return (mobilenet_v2() if name == "mobilenet_v2" else Everything()).eval()


@pytest.mark.parametrize("name", ["lenet300", "lenet5", "resnet20", "mobilenet_v2", "everything"])
@pytest.mark.parametrize(
    "config", [StaticConfig(), StaticConfig(4, 6, False, PercentileObserver)], ids=["8", "4"]
)
def test_integers_equal_the_fake_quantized_network_bit_for_bit_in_every_layer(name, config, images, test_set):
    quantized = quantize_static(network(name), images, config)
    batch = test_set.images[:20]
    codes, values = quantized.layer_codes(batch), quantized.fake().layer_values(batch)
    assert list(codes) == list(values)
    grids = {"input": quantized.input} | {step.name: step.layer.output for step in quantized.steps}
    for layer, q in codes.items():
        assert q.dtype == torch.int8
        assert torch.equal(q.double() - grids[layer].zero_point, values[layer] / grids[layer].scale), layer
    assert torch.equal(quantized.codes(batch), quantized.fake().codes(batch))
