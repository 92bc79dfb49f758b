"""Folded networks compute what they did; what cannot be folded stays."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit import data, zoo
from coursekit.quantization import fold_batch_norm, fold_batch_norms


def random_norm(channels: int, seed: int = 0) -> list[Tensor]:
    """Mean, variance, weight (of both signs) and bias of a batch norm."""
    g = torch.Generator().manual_seed(seed)
    mean, weight, bias = torch.randn(3, channels, generator=g)
    return [mean, torch.rand(channels, generator=g) + 0.1, weight, bias]


@pytest.mark.parametrize("with_bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("groups", [1, 6], ids=["dense", "depthwise"])
def test_one_convolution_does_the_work_of_two_layers(with_bias, groups):
    g = torch.Generator().manual_seed(1)
    conv_weight = torch.randn(6, 6 // groups, 3, 3, generator=g)
    conv_bias = torch.randn(6, generator=g) if with_bias else None
    x = torch.randn(2, 6, 9, 9, generator=g)
    norm = random_norm(6)
    weight, bias = fold_batch_norm(conv_weight, conv_bias, *norm, eps=1e-3)
    expected = F.batch_norm(F.conv2d(x, conv_weight, conv_bias, padding=1, groups=groups), *norm, eps=1e-3)
    torch.testing.assert_close(
        F.conv2d(x, weight, bias, padding=1, groups=groups), expected, rtol=1e-4, atol=1e-5
    )


def test_linear_layer_and_a_norm_without_weight():
    g = torch.Generator().manual_seed(2)
    linear, x = torch.randn(4, 7, generator=g), torch.randn(5, 7, generator=g)
    mean, var, _, _ = random_norm(4)
    weight, bias = fold_batch_norm(linear, None, mean, var, None, None)
    torch.testing.assert_close(F.linear(x, weight, bias), F.batch_norm(F.linear(x, linear), mean, var))


def test_mismatched_or_impossible_statistics_are_refused():
    mean, var, weight, bias = random_norm(4)
    with pytest.raises(ValueError, match=r"mean has shape \(4,\), but the layer has 3"):
        fold_batch_norm(torch.ones(3, 2), None, mean, var, weight, bias)
    with pytest.raises(ValueError, match="must be above 0"):
        fold_batch_norm(torch.ones(4, 2), None, mean, -var, weight, bias)
    with pytest.raises(ValueError, match="must be above 0"):
        fold_batch_norm(torch.ones(4, 2), None, mean, 0 * var, weight, bias, eps=0.0)


def norms(model: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in model.modules())


def test_trained_resnet_folds_whole_and_answers_the_same():
    network = zoo.load("resnet20")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    folded = fold_batch_norms(network)
    images = data.fashion_mnist("test", subset=True).images[:50]
    with torch.inference_mode():
        torch.testing.assert_close(folded(images), network(images), rtol=1e-4, atol=1e-4)
    assert norms(network) == 21
    assert norms(folded) == 0
    assert not folded.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    names = {name for name, _ in folded.named_modules()}
    assert {"conv1", "stage2.0.shortcut.0", "fc"} <= names


class Awkward(nn.Module):
    """Batch norms that must stay: before a layer, after one that is used elsewhere, and after a shared one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.conv = nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)
        self.after, self.shared, self.last = nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.own, self.stateless = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv(self.first(x))
        out = self.after(out) + out
        out = self.shared(self.last(self.shared(out)))
        return self.stateless(self.own(out))


def test_batch_norms_that_cannot_be_folded_stay():
    torch.manual_seed(0)
    model = Awkward()
    model(torch.randn(8, 3, 4, 4))  # statistics other than 0 and 1
    folded = fold_batch_norms(model.eval())
    x = torch.randn(2, 3, 4, 4)
    assert norms(folded) == norms(model) == 4
    torch.testing.assert_close(folded(x), model(x))


def test_training_mode_is_refused_by_name():
    with pytest.raises(ValueError, match=r"call model\.eval\(\)"):
        fold_batch_norms(nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)))
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)).eval()
    model[1].train()
    with pytest.raises(ValueError, match="1 is in training mode"):
        fold_batch_norms(model)


def test_parameters_of_the_copy_are_its_own():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2)).eval()
    folded = fold_batch_norms(model)
    with torch.no_grad():
        for parameter in folded.parameters():
            parameter.zero_()
    assert all(p.abs().sum() > 0 for p in model[0].parameters())
    assert model[2].weight.abs().sum() > 0
