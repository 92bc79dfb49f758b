"""Quantization-aware training: what is quantized, what the layers compute, what freezing holds still."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn

from coursekit import data, zoo
from coursekit.models import LeNet300100, mobilenet_v2, resnet20
from coursekit.quantization import (
    HistogramObserver,
    QATConfig,
    activation_ranges,
    calibrate,
    fold_batch_norms,
    freeze,
    learned_scales,
    prepare_qat,
    set_activation_ranges,
    set_learned_scales,
    to_float,
    train_quantized,
)
from coursekit.quantization.quantizers import ActivationQuantizer, QATLayer, mse_scale
from coursekit.train import Recipe, evaluate, predict


@pytest.fixture(scope="module")
def train() -> data.Dataset:
    return data.fashion_mnist("train", subset=True)


@pytest.fixture(scope="module")
def test() -> data.Dataset:
    return data.fashion_mnist("test", subset=True).take(400)


@pytest.fixture(scope="module")
def lenet(train) -> nn.Module:
    model = prepare_qat(zoo.load("lenet300"), QATConfig(2, 4))
    calibrate(model, train.images[:200])
    return model


def layers(model: nn.Module) -> list[QATLayer]:
    return [m for m in model.modules() if isinstance(m, QATLayer)]


def on_the_grid(weight: Tensor, scale: Tensor, n_bits: int) -> bool:
    codes = weight / scale
    return bool((codes - codes.round()).abs().max() < 1e-4) and bool(
        codes.abs().max() < 2 ** (n_bits - 1) - 0.9
    )


def test_resnet_quantizes_each_layer_with_its_norm_and_each_tensor_once():
    model = prepare_qat(resnet20(), QATConfig(4, 4))
    found = layers(model)
    assert len(found) == 22  # 20 and two shortcuts
    assert sum(layer.norm is not None for layer in found) == 21
    assert [layer.n_bits for layer in found] == [8, *[4] * 20, 8]
    # input, 19 ReLUs, 9 second convolutions, 2 shortcuts, the mean; the logits stay
    assert len([m for m in model.modules() if isinstance(m, ActivationQuantizer)]) == 1 + 19 + 9 + 2 + 1
    assert not any(
        isinstance(m, nn.BatchNorm2d) and m not in {layer.norm for layer in found} for m in model.modules()
    )


def test_no_tensor_has_two_names():
    state = prepare_qat(resnet20()).state_dict()
    assert len({value.data_ptr() for value in state.values()}) == len(state)
    assert not any("bn1." in name for name in state)


def test_mobilenet_and_a_functional_relu_are_understood():
    names = {n for n, m in prepare_qat(mobilenet_v2()).named_modules() if isinstance(m, ActivationQuantizer)}
    assert {"quantizers.x", "quantizers.add", "quantizers.blocks_0_project_0", "quantizers.mean"} <= names
    lenet = prepare_qat(LeNet300100())
    assert {n for n, m in lenet.named_modules() if isinstance(m, ActivationQuantizer)} == {
        "quantizers.x", "quantizers.relu", "quantizers.relu_1",
    }  # fmt: skip


def test_with_quantizers_off_it_is_the_float_network_and_8_bits_are_close(test, train):
    network = zoo.load("resnet20")
    model = prepare_qat(network)
    for part in model.modules():
        if hasattr(part, "enabled"):
            part.enabled = False
    images = test.images[:50]
    expected = predict(network, images)
    torch.testing.assert_close(predict(model, images), expected, rtol=1e-3, atol=1e-3)
    for part in model.modules():
        if hasattr(part, "enabled"):
            part.enabled = True
    calibrate(model, train.images[:100], observer=lambda q: HistogramObserver("mse", q.n_bits))
    close = predict(model, images)
    assert (close - expected).norm() < 0.1 * expected.norm()
    assert not torch.allclose(close, expected, atol=1e-3)


def test_the_original_is_left_alone_and_what_was_not_calibrated_does_not_run(test):
    network = zoo.load("lenet300")
    before = copy.deepcopy(network.state_dict())
    model = prepare_qat(network)
    with pytest.raises(RuntimeError, match="calibrate"):
        model(test.images[:2])
    with pytest.raises(ValueError, match="no images"):
        calibrate(model, test.images[:0])
    with pytest.raises(ValueError, match="prepare_qat"):
        calibrate(network, test.images[:2])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_calibration_sees_the_float_network(train):
    """The input's range is that of the images, the first ReLU's that of the float layer on them."""
    network, images = zoo.load("lenet300"), train.images[:50]
    model = prepare_qat(network, QATConfig(2, 8))
    calibrate(model, images, batch_size=50)
    ranges = activation_ranges(model)
    steps = [quantizer.qparams()[0] for quantizer in model.quantizers.values()]
    assert ranges["x"][0] == pytest.approx(images.min().item(), abs=steps[0])
    assert ranges["x"][1] == pytest.approx(images.max().item(), abs=steps[0])
    with torch.no_grad():
        top = torch.relu(network.fc1(images.flatten(1))).max().item()
    assert ranges["relu"] == (0.0, pytest.approx(top, abs=steps[1]))


@pytest.mark.parametrize("learned", [False, True], ids=["max", "learned"])
@pytest.mark.parametrize("per_channel", [True, False], ids=["channels", "tensor"])
def test_float_network_left_over_computes_the_same_with_weights_on_their_grid(learned, per_channel, train):
    config = QATConfig(3, 8, per_channel=per_channel, learn_steps=learned)
    network = zoo.load("resnet20")
    model = prepare_qat(network, config)
    calibrate(model, train.images[:50])
    plain = to_float(model)
    assert not any(isinstance(m, QATLayer | ActivationQuantizer | nn.BatchNorm2d) for m in plain.modules())
    folded = fold_batch_norms(network)
    for name, layer in model.named_modules():
        if isinstance(layer, QATLayer):
            exact = folded.get_submodule(name)
            weight = plain.get_submodule(name).weight.detach()
            scale = layer.scale(exact.weight.detach()).detach()
            assert on_the_grid(weight, scale, layer.n_bits), name
            off = (plain.get_submodule(name).bias - exact.bias).abs()
            assert (off <= 0.501 * scale.flatten() * layer.source[0].qparams()[0] + 1e-5).all(), name
    for part in model.modules():
        if isinstance(part, ActivationQuantizer):
            part.enabled = False
    images = train.images[:20]
    torch.testing.assert_close(predict(plain, images), predict(model, images), rtol=1e-3, atol=1e-3)


def test_norm_trains_on_batch_statistics_until_frozen_and_then_is_the_folded_layer():
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
    layer = QATLayer(conv, norm, 8).train()
    images = torch.randn(16, 3, 9, 9) * 2 + 1
    out = layer(images)
    assert out.mean(dim=(0, 2, 3)).abs().max() < 1e-5  # normalised with the batch's own statistics
    assert norm.num_batches_tracked == 1
    freeze(layer)
    statistics = norm.running_mean.clone()
    frozen = layer(images)
    assert torch.equal(norm.running_mean, statistics)
    torch.testing.assert_close(frozen, layer.eval()(images))
    weight, bias = layer.folded()
    expected = nn.functional.conv2d(images, layer.quantized(weight), bias)
    torch.testing.assert_close(frozen, expected)


def test_channel_whose_gain_died_does_not_divide_by_zero():
    layer = QATLayer(nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2), 4).train()
    with torch.no_grad():
        layer.norm.weight[0] = 0
    out = layer(torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(0)))
    out.square().sum().backward()
    assert out.isfinite().all()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


def test_ranges_follow_the_batches_until_frozen(train):
    quantizer = ActivationQuantizer(8, momentum=0.5).train()
    quantizer.set_range(0.0, 2.0)
    quantizer(torch.tensor([0.0, 4.0]))
    assert (quantizer.lo.item(), quantizer.hi.item()) == (0.0, 3.0)
    quantizer.eval()(torch.tensor([0.0, 40.0]))
    assert quantizer.hi.item() == 3.0
    freeze(quantizer.train())
    quantizer(torch.tensor([0.0, 40.0]))
    assert quantizer.hi.item() == 3.0
    with pytest.raises(ValueError, match="the lower first"):
        quantizer.set_range(1.0, 0.0)


def test_ranges_can_be_read_and_set(lenet, test):
    other = prepare_qat(zoo.load("lenet300"), QATConfig(2, 4))
    set_activation_ranges(other, activation_ranges(lenet))
    torch.testing.assert_close(predict(other, test.images[:9]), predict(lenet, test.images[:9]))
    with pytest.raises(ValueError, match="differ in"):
        set_activation_ranges(other, {"x": (0.0, 1.0)})


def test_learned_scales_can_be_read_and_set(train, test):
    config = QATConfig(3, 4, learn_steps=True)
    model, other = (prepare_qat(zoo.load("lenet300"), config) for _ in range(2))
    calibrate(model, train.images[:50])
    with torch.no_grad():
        model.get_submodule("fc2").get_parameter("step").mul_(0.5)
    set_activation_ranges(other, activation_ranges(model))
    images = test.images[:20]
    assert not torch.allclose(predict(other, images), predict(model, images))
    set_learned_scales(other, learned_scales(model))
    torch.testing.assert_close(predict(other, images), predict(model, images))
    with pytest.raises(ValueError, match="learn_steps=True"):
        set_learned_scales(prepare_qat(zoo.load("lenet300")), learned_scales(model))


@pytest.mark.parametrize("learned", [False, True], ids=["max", "learned"])
def test_two_bits_ruin_lenet_and_a_little_training_brings_most_back(learned, train, test):
    network = zoo.load("lenet300")
    model = prepare_qat(network, QATConfig(2, 4, edge_bits=None, per_channel=False, learn_steps=learned))
    calibrate(model, train.images[:200])
    before = evaluate(model, test)
    recipe = Recipe(epochs=2, batch_size=100, peak_lr=0.02)
    history = train_quantized(model, train.take(4000), recipe, progress=False)
    after = evaluate(model, test)
    assert history.loss[1] < history.loss[0]
    # 400 images: one standard deviation of an accuracy is below 2.5 points.
    assert after > before + 0.1
    if learned:  # two epochs do not suffice where the largest weight sets the step: hardly a code is not 0
        assert after > evaluate(network, test) - 0.1
    assert all(m.frozen for m in model.modules() if isinstance(m, QATLayer | ActivationQuantizer))


def test_training_is_repeatable_from_a_seed(train):
    states = []
    for _ in range(2):
        model = prepare_qat(zoo.load("lenet300"), QATConfig(2, 4))
        calibrate(model, train.images[:100])
        train_quantized(model, train.take(300), Recipe(epochs=1, peak_lr=0.02, seed=7), progress=False)
        states.append(model.state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_freeze_at_the_ends_and_beyond(lenet, train):
    for share, frozen in ((0.0, True), (1.0, False)):
        model = copy.deepcopy(lenet)
        train_quantized(
            model, train.take(100), Recipe(epochs=1, peak_lr=1e-4), freeze_at=share, progress=False
        )
        assert all(layer.frozen == frozen for layer in layers(model))
    with pytest.raises(ValueError, match="freeze_at"):
        train_quantized(lenet, train, Recipe(), freeze_at=1.5)
    with pytest.raises(RuntimeError, match="calibrate"):
        train_quantized(prepare_qat(zoo.load("lenet300")), train, Recipe())


@pytest.mark.parametrize("bits", list(itertools.product([1, 9], [0, 1])), ids=str)
def test_impossible_configurations_are_refused(bits):
    with pytest.raises(ValueError, match="2 to 8"):
        QATConfig(**{("weight_bits", "activation_bits")[bits[1]]: bits[0]})
    with pytest.raises(ValueError, match="momentum"):
        QATConfig(momentum=1.0)


def test_networks_that_cannot_be_prepared_are_refused():
    with pytest.raises(ValueError, match="nothing to quantize"):
        prepare_qat(nn.Sequential(nn.ReLU()))
    shared = nn.Linear(3, 3)
    with pytest.raises(ValueError, match="more than once"):
        prepare_qat(nn.Sequential(shared, nn.ReLU(), shared))


@pytest.mark.parametrize("per_channel", [True, False], ids=["channels", "tensor"])
def test_best_scale_of_all_channels_at_once_is_the_one_found_for_each_alone(per_channel):
    from coursekit.quantization import mse_clip

    weight = torch.randn(4, 6, 3, 3, generator=torch.Generator().manual_seed(0))
    scale = mse_scale(weight, 3, per_channel=per_channel)
    parts = list(weight) if per_channel else [weight]
    expected = [mse_clip(part, 3, n_candidates=50) / 3 for part in parts]
    assert scale.shape == ((4, 1, 1, 1) if per_channel else (1, 1, 1, 1))
    torch.testing.assert_close(scale.flatten(), torch.tensor(expected))
