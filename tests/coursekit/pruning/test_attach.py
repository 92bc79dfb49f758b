"""Masks hold through training: no weight comes back, whatever steps, copies, moves or loads the model."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coursekit import data, zoo
from coursekit.measure import nonzero
from coursekit.pruning import (
    attach_masks,
    finalize,
    magnitude_scores,
    make_masks,
    masks_from_zeros,
    masks_of,
    sparsity_of,
)

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.01),
    "momentum": lambda p: torch.optim.SGD(p, 0.01, momentum=0.9, weight_decay=5e-4),
    "nesterov": lambda p: torch.optim.SGD(p, 0.01, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.1, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-4, momentum=0.9, centered=True),
    "one_by_one": lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.1, foreach=False),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def images() -> data.Dataset:
    return data.fashion_mnist("train", subset=True)


def small_network() -> nn.Module:
    """A convolution, a batch norm and a linear layer for images that are averaged down to 7 x 7."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.AvgPool2d(4), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(100, 10)
    )


def train(model: nn.Module, optimizer: torch.optim.Optimizer, images: data.Dataset, steps: int) -> None:
    for step in range(steps):
        start = 16 * (step % (len(images) // 16))
        part = slice(start, start + 16)
        loss = F.cross_entropy(model(images.images[part]), images.labels[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def half(model: nn.Module) -> dict[str, torch.Tensor]:
    return make_masks(magnitude_scores(model), 0.5)


def revived(model: nn.Module, masks: dict[str, torch.Tensor]) -> int:
    return sum(int((model.get_parameter(name)[~mask] != 0).sum()) for name, mask in masks.items())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_weight_comes_back_in_1000_steps_and_state_stays_zero(name, images):
    """The optimizer has a past: 20 steps before the masks fill its momentum."""
    model = small_network()
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, images, 20)
    masks = half(model)
    attach_masks(model, masks)
    before = {key: value.clone() for key, value in model.named_parameters()}
    train(model, optimizer, images, 1000)
    assert revived(model, masks) == 0
    for key, mask in masks.items():
        weight = model.get_parameter(key)
        assert (weight.grad[~mask] == 0).all()
        for value in optimizer.state[weight].values():
            if isinstance(value, torch.Tensor) and value.shape == weight.shape:
                assert (value[~mask] == 0).all()
        assert not torch.equal(weight[mask], before[key][mask])  # it did train


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_multiplying_once_would_not_have_been_enough(name, images):
    """The control: the same steps without masks revive most of what was set to zero."""
    model = small_network()
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, images, 20)
    masks = half(model)
    attach_masks(model, masks)
    finalize(model)
    train(model, optimizer, images, 5)
    assert revived(model, masks) > 100


def test_zeros_hold_right_after_the_first_step(images):
    """No forward pass comes after the last step to clean up."""
    model = small_network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    train(model, optimizer, images, 20)
    masks = half(model)
    attach_masks(model, masks)
    train(model, optimizer, images, 1)
    assert revived(model, masks) == 0


def test_a_deepcopy_holds_by_itself_and_leaves_the_first_alone(images):
    model = small_network()
    masks = half(model)
    attach_masks(model, masks)
    twin = copy.deepcopy(model)
    finalize(model)
    train(model, torch.optim.Adam(model.parameters()), images, 5)
    assert revived(model, masks) > 0
    train(twin, torch.optim.Adam(twin.parameters()), images, 50)
    assert revived(twin, masks) == 0
    assert {name: mask.tolist() for name, mask in masks_of(twin).items()} == {
        name: mask.tolist() for name, mask in masks.items()
    }


def test_the_state_dict_carries_the_masks(images):
    model = small_network()
    masks = half(model)
    attach_masks(model, masks)
    other = small_network()
    attach_masks(other, {name: torch.ones_like(mask) for name, mask in masks.items()})
    other.load_state_dict(model.state_dict())
    train(other, torch.optim.Adam(other.parameters()), images, 20)
    assert revived(other, masks) == 0
    assert sparsity_of(masks_of(other)) == sparsity_of(masks)


def test_weights_that_were_loaded_dense_are_masked_in_the_forward_pass(images):
    dense, model = small_network(), small_network()
    masks = half(model)
    attach_masks(model, masks)
    model.load_state_dict(dense.state_dict(), strict=False)
    model.eval()(images.images[:2])
    assert revived(model, masks) == 0


def test_moves_to_another_device_and_dtype_take_the_masks_along(images):
    model = small_network()
    masks = half(model)
    attach_masks(model, masks)
    moved = copy.deepcopy(model).to("meta")
    assert all(buffer.is_meta for name, buffer in moved.named_buffers() if name.endswith("weight_mask"))
    model.double()
    wide = data.Dataset(images.images.double(), images.labels, images.classes, images.source)
    train(model, torch.optim.Adam(model.parameters()), wide, 20)
    assert revived(model, masks) == 0
    assert all(mask.dtype == torch.bool for mask in masks_of(model).values())


def test_an_infinite_gradient_stays_zero_where_the_mask_is():
    layer = nn.Linear(2, 1)
    attach_masks(layer, {"weight": torch.tensor([[True, False]])})
    layer(torch.full((1, 2), torch.inf)).sum().backward()
    assert layer.weight.grad.tolist() == [[torch.inf, 0.0]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_float_types_hold_too_and_kept_values_keep_every_bit(dtype):
    layer = nn.Linear(3, 2, bias=False).to(dtype)
    weight = torch.tensor([[1.5, -0.0, torch.nan], [torch.inf, -2.25, 1e-7]], dtype=dtype)
    layer.weight.data = weight.clone()
    mask = torch.tensor([[True, True, False], [False, True, True]])
    attach_masks(layer, {"weight": mask})
    assert torch.equal(layer.weight[mask], weight[mask])
    assert torch.equal(layer.weight[mask].signbit(), weight[mask].signbit())
    assert (layer.weight[~mask] == 0).all()


def test_a_gradient_that_is_differentiated_again_is_masked():
    layer = nn.Linear(2, 1, bias=False)
    attach_masks(layer, {"weight": torch.tensor([[True, False]])})
    loss = layer(torch.tensor([[2.0, 3.0]])).square().sum()
    (gradient,) = torch.autograd.grad(loss, layer.weight, create_graph=True)
    gradient.sum().backward()
    assert layer.weight.grad.tolist() == [[8.0, 0.0]]  # d/dw of 2 (2w) 2


def test_finalize_leaves_a_plain_network_with_the_same_outputs(images):
    model = zoo.load("lenet300")
    plain = zoo.load("lenet300")
    masks = make_masks(magnitude_scores(model), 0.9)
    attach_masks(model, masks)
    outputs = model(images.images[:4])
    finalize(model)
    assert torch.equal(model(images.images[:4]), outputs)
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert nonzero(model) == 26_620 + 410  # a tenth of 266,200 weights, and all biases
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert masks_of(model) == {}


def test_masks_of_a_model_that_was_pruned_before_are_its_zeros(images):
    model = small_network()
    masks = half(model)
    attach_masks(model, masks)
    finalize(model)
    found = masks_from_zeros(model)
    assert all(torch.equal(found[name], masks[name]) for name in masks)


def test_attaching_again_replaces_the_mask(images):
    model = small_network()
    attach_masks(model, half(model))
    more = make_masks(magnitude_scores(model), 0.8, within=masks_of(model))
    attach_masks(model, more)
    train(model, torch.optim.Adam(model.parameters()), images, 20)
    assert revived(model, more) == 0
    assert sum(len(layer._forward_pre_hooks) for layer in model.modules()) == 2


@pytest.mark.parametrize(
    "masks, error, words",
    [
        ({"9.weight": torch.ones(10, 100, dtype=torch.bool)}, ValueError, "'9.weight' is not a prunable"),
        ({"2.weight": torch.ones(4, dtype=torch.bool)}, ValueError, "'2.weight' is not a prunable"),
        ({"5.weight": torch.ones(100, 10, dtype=torch.bool)}, ValueError, "not \\(10, 100\\)"),
        ({"5.weight": torch.ones(10, 100)}, TypeError, "bool"),
    ],
    ids=["unknown", "batch_norm", "transposed", "float"],
)
def test_bad_masks_are_refused_before_anything_changes(masks, error, words):
    model = small_network()
    before = copy.deepcopy(model.state_dict())
    good = {"1.weight": torch.zeros(4, 1, 3, 3, dtype=torch.bool)}
    with pytest.raises(error, match=words):
        attach_masks(model, good | masks)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
