"""Distillation: a small network learns from a large one, and what that is worth beside learning alone."""

from coursekit.distillation.hooks import capture, capture_features, feature_shapes
from coursekit.distillation.objective import Batch, Objective, StudentAlone, Weighted

__all__ = [
    "Batch",
    "Objective",
    "StudentAlone",
    "Weighted",
    "capture",
    "capture_features",
    "feature_shapes",
]
