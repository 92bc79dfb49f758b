"""Stages: plans that spend just the budget, and trainings that really happen, one after the other."""

import copy

import pytest
import torch
from torch import nn

from coursekit.data import digits
from coursekit.distillation import DistillationLoss, distill
from coursekit.distillation.progressive import (
    Stage,
    assistant_stages,
    plan_chain,
    run_stages,
    softening_stages,
)
from coursekit.train import Recipe, evaluate, fit

RECIPE = Recipe(epochs=1, batch_size=32, peak_lr=0.05)


def net(hidden, seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def loss_of(stage):
    return DistillationLoss(stage.temperature, stage.alpha)


@pytest.fixture(scope="module")
def train():
    return digits("train").take(160)


@pytest.fixture(scope="module")
def teacher(train):
    big = net(48, 9)
    fit(big, train, Recipe(epochs=12, batch_size=32, peak_lr=0.1), progress=False)
    return big


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(("n", "epochs"), [(2, 1), (3, 10), (4, 11), (6, 29)])
def test_a_chain_spends_just_its_budget_and_links_neighbours(n, epochs):
    names = [f"net{i}" for i in range(n)]
    links = plan_chain(names, epochs)
    assert sum(link[2] for link in links) == epochs
    assert [link[:2] for link in links] == [(names[i], names[i + 1]) for i in range(n - 1)]
    lengths = [link[2] for link in links]
    assert len(set(lengths[:-1])) <= 1 and lengths[-1] - lengths[0] == epochs % (n - 1)


@pytest.mark.parametrize(
    ("names", "epochs"), [(["a"], 3), ([], 3), (["a", "b", "a"], 3), (["a", "b", "c"], 1)], ids=str
)
def test_chains_that_cannot_be_are_refused(names, epochs):
    with pytest.raises(ValueError, match=r"chain|epochs"):
        plan_chain(names, epochs)


def test_softening_uses_every_setting_once_and_the_whole_budget():
    stages = softening_stages("big", "small", 8, [8.0, 4.0, 2.0, 1.0, 0.5], [0.9, 0.8, 0.7, 0.6, 0.5])
    assert [s.temperature for s in stages] == [8.0, 4.0, 2.0, 1.0, 0.5]  # not 5.0 three times, as once was
    assert [s.epochs for s in stages] == [1, 1, 1, 1, 4]


@pytest.mark.parametrize(
    ("epochs", "temperatures", "alphas"),
    [(1, [2.0, 1.0], [0.5, 0.5]), (4, [2.0], [0.5, 0.5]), (4, [], [])],
    ids=str,
)
def test_softening_that_does_not_fit_is_refused(epochs, temperatures, alphas):
    with pytest.raises(ValueError, match="alphas"):
        softening_stages("big", "small", epochs, temperatures, alphas)


@pytest.mark.parametrize(
    "wrong",
    [{"teacher": "a"}, {"epochs": 0}, {"temperature": 0.0}, {"alpha": 1.5}],
    ids=lambda w: next(iter(w)),
)
def test_stages_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match=r"itself|epoch|temperature"):
        Stage(**{"teacher": "b", "student": "a", "epochs": 1} | wrong)


def test_a_chain_is_its_trainings_one_after_the_other(train, teacher):
    networks = {"big": teacher, "middle": net(24, 1), "small": net(8, 2)}
    by_hand = copy.deepcopy(networks)
    before = state(teacher)
    histories = run_stages(assistant_stages(["big", "middle", "small"], 5), networks, train, RECIPE, loss_of)
    assert [len(h.loss) for h in histories] == [2, 3]
    distill(by_hand["middle"], by_hand["big"], train, DistillationLoss(4.0, 0.9), Recipe(2, 32, 0.05))
    distill(by_hand["small"], by_hand["middle"], train, DistillationLoss(4.0, 0.9), Recipe(3, 32, 0.05))
    for name in networks:
        ours, theirs = state(networks[name]), state(by_hand[name])
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name
    assert all(torch.equal(value, before[key]) for key, value in state(teacher).items())


def test_stages_of_one_student_go_on_from_its_weights_and_learn(train, teacher):
    student = net(12, 3)
    start = evaluate(student, train)
    stages = softening_stages("big", "small", 9, [4.0, 2.0, 1.0], [0.9, 0.7, 0.5])
    histories = run_stages(
        stages, {"big": teacher, "small": student}, train, RECIPE, loss_of, validation=train
    )
    assert len(histories) == 3 and evaluate(student, train) > max(0.7, start)


def test_an_interrupted_chain_goes_on_to_the_same_weights(train, teacher, tmp_path):
    stages = assistant_stages(["big", "middle", "small"], 4)
    whole = {"big": teacher, "middle": net(16, 1), "small": net(8, 2)}
    run_stages(stages, whole, train, RECIPE, loss_of)
    first = {"big": teacher, "middle": net(16, 1), "small": net(8, 2)}
    run_stages(stages[:1], first, train, RECIPE, loss_of, folder=tmp_path)
    again = {"big": teacher, "middle": net(16, 1), "small": net(8, 2)}
    run_stages(stages, again, train, RECIPE, loss_of, folder=tmp_path)
    for name in ("middle", "small"):
        assert all(torch.equal(value, state(whole[name])[key]) for key, value in state(again[name]).items())


def test_what_cannot_be_run_is_refused_before_anything_trains(train, teacher):
    small = net(8, 2)
    before = state(small)
    good = Stage("big", "small", 1)
    for stages, networks in (
        ((), {"big": teacher, "small": small}),
        ((good, Stage("big", "nobody", 1)), {"big": teacher, "small": small}),
        (
            (Stage("middle", "small", 1), Stage("big", "middle", 1)),
            {"big": teacher, "small": small, "middle": net(9, 1)},
        ),
    ):
        with pytest.raises(ValueError, match=r"stages|not there|before"):
            run_stages(stages, networks, train, RECIPE, loss_of)
    assert all(torch.equal(value, before[key]) for key, value in state(small).items())
