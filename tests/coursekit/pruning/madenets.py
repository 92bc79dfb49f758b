"""Small networks with every construction that channels run through, and batch norms that do something."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def lively(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network in eval mode, its batch norms with statistics, scales and shifts other than 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for name, low, high in (
                ("running_mean", -0.5, 0.5),
                ("running_var", 0.5, 2.0),
                ("weight", 0.5, 1.5),
                ("bias", -0.5, 0.5),
            ):
                getattr(module, name).data.uniform_(low, high, generator=generator)
    return network.eval()


class Mixed(nn.Module):
    """Residual addition, concat, a grouped and a depthwise convolution, a gate that multiplies, flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4, padding_mode="reflect")
        self.left = nn.Conv2d(8, 6, 1)
        self.right = nn.Conv2d(8, 4, 3, padding=1, bias=False)
        self.after = nn.BatchNorm2d(10, eps=1e-2)
        self.depthwise = nn.Conv2d(10, 20, 3, padding=1, groups=10)
        self.gate = nn.Conv2d(20, 20, 1)
        self.hidden = nn.Linear(20 * 9, 12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.grouped(x)
        x = self.after(torch.cat([self.left(x), torch.tanh(self.right(x))], 1))
        x = torch.relu(self.depthwise(x))
        x = x * self.gate(nn.functional.adaptive_avg_pool2d(x, 1))
        x = nn.functional.max_pool2d(x, 2)
        return self.head(torch.relu(self.hidden(x.reshape(x.size(0), -1))))


def mixed(seed: int = 0) -> nn.Module:
    """A Mixed network from a seed; takes (N, 1, 6, 6)."""
    torch.manual_seed(seed)
    return lively(Mixed(), seed)
