"""What the pruning benchmark measured, in the form in which lessons show it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["measured_curves"]

_CURVES = Path(__file__).parents[1] / "assets" / "pruning_curves.json"


def measured_curves() -> dict[str, Any]:
    """The curves that `benchmarks/pruning.py report` wrote, with the script and the seeds that made them.

    Returns: "script", "machine"; "tickets": recipe, seeds, rounds, shares of weights kept, and for the winning
             ticket and its controls the mean and standard deviation of the accuracy; "resnet20": the accuracy at 90 %
             by seed; "frontier": of every score, scope and way, the same at each of the sparsities. Accuracies are
             shares, 0 to 1, on all 10,000 test images.
    Taught in: lesson 07.

    >>> sorted(measured_curves()["tickets"]["curves"])
    ['same masks, new weights', 'same weights, random masks', 'winning ticket']
    """
    return json.loads(_CURVES.read_text(encoding="utf-8"))
