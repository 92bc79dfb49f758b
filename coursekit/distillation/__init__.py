"""Distillation: a small network learns from a large one, and what that is worth beside learning alone."""

from coursekit.distillation.hooks import capture, capture_features, feature_shapes

__all__ = [
    "capture",
    "capture_features",
    "feature_shapes",
]
