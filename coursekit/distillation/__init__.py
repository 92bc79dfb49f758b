"""Distillation: a small network learns from a large one, and what that is worth beside learning alone."""

from coursekit.distillation.confidence import (
    Reliability,
    best_temperature,
    confidences,
    entropy,
    expected_calibration_error,
    fit_temperature,
    reliability,
)
from coursekit.distillation.correction import missing_class_bias
from coursekit.distillation.decoupled import DecoupledDistillationLoss, decoupled_kl
from coursekit.distillation.ensembles import Ensemble, ensemble_probabilities, ensemble_weights
from coursekit.distillation.epoch import distill_epoch
from coursekit.distillation.losses import (
    DistillationLoss,
    distillation_kl,
    kd_gradient,
    kd_loss,
    smooth_targets,
    soften,
)
from coursekit.distillation.mutual import learn_mutually, mutual_losses, mutual_step, peer_loss, train_peers
from coursekit.distillation.objective import Batch, Objective, StudentAlone, Weighted

__all__ = [
    "Batch",
    "DecoupledDistillationLoss",
    "DistillationLoss",
    "Ensemble",
    "Objective",
    "Reliability",
    "StudentAlone",
    "Weighted",
    "best_temperature",
    "confidences",
    "decoupled_kl",
    "distill_epoch",
    "distillation_kl",
    "ensemble_probabilities",
    "ensemble_weights",
    "entropy",
    "expected_calibration_error",
    "fit_temperature",
    "kd_gradient",
    "kd_loss",
    "learn_mutually",
    "missing_class_bias",
    "mutual_losses",
    "mutual_step",
    "peer_loss",
    "reliability",
    "smooth_targets",
    "soften",
    "train_peers",
]
