"""What the distillation benchmark measured, in the form in which lessons show it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["distillation_curves"]

_CURVES = Path(__file__).parents[1] / "assets" / "distillation_curves.json"


def distillation_curves() -> dict[str, Any]:
    """What `benchmarks/distillation.py report` wrote, with the script and the machine that made it.

    Returns: "rows" (2,000 training images), "10000" and "55000": by way, its label, the accuracy of each seed, mean and
             sample standard deviation, and the training loss by epoch of seed 0, in its parts; "missing": errors on the
             test images, and on the missing class, before and after the correction, by "way-seed"; "twenty": by
             teacher, the student in a twentieth of its bytes; "teacher": the accuracy of ResNet-20.
    Taught in: lessons 08 to 10.

    >>> "alone" in distillation_curves()["rows"]
    True
    """
    return json.loads(_CURVES.read_text(encoding="utf-8"))
