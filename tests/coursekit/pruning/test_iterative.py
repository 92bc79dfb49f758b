"""coursekit.pruning.iterative: the target to one weight at every pruning, on one network, held in between."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from coursekit.data import Dataset, digits
from coursekit.pruning import (
    IterativePruner,
    Schedule,
    attach_masks,
    magnitude_scores,
    make_masks,
    prunable,
    prune_and_finetune,
    prune_further,
    prune_iteratively,
    random_scores,
    taylor_scores,
    weights_to_prune,
)
from coursekit.train import Recipe, evaluate, fit

RECIPE = Recipe(epochs=2, batch_size=32, peak_lr=0.05)


@pytest.fixture(scope="module")
def train_digits() -> Dataset:
    return digits("train").take(320)  # 20 steps in two epochs


@pytest.fixture(scope="module")
def trained(train_digits) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    fit(model, digits("train"), Recipe(epochs=8, batch_size=32), progress=False)
    return model


def zeros(model: nn.Module) -> dict[str, int]:
    return {name: int((model.get_parameter(name) == 0).sum()) for name in prunable(model)}


@given(st.integers(1, 10_000), st.floats(0, 1), st.floats(0, 1))
def test_what_is_pruned_now_and_what_was_make_the_target_to_one_weight(n, before, target):
    n_pruned = round(before * n)
    now = weights_to_prune(n, n_pruned, target)
    assert now >= 0
    if now:
        assert abs(n_pruned + now - target * n) <= 0.5
    else:
        assert n_pruned >= target * n - 0.5


@pytest.mark.parametrize("numbers", [(10, 11, 0.5), (10, -1, 0.5), (10, 5, 1.1), (10, 5, -0.1)])
def test_impossible_counts_are_refused(numbers):
    with pytest.raises(ValueError, match="n_pruned <= n_weights"):
        weights_to_prune(*numbers)


@given(st.integers(0, 1000), st.floats(0, 0.6), st.floats(0, 0.4), st.sampled_from(["global", "layer"]))
def test_pruning_further_takes_the_lowest_survivors_and_revives_nothing(seed, first, more, scope):
    generator = torch.Generator().manual_seed(seed)
    scores = {"a": torch.randn(7, 5, generator=generator), "b": torch.randn(11, generator=generator)}
    before = make_masks(scores, first, scope)
    later = {name: torch.randn(s.shape, generator=generator) for name, s in scores.items()}
    after = prune_further(later, before, first + more, scope)
    groups = [list(scores)] if scope == "global" else [["a"], ["b"]]
    for group in groups:
        was, now = (torch.cat([m[n].flatten() for n in group]) for m in (before, after))
        score = torch.cat([later[n].flatten() for n in group])
        assert not (now & ~was).any()
        assert int((~now).sum()) == max(round((first + more) * len(now)), int((~was).sum()))
        gone_now, left = score[was & ~now], score[now]
        if len(gone_now) and len(left):
            assert gone_now.max() <= left.min()


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("kind", ["one-shot", "linear", "cubic"])
@pytest.mark.parametrize("score", ["magnitude", "gradient", "random"])
def test_sparsity_equals_the_target_to_one_weight_at_every_step(trained, train_digits, kind, scope, score):
    scores = {
        "magnitude": magnitude_scores,
        "gradient": lambda model: taylor_scores(model, train_digits.take(64)),
        "random": lambda model: random_scores(model, 3),
    }[score]
    schedule = Schedule(kind, 0.93, initial=0.31, begin=2, end=17, every=4)
    model = copy.deepcopy(trained)
    pruner = IterativePruner(model, schedule, scores=scores, scope=scope)
    totals = {name: model.get_parameter(name).numel() for name in prunable(model)}
    due = {step: schedule.sparsity_at(step) for step in schedule.steps()}
    target = 0.0

    def look(step: int) -> None:
        nonlocal target
        pruner.on_step(step)
        target = due.get(step, target)
        counted = zeros(model)
        if scope == "layer":
            assert counted == {name: round(target * n) for name, n in totals.items()}
        else:
            assert sum(counted.values()) == round(target * sum(totals.values()))

    fit(model, train_digits, RECIPE, progress=False, on_step=look)
    assert [entry.step for entry in pruner.history] == schedule.steps()
    for entry in pruner.history:
        slack = len(totals) if scope == "layer" else 1  # each layer rounds by up to half a weight
        assert abs(entry.reached - entry.target) <= slack / sum(totals.values())


def test_a_schedule_that_begins_at_0_prunes_to_its_initial_sparsity_before_any_step(trained):
    model = copy.deepcopy(trained)
    pruner = IterativePruner(model, Schedule("cubic", 0.9, initial=0.5, end=10, every=5))
    assert pruner.sparsity() == pytest.approx(0.5, abs=1 / 2368)
    assert pruner.history[0].target == 0.5


def test_sparsity_counts_the_weights_and_not_the_masks(trained):
    model = copy.deepcopy(trained)
    pruner = IterativePruner(model, Schedule("one-shot", 0.5))
    with torch.no_grad():
        model[1].weight.fill_(1.0)  # somebody revives them
        model[3].weight.fill_(1.0)
    assert pruner.sparsity() == 0.0


def test_what_is_pruned_stays_pruned_to_the_end(trained, train_digits):
    model, gone = copy.deepcopy(trained), []
    pruner = IterativePruner(model, Schedule("cubic", 0.9, end=10, every=5))

    def look(step: int) -> None:
        pruner.on_step(step)
        gone.append({name: ~mask for name, mask in pruner.masks.items()})

    fit(model, train_digits, RECIPE, progress=False, on_step=look)
    for earlier in gone:
        for name, mask in earlier.items():
            assert not model.get_parameter(name)[mask].any()


def test_the_same_seed_gives_the_same_network_and_leaves_the_first_alone(trained, train_digits):
    before = copy.deepcopy(trained.state_dict())
    schedule = Schedule("cubic", 0.9, end=10, every=5)
    runs = [prune_and_finetune(trained, train_digits, RECIPE, schedule, progress=False) for _ in range(2)]
    (first, steps, history), (second, *others) = runs
    assert [steps, history] == others
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])
        assert torch.equal(trained.state_dict()[name], before[name])
    assert list(first.state_dict()) == list(before)  # no mask is left in it


def test_pruning_while_training_keeps_what_cutting_alone_loses(trained, train_digits):
    test = digits("test")
    cut = copy.deepcopy(trained)
    attach_masks(cut, make_masks(magnitude_scores(cut), 0.9))
    schedule = Schedule("cubic", 0.9, end=60, every=10)
    recipe = Recipe(epochs=10, batch_size=32, peak_lr=0.05)
    tuned, _, _ = prune_and_finetune(trained, train_digits, recipe, schedule, progress=False)
    # At 360 images two deviations are 5 points at most; cutting nine tenths of so small a network costs far more.
    assert evaluate(tuned, test) > evaluate(cut, test) + 0.1


def test_a_schedule_longer_than_the_training_is_refused_before_anything_changes(trained, train_digits):
    with pytest.raises(ValueError, match="due after step 30, but there are 20 steps"):
        prune_and_finetune(trained, train_digits, RECIPE, Schedule("cubic", 0.9, end=30), progress=False)


def test_the_plain_loop_prunes_what_the_training_before_it_left_small():
    """Training adds 1 to every survivor; so the order never changes and each step can be followed by hand."""
    calls: list[str] = []

    def train(weights, masks):
        calls.append("train")
        return {name: torch.where(masks[name], w + 1, 0.0) for name, w in weights.items()}

    def prune(weights, masks, target):
        calls.append(f"prune {target}")
        return prune_further({name: w.abs() for name, w in weights.items()}, masks, target)

    start = {"w": torch.tensor([4.0, -1.0, -6.0, 2.0])}
    weights, masks = prune_iteratively(start, train, prune, [0.25, 0.5])
    assert calls == ["prune 0.25", "train", "prune 0.5", "train"]
    # -1 goes; 5, -5, 3 are left, of which 3 goes; then once more + 1.
    assert weights["w"].tolist() == [6.0, 0.0, -4.0, 0.0]
    assert masks["w"].tolist() == [True, False, True, False]
    assert start["w"].tolist() == [4.0, -1.0, -6.0, 2.0]
