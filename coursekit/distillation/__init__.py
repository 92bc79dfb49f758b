"""Distillation: a small network learns from a large one, and what that is worth beside learning alone."""

from coursekit.distillation.correction import missing_class_bias
from coursekit.distillation.decoupled import DecoupledDistillationLoss, decoupled_kl
from coursekit.distillation.epoch import distill_epoch
from coursekit.distillation.losses import (
    DistillationLoss,
    distillation_kl,
    kd_gradient,
    kd_loss,
    smooth_targets,
    soften,
)
from coursekit.distillation.objective import Batch, Objective, StudentAlone, Weighted

__all__ = [
    "Batch",
    "DecoupledDistillationLoss",
    "DistillationLoss",
    "Objective",
    "StudentAlone",
    "Weighted",
    "decoupled_kl",
    "distill_epoch",
    "distillation_kl",
    "kd_gradient",
    "kd_loss",
    "missing_class_bias",
    "smooth_targets",
    "soften",
]
