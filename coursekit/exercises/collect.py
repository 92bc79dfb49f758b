"""Finds the hidden tests, which take part only where a notebook is being graded."""

from __future__ import annotations

import importlib
import os

from coursekit.exercises.spec import Test

__all__ = ["hidden_tests", "is_grading"]


def is_grading() -> bool:
    """Whether nbgrader is grading this notebook, by the variable it sets."""
    return os.environ.get("NBGRADER_EXECUTION") == "autograde"


def hidden_tests(name: str) -> tuple[Test, ...]:
    """The hidden tests of an exercise when grading and where they are installed; otherwise none."""
    if not is_grading():
        return ()
    try:
        hidden = importlib.import_module("autograde.hidden")
    except ImportError:
        return ()
    return hidden.HIDDEN.get(name, ())
