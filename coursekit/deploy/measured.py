"""What the course's own benchmark of the engines measured, for lessons that cannot wait for compilers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["measured_engines"]

_FILE = Path(__file__).parents[1] / "assets" / "engines.json"


def measured_engines() -> dict[str, Any]:
    """The results of `python benchmarks/engines.py`, as it wrote them: no number in them was typed.

    Returns: "machine" and "versions", texts; "parts": "network,batch" to its "pairs", by engine: "<engine> fp32" and
             "<engine> int8" with median_ms, min_ms and ratio to float32; to "eager" and "floats" likewise; at batch 64
             to "accuracy", by engine, on "test_images" images.
    Raises:  FileNotFoundError if the file is gone.
    """
    if not _FILE.is_file():
        raise FileNotFoundError(f"{_FILE} is missing; install coursekit again, or run benchmarks/engines.py")
    return json.loads(_FILE.read_text(encoding="utf-8"))
