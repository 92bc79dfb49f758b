"""The bias of a missing class brings as many images to it as there should be."""

from __future__ import annotations

import pytest
import torch

from coursekit import data, zoo
from coursekit.distillation import missing_class_bias
from coursekit.train import predict


@pytest.fixture(scope="module")
def logits():
    return predict(zoo.load("lenet300"), data.fashion_mnist("test", subset=True).take(300).images)


@pytest.mark.parametrize("missing", [0, 3, 9])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_class_is_then_predicted_for_its_share(logits, missing, share):
    corrected = logits.clone()
    corrected[:, missing] += missing_class_bias(logits, missing, share)
    assert int((corrected.argmax(1) == missing).sum()) == round(share * len(logits))


def test_taking_a_bias_away_gives_it_back(logits):
    """A class lowered by 5 needs 5 more than before."""
    lowered = logits.clone()
    lowered[:, 2] -= 5
    before, after = missing_class_bias(logits, 2, 0.1), missing_class_bias(lowered, 2, 0.1)
    assert after == pytest.approx(before + 5, abs=1e-4)


def test_bad_arguments_are_refused(logits):
    with pytest.raises(ValueError, match="class from 0 to 9"):
        missing_class_bias(logits, 10, 0.1)
    for share in (0.0, 1.0, 0.001):
        with pytest.raises(ValueError, match="some images, and not all"):
            missing_class_bias(logits, 3, share)
    with pytest.raises(ValueError, match="NaN or inf"):
        missing_class_bias(torch.full((4, 3), float("nan")), 0, 0.5)
