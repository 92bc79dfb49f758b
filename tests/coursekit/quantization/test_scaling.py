"""Loss scaling, unscaling, clipping and master weights, against torch's own and against plain float64 arithmetic."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from coursekit.quantization import (
    FP16,
    DynamicLossScale,
    loss_scale_step,
    master_weight_update,
    underflow_share,
    unscale_and_clip,
)


@pytest.mark.parametrize("interval", [1, 3])
def test_the_scale_goes_the_way_of_torchs_grad_scaler(interval):
    found = [bool(b) for b in torch.rand(60, generator=torch.Generator().manual_seed(0)) < 0.2]
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], 0.1)
    theirs = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=interval)
    theirs.scale(torch.zeros(1))  # it makes its own scale on first use
    ours = DynamicLossScale(1024.0, growth_interval=interval)
    for overflow in found:
        weight.grad = torch.full((1,), math.inf if overflow else 1.0)
        theirs.step(optimizer)
        theirs.update()
        ours.update(overflow)
        assert ours.scale == theirs.get_scale()
    assert ours.skipped == sum(found) > 0


def test_the_count_starts_again_after_growing_and_after_backing_off():
    assert loss_scale_step(8.0, 1, False, growth_interval=2) == (16.0, 0)
    assert loss_scale_step(8.0, 1, True, growth_interval=2) == (4.0, 0)
    assert loss_scale_step(8.0, 0, False, growth_interval=2) == (8.0, 1)


@pytest.mark.parametrize("max_norm", [0.5, 100.0, math.inf])
def test_unscaling_and_clipping_agree_with_torch(max_norm):
    generator = torch.Generator().manual_seed(0)
    true = [torch.randn(4, 3, generator=generator), torch.randn(5, generator=generator)]
    given = [grad * 1024.0 for grad in true]
    ours, found_inf = unscale_and_clip(given, 1024.0, max_norm)
    parameters = [nn.Parameter(torch.zeros_like(grad)) for grad in true]
    for parameter, grad in zip(parameters, true, strict=True):
        parameter.grad = grad.clone()
    nn.utils.clip_grad_norm_(parameters, max_norm)
    assert not found_inf
    for mine, parameter in zip(ours, parameters, strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=2e-6, atol=1e-8)  # torch adds 1e-6 to the norm
    assert torch.equal(given[0], true[0] * 1024.0)


def test_float16_gradients_survive_the_division():
    tiny = torch.full((3,), FP16.smallest * 4, dtype=torch.float16)
    (unscaled,), _ = unscale_and_clip([tiny], 2.0**16, math.inf)
    assert unscaled.dtype == torch.float32
    assert unscaled.unique().item() == FP16.smallest * 4 / 2**16 > 0
    assert bool((tiny / 2**16 == 0).all())


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_one_bad_element_is_found_and_nothing_is_clipped(bad):
    grads = [torch.tensor([3.0, 4.0]), torch.tensor([bad])]
    unscaled, found_inf = unscale_and_clip(grads, 2.0, 0.1)
    assert found_inf
    assert unscaled[0].tolist() == [1.5, 2.0]


def test_zero_gradients_are_not_divided_by_their_norm():
    (grad,), found_inf = unscale_and_clip([torch.zeros(3)], 8.0, 1.0)
    assert grad.tolist() == [0.0, 0.0, 0.0]
    assert not found_inf


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_master_remembers_what_the_copy_cannot_show(dtype):
    """A thousand steps of 1e-4 from 1: about -0.1 with a master, nothing at all in 16 bits."""
    master, copy, bare = torch.ones(1), torch.ones(1, dtype=dtype), torch.ones(1, dtype=dtype)
    for _ in range(1000):
        master, copy = master_weight_update(master, copy, torch.ones(1), 1e-4)
        bare = bare - 1e-4 * torch.ones(1, dtype=dtype)
    assert bare.item() == 1.0
    assert copy.dtype == dtype
    assert abs(master.item() - 0.9) < 1000 * 2**-24  # half a float32 step of 1 for each of the roundings
    assert copy.item() == torch.tensor(master.item()).to(dtype).item()


def test_underflow_share_counts_only_what_was_not_zero():
    x = torch.tensor([0.0, 1.0, -(2.0**-25), 2.0**-24, 1e-9])
    assert underflow_share(x, FP16.smallest) == 0.5
    assert (x.half()[1:] == 0).sum() == 2
    assert underflow_share(torch.zeros(3), FP16.smallest) == 0.0


def test_bad_inputs_say_what_to_do():
    with pytest.raises(ValueError, match="scale must be above 0"):
        loss_scale_step(0.0, 0, False)
    with pytest.raises(ValueError, match="growth_factor must be above 1"):
        loss_scale_step(1.0, 0, False, growth_factor=1.0)
    with pytest.raises(ValueError, match="grads is empty"):
        unscale_and_clip([], 1.0, 1.0)
    with pytest.raises(ValueError, match="max_norm must be above 0"):
        unscale_and_clip([torch.ones(1)], 1.0, 0.0)
    with pytest.raises(TypeError, match="master must be float32"):
        master_weight_update(torch.ones(1).half(), torch.ones(1).half(), torch.ones(1), 0.1)
    with pytest.raises(ValueError, match="must have one shape"):
        master_weight_update(torch.ones(1), torch.ones(1).half(), torch.ones(2), 0.1)
    with pytest.raises(ValueError, match="smallest must be above 0"):
        underflow_share(torch.ones(1), 0.0)
