"""The tests that take part only in grading, by exercise: `HIDDEN[name]` is a tuple of tests.

They live in a package of their own so that the student bundle and the sandbox can leave it out.
"""

from __future__ import annotations

from autograde.hidden import (
    affine_quantization,
    huffman_coding,
    iterative_pruning,
    post_training,
    quantization_aware,
    reduced_precision,
    structured_pruning,
    weight_pruning,
)
from coursekit.exercises.spec import Test

__all__ = ["HIDDEN"]

HIDDEN: dict[str, tuple[Test, ...]] = {
    **affine_quantization.HIDDEN,
    **quantization_aware.HIDDEN,
    **iterative_pruning.HIDDEN,
    **post_training.HIDDEN,
    **reduced_precision.HIDDEN,
    **structured_pruning.HIDDEN,
    **huffman_coding.HIDDEN,
    **weight_pruning.HIDDEN,
}
