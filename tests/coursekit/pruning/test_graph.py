"""What the channel graph follows, and what it refuses by name."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.utils import parametrizations, prune

from coursekit import zoo
from coursekit.pruning import UnsupportedError, trace_channels


class Wrapped(nn.Module):
    """A convolution, then what a test asks for."""

    def __init__(self, then) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc = nn.Linear(64, 3)
        self.then = then

    def forward(self, x):
        return self.then(self, self.conv(x))


REFUSED = {
    "chunk": (lambda net, x: torch.chunk(x, 2, 1)[0], "chunk"),
    "shuffle": (lambda net, x: x.view(x.size(0), 2, 2, 4, 4), "view"),
    "transpose": (lambda net, x: x.transpose(1, 2), "transpose"),
    "slice": (lambda net, x: x[:, :2], "getitem"),
    "sigmoid": (lambda net, x: torch.sigmoid(x), "sigmoid.*0 to 0"),
    "plus_one": (lambda net, x: x + 1, "add.*no longer be 0"),
    "features_in_the_code": (lambda net, x: net.fc(x.view(-1, 64)), "view.*64.*flatten"),
    "mean_over_channels": (lambda net, x: x.mean(1), "mean"),
    "flatten_of_everything": (lambda net, x: x.flatten(), "flatten"),
    "concat_of_images": (lambda net, x: torch.cat([x, x], 0), "cat"),
    "broadcast_channels": (lambda net, x: x * x.mean((2, 3), keepdim=True)[:, :1], "getitem"),
    "branch_on_values": (lambda net, x: x if x.sum() > 0 else -x, "torch.fx cannot follow"),
    "product_without_a_layer": (
        lambda net, x: nn.functional.linear(x, net.fc.weight[:, :4]),
        "get_attr|fc.weight",
    ),
}


@pytest.mark.parametrize(("then", "named"), REFUSED.values(), ids=list(REFUSED))
def test_what_cannot_be_followed_is_refused_by_name(then, named):
    with pytest.raises(UnsupportedError, match=named):
        trace_channels(Wrapped(then), torch.zeros(1, 1, 6, 6))


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (nn.ConvTranspose2d(4, 4, 2), "ConvTranspose2d"),
        (nn.LayerNorm(4), "LayerNorm"),
        (nn.PReLU(4), "PReLU"),
        (nn.Linear(4, 2), "linear layer on 4 dimensions"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unknown_layers_are_refused_by_name(layer, named):
    with pytest.raises(UnsupportedError, match=named):
        trace_channels(nn.Sequential(nn.Conv2d(1, 4, 3), layer), torch.zeros(1, 1, 6, 6)[..., :6])


def test_weights_that_are_masked_or_computed_or_shared_are_refused():
    masked = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    prune.l1_unstructured(masked[0], "weight", amount=0.5)
    computed = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 2))
    shared = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    shared[1].weight = shared[0].weight
    for network, named in (
        (masked, "weight of 0 is computed"),
        (computed, "weight of 0"),
        (shared, r"1\.weight and 0\.weight"),
    ):
        with pytest.raises(UnsupportedError, match=named):
            trace_channels(network, torch.zeros(1, 4))


def test_shufflenet_is_refused_with_the_place_of_its_shuffle():
    network = torchvision.models.shufflenet_v2_x1_0(weights=None)
    with pytest.raises(UnsupportedError, match=r"view in stage2\.0"):
        trace_channels(network, torch.zeros(1, 3, 32, 32))


def test_tracing_leaves_the_network_as_it_was():
    network = zoo.load("resnet20").train()
    network.bn1.eval()
    modes = [module.training for module in network.modules()]
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    trace_channels(network, torch.zeros(2, 1, 28, 28))
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_a_layer_used_twice_ties_what_goes_in():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.again, self.last = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.last(self.again(self.again(self.first(x))))

    graph = trace_channels(Twice(), torch.zeros(1, 3))
    assert {tie.reason for tie in graph.ties} == {"again is used more than once"}
    assert graph.layers["again"].macs_per_pair == 2


def test_an_example_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"does not run on an example of shape \(1, 3, 28, 28\)"):
        trace_channels(zoo.load("lenet5"), torch.zeros(1, 3, 28, 28))
