"""Networks in 16 bits: inference casts on the trained zoo, autocast and half-precision training steps."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coursekit import data, measure, zoo
from coursekit.fixtures import networks
from coursekit.quantization import (
    AutocastTraining,
    DynamicLossScale,
    HalfTraining,
    cast_model,
    gradients_by_layer,
)

HALF = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])


@pytest.fixture(scope="module")
def batch():
    images = data.fashion_mnist("test", subset=True).take(24)
    return images.images, images.labels


@HALF
def test_a_cast_network_halves_its_file_and_keeps_its_answers(dtype, batch):
    network = zoo.load("resnet20")
    small = cast_model(network, dtype)
    assert measure.saved_size(network) / measure.saved_size(small) == pytest.approx(2, abs=0.1)
    with torch.no_grad():
        ours, theirs = small(batch[0][:8]), network(batch[0][:8])
    assert ours.dtype == torch.float32
    # 20 layers, each rounding to eps/2 relatively: the bound is loose, the median relative error is far below it.
    assert (ours - theirs).norm() / theirs.norm() < 20 * torch.finfo(dtype).eps


def test_a_cast_network_ignores_the_rest_of_the_batch_and_counts_nothing(batch):
    """The tutorial's example was left in training mode: there an image's answer depends on its neighbours."""
    network = zoo.load("resnet20").train()
    small = cast_model(network, torch.bfloat16)
    before = networks.state(small)["bn1.num_batches_tracked"]
    with torch.no_grad():
        alone, among = small(batch[0][:1]), small(batch[0][:4])[:1]
        training = network(batch[0][:1]), network(batch[0][:4])[:1]
    torch.testing.assert_close(alone, among, rtol=0.05, atol=0.05)  # bfloat16 sums in another order
    assert (training[0] - training[1]).abs().max() > 0.5
    assert networks.state(small)["bn1.num_batches_tracked"] == before
    assert network.training


def test_batch_norms_can_stay_float32():
    network = zoo.load("resnet20")
    small = cast_model(network, torch.float16, keep_batch_norm=True)
    kept, original = networks.state(small), networks.state(network)
    assert torch.equal(kept["stage2.0.bn1.running_var"], original["stage2.0.bn1.running_var"])
    assert kept["stage2.0.conv1.weight"].dtype == torch.float16
    assert measure.saved_size(small) > measure.saved_size(cast_model(network, torch.float16))


def test_weights_beyond_float16_are_refused_before_anything_is_cast():
    network = networks.mlp(0, 4, 3)
    with torch.no_grad():
        network[0].bias[1] = 70000.0
    with pytest.raises(OverflowError, match=r"0\.bias holds 7e\+04"):
        cast_model(network, torch.float16)
    assert cast_model(network, torch.bfloat16)(torch.zeros(1, 4)).isfinite().all()
    with pytest.raises(ValueError, match="float16 or torch"):
        cast_model(network, torch.float64)


def test_gradients_by_layer_are_autograds(batch):
    network = networks.mlp(0, 784, 20, 10)
    found = gradients_by_layer(network, batch[0].flatten(1), batch[1])
    F.cross_entropy(network(batch[0].flatten(1)), batch[1]).backward()
    assert set(found) == {"0.weight", "0 output", "2.weight", "2 output"}
    assert torch.equal(found["2.weight"], network[2].weight.grad.flatten())
    # The bias's gradient is the sum of the output's over the batch.
    torch.testing.assert_close(found["2 output"].reshape(-1, 10).sum(0), network[2].bias.grad)


def train(trainer, images, labels, steps=30):
    return [trainer.train_step(images, labels) for _ in range(steps)]


@HALF
def test_autocast_trains_on_this_cpu(dtype, batch):
    network = networks.mlp(0, 784, 32, 10).train()
    trainer = AutocastTraining(network, torch.optim.SGD(network.parameters(), 0.05), dtype=dtype)
    seen = []
    network[0].register_forward_hook(lambda m, i, out: seen.append(out.dtype))
    losses = train(trainer, batch[0].flatten(1), batch[1])
    assert losses[-1] < 0.5 * losses[0]
    assert set(seen) == {dtype}
    assert network[0].weight.dtype == torch.float32
    assert trainer.scaler.is_enabled() == (dtype == torch.float16)


def test_autocast_chooses_bfloat16_on_a_cpu_and_leftover_gradients_take_no_part(batch):
    images, labels = batch[0].flatten(1), batch[1]
    weights = []
    for leftover in (False, True):
        network = networks.mlp(0, 784, 16, 10).train()
        if leftover:
            F.cross_entropy(network(images), labels).mul(1000).backward()
        trainer = AutocastTraining(network, torch.optim.SGD(network.parameters(), 0.1))
        trainer.train_step(images, labels)
        weights.append(networks.state(network)["0.weight"])
    assert trainer.dtype == torch.bfloat16
    assert torch.equal(*weights)


def test_autocast_clips_the_unscaled_gradient(batch):
    """With plain SGD at learning rate 1 a step is exactly as long as the clipped gradient."""
    network = networks.mlp(0, 784, 16, 10).train()
    before = nn.utils.parameters_to_vector(network.parameters()).detach().clone()
    optimizer = torch.optim.SGD(network.parameters(), 1.0)
    AutocastTraining(network, optimizer, dtype=torch.float16, max_norm=0.01).train_step(
        batch[0].flatten(1), batch[1]
    )
    moved = nn.utils.parameters_to_vector(network.parameters()).detach() - before
    assert moved.norm().item() == pytest.approx(0.01, rel=1e-3)


def test_bfloat16_weights_without_masters_hardly_move(batch):
    images, labels = batch[0].flatten(1), batch[1]
    last = {}
    for master in (True, False):
        trainer = HalfTraining(networks.mlp(0, 784, 32, 10), 1e-4, dtype=torch.bfloat16, master=master)
        before = networks.state(trainer.model)["0.weight"]
        train(trainer, images, labels, steps=5)
        last[master] = (networks.state(trainer.model)["0.weight"] != before).float().mean().item()
    assert last[True] > 2 * last[False]


def test_an_overflowing_step_changes_no_weight_and_lowers_the_scale(batch):
    scale = DynamicLossScale(2.0**40)
    trainer = HalfTraining(networks.mlp(0, 784, 8, 10), 0.1, loss_scale=scale)
    before = networks.state(trainer.model)
    trainer.train_step(batch[0].flatten(1), batch[1])
    assert all(torch.equal(before[name], now) for name, now in networks.state(trainer.model).items())
    assert (scale.scale, scale.skipped) == (2.0**39, 1)
    losses = train(trainer, batch[0].flatten(1), batch[1], steps=60)
    assert losses[-1] < losses[0]
    assert math.log2(scale.scale) < 30


def test_trainers_refuse_what_they_cannot_train():
    with pytest.raises(ValueError, match="has no parameters"):
        AutocastTraining(nn.ReLU(), None)
    with pytest.raises(ValueError, match="float16 or torch"):
        HalfTraining(networks.mlp(0, 4, 3), 0.1, dtype=torch.float32)
