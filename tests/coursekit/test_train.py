"""coursekit.train: repeatable, learning, and honest about failure."""

import itertools
import math

import pytest
import torch
from torch import nn

from coursekit.data import Dataset, digits
from coursekit.models import ResNet
from coursekit.train import Recipe, eval_mode, evaluate, fit, predict


def mlp(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def mixed_mode_model() -> nn.Sequential:
    """In training mode, but with its batch norm frozen."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 10)).train()
    model[1].eval()
    return model


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


@pytest.fixture(scope="module")
def train_digits() -> Dataset:
    return digits("train")


@pytest.fixture(scope="module")
def test_digits() -> Dataset:
    return digits("test")


@pytest.mark.parametrize("augment", [False, True], ids=["plain", "augmented"])
def test_same_seed_gives_the_same_weights_bit_for_bit(train_digits, augment):
    few, recipe = train_digits.take(200), Recipe(epochs=2, batch_size=32, augment=augment)
    first, second = mlp(), mlp()
    histories = [fit(model, few, recipe, progress=False) for model in (first, second)]
    assert histories[0] == histories[1]
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_another_seed_gives_other_weights(train_digits):
    few, models = train_digits.take(200), (mlp(), mlp())
    for seed, model in enumerate(models):
        fit(model, few, Recipe(epochs=1, seed=seed), progress=False)
    assert not torch.equal(models[0].state_dict()["1.weight"], models[1].state_dict()["1.weight"])


def test_training_learns_handwritten_digits(train_digits, test_digits):
    model = mlp()
    assert evaluate(model, test_digits) < 0.3  # ten classes, weights at random
    history = fit(model, train_digits, Recipe(epochs=10, batch_size=32), test=test_digits, progress=False)
    # Logistic regression reaches 96 %; 93 % is three binomial deviations (1.0 % at n = 360) below.
    assert evaluate(model, test_digits) > 0.93
    assert len(history.loss) == len(history.accuracy) == 10
    assert history.loss[-1] < history.loss[0] / 5
    assert history.accuracy[-1] == evaluate(model, test_digits)


def test_bfloat16_and_label_smoothing_train_too(train_digits):
    model = mlp()
    recipe = Recipe(epochs=3, batch_size=32, bfloat16=True, label_smoothing=0.1)
    history = fit(model, train_digits.take(300), recipe, progress=False)
    assert all(math.isfinite(loss) for loss in history.loss)
    assert history.loss[-1] < history.loss[0]
    assert next(model.parameters()).dtype == torch.float32


def test_fit_leaves_the_model_in_eval_mode_and_measures_nothing_unasked(train_digits):
    model = mlp()
    history = fit(model, train_digits.take(50), Recipe(epochs=1), progress=False)
    assert not any(modes(model))
    assert history.accuracy == []


def test_test_data_do_not_change_the_training(train_digits, test_digits):
    few, recipe = train_digits.take(200), Recipe(epochs=2, batch_size=32, augment=True)
    watched, alone = ResNet(1, 2), ResNet(1, 2)
    alone.load_state_dict(watched.state_dict())
    fit(watched, few, recipe, test=test_digits, progress=False)
    fit(alone, few, recipe, progress=False)
    for a, b in zip(watched.state_dict().values(), alone.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_loss_that_is_no_number_stops_the_training_with_the_mend():
    images = torch.full((4, 1, 8, 8), float("nan"))
    broken = Dataset(images, torch.zeros(4, dtype=torch.int64), tuple("0123456789"), "a test")
    with pytest.raises(FloatingPointError, match=r"nan; lower peak_lr=0\.1"):
        fit(mlp(), broken, Recipe(epochs=1), progress=False)


def test_progress_bar_counts_the_steps(train_digits, capsys):
    fit(mlp(), train_digits.take(100), Recipe(epochs=2, batch_size=30))
    assert "8/8" in capsys.readouterr().err  # 4 batches an epoch


def test_on_step_is_called_after_each_step_and_sees_the_new_weights(train_digits):
    model, steps, weights = mlp(), [], []

    def look(step: int) -> None:
        steps.append(step)
        weights.append(model[1].weight.detach().clone())

    fit(model, train_digits.take(100), Recipe(epochs=2, batch_size=30), progress=False, on_step=look)
    assert steps == list(range(1, 9))  # 4 batches an epoch
    assert not any(torch.equal(a, b) for a, b in itertools.pairwise(weights))
    assert torch.equal(weights[-1], model[1].weight)


def test_evaluate_is_the_share_of_right_answers():
    class Constant(nn.Module):
        def forward(self, x):
            return nn.functional.one_hot(torch.full((len(x),), 2), 4).float()

    dataset = Dataset(torch.zeros(5, 1, 2, 2), torch.tensor([2, 2, 0, 1, 2]), tuple("abcd"), "a test")
    assert evaluate(Constant(), dataset, batch_size=2) == pytest.approx(3 / 5)


def test_evaluate_refuses_empty_data():
    empty = Dataset(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64), (), "a test")
    with pytest.raises(ValueError, match="empty"):
        evaluate(mlp(), empty)


def test_predict_equals_a_call_in_eval_mode_whatever_the_batch_size(test_digits):
    head = nn.Linear(64, 10)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), head).train()
    logits = [predict(model, test_digits.images, batch_size=n) for n in (7, 500)]
    with torch.no_grad():
        expected = head(test_digits.images.flatten(1))
    for got in logits:
        # 64 products summed in another order: 64 roundings of 2**-24 on sums below 16.
        assert torch.allclose(got, expected, rtol=0, atol=64 * 16 * 2**-24)


def test_each_module_gets_its_own_mode_back_after_measuring(test_digits):
    model = mixed_mode_model()
    before, running = modes(model), model.state_dict()["1.running_mean"].clone()
    evaluate(model, test_digits.take(20))
    assert modes(model) == before
    assert torch.equal(model.state_dict()["1.running_mean"], running)


def test_modes_come_back_after_an_error():
    model = mixed_mode_model()
    before = modes(model)

    def fail_inside():
        with eval_mode(model):
            assert not any(modes(model))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert modes(model) == before
