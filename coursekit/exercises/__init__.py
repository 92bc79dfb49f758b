"""The exercises students write: specs, public tests, hints and known mistakes, by name."""

from __future__ import annotations

from collections.abc import Iterable

from coursekit.exercises import (
    affine_quantization,
    compression_pipeline,
    feature_distillation,
    huffman_coding,
    iterative_pruning,
    low_rank,
    many_teachers,
    post_training,
    quantization_aware,
    reduced_precision,
    structured_pruning,
    teacher_student,
    tensor_decomposition,
    weight_pruning,
    weight_sharing,
)
from coursekit.exercises.spec import CheckResult, Exercise, Mistake, Test, TestResult

__all__ = ["CheckResult", "Exercise", "Mistake", "Test", "TestResult", "exercise", "exercises"]

_LESSONS = (
    affine_quantization,
    quantization_aware,
    iterative_pruning,
    post_training,
    reduced_precision,
    weight_pruning,
    structured_pruning,
    huffman_coding,
    teacher_student,
    compression_pipeline,
    low_rank,
    tensor_decomposition,
    weight_sharing,
    feature_distillation,
    many_teachers,
)
_ALL: dict[str, Exercise] = {each.name: each for lesson in _LESSONS for each in lesson.EXERCISES}


def exercise(name: str) -> Exercise:
    """The exercise of this name.

    Raises: ValueError for a name that no exercise has.
    """
    if name not in _ALL:
        raise ValueError(f"no exercise is called {name!r}; there are {', '.join(sorted(_ALL))}")
    return _ALL[name]


def exercises(lesson: str | None = None) -> Iterable[Exercise]:
    """All exercises in the order of the course, or those of one lesson ("01")."""
    return tuple(each for each in _ALL.values() if lesson in (None, each.lesson))
