"""Equalization keeps the function and evens the ranges; bias correction restores means."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from coursekit.models import mobilenet_v2
from coursekit.quantization import (
    QATConfig,
    bias_correction,
    calibrate,
    correct_biases,
    equalization_scale,
    equalize,
    fold_batch_norms,
    prepare_qat,
)
from coursekit.train import predict


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def uneven(seed: int = 0) -> nn.Module:
    """A MobileNet whose batch norms have gains a factor of a thousand apart, folded."""
    torch.manual_seed(seed)
    model = mobilenet_v2(width=0.5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.bias, -0.5, 0.5)
            with torch.no_grad():
                module.weight.copy_(10 ** torch.empty_like(module.weight).uniform_(-1.5, 1.5))
    with torch.no_grad():
        model.train()(normal(32, 1, 28, 28))
    return fold_batch_norms(model.eval())


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 1, 1), (6, 4, 3, 3)], ids=["linear", "1x1", "3x3"])
def test_after_scaling_both_layers_have_equal_ranges(shape):
    first = normal(4, 5) * torch.tensor([0.01, 1.0, 10.0, 300.0])[:, None]
    second = normal(*shape, seed=1)
    scale = equalization_scale(first, second)
    r1 = (first / scale[:, None]).abs().amax(1)
    r2 = (second * scale.reshape(1, -1, *[1] * (len(shape) - 2))).abs().transpose(0, 1).flatten(1).amax(1)
    torch.testing.assert_close(r1, r2)
    torch.testing.assert_close(
        r1, (first.abs().amax(1) * second.abs().transpose(0, 1).flatten(1).amax(1)).sqrt()
    )


def test_dead_channels_stay_as_they_are():
    scale = equalization_scale(torch.tensor([[0.0], [2.0], [2.0]]), torch.tensor([[1.0, 0.0, 0.5]]))
    assert scale.tolist() == [1.0, 1.0, 2.0]


def test_layers_that_do_not_follow_each_other_are_refused():
    with pytest.raises(ValueError, match=r"weight1 \(4, 5\) makes 4 channels"):
        equalization_scale(normal(4, 5), normal(2, 3))


def test_equalized_network_has_the_same_outputs_and_even_ranges():
    model, images = uneven().double(), normal(16, 1, 28, 28, seed=3).double()
    equal = equalize(model)
    before, after = predict(model, images), predict(equal, images)
    assert before.abs().max() > 0.1
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)  # float64: only rounding may differ

    def spread(network: nn.Module) -> float:
        ranges = network.get_parameter("blocks.4.depthwise.0.weight").abs().amax(dim=(1, 2, 3))
        return (ranges.max() / ranges.min()).item()

    assert spread(equal) < spread(model) / 10


def test_as_in_the_paper_relu6_becomes_relu_only_when_asked():
    model = uneven()
    kinds = {type(m) for m in equalize(model, exact=False).modules()}
    assert nn.ReLU in kinds
    assert nn.ReLU6 in {type(m) for m in model.modules()}


def test_linear_layers_with_relu_are_equalized_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), nn.Linear(4, 3)).eval()
    with torch.no_grad():
        model[0].weight[0] *= 50
    equal, x = equalize(model), normal(9, 6)
    torch.testing.assert_close(equal(x), model(x))
    r1, r2 = equal.get_submodule("0").weight.abs().amax(1), equal.get_submodule("2").weight.abs().amax(0)
    torch.testing.assert_close(r1, r2, rtol=1e-3, atol=0)  # 20 rounds of a chain of three


def test_nothing_to_equalize_and_no_rounds_are_refused():
    with pytest.raises(ValueError, match="no two layers"):
        equalize(nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="n_rounds must be at least 1"):
        equalize(uneven(), n_rounds=0)


def test_corrected_bias_gives_the_mean_output_back():
    weight, x = normal(3, 5), normal(200, 5, seed=1) + 1.0
    quantized, bias = weight + 0.3 * normal(3, 5, seed=2), normal(3, seed=3)
    corrected = bias_correction(weight, quantized, bias, x.mean(0))
    torch.testing.assert_close((x @ quantized.T + corrected).mean(0), (x @ weight.T + bias).mean(0))


def test_whole_network_has_its_mean_logits_back_after_correction():
    """The last layer is corrected like any other: its mean output comes back, to half a step of its bias."""
    model, images = uneven(), normal(64, 1, 28, 28, seed=4)
    target = predict(model, images).mean(0)
    prepared = prepare_qat(model, QATConfig(weight_bits=4, per_channel=False, edge_bits=None))
    calibrate(prepared, images)
    corrected = correct_biases(prepared, images)
    assert (predict(prepared, images).mean(0) - target).norm() > 0.5
    last = corrected.get_submodule("fc")
    step = last.scale(last.layer.weight).item() * last.source[0].qparams()[0]
    torch.testing.assert_close(predict(corrected, images).mean(0), target, rtol=0, atol=0.51 * step)
    other = normal(64, 1, 28, 28, seed=5)
    errors = [(predict(m, other) - predict(model, other)).norm() for m in (prepared, corrected)]
    assert errors[1] < errors[0]


def test_correction_leaves_the_model_and_its_norms_statistics_alone():
    torch.manual_seed(0)
    prepared = prepare_qat(mobilenet_v2(width=0.5), QATConfig(4, 8))
    images = normal(16, 1, 28, 28)
    calibrate(prepared, images)
    before = {name: value.clone() for name, value in prepared.state_dict().items()}
    corrected = correct_biases(prepared, images)
    assert all(torch.equal(value, before[name]) for name, value in prepared.state_dict().items())
    changed = {name for name, value in corrected.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.endswith("bias") for name in changed)
    assert all(module.enabled for module in corrected.modules() if hasattr(module, "enabled"))


def test_nothing_to_correct_is_said():
    with pytest.raises(ValueError, match="0 quantized layers"):
        correct_biases(uneven(), normal(2, 1, 28, 28))
