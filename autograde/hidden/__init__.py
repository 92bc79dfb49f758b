"""The tests that take part only in grading, by exercise: `HIDDEN[name]` is a tuple of tests.

They live in a package of their own so that the student bundle and the sandbox can leave it out.
"""

from __future__ import annotations

from autograde.hidden import (
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
from coursekit.exercises.spec import Test

__all__ = ["HIDDEN"]

HIDDEN: dict[str, tuple[Test, ...]] = {
    **affine_quantization.HIDDEN,
    **feature_distillation.HIDDEN,
    **quantization_aware.HIDDEN,
    **iterative_pruning.HIDDEN,
    **post_training.HIDDEN,
    **reduced_precision.HIDDEN,
    **structured_pruning.HIDDEN,
    **huffman_coding.HIDDEN,
    **low_rank.HIDDEN,
    **tensor_decomposition.HIDDEN,
    **many_teachers.HIDDEN,
    **weight_pruning.HIDDEN,
    **teacher_student.HIDDEN,
    **compression_pipeline.HIDDEN,
    **weight_sharing.HIDDEN,
}
