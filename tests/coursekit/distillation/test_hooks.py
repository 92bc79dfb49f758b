"""Features are what the modules really gave, and the network never notices."""

import copy

import pytest
import torch
from torch import nn

from coursekit import data, zoo
from coursekit.distillation.hooks import capture, capture_features, feature_shapes

STAGES = ["stage1", "stage2", "stage3"]


@pytest.fixture(scope="module")
def network():
    return zoo.load("resnet20")


@pytest.fixture(scope="module")
def images():
    return data.fashion_mnist("test", subset=True).images[:4]


def hooks_of(network):
    """How many hooks of any kind the modules of a network have."""
    return sum(
        len(value)
        for module in network.modules()
        for key, value in vars(module).items()
        if "hook" in key and isinstance(value, dict)
    )


class Odd(nn.Module):
    """One module runs twice, one never, one returns a tuple, one is behind two names, and a ReLU works in place."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.relu = nn.ReLU(inplace=True)
        self.pair = nn.MaxPool2d(2, return_indices=True)
        self.unused = nn.Linear(2, 2)
        self.again = self.conv

    def forward(self, x):
        return self.relu(self.pair(self.relu(self.conv(x)))[0] - 0.5)


def test_features_are_what_the_modules_compute_by_hand(network, images):
    with torch.no_grad():
        stem = network.relu(network.bn1(network.conv1(images)))
        expected = [network.stage1(stem)]
        expected += [network.stage2(expected[0])]
        expected += [network.stage3(expected[1])]
        got = capture_features(network, images, STAGES)
    assert list(got) == STAGES
    assert all(torch.equal(a, b) for a, b in zip(got.values(), expected, strict=True))


def test_the_network_is_bit_for_bit_unchanged(network, images):
    state, dicts = copy.deepcopy(network.state_dict()), hooks_of(network)
    plain = network(images)
    with capture(network, [*STAGES, "stage1.0.bn1", "fc"]) as features:
        hooked = network(images)
    assert len(features) == 5 and hooks_of(network) == dicts == 0
    assert torch.equal(plain, hooked) and torch.equal(plain, network(images))
    after = network.state_dict()
    assert state.keys() == after.keys() and all(torch.equal(state[k], after[k]) for k in state)


def test_gradients_are_those_of_the_unhooked_network(network, images):
    twin = copy.deepcopy(network)
    twin(images).square().sum().backward()
    hooked = copy.deepcopy(network)
    with capture(hooked, STAGES):
        hooked(images).square().sum().backward()
    for a, b in zip(twin.parameters(), hooked.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


def test_features_carry_gradients_only_where_the_pass_does(network, images):
    assert capture_features(network, images, ["stage2"])["stage2"].requires_grad
    with torch.no_grad():
        assert not capture_features(network, images, ["stage2"])["stage2"].requires_grad


def test_an_in_place_relu_does_not_reach_what_was_captured():
    network, x = Odd(), torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = network.conv(x)
    got = capture_features(network, x, ["conv"])["conv"]
    assert expected.min() < 0 and torch.equal(got, expected)
    got.sum().backward()  # and autograd still knows its way back
    assert network.conv.weight.grad is not None


def test_each_pass_replaces_the_features_of_the_one_before(network, images):
    with capture(network, ["stage3"]) as features:
        network(images)
        first = features["stage3"]
        network(images[:2])
    assert len(first) == 4 and torch.equal(
        features["stage3"], capture_features(network, images[:2], STAGES)["stage3"]
    )


def test_hooks_are_gone_after_an_exception(network, images):
    with pytest.raises(RuntimeError, match="channels"):
        capture_features(network, images.repeat(1, 3, 1, 1), STAGES)
    with pytest.raises(KeyError), capture(network, STAGES):
        raise KeyError
    assert hooks_of(network) == 0


def test_two_captures_of_one_network_do_not_disturb_each_other(network, images):
    with capture(network, ["stage1"]) as outer:
        with capture(network, ["stage1", "stage2"]) as inner:
            network(images)
        assert torch.equal(outer["stage1"], inner["stage1"])
    assert list(outer) == ["stage1"] and list(inner) == ["stage1", "stage2"]


def test_the_network_itself_can_be_named(network, images):
    assert torch.equal(capture_features(network, images, ["", "fc"])[""], network(images))


def test_an_unknown_name_is_refused_before_anything_is_hooked(network, images):
    with pytest.raises(ValueError, match=r"no module 'stage_2'; close to it are .*'stage2'"):
        capture_features(network, images, ["stage1", "stage_2"])
    assert hooks_of(network) == 0


@pytest.mark.parametrize(
    "names, message",
    [
        ("conv", "a list of module names"),
        (["conv", "conv"], "each module once"),
        (["relu"], "'relu' runs more than once"),
        (["pair"], "'pair' returns a tuple"),
        (["conv", "unused"], "never runs 'unused'"),
    ],
)
def test_what_has_no_single_output_is_refused(names, message):
    network = Odd()
    with pytest.raises(ValueError, match=message):
        capture_features(network, torch.zeros(1, 1, 8, 8), names)
    assert hooks_of(network) == 0


def test_one_module_behind_two_names_is_captured_under_both():
    got = capture_features(Odd(), torch.ones(1, 1, 8, 8), ["conv", "again"])
    assert torch.equal(got["conv"], got["again"])


def test_shapes_come_in_the_order_of_the_pass_and_restore_the_mode(network, images):
    shapes = feature_shapes(network.train(), images, ["fc", *STAGES])
    assert shapes == {"stage1": (16, 28, 28), "stage2": (32, 14, 14), "stage3": (64, 7, 7), "fc": (10,)}
    assert network.training and hooks_of(network.eval()) == 0
    assert list(shapes) == [*STAGES, "fc"]


def test_shapes_leave_out_what_has_no_single_output():
    assert list(feature_shapes(Odd(), torch.zeros(1, 1, 8, 8))) == ["conv"]
