"""Adam by hand equals torch's, with and without a mask."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from coursekit.pruning import adam_step, attach_masks, masked_adam


def gradients(steps: int) -> torch.Tensor:
    return torch.randn(steps, 4, 5, generator=torch.Generator().manual_seed(3))


def by_torch(weight, given, before, mask=None):
    """The layer and its optimizer after torch's Adam took the same steps."""
    layer = nn.Linear(5, 4, bias=False)
    layer.weight.data = weight.clone()
    adam = torch.optim.Adam(layer.parameters(), lr=0.01)
    for t, gradient in enumerate(given):
        if t == before and mask is not None:
            attach_masks(layer, {"weight": mask})
        adam.zero_grad()
        (layer.weight * gradient).sum().backward()
        adam.step()
    return layer.weight.detach(), adam.state[layer.weight]


def test_steps_equal_torchs_adam():
    weight, given = torch.linspace(-1, 1, 20).reshape(4, 5), gradients(30)
    expected, state = by_torch(weight, given, 0)
    first = second = torch.zeros(4, 5)
    for t, gradient in enumerate(given, start=1):
        weight, first, second = adam_step(weight, gradient, first, second, t, lr=0.01)
    for ours, theirs in ((weight, expected), (first, state["exp_avg"]), (second, state["exp_avg_sq"])):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="from 1"):
        adam_step(weight, given[0], first, second, 0)


def test_masked_steps_equal_attached_masks_under_torchs_adam():
    """Ten steps without the mask fill the moments, twenty with it follow."""
    weight, given = torch.linspace(-1, 1, 20).reshape(4, 5), gradients(30)
    mask = torch.arange(20).reshape(4, 5) % 3 > 0
    before, state = by_torch(weight, given[:10], 0)
    moments = state["exp_avg"], state["exp_avg_sq"]
    results = masked_adam(before, mask, given[10:], *moments, step=10, lr=0.01)
    expected, state = by_torch(weight, given, 10, mask)
    for ours, theirs in zip(results, (expected, state["exp_avg"], state["exp_avg_sq"]), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)
        assert (ours[~mask] == 0).all()


def test_shapes_that_do_not_fit_are_refused():
    ones = torch.ones(4, 5)
    with pytest.raises(ValueError, match="do not fit"):
        masked_adam(ones, torch.ones(5, 4).bool(), gradients(1), ones, ones, 0)
    with pytest.raises(ValueError, match="do not fit"):
        masked_adam(ones, ones.bool(), ones, ones, ones, 0)
