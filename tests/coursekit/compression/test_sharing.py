"""Weight sharing of whole networks: few values a layer, zeros kept, and both still so after training."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from coursekit import data, zoo
from coursekit.compression import (
    attach_codebooks,
    codebooks_of,
    finalize_codebooks,
    finetune_centroids,
    kmeans_exact,
    load,
    published,
    save,
    share_weights,
    shareable,
)
from coursekit.train import Recipe, evaluate, predict


@pytest.fixture(scope="module")
def train():
    return data.fashion_mnist("train", subset=True).take(640)


def sparse_lenet5():
    """LeNet-5 without its 80 % smallest weights a layer."""
    model = zoo.load("lenet5")
    for weight in shareable(model).values():
        weight.data[weight.abs() < weight.abs().quantile(0.8) if weight.numel() < 1e6 else weight == 0] = 0
    return model


@pytest.fixture(scope="module")
def shared():
    return share_weights(sparse_lenet5(), 8)


def codes(weight: torch.Tensor) -> torch.Tensor:
    """For each weight the number of its value among the layer's."""
    return weight.detach().unique(return_inverse=True)[1]


def test_each_layer_has_its_own_few_values_and_the_zeros_of_before(shared):
    before = shareable(sparse_lenet5())
    for name, weight in shareable(shared).items():
        assert torch.equal(weight == 0, before[name] == 0)
        assert len(weight[weight != 0].unique()) == 8
    assert set(shared.conv1.weight.unique().tolist()) & set(shared.fc1.weight.unique().tolist()) == {0.0}


def test_the_error_of_the_best_codebook_is_that_of_exact_k_means():
    model = sparse_lenet5()
    weight = model.conv2.weight.detach()
    error = (share_weights(model, {"conv2.weight": 16}).conv2.weight - weight).double().square().sum().item()
    assert error <= 1.01 * kmeans_exact(weight[weight != 0], 16).error


@pytest.mark.parametrize("init", ["linear", "density", "random"])
def test_no_beginning_ends_better_than_the_best(init):
    model = zoo.load("lenet5")
    weight = model.conv2.weight.detach()
    errors = {
        each: (share_weights(model, {"conv2.weight": 8}, init=each).conv2.weight - weight).square().sum()
        for each in (init, "best")
    }
    assert errors["best"] <= 1.001 * errors[init]


def test_only_the_layers_named_are_shared_and_the_model_is_left_alone():
    model = zoo.load("lenet5")
    made = share_weights(model, {"fc2.weight": 4, "conv1.weight": 2})
    assert [len(w.unique()) for w in shareable(made).values()] == [2, len(model.conv2.weight.unique()),
                                                                  len(model.fc1.weight.unique()), 4]  # fmt: skip
    assert torch.equal(model.fc2.weight, zoo.load("lenet5").fc2.weight)


def test_attached_codebooks_compute_the_same_and_their_gradients_are_sums(shared, train):
    plain, attached = copy.deepcopy(shared), copy.deepcopy(shared)
    attach_codebooks(attached)
    images, labels = train.images[:64], train.labels[:64]
    assert torch.equal(attached(images), plain(images))
    for model in (plain, attached):
        F.cross_entropy(model(images), labels).backward()
    for name, weight in shareable(plain).items():
        layer = attached.get_submodule(name.removesuffix(".weight"))
        values = weight.detach().unique()
        sums = torch.stack([weight.grad[weight == value].sum() for value in values[values != 0]])
        assert torch.allclose(layer.parametrizations.weight.original.grad, sums, rtol=1e-4, atol=1e-6)
        assert torch.equal(codebooks_of(attached)[name], values[values != 0])


def test_mean_gradients_make_the_step_of_weights_that_may_only_move_together(shared, train):
    """A step on the weights, then each averaged with those that share its value."""
    plain, attached = copy.deepcopy(shared), copy.deepcopy(shared)
    attach_codebooks(attached, reduction="mean")
    for model in (plain, attached):
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        F.cross_entropy(model(train.images[:64]), train.labels[:64]).backward()
        optimizer.step()
    for name, before in shareable(shared).items():
        stepped, ours = plain.get_parameter(name).detach(), attached.get_submodule(name[:-7]).weight.detach()
        for value in before.unique():
            together = stepped[before == value].double().mean().item() if value else 0.0
            assert torch.allclose(ours[before == value], torch.tensor(together), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_after_training_weights_share_as_before_and_zeros_are_zero(shared, train, reduction):
    lr = 0.05 if reduction == "mean" else 1e-4
    tuned, history = finetune_centroids(
        shared, train, Recipe(epochs=2, peak_lr=lr), reduction=reduction, progress=False
    )
    assert history.loss[-1] < history.loss[0]
    for name, before in shareable(shared).items():
        after = tuned.get_parameter(name)
        assert torch.equal(after == 0, before == 0)
        assert not torch.equal(after, before)
        for value in before.unique():
            assert len(after[before == value].unique()) == 1
    assert type(tuned.fc1) is torch.nn.Linear
    assert list(tuned.state_dict()) == list(shared.state_dict())


def test_a_tuned_network_is_a_small_file_that_loads(shared, train, tmp_path):
    tuned, _ = finetune_centroids(shared, train, Recipe(epochs=2, peak_lr=0.01), progress=False)
    size = save(tuned, tmp_path / "net")
    assert size < 0.1 * save(
        zoo.load("lenet5"), tmp_path / "whole"
    )  # 20 % of the weights, 3 bits and a place each
    assert torch.equal(predict(load(tmp_path / "net"), train.images), predict(tuned, train.images))


def test_codebooks_survive_a_copy_and_a_state_dict(shared, train):
    one = copy.deepcopy(shared)
    attach_codebooks(one)
    two = copy.deepcopy(one)
    with torch.no_grad():
        two.fc1.parametrizations.weight.original.mul_(2)
    assert torch.equal(two.fc1.weight, 2 * shared.fc1.weight)
    assert torch.equal(one.fc1.weight, shared.fc1.weight)
    one.load_state_dict(two.state_dict())
    finalize_codebooks(two)
    assert torch.equal(
        one.fc1.weight, two.fc1.weight
    )  # a copy that is finished leaves the other its codebook
    assert "fc1.weight" in codebooks_of(one) and codebooks_of(two) == {}
    assert torch.equal(predict(one, train.images[:9]), predict(two, train.images[:9]))


def test_what_is_not_shared_or_unknown_is_refused_and_nothing_changed():
    model = share_weights(zoo.load("lenet5"), {"conv1.weight": 4})
    with pytest.raises(ValueError, match=r"conv2.weight has 25,000 values .* use share_weights first"):
        attach_codebooks(model)
    assert codebooks_of(model) == {}
    attach_codebooks(model, ["conv1.weight"])
    with pytest.raises(ValueError, match="has a codebook already"):
        attach_codebooks(model, ["conv1.weight"])
    for call in (
        lambda: share_weights(model, {"fc9.weight": 4}),
        lambda: attach_codebooks(model, ["fc9.weight"]),
    ):
        with pytest.raises(ValueError, match=r"no weight 'fc9\.weight'"):
            call()
    with pytest.raises(ValueError, match="reduction"):
        attach_codebooks(model, reduction="median")
    with pytest.raises(ValueError, match="n_clusters must be"):
        share_weights(zoo.load("lenet5"), 0)


def test_a_layer_that_is_all_zero_stays_so():
    model = zoo.load("lenet300")
    model.fc2.weight.data.zero_()
    assert not share_weights(model, 4).fc2.weight.any()


@pytest.mark.parametrize("name", ["lenet300", "lenet5"])
def test_the_published_small_files_load_and_do_what_the_dense_networks_do(name):
    """A fortieth of the bytes or so; on 2,000 images the accuracy is known to a point."""
    path = published(name)
    assert path.stat().st_size < zoo.path(name).stat().st_size / 39
    test = data.fashion_mnist("test", subset=True)
    assert evaluate(load(path), test) > evaluate(zoo.load(name), test) - 0.01


@pytest.mark.parametrize("name", ["resnet20", "../artifacts/lenet5", ""])
def test_only_what_ships_with_the_course_is_published(name):
    with pytest.raises(ValueError, match="lenet300, lenet5"):
        published(name)
