"""Distillation: a small network learns from a large one, and what that is worth beside learning alone."""

from coursekit.distillation.cache import teacher_key, teacher_outputs
from coursekit.distillation.checkpoint import CheckpointError, DistillationHistory
from coursekit.distillation.correction import missing_class_bias
from coursekit.distillation.decoupled import DecoupledDistillationLoss, decoupled_kl
from coursekit.distillation.epoch import distill_epoch
from coursekit.distillation.hooks import capture, capture_features, feature_shapes
from coursekit.distillation.loop import distill
from coursekit.distillation.losses import (
    DistillationLoss,
    distillation_kl,
    kd_gradient,
    kd_loss,
    smooth_targets,
    soften,
)
from coursekit.distillation.objective import Batch, Objective, StudentAlone, Weighted
from coursekit.distillation.store import DamagedFileError

__all__ = [
    "Batch",
    "CheckpointError",
    "DamagedFileError",
    "DecoupledDistillationLoss",
    "DistillationHistory",
    "DistillationLoss",
    "Objective",
    "StudentAlone",
    "Weighted",
    "capture",
    "capture_features",
    "decoupled_kl",
    "distill",
    "distill_epoch",
    "distillation_kl",
    "feature_shapes",
    "kd_gradient",
    "kd_loss",
    "missing_class_bias",
    "smooth_targets",
    "soften",
    "teacher_key",
    "teacher_outputs",
]
