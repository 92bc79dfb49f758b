"""coursekit.models: sizes the papers give, shapes, gradients."""

import pytest
import torch
from torch import nn

from coursekit.models import (
    LeNet5,
    LeNet300100,
    MobileNetV2,
    ResNet,
    mobilenet_v2,
    resize_,
    resnet8,
    resnet20,
)
from coursekit.pruning import ChannelPruning, prune_channels

NETWORKS = [
    pytest.param(LeNet300100, 266_610, id="lenet300"),
    pytest.param(LeNet5, 431_080, id="lenet5"),
    pytest.param(resnet8, 19_810, id="resnet8"),
    pytest.param(resnet20, 272_186, id="resnet20"),
    pytest.param(mobilenet_v2, 65_402, id="mobilenet"),
]


def n_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def resnet_parameters(n_blocks: int, width: int, n_classes: int = 10) -> int:
    """Counted by hand: 3 x 3 kernels, two numbers a channel for batch norm, 1 x 1 shortcuts, the head."""
    total = 9 * width + 2 * width
    n_in = width
    for n_out in (width, 2 * width, 4 * width):
        for _ in range(n_blocks):
            total += 9 * n_in * n_out + 2 * n_out + 9 * n_out * n_out + 2 * n_out
            total += n_in * n_out + 2 * n_out if n_in != n_out else 0
            n_in = n_out
    return total + 4 * width * n_classes + n_classes


@pytest.mark.parametrize(("build", "expected"), NETWORKS)
def test_number_of_parameters_is_the_documented_one(build, expected):
    assert n_parameters(build()) == expected


def test_documented_numbers_are_the_ones_in_the_docstrings():
    assert "266,610" in (LeNet300100.__doc__ or "")
    assert "431,080" in (LeNet5.__doc__ or "")
    assert "19,810" in (resnet8.__doc__ or "")
    assert "272,186" in (resnet20.__doc__ or "")
    assert "65,402" in (mobilenet_v2.__doc__ or "")


def test_lenet_parameters_agree_with_the_count_by_hand():
    assert 266_610 == (784 * 300 + 300) + (300 * 100 + 100) + (100 * 10 + 10)
    assert 431_080 == (25 * 20 + 20) + (20 * 25 * 50 + 50) + (800 * 500 + 500) + (500 * 10 + 10)
    assert resnet_parameters(3, 16) == 272_186


@pytest.mark.parametrize("n_blocks", [1, 3])
@pytest.mark.parametrize("width", [1, 4, 16])
def test_resnet_parameters_agree_with_the_count_by_hand(n_blocks, width):
    assert n_parameters(ResNet(n_blocks, width)) == resnet_parameters(n_blocks, width)


def test_a_strided_stem_halves_the_maps_and_costs_no_parameter():
    x, narrow, full = torch.zeros(1, 1, 28, 28), resnet8(), ResNet(1, 8)
    assert n_parameters(narrow) == n_parameters(full)
    sizes = [net.stage1(net.relu(net.bn1(net.conv1(x)))).shape[2:] for net in (narrow, full)]
    assert sizes == [(14, 14), (28, 28)]
    with pytest.raises(ValueError, match="stem_stride"):
        ResNet(1, 8, stem_stride=0)


def mobilenet_parameters(channels: list[tuple[int, int, int]], stem: int) -> int:
    """Counted by hand from (channels in, expansion, channels out) of each block."""
    total = 9 * stem + 2 * stem
    for n_in, expansion, n_out in channels:
        hidden = expansion * n_in
        total += n_in * hidden + 2 * hidden if expansion > 1 else 0
        total += 9 * hidden + 2 * hidden + hidden * n_out + 2 * n_out
    last = channels[-1][2]
    return total + last * 2 * last + 4 * last + 2 * last * 10 + 10


def test_mobilenet_parameters_agree_with_the_count_by_hand():
    blocks = [(24, 1, 24), (24, 3, 24), (24, 1, 40), (40, 4, 40), (40, 4, 40), (40, 4, 64)]
    assert n_parameters(mobilenet_v2()) == mobilenet_parameters(blocks, stem=24)
    half = [(16, 1, 16), (16, 3, 16), (16, 1, 16), (16, 4, 16), (16, 4, 16), (16, 4, 32)]
    assert n_parameters(mobilenet_v2(width=0.5)) == mobilenet_parameters(half, stem=16)


def test_mobilenet_has_one_filter_a_channel_in_each_block_and_shortcuts_where_shapes_agree():
    blocks = mobilenet_v2().blocks
    for block in blocks:
        conv = block.depthwise[0]
        assert conv.groups == conv.in_channels == conv.out_channels
    assert [block.has_shortcut for block in blocks] == [True, True, False, True, True, False]


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan")])
def test_impossible_mobilenet_is_refused_with_the_number(width):
    with pytest.raises(ValueError, match=f"width must be above 0, got {width}"):
        MobileNetV2(width=width)


@pytest.mark.parametrize(("n_blocks", "depth"), [(1, 8), (3, 20), (9, 56)])
def test_resnet_has_6n_plus_2_layers_besides_the_shortcuts(n_blocks, depth):
    layers = [
        name
        for name, module in ResNet(n_blocks, width=2).named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and "shortcut" not in name
    ]
    assert len(layers) == depth


@pytest.mark.parametrize(("build", "_expected"), NETWORKS)
def test_logits_have_one_column_a_class(build, _expected):
    images = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert build()(images).shape == (2, 10)
    assert build(n_classes=3)(images).shape == (2, 3)


@pytest.mark.parametrize(("build", "_expected"), NETWORKS)
def test_gradients_reach_every_parameter(build, _expected):
    torch.manual_seed(0)
    model = build()
    images = torch.randn(8, 1, 28, 28)
    nn.functional.cross_entropy(model(images), torch.arange(8)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("build", "_expected"), NETWORKS)
def test_one_image_gives_the_same_logits_alone_as_in_a_batch(build, _expected):
    torch.manual_seed(0)
    model = build().eval().double()
    images = torch.randn(3, 1, 28, 28, dtype=torch.float64)
    with torch.inference_mode():
        together, alone = model(images), torch.cat([model(image[None]) for image in images])
    assert torch.allclose(together, alone, rtol=0, atol=1e-10)  # float64, logits of order 1


@pytest.mark.parametrize(("n_blocks", "width"), [(0, 16), (3, 0), (-1, 16)])
def test_impossible_resnet_is_refused_with_the_numbers(n_blocks, width):
    with pytest.raises(ValueError, match=f"at least 1, got {n_blocks} and {width}"):
        ResNet(n_blocks, width)


@pytest.mark.parametrize("build", [LeNet5, resnet20, mobilenet_v2], ids=lambda f: f.__name__)
def test_resized_network_takes_the_weights_of_a_narrower_one(build):
    torch.manual_seed(0)
    wide, image = build(), torch.randn(1, 1, 28, 28)
    narrow = prune_channels(wide, image, ChannelPruning(ratio=0.4)).eval()
    again = resize_(build(), narrow.state_dict()).eval()
    again.load_state_dict(narrow.state_dict())
    assert repr(again) == repr(narrow)
    torch.testing.assert_close(again(image), narrow(image))


def test_resizing_to_its_own_shapes_changes_nothing():
    network = resnet20()
    before = {name: tensor.shape for name, tensor in network.state_dict().items()}
    assert resize_(network, network.state_dict()) is network
    assert {name: tensor.shape for name, tensor in network.state_dict().items()} == before
    with pytest.raises(KeyError):
        resize_(network, {})
