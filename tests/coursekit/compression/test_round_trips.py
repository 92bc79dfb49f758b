"""Every network of the zoo after every two steps, one behind the other: saved, loaded, and the same bit for bit."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from coursekit import data, zoo
from coursekit.compression import contents, cp_conv, load, replace_module_, save
from coursekit.compression.structure import describe_structure
from coursekit.pipeline import (
    bytes_by_part,
    cut_channels,
    fold_norms,
    integer_weights,
    low_rank,
    prune,
    share,
    short_floats,
    steps,
    tucker,
)
from coursekit.pruning import UnsupportedError
from coursekit.train import predict

torch.set_num_threads(1)


def cp(model: nn.Module) -> nn.Module:
    """Each ungrouped convolution wider than 1 x 1 as four, with two products; a few rounds of the fit are enough."""
    made = copy.deepcopy(model)
    for place, layer in model.named_modules():
        wide = isinstance(layer, nn.Conv2d) and layer.groups == 1 and max(layer.kernel_size) > 1
        if wide and layer.weight.any():
            replace_module_(made, place, cp_conv(layer, 2, n_iterations=3))
    return made


# None of them trains. As sparse as 95 %, because a network of the zoo has 90 % zeros to begin with.
STEPS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "prune": prune(0.95),
    "cut_channels": cut_channels(0.6),
    "share": share(16),
    "int4": integer_weights(4),
    "int8": integer_weights(8),
    "low_rank": low_rank(0.8, spatial=False),
    "low_rank_spatial": low_rank(0.8, spatial=True),
    "tucker": tucker(0.8),
    "cp": cp,
    "fold_norms": fold_norms(),
    "short_floats": short_floats(),
}


@functools.lru_cache(maxsize=2)
def after(network: str, step: str) -> nn.Module:
    """A network of the zoo after one step, not to be changed; the cases come in the order that keeps few of them."""
    return STEPS[step](zoo.load(network))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return data.fashion_mnist("test", subset=True).images[:3]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("round") / "net"


def bits(tensor: Tensor) -> tuple[torch.dtype, torch.Size, bytes]:
    """All there is in a tensor; -0.0, which the file writes as 0.0, counts as 0.0."""
    return tensor.dtype, tensor.shape, (tensor + 0).numpy().tobytes()


def assert_comes_back(model: nn.Module, images: Tensor, path: Path) -> None:
    """Saves and loads it: bytes that add up, the same layers, the same bits, the same outputs."""
    size, state = save(model, path), model.state_dict()
    again = load(path)
    parts = [(part.tensor, part.part, part.size_bytes) for part in contents(path)]
    assert size == path.stat().st_size == sum(n for _, _, n in parts)
    assert size == sum(bytes_by_part(parts[1:], size).values())
    assert parts[0] == ("", "header", bytes_by_part(parts[1:], size)["header"])
    assert describe_structure(again) == describe_structure(model)
    assert str(again) == str(model)  # torch prints each layer with its options
    found = again.state_dict()
    assert list(found) == list(state)
    for key, tensor in state.items():
        assert bits(found[key]) == bits(tensor), key
    outputs = predict(model, images)
    assert outputs.isfinite().all()
    assert torch.equal(predict(again, images), outputs)


@pytest.mark.parametrize("second", STEPS)
@pytest.mark.parametrize("first", STEPS)
@pytest.mark.parametrize("network", zoo.available())
def test_every_network_after_every_two_steps_comes_back_exactly(network, first, second, images, path):
    assert_comes_back(STEPS[second](after(network, first)), images, path)


def test_every_step_that_does_not_only_train_is_among_them():
    only_train = {"Distil", "FineTune", "Trainer", "fine_tune"}
    makers = {name for name in steps.__all__ if name not in only_train} - {"NamedStep"}
    assert makers == {"prune", "cut_channels", "share", "integer_weights", "low_rank", "tucker", "fold_norms",
                      "short_floats"}  # fmt: skip
    assert makers - {"integer_weights"} <= STEPS.keys()


@pytest.mark.parametrize("step", STEPS)
def test_each_step_changes_some_network_and_none_the_one_it_is_given(step):
    """Else the pairs above would test less than they say."""
    changed = False
    for network in ("lenet5", "resnet8"):
        model = zoo.load(network)
        before = {name: bits(tensor) for name, tensor in model.state_dict().items()}
        made = STEPS[step](model)
        assert {name: bits(tensor) for name, tensor in model.state_dict().items()} == before
        changed |= {name: bits(tensor) for name, tensor in made.state_dict().items()} != before
    assert changed


def test_what_a_step_cannot_do_it_says_and_does_not():
    sparse = zoo.load("resnet20-sparse90")
    with pytest.raises(ValueError, match="weights are gone already, more than the sparsity asks for"):
        prune(0.8)(sparse)
    model = zoo.load("resnet8")
    model.relu = nn.Softplus()
    with pytest.raises(UnsupportedError, match="Softplus"):
        cut_channels(0.6)(model)
    with pytest.raises(TypeError, match="relu is a Softplus, which has no form in a file"):
        save(model, "never written")
    with pytest.raises(ValueError, match="in training mode"):
        fold_norms()(zoo.load("resnet8").train())
