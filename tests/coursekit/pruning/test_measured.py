"""What the pruning benchmark claims, checked against what ships."""

import itertools

import pytest

from coursekit import zoo
from coursekit.pruning import measured_curves, ticket_sparsities, weights_of


@pytest.fixture(scope="module")
def tickets() -> dict:
    return measured_curves()["tickets"]


def test_winning_ticket_beats_its_controls_beyond_the_spread_at_a_fifth_of_the_weights_and_below(tickets):
    curves = tickets["curves"]
    for i, kept in enumerate(tickets["kept"]):
        assert kept < 0.22
        for control in ("same masks, new weights", "same weights, random masks"):
            lead = curves["winning ticket"]["mean"][i] - curves[control]["mean"][i]
            assert lead > 2 * (curves["winning ticket"]["sd"][i] + curves[control]["sd"][i])


def test_tickets_are_as_large_as_the_rates_say(tickets):
    sizes = {"fc1.weight": 235_200, "fc2.weight": 30_000, "fc3.weight": 1_000}
    for done, kept in zip(tickets["rounds"], tickets["kept"], strict=True):
        gone = ticket_sparsities([*sizes], done)
        expected = sum(n * (1 - gone[name]) for name, n in sizes.items()) / 266_200
        assert kept == pytest.approx(expected, abs=1e-4)  # four digits are kept
    assert all(a > b for a, b in itertools.pairwise(tickets["kept"]))


def test_question_6_sparse_resnet_is_at_90_per_cent_to_one_weight_and_within_one_point():
    weights = weights_of(zoo.load("resnet20-sparse90"))
    total = sum(w.numel() for w in weights.values())
    assert sum(int((w == 0).sum()) for w in weights.values()) == round(0.9 * total)
    lost = zoo.card("resnet20")["test_accuracy"] - zoo.card("resnet20-sparse90")["test_accuracy"]
    assert lost <= 0.01
