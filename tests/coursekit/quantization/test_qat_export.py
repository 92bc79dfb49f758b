"""What was trained with fake quantization runs in integers and says the same."""

from __future__ import annotations

import pytest
import torch

from coursekit import data, zoo
from coursekit.models import mobilenet_v2
from coursekit.quantization import (
    QATConfig,
    calibrate,
    equalize,
    fold_batch_norms,
    prepare_qat,
    to_float,
    to_integer,
    train_quantized,
)
from coursekit.quantization.plan import UnsupportedLayerError
from coursekit.quantization.quantizers import QATLayer
from coursekit.train import Recipe, predict


@pytest.mark.parametrize(
    ("name", "config"),
    [
        pytest.param("lenet300", QATConfig(2, 4, per_channel=False), id="lenet300-2bit-tensor"),
        pytest.param("lenet5", QATConfig(4, 4, learn_steps=True), id="lenet5-4bit-learned"),
        pytest.param("resnet20", QATConfig(4, 4, edge_bits=None), id="resnet20-4bit"),
    ],
)
def test_integer_network_answers_as_the_fake_quantized_one(name, config):
    """Both round the same sums; a step may differ where a sum is within rounding error of a half, and with it the
    least significant bits of later layers: logits agree to a small share of their size, and so do the answers."""
    train, test = data.fashion_mnist("train", subset=True), data.fashion_mnist("test", subset=True)
    model = prepare_qat(zoo.load(name), config)
    calibrate(model, train.images[:100])
    train_quantized(model, train.take(256), Recipe(epochs=1, peak_lr=0.005), progress=False)
    integer = to_integer(model, train.images[:100])
    images = test.images[:100]
    ours, theirs = predict(integer, images), predict(model, images)
    assert (ours - theirs).norm() < 0.1 * theirs.norm()
    assert (ours.argmax(1) == theirs.argmax(1)).float().mean() >= 0.97
    plain = to_float(model)
    for layer_name, layer in model.named_modules():
        if isinstance(layer, QATLayer):
            step = {each.name: each.layer for each in integer.steps}[layer_name]
            torch.testing.assert_close(
                step.float_weight(), plain.get_parameter(f"{layer_name}.weight").detach()
            )
            assert step.weight_bits == layer.n_bits


def test_what_has_no_integer_form_is_named():
    torch.manual_seed(0)
    model = prepare_qat(equalize(fold_batch_norms(mobilenet_v2(width=0.5).eval())))
    images = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    calibrate(model, images)
    with pytest.raises(UnsupportedLayerError, match="ChannelClip"):
        to_integer(model, images)
    with pytest.raises(ValueError, match="no images"):
        to_integer(model, images[:0])
