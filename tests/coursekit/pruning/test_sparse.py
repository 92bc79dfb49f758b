"""Sparse files hold all positions and load again; the sparse product equals the dense one."""

from __future__ import annotations

import pytest
import scipy.sparse
import torch
from torch import nn

from coursekit import data, zoo
from coursekit.measure import file_size, saved_size
from coursekit.models import LeNet300100, resnet20
from coursekit.pruning import (
    attach_masks,
    finalize,
    from_csr,
    load_sparse,
    magnitude_scores,
    make_masks,
    save_sparse,
    sparse_linear,
    to_csr,
)

LAYOUTS = ["smallest", "dense", "bitmap", "csr"]


def pruned(name: str, sparsity: float) -> nn.Module:
    model = zoo.load(name)
    attach_masks(model, make_masks(magnitude_scores(model), sparsity))
    finalize(model)
    return model


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.98, 1.0])
def test_compressed_rows_are_scipys(sparsity):
    weight = pruned("lenet300", sparsity).fc2.weight.detach()
    values, columns, starts = to_csr(weight)
    theirs = scipy.sparse.csr_matrix(weight.numpy())
    assert values.tolist() == theirs.data.tolist()
    assert columns.tolist() == theirs.indices.tolist()
    assert starts.tolist() == theirs.indptr.tolist()
    assert torch.equal(from_csr(values, columns, starts, weight.shape[1]), weight)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["lenet300", "lenet5", "resnet20"])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.95])
def test_the_loaded_network_is_the_saved_one(name, sparsity, layout, tmp_path):
    model = pruned(name, sparsity)
    save_sparse(model, tmp_path / "m.safetensors", layout=layout)
    loaded = load_sparse(tmp_path / "m.safetensors", zoo.load(name))
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in model.state_dict().items())


def test_sizes_are_what_counting_bytes_says(tmp_path):
    """Values of 4 bytes, a bit or 2 bytes of position, row starts; names and shapes in the header."""
    model, path = pruned("lenet300", 0.9), tmp_path / "m.safetensors"
    values, biases = 4 * 26_620, 4 * 410
    for layout, positions in (("bitmap", 266_200 // 8), ("csr", 2 * 26_620 + 4 * (410 + 3))):
        save_sparse(model, path, layout=layout)
        assert 0 < file_size(path) - values - biases - positions < 1500
    save_sparse(model, path)
    assert file_size(path) < 0.15 * saved_size(model)


def test_the_smallest_layout_is_never_larger_than_the_others(tmp_path):
    """But for the names of at most two more tensors a layer in the header."""
    for sparsity in (0.0, 0.02, 0.5, 0.9, 0.99):
        model, sizes = pruned("lenet5", sparsity), {}
        for layout in LAYOUTS:
            save_sparse(model, tmp_path / layout, layout=layout)
            sizes[layout] = file_size(tmp_path / layout)
        assert sizes["smallest"] <= min(sizes.values()) + 4 * 200


def test_a_dense_file_gains_nothing_from_zeros():
    assert saved_size(pruned("lenet300", 0.9)) == saved_size(zoo.load("lenet300"))


def test_a_model_with_masks_attached_is_refused(tmp_path):
    model = zoo.load("lenet300")
    attach_masks(model, make_masks(magnitude_scores(model), 0.5))
    with pytest.raises(ValueError, match="finalize"):
        save_sparse(model, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="layout"):
        save_sparse(zoo.load("lenet300"), tmp_path / "m.safetensors", layout="coo")


def test_a_file_of_another_network_is_refused(tmp_path):
    save_sparse(pruned("lenet300", 0.9), tmp_path / "m.safetensors")
    for build in (resnet20, lambda: LeNet300100(n_classes=7)):
        with pytest.raises(RuntimeError):
            load_sparse(tmp_path / "m.safetensors", build())


def test_too_wide_or_not_a_matrix_is_refused():
    with pytest.raises(ValueError, match="32,767"):
        to_csr(torch.zeros(1, 32_768))
    with pytest.raises(ValueError, match="2 dimensions"):
        to_csr(torch.zeros(2, 2, 2))
    assert to_csr(torch.zeros(1, 32_767))[1].dtype == torch.int16


@pytest.mark.parametrize("name", ["lenet300", "lenet5"])
def test_the_sparse_product_equals_the_dense_one(name):
    model = pruned(name, 0.9)
    images = data.fashion_mnist("test", subset=True).images[:16]
    with torch.inference_mode():
        expected, got = model(images), sparse_linear(model)(images)
    # sums of at most 800 products in another order: a few hundred roundings of 6e-8 of the largest term
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-4)
    assert isinstance(model.fc1, nn.Linear)


def test_a_model_without_linear_layers_inside_is_refused():
    with pytest.raises(ValueError, match="no linear layer inside"):
        sparse_linear(nn.Linear(2, 2))
