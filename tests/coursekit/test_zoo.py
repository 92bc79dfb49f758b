"""coursekit.zoo: every shipped network is what its card says."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from coursekit import data, zoo
from coursekit.train import evaluate

ROOT = Path(__file__).parents[2]
NAMES = zoo.available()


@pytest.fixture(scope="module")
def subset() -> data.Dataset:
    return data.fashion_mnist("test", subset=True)


@pytest.fixture(scope="module", params=NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def network(name) -> torch.nn.Module:
    return zoo.load(name)


def test_network_loads_in_eval_mode_and_names_ten_classes(network, subset):
    assert not any(module.training for module in network.modules())
    with torch.inference_mode():
        logits = network(subset.images[:2])
    assert logits.shape == (2, 10)
    assert logits.isfinite().all()


def test_accuracy_on_the_shipped_images_is_within_chance_of_the_cards(name, network, subset):
    """Four binomial deviations of 2,000 images drawn from those the card's accuracy was measured on."""
    expected = zoo.card(name)["test_accuracy"]
    deviation = math.sqrt(expected * (1 - expected) / len(subset))
    assert evaluate(network, subset) == pytest.approx(expected, abs=4 * deviation)


def test_accuracy_on_all_test_images_is_the_cards(name, network):
    """Up to 5 of 10,000 images may fall the other way where another CPU rounds differently."""
    if data.find_fashion_mnist() is None:
        pytest.skip("only the shipped subset of Fashion-MNIST is on this machine")
    full = data.fashion_mnist("test")
    assert evaluate(network, full) == pytest.approx(zoo.card(name)["test_accuracy"], abs=5e-4)


def test_card_tells_how_to_make_the_network_again(name, network):
    card, recipe = zoo.card(name), zoo._ENTRIES[name].recipe
    assert card["test_images"] == 10_000
    assert card["parameters"] == sum(p.numel() for p in network.parameters())
    if recipe is None:
        assert (ROOT / card["script"].split()[1]).is_file()
        return
    assert card["recipe"] == asdict(recipe)
    assert card["script"] == f"python -m coursekit.zoo {name}"
    # The last weights are kept, not the best: the test set chose nothing.
    assert len(card["test_accuracy_by_epoch"]) == card["recipe"]["epochs"]
    assert card["test_accuracy_by_epoch"][-1] == card["test_accuracy"]


def test_every_load_gives_a_copy_of_its_own():
    first, second = zoo.load("lenet300"), zoo.load("lenet300")
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
    assert all(parameter.abs().sum() > 0 for parameter in second.parameters())


@pytest.mark.parametrize("function", [zoo.load, zoo.path, zoo.card, zoo.train])
def test_unknown_name_is_refused_with_those_there_are(function):
    with pytest.raises(ValueError, match=r"no network named 'resnet99'; the zoo has .*resnet20"):
        function("resnet99")


def test_training_by_recipe_writes_weights_and_a_card_that_agree(tmp_path, monkeypatch, subset):
    small = replace(zoo._ENTRIES["lenet300"], recipe=replace(zoo._ENTRIES["lenet300"].recipe, epochs=1))
    monkeypatch.setitem(zoo._ENTRIES, "lenet300", small)
    monkeypatch.setattr(zoo, "fashion_mnist", lambda split: data.fashion_mnist(split, subset=True).take(500))
    threads = torch.get_num_threads()
    card = zoo.train("lenet300", folder=tmp_path / "zoo", progress=False)
    torch.set_num_threads(threads)
    assert json.loads((tmp_path / "zoo" / "lenet300.json").read_text(encoding="utf-8")) == card
    monkeypatch.setattr(zoo, "_FOLDER", tmp_path / "zoo")
    assert evaluate(zoo.load("lenet300"), subset.take(500)) == pytest.approx(card["test_accuracy"], abs=5e-5)
    assert card["recipe"]["epochs"] == 1


def test_a_published_network_has_a_card_with_the_accuracy_of_its_own_weights(tmp_path, monkeypatch, subset):
    monkeypatch.setattr(zoo, "fashion_mnist", lambda split: data.fashion_mnist(split, subset=True).take(500))
    model = zoo.load("lenet300")
    with torch.no_grad():
        model.fc3.bias.zero_()
    card = zoo.publish("lenet300", model, script="python benchmarks/x.py", facts={"seed": 3}, folder=tmp_path)
    assert card["test_accuracy"] == pytest.approx(evaluate(model, subset.take(500)), abs=5e-5)
    assert (card["seed"], card["script"]) == (3, "python benchmarks/x.py")
    monkeypatch.setattr(zoo, "_FOLDER", tmp_path)
    assert torch.equal(zoo.load("lenet300").fc3.bias, model.fc3.bias)


def test_weights_that_do_not_fit_are_not_published(tmp_path):
    with pytest.raises(RuntimeError):
        zoo.publish("lenet300", torch.nn.Linear(2, 2), script="x", facts={}, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_network_that_another_script_makes_is_not_trained_here(monkeypatch):
    monkeypatch.setitem(zoo._ENTRIES, "lenet300", replace(zoo._ENTRIES["lenet300"], recipe=None))
    with pytest.raises(ValueError, match="made by: python"):
        zoo.train("lenet300")
