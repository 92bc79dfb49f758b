"""What the benchmark of a teacher's layers measured, in the form in which lesson 09 shows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["measured_layers"]

_ASSET = Path(__file__).parents[1] / "assets" / "feature_layers.json"


def measured_layers() -> dict[str, Any]:
    """What `benchmarks/feature_layers.py report` wrote: a student taught through each of its teacher's stages.

    Returns: "script", "machine", "recipe", "teacher", "seeds"; "held_out": the accuracies by which beta
             was chosen; "ways": for each way, "alone" first, by seed, the "accuracy" on all 10,000 test images
             and the "gain" over the student alone, both shares; its "weight"; "attention", the distance of the
             attention maps from the teacher's by stage.
    Taught in: lesson 09.
    """
    return json.loads(_ASSET.read_text(encoding="utf-8"))
