"""Pipelines: every stage against the original, on its file; the steps keep what the steps before them made."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from coursekit import data, zoo
from coursekit.compression import load, save
from coursekit.ledger import Ledger
from coursekit.measure import macs
from coursekit.pipeline import (
    ComprehensiveModelCompressor,
    Distil,
    FineTune,
    OptimizationPipeline,
    Pipeline,
    cut_channels,
    fine_tune,
    fold_norms,
    integer_weights,
    low_rank,
    prune,
    share,
    short_floats,
    tucker,
)
from coursekit.train import Recipe, evaluate

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def test_images():
    return data.fashion_mnist("test", subset=True).take(300)


@pytest.fixture(scope="module")
def training():
    return FineTune(data.fashion_mnist("train", subset=True).take(512), Recipe(epochs=1, peak_lr=0.01))


@pytest.fixture(scope="module")
def lenet():
    return zoo.load("lenet300")


def weights_of(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach() for parameter in model.parameters() if parameter.dim() > 1]


def test_each_row_is_measured_on_the_stages_own_file_and_the_original_is_left_alone(
    lenet, test_images, tmp_path
):
    before = copy.deepcopy(lenet.state_dict())
    small, ledger = Pipeline([prune(0.8), share(16)], data=test_images, repeats=3)(lenet)
    assert all(torch.equal(lenet.state_dict()[name], tensor) for name, tensor in before.items())
    assert [row.name for row in ledger.rows] == ["original", "prune 80%", "share 16"]
    by_hand = share(16)(prune(0.8)(lenet))
    assert ledger.rows[-1].size_bytes == save(by_hand, tmp_path / "net") == (tmp_path / "net").stat().st_size
    assert ledger.rows[-1].accuracy == pytest.approx(evaluate(by_hand, test_images))
    assert ledger.rows[0].size_bytes == save(lenet, tmp_path / "whole")
    assert torch.equal(small.fc1.weight, by_hand.fc1.weight)
    assert [row.nonzero for row in ledger.rows][1] < 0.25 * ledger.rows[0].nonzero
    assert ledger.rows[0].latency_ratio == 1.0


def test_agreement_is_with_the_original_and_not_with_the_network_itself(lenet, test_images):
    """A network that always says class 0 agrees with the original as often as that says 0."""

    def ruin(model: nn.Module) -> nn.Module:
        with torch.no_grad():
            model.get_parameter("fc3.weight").zero_()
            model.get_parameter("fc3.bias").copy_(torch.eye(10)[0])
        return model

    _, ledger = Pipeline([ruin], data=test_images, repeats=1)(lenet)
    says_zero = (lenet(test_images.images).argmax(1) == 0).double().mean().item()
    assert ledger.rows[0].agreement == 1.0
    assert ledger.rows[1].agreement == pytest.approx(says_zero) != 1.0
    assert ledger.rows[1].name == "ruin"


def test_equal_steps_get_numbers_and_the_ledger_prints_and_passes_on(lenet, test_images, tmp_path):
    _, ledger = Pipeline([short_floats(), short_floats()], data=test_images, repeats=1)(lenet)
    assert [row.name for row in ledger.rows] == ["original", "16-bit rest", "16-bit rest (2)"]
    assert "16-bit rest (2)" in repr(ledger) and "<table" in ledger._repr_html_()
    kept = Ledger.open(tmp_path / "ledger.json")
    ledger.add_to(kept, lesson="15-compression-pipeline", by="reference")
    assert [row.step for row in kept.rows] == ["16-bit rest", "16-bit rest (2)"]


@pytest.mark.parametrize(
    ("step", "message"),
    [(lambda model: None, "returned a NoneType"), (lambda model: nn.GELU(), "cannot be saved")],
    ids=["nothing", "no_form"],
)
def test_a_step_that_makes_no_network_is_named(step, message, lenet, test_images):
    with pytest.raises(TypeError, match=message):
        Pipeline([step], data=test_images)(lenet)


def test_training_keeps_zeros_shared_weights_and_grids(lenet, training):
    pruned = prune(0.8, finetune=training)(lenet)
    zeros = [weight == 0 for weight in weights_of(pruned)]
    assert sum(int(zero.sum()) for zero in zeros) == round(0.8 * 266_200)
    shared = share(16, finetune=training)(pruned)
    for zero, weight in zip(zeros, weights_of(shared), strict=True):
        assert torch.equal(weight == 0, zero) and weight.unique().numel() <= 17
    grid = integer_weights(4, finetune=training)(pruned)
    for zero, weight in zip(zeros, weights_of(grid), strict=True):
        steps = weight / (weight.abs().amax(1, keepdim=True) / 7).clamp(min=1e-30)
        assert (weight[zero] == 0).all() and (steps - steps.round()).abs().max() < 1e-4
    tuned = fine_tune(training)(pruned)
    assert not torch.equal(tuned.fc1.weight, pruned.fc1.weight)
    assert torch.equal(tuned.fc1.weight == 0, zeros[0])


def test_training_after_sharing_helps(lenet, training):
    """On the very images it trained on: the loss of a codebook of 4 values falls."""

    def loss(model: nn.Module) -> float:
        return nn.functional.cross_entropy(model(training.train.images), training.train.labels).item()

    assert loss(share(4, finetune=training)(lenet)) < loss(share(4)(lenet))


def test_a_teacher_may_train_a_step_too(lenet, training):
    """Distilled from the original, a network cut to a tenth says more of what the original says than untrained."""
    images = training.train.images
    teacher = lenet(images).argmax(1)
    taught = prune(0.95, finetune=Distil(lenet, training.train, training.recipe))(lenet)
    assert sum(int((weight == 0).sum()) for weight in weights_of(taught)) == round(0.95 * 266_200)
    agreement = [
        (model(images).argmax(1) == teacher).double().mean().item() for model in (prune(0.95)(lenet), taught)
    ]
    assert agreement[0] < agreement[1]


def test_structural_steps_save_multiply_accumulates(lenet):
    shape, whole = (1, 28, 28), macs(lenet, (1, 28, 28))
    assert macs(cut_channels(0.5)(lenet), shape) == pytest.approx(0.5 * whole, rel=0.02)
    assert macs(low_rank(0.8)(lenet), shape) < whole
    convolutional = zoo.load("lenet5")
    assert macs(tucker(0.8)(convolutional), shape) < macs(convolutional, shape)
    images = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    full = tucker(1.0)(convolutional)
    assert torch.allclose(full(images), convolutional(images), atol=1e-4)


def test_short_floats_leave_weights_alone_and_the_file_shrinks(tmp_path):
    network = zoo.load("resnet20")
    short = short_floats()(network)
    assert torch.equal(short.stage1[0].conv1.weight, network.stage1[0].conv1.weight)
    assert torch.equal(short.bn1.weight, network.bn1.weight.half().float())
    assert save(network, tmp_path / "long") - save(short, tmp_path / "short") > 5_000
    assert torch.equal(load(tmp_path / "short").bn1.running_var, short.bn1.running_var)


@pytest.mark.parametrize("before", [None, tucker(0.8), cut_channels(0.6)], ids=["alone", "tucker", "cut"])
@pytest.mark.parametrize("name", ["resnet20", "mobilenet"])
def test_folding_leaves_no_batch_norm_and_the_same_outputs(name, before, test_images, tmp_path):
    model = zoo.load(name) if before is None else before(zoo.load(name))
    folded, images = fold_norms()(model), test_images.images[:16]
    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]
    # float32 rounding, 2**-24 a step, in about 50 layers of sums of up to 600 terms: some thousand steps at most
    assert torch.allclose(folded(images), model(images), rtol=1e-3, atol=1e-3)
    assert save(folded, tmp_path / "folded") < save(model, tmp_path / "net")


def test_folding_changes_nothing_where_there_is_no_batch_norm(lenet, test_images):
    images = test_images.images[:4]
    assert torch.equal(fold_norms()(lenet)(images), lenet(images))


def test_a_trained_step_is_the_same_step_with_training(lenet, training):
    step = replace(prune(0.5), finetune=training)
    assert step.name == "prune 50%"
    assert not torch.equal(step(lenet).fc1.bias, lenet.fc1.bias)


def test_the_tutorials_compressor_compares_with_the_original(lenet, test_images):
    made = ComprehensiveModelCompressor(lenet, test_images).add_pruning(0.6).add_quantization(bits=4)
    small = made.compress()
    assert small is not lenet and made.original_model is lenet
    rows = made.compression_stats.rows
    assert [row.name for row in rows] == ["original", "prune 60%", "int4 weights"]
    assert rows[2].nonzero <= rows[1].nonzero  # quantization keeps the zeros
    assert small.fc1.weight[0].unique().numel() <= 15
    assert made.analyze_compression(small).rows[1].size_bytes == rows[2].size_bytes
    names = [step.name for step in ComprehensiveModelCompressor(lenet, test_images).add_weight_sharing(8)
             .add_low_rank(0.9).compression_pipeline]  # fmt: skip
    assert names == ["share 8", "low rank 90%"]


def test_the_notebooks_pipeline_shrinks_at_every_stage(lenet, test_images):
    run = OptimizationPipeline(lenet, test_images)
    ledger = run.run_pipeline(prune_amount=0.6)
    sizes = [row.size_bytes for row in ledger.rows]
    assert sizes[0] > sizes[1] > sizes[2]
    assert ledger.rows[1].nonzero == pytest.approx(0.4 * 266_200 + 410, abs=2)
    assert run.optimized_model is not lenet
